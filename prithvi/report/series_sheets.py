"""Sheets of a filled time series, a date each, and the chart of the pixel under the pointer through all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import xarray as xr
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.errors import RasterioError

from prithvi.errors import MALFORMED, PrithviError, SceneError, first_line
from prithvi.mapping.result_files import FILLED, INT16_NODATA, NOTHING, OBSERVED, SCALE
from prithvi.plot.pictures import TRUE_COLOR, rgb, stretch, thinning
from prithvi.products.provenance import Provenance
from prithvi.report.sheets import Entry, Probe, Sheet, opaque, origin, packed, thinned_note
from prithvi.scenes import open_scene
from prithvi.scenes.grids import grid_of, grid_of_array

CHARTED = 4_000_000
"""Values of a chart at most, over all dates, bands and pixels: some six megabytes of a page."""
COLORS = {"blue": "3B78C4", "green": "3C9D4E", "red": "D1495B", "nir_narrow": "8E5EA2", "nir_broad": "8E5EA2",
          "swir_1": "C98A1B", "swir_2": "7A5C45"}  # fmt: skip
"""Of the lines of bands, on light and dark pages; any other band is grey."""
_OTHER = "7C8A92"
_STATES = {OBSERVED: ("observed", "6B7A8F"), FILLED: ("filled", "E69F00"), NOTHING: ("nothing in reach", "FFFFFF")}
_HOLE = (0, 0, 0, 0)


@dataclass(frozen=True)
class Dated:
    """One date of a series."""

    label: str
    scene: xr.DataArray
    """(1, band, y, x), lazy."""
    states: npt.NDArray[np.uint8]
    """(y, x) of `OBSERVED`, `FILLED` and `NOTHING`, thinned as the picture is."""
    ground: GeoBox
    """Of the states."""
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Chart:
    """Reflectance of each pixel through a series, on every nth pixel of the page."""

    dates: Sequence[str]
    """Labels."""
    days: Sequence[float]
    """Where the dates lie on the axis: days since 1970, or 0, 1, ... where they are not known."""
    bands: Sequence[str]
    values: npt.NDArray[np.int16]
    """(date, band, y, x) reflectance / `SCALE`, `INT16_NODATA` where there is none."""
    states: npt.NDArray[np.uint8]
    """(date, y, x)."""
    step: int
    """Pixels of the page per pixel of the chart, along one side."""

    def plain(self) -> dict[str, Any]:
        """As the page reads it."""
        return {
            "dates": list(self.dates), "days": list(self.days), "bands": list(self.bands), "step": self.step,
            "colors": [f"#{COLORS.get(band, _OTHER)}" for band in self.bands],
            "height": self.values.shape[2], "width": self.values.shape[3], "scale": SCALE, "nodata": INT16_NODATA,
            "values": packed(self.values.astype("<i2")), "states": packed(self.states),
        }  # fmt: skip


def dates_in(folder: Path) -> list[Path]:
    """The images in a folder of `prithvi fill`, sorted by date; those with a mask of filled pixels."""
    masks = sorted(folder.glob("*_filled.tif"))
    files = [mask.with_stem(mask.stem.removesuffix("_filled")) for mask in masks]
    return [file for file in files if file.is_file()]


def is_cube(path: Path) -> bool:
    """Whether a folder is a Zarr store of a series that `prithvi fill` wrote."""
    return any((path / "filled" / file).is_file() for file in (".zarray", "zarr.json"))


def sheets_of_series(path: Path) -> list[Sheet]:
    """One sheet per date, all with a common stretch and one chart.

    Args:
        path: folder of images with their masks of filled pixels, or Zarr store.

    Raises:
        SceneError: a file cannot be read.

    """
    if not is_cube(path):
        return _sheets([_of_file(file) for file in dates_in(path)])
    try:
        return _sheets(_of_cube(path))
    except PrithviError:
        raise
    # A store's pixels are read when they are drawn; of a damaged chunk numcodecs raises RuntimeError or SystemError. Of
    # times that no clock has xarray wants cftime, which need not be installed.
    except (RuntimeError, SystemError, OSError, ImportError, *MALFORMED) as error:
        raise SceneError(f"{path} is damaged, or no series that can be shown ({first_line(error)}).") from error


def _sheets(dated: Sequence[Dated]) -> list[Sheet]:
    first = dated[0].scene
    bands = [str(name) for name in first["band"].values]
    for date in dated:
        if date.ground != dated[0].ground or [str(name) for name in date.scene["band"].values] != bands:
            raise SceneError(
                f"{date.label} lies on another grid than {dated[0].label}, or has other bands: they are of two runs. "
                "Show each in a folder of its own."
            )
    chosen = TRUE_COLOR if set(TRUE_COLOR) <= set(bands) else tuple((bands * 3)[:3])
    limits = stretch(*(date.scene for date in dated), bands=chosen)
    chart = chart_of(dated) if len(dated) > 1 else None
    found = []
    for number, date in enumerate(dated):
        # Two pictures to compare: the filled image, transparent where nothing could be filled, and the same image
        # transparent at all pixels but the observed ones.
        whole = opaque(rgb(date.scene, chosen, limits=limits))
        whole[date.states == NOTHING] = _HOLE
        observed = whole.copy()
        observed[date.states != OBSERVED] = _HOLE
        shares = {value: float((date.states == value).mean()) for value in _STATES}
        legend = [Entry(*_STATES[value], f"{share:.1%}") for value, share in shares.items() if share]
        probes = [Probe("pixel", date.states, -1, {value: name for value, (name, _) in _STATES.items()})]
        facts = origin("filled by", Provenance.from_tags(dict(date.tags)), date.tags)
        step = thinning(first.sizes["y"], first.sizes["x"])
        notes = thinned_note(step)
        if chart is not None and chart.step > 1:
            notes.append(f"The chart has one pixel of {chart.step} x {chart.step} of the page.")
        pictures = ("observed", observed), ("filled", whole)
        found.append(
            Sheet(date.label, *pictures, probes, legend, facts, date.ground, step, notes, chart=chart, number=number)
        )
    return found


def chart_of(dated: Sequence[Dated]) -> Chart:
    """The chart of a series, thinned until it has at most `CHARTED` values."""
    height, width = dated[0].states.shape
    bands = [str(name) for name in dated[0].scene["band"].values]
    number, step = len(dated) * len(bands), 1
    while number * -(-height // step) * -(-width // step) > CHARTED:
        step += 1
    each = thinning(dated[0].scene.sizes["y"], dated[0].scene.sizes["x"]) * step
    shape = (len(dated), len(bands), -(-height // step), -(-width // step))
    values = np.full(shape, INT16_NODATA, np.int16)
    states = np.stack([date.states[::step, ::step] for date in dated])
    for k, date in enumerate(dated):
        attrs = date.scene.attrs
        stored = date.scene[0, :, ::each, ::each].values.astype(np.float32)
        known = np.isfinite(stored) & (stored != attrs.get("nodata", np.nan)) & (states[k] != NOTHING)
        shown = (stored * attrs.get("gain", 1.0) + attrs.get("bias", 0.0)) / SCALE
        values[k][known] = np.clip(np.round(shown[known]), -9998, 32767)
    days = [_day(date) for date in dated]
    known_days = all(day is not None for day in days) and len(set(days)) == len(days)
    axis = [float(day) for day in days if day is not None] if known_days else list(map(float, range(len(days))))
    return Chart([date.label for date in dated], axis, bands, values, states, step)


def _of_file(file: Path) -> Dated:
    scene = open_scene(file)
    step = thinning(scene.sizes["y"], scene.sizes["x"])
    size = -(-scene.sizes["y"] // step), -(-scene.sizes["x"] // step)
    filled = file.with_name(f"{file.stem}_filled.tif")
    try:
        with rasterio.open(filled) as mask:
            if mask.count != 1:  # a block of many bands is read whole, whatever its header claims
                raise SceneError(f"{filled} has {mask.count} bands, and a mask of filled pixels has one.")
            states = mask.read(1, out_shape=size, resampling=Resampling.nearest)
            return Dated(file.stem, scene, states, grid_of(mask).zoom_to(size), mask.tags())
    except RasterioError as error:
        raise SceneError(f"{filled} cannot be read ({error}).") from error


def _of_cube(path: Path) -> list[Dated]:
    cube = xr.open_zarr(path, decode_coords="all")
    image, filled = cube["image"], cube["filled"]
    step = thinning(image.sizes["y"], image.sizes["x"])
    ground = grid_of_array(image)
    tags = {str(name): str(value) for name, value in cube.attrs.items()}
    found = []
    for k in range(image.sizes["time"]):
        # xarray has applied the scale, so that the values are reflectance.
        scene = image.isel(time=[k]).assign_attrs(gain=1.0, bias=0.0)
        states = filled[k, ::step, ::step].values.astype(np.uint8)
        label = str(image["time"].values[k].astype("datetime64[D]"))
        found.append(Dated(label, scene, states, ground.zoom_to(states.shape), tags))
    return found


def _day(date: Dated) -> float | None:
    """Days since 1970 of a date, by its label (files are named by their day) or its time; None without one."""
    with suppress(ValueError):
        return float(np.datetime64(date.label[:10], "D").astype(np.int64))
    times = date.scene.coords.get("time")
    if times is None or not np.issubdtype(times.dtype, np.datetime64) or np.isnat(times.values[0]):
        return None
    return float(times.values[0].astype("datetime64[s]").astype(np.int64)) / 86400
