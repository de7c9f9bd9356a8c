"""The files of a result: which of its arrays become which GeoTIFFs, and how their values are stored there."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from prithvi.errors import ConfigError
from prithvi.mapping.cog import NODATA, Raster
from prithvi.modelio.predictor import ClassEntry

STEPS = 250
"""Whole numbers from probability 0 to 1 in files of uint8."""
STORED, SCALE = -9999, 1e-4
OBSERVED, FILLED, NOTHING = 0, 1, 255
"""Values of the mask beside each date."""


def map_rasters(
    result: xr.Dataset, path: Path, confidence: bool = False, probabilities: str | None = None
) -> list[Raster]:
    """The files of a map, the map first.

    Args:
        result: what `prithvi.map` gives.
        path: of the map.
        confidence: whether the probability of the chosen class is one of them.
        probabilities: `uint8` or `float32` for those of every class.

    """
    tags, nan = tags_of(result), float("nan")
    if "value" in result:
        about = result["value"].attrs
        title, unit = str(about.get("long_name", "value")), str(about.get("units", ""))
        return [Raster(path.name, (title,), "float32", nan, itemgetter("value"), tags, unit=unit)]
    classes = classes_of_result(result)
    found = [
        Raster(path.name, ("class",), "uint8", NODATA, itemgetter("class"), tags, classes=classes, resampling="MODE")
    ]
    if confidence:
        name = f"{path.stem}_confidence.tif"
        found.append(Raster(name, ("confidence",), "uint8", NODATA, _in_steps_of("confidence"), tags, 1 / STEPS))
    if probabilities is not None:
        name, names = f"{path.stem}_probabilities.tif", tuple(entry.name for entry in classes)
        if probabilities == "uint8":
            found.append(Raster(name, names, "uint8", NODATA, _in_steps_of("probability"), tags, 1 / STEPS))
        else:
            found.append(Raster(name, names, probabilities, nan, itemgetter("probability"), tags))
    return found


def tags_of(result: xr.Dataset) -> dict[str, str]:
    """What a result's files say of how it was made."""
    return {key: str(value) for key, value in result.attrs.items() if str(key).startswith("PRITHVI_")}


def classes_of_result(result: xr.Dataset) -> tuple[ClassEntry, ...]:
    """The classes of what `prithvi.map` gives.

    Raises:
        ConfigError: it has none.

    """
    told = result["class"].attrs.get("classes") if "class" in result else None
    if told is None:
        raise ConfigError("this dataset has no class map: use prithvi.map with a segmentation model.")
    return tuple(ClassEntry(**entry) for entry in json.loads(told))


def _in_steps_of(name: str) -> Callable[[Any], npt.NDArray[Any]]:
    """Probabilities of that name as 0 to 250, NaN as 255."""

    def stored(values: Any) -> npt.NDArray[np.uint8]:
        return np.asarray(np.round(np.nan_to_num(values[name], nan=NODATA / STEPS) * STEPS), np.uint8)

    return stored


def series_rasters(
    labels: Sequence[str], bands: Sequence[str], uncertainty: bool, tags: dict[str, str]
) -> list[Raster]:
    """The files of dates, in the order of these."""
    found = []
    for date, label in enumerate(labels):
        found += [
            Raster(f"{label}.tif", tuple(bands), "int16", STORED, _Of(date, "image"), tags, SCALE),
            Raster(f"{label}_filled.tif", ("filled",), "uint8", NOTHING, _Of(date, "filled"), tags, resampling="MODE"),
        ]
        if uncertainty:
            name = f"{label}_uncertainty.tif"
            found.append(Raster(name, tuple(bands), "int16", STORED, _Of(date, "uncertainty"), tags, SCALE))
    return found


@dataclass(frozen=True)
class _Of:
    """What a file of a date holds, out of the arrays of a filled series; see `Raster.encode`."""

    date: int
    kind: str

    def __call__(self, values: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
        pixels = values[self.kind][self.date]
        if self.kind == "filled":
            known = np.isfinite(values["image"][self.date]).all(axis=0)
            return np.where(known, np.where(pixels, FILLED, OBSERVED), NOTHING).astype(np.uint8)
        # An error is rounded up: 0 is for what was observed.
        whole = np.round(np.nan_to_num(np.ceil(pixels) if self.kind == "uncertainty" else pixels))
        return np.where(np.isfinite(pixels), np.clip(whole, STORED + 1, 32_767), STORED).astype(np.int16)


def embedding_raster(name: str, result: xr.Dataset) -> Raster:
    """A file with a band for each feature of each step, in 16-bit floats.

    Args:
        name: of the file.
        result: what `embed` gives.

    """
    steps, features = result["embedding"].shape[:2]
    names = tuple(f"step{step} feature{feature}" for step in range(steps) for feature in range(features))
    return Raster(name, names, "float32", float("nan"), itemgetter("embedding"), tags_of(result), half=True)


def date_labels(series: xr.DataArray | xr.Dataset) -> list[str]:
    """What files of a series' dates are called: by the day, and by the time where two are of one day."""
    days = series["time"].dt.strftime("%Y-%m-%d").values.tolist()
    times = series["time"].dt.strftime("%Y-%m-%dT%H%M%S").values.tolist()
    return [str(time if days.count(day) > 1 else day) for day, time in zip(days, times, strict=True)]
