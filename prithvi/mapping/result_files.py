"""The files of a result: which of its arrays become which GeoTIFFs, how their values are stored there, and a GDAL VRT
over a plain file of rows that says so: names, colours, nodata and tags, which GDAL's drivers carry over.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import xarray as xr

from prithvi.errors import ConfigError, SceneError
from prithvi.modelio.predictor import ClassEntry, distinct_color
from prithvi.scenes import transform_of
from prithvi.scenes.raster_files import DATE_TAG

NODATA = 255
"""Class number of a pixel without data."""
STEPS = 250
"""Whole numbers from probability 0 to 1 in files of uint8."""
INT16_NODATA, SCALE = -9999, 1e-4
"""Of reflectance and its standard error in files of int16: reflectance = value x SCALE."""
OBSERVED, FILLED, NOTHING = 0, 1, 255
"""Values of the mask beside each date."""
SOURCE_FILLED = 0
"""In a layer of sources: what no sensor saw. Sensors, in the order of their names, are 1, 2, ..., `NOTHING` is none."""
_TYPES = {"uint8": "Byte", "int8": "Int8", "int16": "Int16", "uint16": "UInt16", "int32": "Int32", "float32": "Float32"}


@dataclass(frozen=True)
class Raster:
    """A file that is to be made."""

    name: str
    """With its suffix."""
    bands: tuple[str, ...]
    dtype: str
    nodata: float
    encode: Callable[[Mapping[str, npt.NDArray[Any]]], npt.NDArray[Any]]
    """The named arrays (..., rows, width) of a result to this file's values, (rows, width) or (..., rows, width)."""
    tags: Mapping[str, str] = field(default_factory=dict)
    scale: float | None = None
    """What is meant = value x scale."""
    unit: str = ""
    classes: tuple[ClassEntry, ...] = ()
    """With them there is a colour table and category names, which GDAL keeps in the .aux.xml beside the file."""
    resampling: str = "AVERAGE"
    """Of the overviews."""
    half: bool = False
    """Store float32 with 16 bits."""


@dataclass(frozen=True)
class SourceLayer:
    """What the layer of sources of a series of several sensors tells apart: which of them saw a pixel."""

    sensors: tuple[str, ...]
    """All of them, sorted."""
    dates: tuple[str, ...]
    """The sensor in whose values each date is."""

    @classmethod
    def of(cls, result: xr.Dataset) -> SourceLayer | None:
        """Of what `prithvi.fill` gives; None where it has no such layer."""
        if "source" not in result or "sensor" not in result.coords:
            return None
        names = str(result["source"].attrs["flag_meanings"]).split()[1:-1]
        return cls(tuple(names), tuple(map(str, result["sensor"].values)))

    @property
    def flags(self) -> dict[str, Any]:
        """Its values and what they mean, by the CF conventions."""
        values = [SOURCE_FILLED, *range(1, len(self.sensors) + 1), NOTHING]
        words = ["filled", *(name.replace(" ", "_") for name in self.sensors), "nothing"]
        return {"long_name": "sensor that saw a pixel", "flag_values": values, "flag_meanings": " ".join(words)}

    @property
    def classes(self) -> tuple[ClassEntry, ...]:
        """The same as names and colours."""
        names = ["filled", *self.sensors]
        return tuple(ClassEntry(value, name, f"{distinct_color(value):06X}") for value, name in enumerate(names))


def map_rasters(
    result: xr.Dataset,
    path: Path,
    confidence: bool = False,
    probabilities: str | None = None,
    disagreement: bool = False,
) -> list[Raster]:
    """The files of a map, the map first.

    Args:
        result: what `prithvi.map` gives.
        path: of the map.
        confidence: whether the probability of the chosen class is one of them.
        probabilities: `uint8` or `float32` for those of every class.
        disagreement: whether that between windows is one of them.

    Raises:
        ConfigError: the disagreement is asked for and not in the result.

    """
    tags, nan, apart = tags_of(result), float("nan"), f"{path.stem}_disagreement.tif"
    if disagreement and "disagreement" not in result:
        raise ConfigError("this map has no disagreement between windows: make it with prithvi.map(disagreement=True).")
    if "value" in result:
        about = result["value"].attrs
        title, unit = str(about.get("long_name", "value")), str(about.get("units", ""))
        found = [Raster(path.name, (title,), "float32", nan, itemgetter("value"), tags, unit=unit)]
        if disagreement:
            values = itemgetter("disagreement")
            found.append(Raster(apart, ("disagreement",), "float32", nan, values, tags, unit=unit))
        return found
    classes = classes_of_result(result)
    found = [
        Raster(path.name, ("class",), "uint8", NODATA, itemgetter("class"), tags, classes=classes, resampling="MODE")
    ]
    if confidence:
        name = f"{path.stem}_confidence.tif"
        found.append(Raster(name, ("confidence",), "uint8", NODATA, partial(_in_steps, "confidence"), tags, 1 / STEPS))
    if disagreement:
        steps = partial(_in_steps, "disagreement")
        found.append(Raster(apart, ("disagreement",), "uint8", NODATA, steps, tags, 1 / STEPS))
    if probabilities is not None:
        name, names = f"{path.stem}_probabilities.tif", tuple(entry.name for entry in classes)
        if probabilities == "uint8":
            found.append(Raster(name, names, "uint8", NODATA, partial(_in_steps, "probability"), tags, 1 / STEPS))
        else:
            found.append(Raster(name, names, probabilities, nan, itemgetter("probability"), tags))
    return found


