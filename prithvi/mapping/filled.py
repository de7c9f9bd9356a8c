"""`prithvi.fill`: a series with holes to one without, as arrays with their place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from prithvi import windows
from prithvi.contract import Contract
from prithvi.errors import BandError, ModelError, SceneError
from prithvi.mapping.blend import blend
from prithvi.mapping.gaps import Fill, with_model
from prithvi.mapping.lazily import Form, Values, in_rows
from prithvi.mapping.scoring import Ground
from prithvi.mapping.series import FILLED, FilledRows, groups_of, predictor, without_clouds
from prithvi.modelfolder import load
from prithvi.models import PrithviMAE
from prithvi.scenes import conform
from prithvi.windows import WindowPlan


def fill(
    series: xr.DataArray,
    model: str | PrithviMAE | Fill = "prithvi_hls_tiny",
    *,
    clear: xr.DataArray | None = None,
    together: int = 3,
    window: int | None = None,
    stride: int | None = None,
    uncertainty: bool = True,
    device: str | torch.device | None = None,
) -> xr.Dataset:
    """A series without its gaps.

    Args:
        series: (time, band, y, x) in the model's units (reflectance x 10,000 for HLS), NaN where a pixel is unknown; of
            any size from one patch up. What `prithvi.open_scene` gives for several dates is brought to these units.
            Where it is lazy the answer is, and is computed by rows when asked for.
        model: name or folder of a pretrained model, what `prithvi.load` gives for one, or any function (see
            `prithvi.mapping.gaps.Fill`).
        clear: (time, y, x) bool, False under clouds; None where clouds are NaN already.
        together: how many dates are seen together, the one that is filled and its neighbours; a loaded model's own
            number counts more.
        window: side of the squares that are filled one by one, in pixels; default that of the model.
        stride: pixels between them; default half a window.
        uncertainty: whether to give it; it takes two more runs of every window with gaps.
        device: torch device; default a GPU where there is one.

    Returns:
        `image` as `series`, observed pixels bit for bit and NaN where nothing can be said; `filled` (time, y, x) bool,
        True for pixels that were unknown and are no more; `uncertainty` as `image`, the standard error, 0 where
        observed.

    Raises:
        SceneError: fewer than two dates, other dimensions, or smaller than a patch.
        BandError: other bands than the model's.
        ModelError, CheckpointError: see `prithvi.load`.

    """
    if set(series.dims) != {"time", "band", "y", "x"} or series.sizes["time"] < 2:
        raise SceneError(
            f"{series.attrs.get('source', 'the series')} has the dimensions {dict(series.sizes)}; a gap is filled in "
            "(time, band, y, x) of two dates or more."
        )
    series = series.transpose("time", "band", "y", "x")
    together = min(together, series.sizes["time"])
    if isinstance(model, str):
        loaded = load(model, num_frames=together)
        if not isinstance(loaded, PrithviMAE):
            raise ModelError(f"{model} is fine-tuned for classes; gaps are filled by a pretrained model.")
        model = loaded
    patch, side = 1, 224
    if isinstance(model, PrithviMAE):
        series = _in_units(series, model.contract)
        together, patch, side = model.config.num_frames, model.config.patch_size[1], model.config.img_size[0]
        how: Fill = with_model(model, device)
    else:
        how = model
    smaller, larger = sorted((series.sizes["y"], series.sizes["x"]))
    if smaller < patch:
        raise SceneError(f"the series has {smaller} x {larger} pixels, fewer than one patch of the model ({patch}).")
    size = window or min(side, -(-larger // patch) * patch)
    step = max(1, size // 2) if stride is None else stride
    series = without_clouds(series, clear)
    plan = windows.plan(series.sizes["y"], series.sizes["x"], size, step)
    dates, bands = series.sizes["time"], series.sizes["band"]
    forms = {"image": Form((dates, bands), "float32"), "filled": Form((dates,), "bool")}
    if uncertainty:
        forms["uncertainty"] = Form((dates, bands), "float32")
    run = _FillRows(how, Ground.of(series), groups_of(dates, together), uncertainty)
    arrays = in_rows(series, plan, run, forms)
    result = xr.Dataset({name: (_DIMS[name], values) for name, values in arrays.items()}, coords=series.coords)
    result.attrs = {"source": str(series.attrs.get("source", "")), "command": "prithvi.fill"}
    return result


_DIMS = {"image": ("time", "band", "y", "x"), "filled": ("time", "y", "x"), "uncertainty": ("time", "band", "y", "x")}


@dataclass(frozen=True)
class _FillRows:
    """Some rows of a series filled; see `prithvi.mapping.lazily.Run`."""

    fill: Fill
    ground: Ground
    groups: list[tuple[list[int], list[int]]]
    uncertainty: bool

    def __call__(self, pixels: npt.NDArray[Any], plan: WindowPlan, rows: slice, start: int) -> Values:
        dates, bands, height, width = pixels.shape
        answer, shape = rows, (rows.stop - rows.start, width)
        image = np.full((dates, bands, *shape), np.nan, np.float32)
        filled, unsure = np.zeros((dates, *shape), bool), np.full_like(image, np.nan)
        for group, wanted in self.groups:
            times = self.ground.dates[:, group] if self.ground.dates is not None else None
            ground = Ground(self.ground.transform, self.ground.crs, times).below(start)
            predict = predictor(self.fill, ground, [group.index(date) for date in wanted], self.uncertainty)

            def read(first: int, last: int, group: list[int] = group) -> npt.NDArray[np.float32]:
                return pixels[group, :, first:last].astype(np.float32)

            for slab in blend(read, (height, width), predict, plan, batch_size=1, part=(answer, slice(0, width))):
                found = FilledRows.of(slab, len(wanted), bands, self.uncertainty)
                here = slice(slab.start, slab.start + slab.valid.shape[0])
                image[wanted, :, here], filled[wanted, here] = found.image, found.state == FILLED
                if found.uncertainty is not None:
                    unsure[wanted, :, here] = found.uncertainty
        observed = pixels[:, :, answer]
        image = np.where(np.isfinite(observed).all(axis=1, keepdims=True), observed, image).astype(np.float32)
        return {"image": image, "filled": filled, **({"uncertainty": unsure} if self.uncertainty else {})}


def _in_units(series: xr.DataArray, contract: Contract) -> xr.DataArray:
    """The model's bands in its units: what `open_scene` gave is converted, anything else is taken to be in them."""
    if "gain" in series.attrs:
        series = conform(series, contract)
        factor = series.attrs["gain"] * contract.scale
        shift = series.attrs.get("bias", 0.0) * contract.scale
        return series if abs(factor - 1) < 1e-9 and shift == 0 else (series * factor + shift).assign_attrs(series.attrs)
    if "band" in series.coords and series["band"].dtype.kind in "UO":
        lacking = [name for name in contract.bands if name not in series["band"].values]
        if lacking:
            raise BandError(f"the series lacks {', '.join(lacking)}; the model wants {', '.join(contract.bands)}.")
        return series.sel(band=list(contract.bands))
    if series.sizes["band"] != len(contract.bands):
        raise BandError(
            f"the series has {series.sizes['band']} bands without names; the model wants {', '.join(contract.bands)}."
        )
    return series
