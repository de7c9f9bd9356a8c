"""`prithvi.map`: a scene and a model to a map as an array, with its place."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from prithvi.contract import Contract, Quantity
from prithvi.errors import ConfigError
from prithvi.mapping.answers import values_of
from prithvi.mapping.blend import blend
from prithvi.mapping.lazily import Form, Values, in_rows
from prithvi.mapping.maps import Target
from prithvi.mapping.provenance import LEFT_OUT, Provenance
from prithvi.mapping.rasters import NODATA
from prithvi.mapping.scoring import Ground, Model, Scoring, mappable, mappable_module
from prithvi.mapping.strips import Mask, rows_of
from prithvi.modelio.predictor import ClassEntry, Mappable
from prithvi.modelio.requirements import check_size
from prithvi.models import PrithviMAE
from prithvi.scenes import conform
from prithvi.scenes.area import Area
from prithvi.scenes.conform import units_of
from prithvi.scenes.grids import grid_of_array, write_grid
from prithvi.scenes.validity import Tally
from prithvi.windows import WindowPlan


def map(
    scene: xr.DataArray,
    model: Model | torch.nn.Module,
    *,
    contract: Contract | None = None,
    classes: Sequence[str | ClassEntry] = (),
    quantity: Quantity | None = None,
    window: int | None = None,
    stride: int | None = None,
    area: Area | None = None,
    probabilities: bool = False,
    batch_size: int = 8,
    device: str | torch.device | None = None,
    accept: Sequence[str] = (),
) -> xr.Dataset:
    """A map as an array with its place.

    Args:
        scene: what `prithvi.open_scene` gives. Where it is lazy the answer is, and is computed by rows when asked for;
            at once only a sample of its values is read, to see that they are what the model expects.
        model: a model folder, an exported program, what `prithvi.load` gives for one; or any torch module, which then
            needs `contract` and `classes` or `quantity` (see `prithvi.mapping.mappable_module`).
        contract: what a plain module expects of its input.
        classes: of a plain module.
        quantity: of a plain module.
        window: side of the squares that it is run on, in pixels; default the model's own, 224 of a plain module.
        stride: pixels between windows; default half a window.
        area: map this part only.
        probabilities: give those of every class, too.
        batch_size: windows predicted at once.
        device: torch device; default a GPU where there is one.
        accept: see `prithvi.scenes.conform`.

    Returns:
        `class` (y, x) uint8, 255 where there is no data; `confidence` (y, x) and on request `probability` (category, y,
        x), float32 with NaN; of a quantity `value` (y, x) float32. `.prithvi.to_cog(...)` and others write it.

    Raises:
        SceneError, BandError, ScaleError: the scene does not fit the model.

    Warns:
        UserWarning: pixels of an array in memory are taken as missing though nobody declares them so, since they cannot
            be reflectance; the attribute PRITHVI_LEFT_OUT says it too. Those of a lazy one are as well, uncounted.

    """
    found = _any_model(model, contract, classes, quantity, window, scene.sizes["time"])
    check_size(found, scene)
    scene = conform(scene, found.contract, accept)
    target = Target.of(scene, found.window if window is None else window, stride, area)
    tally = None
    if scene.chunks is None:
        tally = Tally(scene.sizes["time"], target.scene.sizes["y"], target.rows, target.columns, target.mask)
    run = _MapRows(found, Ground.of(target.scene), scene.attrs, target.mask, batch_size, device, probabilities, tally)
    if found.quantity is not None:
        forms = {"value": Form((), "float32")}
    else:
        forms = {"class": Form((), "uint8"), "confidence": Form((), "float32")}
        if probabilities:
            forms["probability"] = Form((len(found.classes),), "float32")
    arrays = in_rows(target.scene, target.plan, run, forms)
    arrays = {name: values[..., target.rows, target.columns] for name, values in arrays.items()}
    result = placed(arrays, target.map)
    if "probability" in result:
        result = result.assign_coords(category=[entry.name for entry in found.classes])
    result = result.assign_attrs(Provenance.of(found, scene, "prithvi.map").tags())
    if found.folder:
        result.attrs["model_folder"] = found.folder
    if "time" in scene.coords:
        result.attrs["dates"] = [str(time) for time in scene["time"].values.astype("datetime64[s]")]
    if found.quantity is not None:
        result["value"].attrs.update(long_name=found.quantity.name, units=found.quantity.unit)
    else:
        result["class"].attrs.update(classes_as_attributes(found.classes))
    return tell(result, tally, units_of(scene, found.contract))


def left_out(tally: Tally | None, units: tuple[float, float]) -> dict[str, str]:
    """The tag that says which pixels were taken as missing though nobody declares them so, and a warning; none without.

    Args:
        tally: what counted them.
        units: gain and bias of the values.

    Warns:
        UserWarning: there are such pixels.

    """
    text = tally.sentence(*units) if tally is not None else ""
    if not text:
        return {}
    warnings.warn(text, stacklevel=4)
    return {LEFT_OUT: text}


def tell(result: xr.Dataset, tally: Tally | None, units: tuple[float, float]) -> xr.Dataset:
    """A result whose attributes say what was left out; see `left_out`."""
    return result.assign_attrs(left_out(tally, units))


def placed(arrays: Mapping[str, Any], scene: xr.DataArray, dims: tuple[str, ...] = ("category",)) -> xr.Dataset:
    """Arrays (..., y, x) on a scene's grid.

    Args:
        arrays: by name.
        scene: whose grid they have.
        dims: names of the dimensions before y and x; the last of them where an array has fewer.

    """
    coords = {name: scene.coords[name] for name in ("y", "x", "spatial_ref") if name in scene.coords}
    named = {
        name: ((*dims[len(dims) + 2 - values.ndim :], "y", "x") if values.ndim > 2 else ("y", "x"), values)
        for name, values in arrays.items()
    }
    result: xr.Dataset = xr.Dataset(named, coords=coords)
    if scene.rio.crs is not None:
        result = result.rio.write_crs(scene.rio.crs)
    return write_grid(result, grid_of_array(scene))


def classes_as_attributes(classes: Sequence[ClassEntry]) -> dict[str, Any]:
    """Classes as CF's flags, and whole in `classes`."""
    return {
        "flag_values": [entry.value for entry in classes],
        "flag_meanings": " ".join(entry.name.replace(" ", "_") for entry in classes),
        "classes": json.dumps([entry.to_dict() for entry in classes]),
        "missing": NODATA,
    }