def tags_of(result: xr.Dataset) -> dict[str, str]:
    """What a result's files say of how it was made."""
    return {key: str(value) for key, value in result.attrs.items() if str(key).startswith("PRITHVI_")}


def class_flags(classes: Sequence[ClassEntry]) -> dict[str, Any]:
    """What the attributes of an array of classes say of them: as CF's flags, and whole in `classes`."""
    return {
        "flag_values": [entry.value for entry in classes],
        "flag_meanings": " ".join(entry.name.replace(" ", "_") for entry in classes),
        "classes": json.dumps([entry.to_dict() for entry in classes]),
        "missing": NODATA,
    }


def classes_of_result(result: xr.Dataset) -> tuple[ClassEntry, ...]:
    """The classes of what `prithvi.map` gives.

    Raises:
        ConfigError: it has none.

    """
    told = result["class"].attrs.get("classes") if "class" in result else None
    if told is None:
        raise ConfigError("this dataset has no class map: use prithvi.map with a segmentation model.")
    return tuple(ClassEntry(**entry) for entry in json.loads(told))


def _in_steps(name: str, values: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.uint8]:
    """Probabilities of that name as 0 to 250, NaN as 255."""
    return np.asarray(np.round(np.nan_to_num(values[name], nan=NODATA / STEPS) * STEPS), np.uint8)


def series_rasters(
    labels: Sequence[str],
    bands: Sequence[str],
    uncertainty: bool,
    tags: dict[str, str],
    units: tuple[float, float] = (SCALE, 0.0),
    sources: SourceLayer | None = None,
) -> list[Raster]:
    """The files of dates, in the order of these.

    Args:
        labels: what they are called.
        bands: names of the bands.
        uncertainty: whether there are files of it.
        tags: of all files.
        units: gain and bias of the series' values: reflectance = value x gain + bias.
        sources: of these dates, where the series has several sensors.

    """
    found = []
    for date, label in enumerate(labels):
        tags = {**tags, DATE_TAG: label}
        if sources is not None:
            tags["PRITHVI_SENSOR"] = sources.dates[date]
        image, filled, unsure = (partial(_of_date, date, units, kind) for kind in ("image", "filled", "uncertainty"))
        found += [
            Raster(f"{label}.tif", tuple(bands), "int16", INT16_NODATA, image, tags, SCALE),
            Raster(f"{label}_filled.tif", ("filled",), "uint8", NOTHING, filled, tags, resampling="MODE"),
        ]
        if uncertainty:
            found.append(Raster(f"{label}_uncertainty.tif", tuple(bands), "int16", INT16_NODATA, unsure, tags, SCALE))
        if sources is not None:
            source, classes = partial(_of_place, "source", date), sources.classes
            name, about = f"{label}_source.tif", ("source",)
            found.append(Raster(name, about, "uint8", NOTHING, source, tags, classes=classes, resampling="MODE"))
    return found


