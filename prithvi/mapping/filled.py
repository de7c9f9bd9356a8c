"""`prithvi.fill`: a series with holes to one without, as arrays with their place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from prithvi.bands import WAVELENGTHS
from prithvi.contract import Contract
from prithvi.errors import BandError, SceneError
from prithvi.mapping.arrays import tell
from prithvi.mapping.blend import blend
from prithvi.mapping.filledrows import FilledRows, FillWindows, plan_of
from prithvi.mapping.gaps import Fill, Fillable, ModelFill, as_fill, called, dates_of
from prithvi.mapping.lazily import Form, in_rows
from prithvi.mapping.lazily import Values as Named
from prithvi.mapping.masks import refuse_nothing_left, without_clouds
from prithvi.mapping.methods import Method
from prithvi.mapping.provenance import Provenance
from prithvi.mapping.scoring import Ground
from prithvi.mapping.series import in_order
from prithvi.mapping.together import Turn, turns
from prithvi.scenes import conform
from prithvi.scenes.acquisition_dates import dated
from prithvi.scenes.conform import units_of, without_impossible
from prithvi.scenes.validity import Tally
from prithvi.windows import WindowPlan


def fill(
    series: xr.DataArray,
    model: Fillable = "prithvi_hls_tiny",
    *,
    clear: xr.DataArray | None = None,
    together: int | None = None,
    window: int | None = None,
    stride: int | None = None,
    uncertainty: bool = True,
    device: str | torch.device | None = None,
) -> xr.Dataset:
    """A series without its gaps.

    A pixel that lacks one band is unknown to the model as a whole; what it has of it stays in the answer all the same,
    with an uncertainty of 0, and only the other bands are filled.

    Args:
        series: (time, band, y, x), the dimensions in any order, in the model's units (reflectance x 10,000 for HLS and
            for methods without weights), NaN where a pixel is unknown; of any size from one patch up. What
            `prithvi.open_scene` gives for several dates is brought to these units, and a sample of the values is read
            to see that they are in them, of a lazy series too. With the names of bands in `band` the model's are taken
            from it; without, it has to have just these. Dates in `time` and a coordinate reference system are made use
            of where they are there. Where it is lazy the answer is, and is computed by rows when asked for.
        model: name or folder of a pretrained model or of a gap filler that `prithvi fit` wrote, what `prithvi.load`
            gives for one; a method without weights by its name: `nearest`, `linear`, `regression` or `filling` (see
            `prithvi.mapping.methods`); or any function (see `prithvi.mapping.gaps.Fill`), which gets the values as they
            are.
        clear: (time, y, x) True or 1 where clear, False or 0 under clouds; None where clouds are NaN already. Where it
            states dates each date gets its own, in whatever order; without, they are taken in order.
            `prithvi.mapping.clear_of` makes it of files.
        together: how many dates are seen together, the one that is filled and its neighbours; default what the model
            was made for, all for `nearest` and `linear`, or three. In each window the neighbours are those next in
            time, within eight dates, that know something there.
        window: side of the squares that are filled one by one, in pixels; default that of the model, or less where the
            series is smaller than that.
        stride: pixels between them; default half a window.
        uncertainty: whether to give it; it takes two more runs of every window with gaps.
        device: torch device; default a GPU where there is one.

    Returns:
        With the dimensions and coordinates of `series`: `image`, observed values bit for bit and NaN where nothing can
        be said (float32, or float64 where the input's type does not fit into that); `filled` bool without `band`, True
        for pixels that were unknown, in a band or more, and are no longer; `uncertainty` float32 like `image`, the
        standard error, 0 where observed, above 0 where filled, NaN where nothing can be said.

    Raises:
        SceneError: fewer than two dates, other dimensions, or smaller than a patch; no pixel has data; masks that are
            not of these dates and this grid, or leave nothing (of a lazy series that is not looked at).
        ConfigError: windows that are not whole patches.
        BandError: other bands than the model's.
        ScaleError: values that are not reflectance as stated, or not in the model's units where nothing is stated.
        ModelError, CheckpointError: see `prithvi.load`.

    Warns:
        UserWarning: the series does not state its scale.

    """
    series, order = dated(in_order(series)), series.dims
    if series.sizes["time"] < 2:
        raise SceneError(
            f"{series.attrs.get('source', 'the series')} has {series.sizes['time']} dates, and a gap is filled from "
            "others: it takes two or more."
        )
    how = as_fill(model, device)
    tally = Tally(series.sizes["time"], series.sizes["y"]) if series.chunks is None else None
    contract = how.contract if isinstance(how, ModelFill) else _contract_of(series) if isinstance(how, Method) else None
    if contract is not None:
        series = _bands_of(series, contract)
    units = units_of(series, contract) if contract is not None or "gain" in series.attrs else None
    if units is not None:
        series = without_impossible(series, *units, tally)
    if contract is not None and "gain" in series.attrs:
        values = contract.from_reflectance(series.data, *units_of(series, contract))
        series = series.copy(data=values).assign_attrs(gain=1 / contract.scale, bias=0.0)
    series = series.astype(np.result_type(series.dtype, np.float32))
    height, width = series.sizes["y"], series.sizes["x"]
    plan = plan_of(how, height, width, window, stride)
    series = without_clouds(series, clear)
    if clear is not None and series.chunks is None:
        refuse_nothing_left(series)
    dates, bands, value = series.sizes["time"], series.sizes["band"], str(series.dtype)
    forms = {"image": Form((dates, bands), value), "filled": Form((dates,), "bool")}
    if uncertainty:
        forms["uncertainty"] = Form((dates, bands), "float32")
    placed, chronological = _in_time(series)
    seen = min(together or dates_of(how), dates)
    run = _FillRows(how, Ground.of(placed), turns(chronological, seen), seen, uncertainty)
    arrays = in_rows(series, plan, run, forms)
    result = xr.Dataset({name: (_DIMS[name], values) for name, values in arrays.items()}, coords=series.coords)
    result["image"].attrs = series.attrs
    result = result.transpose(*order)
    source = str(series.attrs.get("source", ""))
    origin = Provenance(
        called(how), str(getattr(how, "sha256", "")), (source,) if source else (), "prithvi.fill",
        tuple(map(str, series.attrs.get("accepted", ()))),
    )  # fmt: skip
    result.attrs = origin.tags()
    return tell(result, tally, units) if units is not None else result


_DIMS = {"image": ("time", "band", "y", "x"), "filled": ("time", "y", "x"), "uncertainty": ("time", "band", "y", "x")}


@dataclass(frozen=True)
class _FillRows:
    """Some rows of a series filled; see `prithvi.mapping.lazily.Run`."""

    fill: Fill
    ground: Ground
    turns: list[Turn]
    together: int
    uncertainty: bool

    def __call__(self, pixels: npt.NDArray[Any], plan: WindowPlan, rows: slice, start: int) -> Named:
        dates, _, height, width = pixels.shape
        answers = {"image": pixels[:, :, rows].copy(), "filled": np.zeros((dates, rows.stop - rows.start, width), bool)}
        if self.uncertainty:
            answers["uncertainty"] = np.full(answers["image"].shape, np.nan, np.float32)
        for turn in self.turns:
            held, wanted = list(turn.held), [turn.held[place] for place in turn.wanted]
            times = self.ground.dates[:, held] if self.ground.dates is not None else None
            ground = replace(self.ground, dates=times).below(start)
            predict = FillWindows(self.fill, ground, turn, self.together, self.uncertainty)

            def read(first: int, last: int, held: list[int] = held) -> npt.NDArray[np.float32]:
                return pixels[held, :, first:last].astype(np.float32)

            for slab in blend(read, (height, width), predict, plan, batch_size=1, part=(rows, slice(0, width))):
                here = slice(slab.start, slab.start + slab.valid.shape[0])
                observed = pixels[wanted, :, rows.start + here.start : rows.start + here.stop]
                found = FilledRows.of(slab, observed, self.uncertainty)
                answers["image"][wanted, :, here], answers["filled"][wanted, here] = found.image, found.filled
                if found.uncertainty is not None:
                    answers["uncertainty"][wanted, :, here] = found.uncertainty
        return answers


def _in_time(series: xr.DataArray) -> tuple[xr.DataArray, list[int]]:
    """The series without a `time` that is no date, and the places of its dates in the order of time."""
    if "time" not in series.coords or series["time"].dtype.kind != "M":
        return series.drop_vars("time", errors="ignore"), list(range(series.sizes["time"]))
    return series, np.argsort(series["time"].values, kind="stable").tolist()


def _contract_of(series: xr.DataArray) -> Contract:
    """What a method without weights wants of a series: its own bands, as reflectance x 10,000."""
    bands = tuple(map(str, series["band"].values)) if _has_names(series) else tuple(WAVELENGTHS)[: series.sizes["band"]]
    return Contract(bands, (0.0,) * len(bands), (1.0,) * len(bands))


def _has_names(series: xr.DataArray) -> bool:
    return "band" in series.coords and series["band"].dtype.kind in "UOT"


def _bands_of(series: xr.DataArray, contract: Contract) -> xr.DataArray:
    """The model's bands; a sample of the values is held against its units."""
    if _has_names(series):
        have = [str(name) for name in series["band"].values]
        lacking = [name for name in contract.bands if name not in have]
        if lacking:
            raise BandError(
                f"the series lacks {', '.join(lacking)}; it has {', '.join(have)}, and the model wants "
                f"{', '.join(contract.bands)}."
            )
        order = [have.index(name) for name in contract.bands]
        series = series.isel(band=order).assign_attrs(series.attrs)
    elif series.sizes["band"] != len(contract.bands):
        raise BandError(
            f"the series has {series.sizes['band']} bands without names; the model wants {', '.join(contract.bands)}."
        )
    # Without a place there is no size of a pixel to compare.
    place = contract.resolution if series.rio.crs is not None else None
    conform(series.assign_coords(band=list(contract.bands)), replace(contract, resolution=place))
    return series