@dataclass(frozen=True)
class _MapRows:
    """Some rows of a scene mapped; see `prithvi.mapping.lazily.Run`."""

    model: Mappable
    ground: Ground
    attrs: dict[str, Any]
    mask: Callable[[int, int], Mask] | None
    """(rows, width) of rows of the scene: where an answer is asked for."""
    batch_size: int
    device: str | torch.device | None
    probabilities: bool
    tally: Tally | None = None

    def __call__(self, pixels: npt.NDArray[Any], plan: WindowPlan, rows: slice, start: int) -> Values:
        size, mask = (pixels.shape[2], pixels.shape[3]), self.mask
        scene = xr.DataArray(pixels, dims=("time", "band", "y", "x"), attrs=self.attrs)
        wanted = None if mask is None else lambda first, last: mask(start + first, start + last)
        found: dict[str, list[npt.NDArray[Any]]] = {}
        with Scoring(
            self.model.module, self.ground.below(start), self.model.coordinates, self.batch_size, self.device,
            concurrent=self.model.concurrent,
        ) as scoring:  # fmt: skip
            slabs = blend(
                rows_of(scene, self.model.contract, self.tally), size, scoring, plan, batch_size=self.batch_size,
                part=(rows, slice(0, size[1])), wanted=wanted,
            )  # fmt: skip
            for slab in slabs:
                for name, values in values_of(self.model, slab).items():
                    if name != "probability" or self.probabilities:
                        found.setdefault(name, []).append(values)
        return {name: np.concatenate(parts, axis=-2) for name, parts in found.items()}


def _any_model(
    model: Model | torch.nn.Module,
    contract: Contract | None,
    classes: Sequence[str | ClassEntry],
    quantity: Quantity | None,
    window: int | None,
    frames: int,
) -> Mappable:
    if isinstance(model, torch.nn.Module) and not isinstance(model, PrithviMAE):
        if contract is None:
            raise ConfigError(
                "a plain module does not say what it expects of its input: give contract=prithvi.Contract(bands, mean, "
                "std, ...), and classes= or quantity=."
            )
        side = 224 if window is None else window
        return mappable_module(model, contract, classes=classes, quantity=quantity, window=side, frames=frames)
    if contract is not None or classes or quantity is not None:
        raise ConfigError("contract=, classes= and quantity= are for plain torch modules; this model has its own.")
    return mappable(model)