def _of_place(name: str, place: int, values: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return np.asarray(values[name][place])


def composite_rasters(
    label: str, bands: Sequence[str], tags: dict[str, str], units: tuple[float, float] = (SCALE, 0.0), place: int = 0
) -> list[Raster]:
    """The files of a composite: its bands, and the date of each pixel.

    Args:
        label: what it is called.
        bands: names of the bands.
        tags: of both files.
        units: gain and bias of the values: reflectance = value x gain + bias.
        place: of the composite among several.

    """
    image = partial(_of_date, place, units, "image")
    return [
        Raster(f"{label}.tif", tuple(bands), "int16", INT16_NODATA, image, tags, SCALE),
        Raster(f"{label}_date.tif", ("date",), "int32", 0, lambda values: values["date"][place], tags,
               resampling="NEAREST"),
    ]  # fmt: skip


def _of_date(
    date: int, units: tuple[float, float], kind: str, values: Mapping[str, npt.NDArray[Any]]
) -> npt.NDArray[Any]:
    """What a file of a date holds, out of the arrays of a filled series; see `Raster.encode`."""
    pixels = values[kind][date]
    if kind == "filled":
        known = np.isfinite(values["image"][date]).all(axis=0)
        return np.where(known, np.where(pixels, FILLED, OBSERVED), NOTHING).astype(np.uint8)
    gain, bias = units[0] / SCALE, units[1] / SCALE
    if abs(gain - 1) > 1e-9 or bias:  # to what is stored; a standard error has no offset
        pixels = pixels * gain + (bias if kind == "image" else 0.0)
    # An error is rounded up: 0 is for what was observed.
    whole = np.round(np.nan_to_num(np.ceil(pixels) if kind == "uncertainty" else pixels))
    return np.where(np.isfinite(pixels), np.clip(whole, INT16_NODATA + 1, 32_767), INT16_NODATA).astype(np.int16)


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
    """What files of a series' dates are called: by the day, and by the time where two are of one day.

    Raises:
        SceneError: a date twice.

    """
    days = series["time"].dt.strftime("%Y-%m-%d").values.tolist()
    times = series["time"].dt.strftime("%Y-%m-%dT%H%M%S").values.tolist()
    labels = [str(time if days.count(day) > 1 else day) for day, time in zip(days, times, strict=True)]
    if twice := [label for label in labels if labels.count(label) > 1]:
        name = series.attrs.get("source", "the series")
        raise SceneError(f"{name} has the date {twice[0]} twice, and each becomes a file: leave one of them out.")
    return labels


def write_vrt(path: Path, raw: Path, grid: xr.DataArray, raster: Raster) -> Path:
    """Writes the VRT of a raw file whose rows hold one band after the other, little-endian.

    Args:
        path: of the VRT.
        raw: in the same folder.
        grid: (..., y, x), its size and place.
        raster: what its bands hold.

    """
    width, height, crs = grid.sizes["x"], grid.sizes["y"], grid.rio.crs
    root = ElementTree.Element("VRTDataset", rasterXSize=str(width), rasterYSize=str(height))
    if crs is not None:
        _add(root, "SRS", crs.to_wkt())
    _add(root, "GeoTransform", ", ".join(repr(float(value)) for value in transform_of(grid).to_gdal()))
    tags = {**raster.tags, **{f"CLASS_{entry.value}": entry.name for entry in raster.classes}}
    tags |= {f"LABEL_VALUE_{entry.value}": str(entry.label) for entry in raster.classes if entry.label is not None}
    metadata = ElementTree.SubElement(root, "Metadata")
    for key, text in tags.items():
        _add(metadata, "MDI", text, key=key)
    size = np.dtype(raster.dtype).itemsize
    line = width * size
    for number, name in enumerate(raster.bands):
        band = ElementTree.SubElement(
            root, "VRTRasterBand", dataType=_TYPES[raster.dtype], band=str(number + 1), subClass="VRTRawRasterBand"
        )
        _add(band, "Description", name)
        if raster.unit:
            _add(band, "UnitType", raster.unit)
        if raster.scale is not None:
            _add(band, "Scale", repr(raster.scale))
        _add(band, "NoDataValue", str(raster.nodata))
        if raster.classes:
            _add_classes(band, raster)
        _add(band, "SourceFilename", raw.name, relativeToVRT="1")
        _add(band, "ImageOffset", str(number * line))
        _add(band, "PixelOffset", str(size))
        _add(band, "LineOffset", str(len(raster.bands) * line))
        _add(band, "ByteOrder", "LSB")
    ElementTree.ElementTree(root).write(path, encoding="utf-8")
    return path


def _add_classes(band: ElementTree.Element, raster: Raster) -> None:
    _add(band, "ColorInterp", "Palette")
    named = {entry.value: entry for entry in raster.classes}
    categories = ElementTree.SubElement(band, "CategoryNames")
    for value in range(max(named) + 1):
        _add(categories, "Category", named[value].name if value in named else "")
    table = ElementTree.SubElement(band, "ColorTable")
    for value in range(256):
        red, green, blue = bytes.fromhex(named[value].color) if value in named else (0, 0, 0)
        alpha = 0 if value == raster.nodata else 255
        ElementTree.SubElement(table, "Entry", c1=str(red), c2=str(green), c3=str(blue), c4=str(alpha))


def _add(parent: ElementTree.Element, name: str, text: str, **attributes: str) -> None:
    ElementTree.SubElement(parent, name, attributes).text = text
