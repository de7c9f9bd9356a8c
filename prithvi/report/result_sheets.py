"""Sheets of class maps and maps of a quantity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import xarray as xr
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.errors import RasterioError

from prithvi.errors import BandError, ConfigError, PrithviError, SceneError, counted
from prithvi.files import read_json
from prithvi.mapping.cog import count_values
from prithvi.mapping.result_files import STEPS
from prithvi.plot.drawing import CONTINUOUS, class_colors
from prithvi.plot.pictures import FALSE_COLOR, rgb, thinning
from prithvi.products.classmap import class_areas, open_classes
from prithvi.products.provenance import Provenance, classes_of
from prithvi.report.sheets import Entry, Probe, Rgba, Sheet, opaque, origin, thinned_note
from prithvi.scenes import crop, open_scene, transform_of
from prithvi.scenes.grids import difference, grid_of, grid_of_array


def sheet_of_map(path: Path, scene: xr.DataArray | None) -> Sheet:
    """The sheet of a map written by `prithvi map`.

    Args:
        path: the GeoTIFF; rasters of confidence and disagreement beside it are shown too.
        scene: the scene that was mapped; None for the input named in the tags, if it exists.

    Raises:
        SceneError: the file cannot be read.

    """
    # Rasters are read decimated, so that the page stays small; only areas are counted at full resolution. A scene that
    # cannot be shown becomes a note on the page, since the map is worth showing without it.
    try:
        with rasterio.open(path) as raster:
            step = thinning(raster.height, raster.width)
            size = -(-raster.height // step), -(-raster.width // step)
            values = raster.read(1, out_shape=size, resampling=Resampling.nearest)
            whole = grid_of(raster)
            tags, nodata = raster.tags(), raster.nodata
            classes = raster.dtypes[0] == "uint8"
            if classes:
                legend, names, above, placed = _classes(raster, values, tags)
                probes = [Probe("class", values, 255, names)]
            else:
                legend, probes, above = _quantity(values, nodata, raster.descriptions[0] or "value", raster.units[0])
        for name in ("confidence", "disagreement"):
            if (beside := path.with_name(f"{path.stem}_{name}.tif")).is_file():
                probes += _beside(beside, name, size)
    except RasterioError as error:
        raise SceneError(f"{path} is no map that can be shown ({error}).") from error
    made, item, below, notes = Provenance.from_tags(tags), _item(path), None, []
    try:
        scene = scene if scene is not None else _source(path, made)
        below = _picture_of(scene, whole) if scene is not None else None
    except PrithviError as error:
        notes.append(f"What was mapped is not shown: {error}")
    notes += thinned_note(step)
    if classes and legend and placed:
        notes.append("Areas are counted pixels, on the ellipsoid; prithvi area corrects them by a reference sample.")
    size_of = f"{whole.shape[0]:,} x {whole.shape[1]:,} pixels"
    more = ("dates", _dates(item)), ("grid", size_of), ("accepted", ", ".join(made.accepted))
    return Sheet(
        path.stem, below, ("map", above), probes, legend, origin("model", made, tags, *more), whole.zoom_to(size), step,
        notes, _measured(path, item), 85 if below is not None else 100,
    )  # fmt: skip


def area_texts(square_metres: Sequence[float]) -> list[str]:
    """Areas in square metres as text, all in the unit that suits the largest, so that they compare."""
    units = (("km²", 1e6), ("ha", 1e4))
    largest = max(square_metres, default=0.0)
    unit, size = next(((unit, size) for unit, size in units if largest >= 10 * size), ("m²", 1.0))
    return [f"{_three_digits(area / size)} {unit}" for area in square_metres]


def _three_digits(value: float) -> str:
    if 0 < value < 0.001:
        return "< 0.001"
    return f"{value:.3g}" if 0 < value < 100 else f"{value:,.0f}"


def _classes(
    raster: Any, values: npt.NDArray[np.uint8], tags: dict[str, str]
) -> tuple[list[Entry], dict[int, str], Rgba, bool]:
    """Legend, names by number and picture of a map of classes, and whether the legend has areas, or else pixels."""
    told, _ = classes_of(tags)
    found = sorted({value for value in (*told, *map(int, np.unique(values))) if value < 255})
    names = {value: told.get(value, f"class {value}") for value in found}
    colors = dict(zip(found, class_colors(len(found)), strict=True))
    with suppress(ValueError):  # without a colour table
        table = raster.colormap(1)
        colors |= {value: bytes(table[value][:3]).hex().upper() for value in found if value in table}
    try:
        with open_classes(raster.name) as opened:
            measured = class_areas(opened)
        sizes = [measured.get(value, 0.0) for value in found]
        shown, placed = area_texts(sizes), True
    except SceneError:  # it lies nowhere, and is worth showing all the same
        sizes = count_values(raster.name)[found].tolist()
        shown, placed = [counted(size, "pixel") for size in sizes], False
    total = max(sum(sizes), 1e-9)
    shares = zip(found, sizes, shown, strict=True)
    legend = [Entry(names[value], colors[value], f"{text}, {size / total:.1%}") for value, size, text in shares]
    lookup = np.zeros((256, 4), np.uint8)
    for value, color in colors.items():
        lookup[value] = (*bytes.fromhex(color), 255)
    return legend, names, lookup[values], placed


def _quantity(
    values: npt.NDArray[Any], nodata: float | None, name: str, unit: str | None
) -> tuple[list[Entry], list[Probe], Rgba]:
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    there = np.isfinite(values) if nodata is None or np.isnan(nodata) else np.isfinite(values) & (values != nodata)
    low, high = np.percentile(values[there], [1, 99]) if there.any() else (0.0, 1.0)
    span = max(float(high - low), 1e-9)
    levels = np.clip(np.nan_to_num((values - low) / span) * STEPS, 0, STEPS).round().astype(np.uint8)
    levels[~there] = 255
    colors = colormaps[CONTINUOUS]
    picture = (colors(levels / STEPS) * 255).astype(np.uint8)
    picture[~there] = 0
    says = {level: f"{low + span * level / STEPS:.4g}{f' {unit}' if unit else ''}" for level in range(STEPS + 1)}
    legend = [Entry(says[at], to_hex(colors(at / STEPS))[1:].upper(), "") for at in (0, STEPS // 2, STEPS)]
    return legend, [Probe(name, levels, 255, says)], picture


def _beside(path: Path, name: str, size: tuple[int, int]) -> list[Probe]:
    """Values to show of a raster beside a map: of 0 to 1 in steps, or of a quantity."""
    with rasterio.open(path) as raster:
        values = raster.read(1, out_shape=size, resampling=Resampling.nearest)
        if raster.dtypes[0] == "uint8":
            return [Probe(name, values, 255, factor=1 / STEPS)]
        return _quantity(values, raster.nodata, name, raster.units[0])[1]


def _source(path: Path, made: Provenance) -> xr.DataArray | None:
    """The scene named in the tags, if it is a single local file that still exists."""
    if len(made.inputs) != 1 or "://" in made.inputs[0]:
        return None
    found = [place for place in (Path(made.inputs[0]), path.parent / made.inputs[0]) if place.exists()]
    return open_scene(found[0]) if found else None


def _picture_of(scene: xr.DataArray, whole: GeoBox) -> tuple[str, Rgba]:
    """Label and picture of the scene, on the grid of the map."""
    # A scene may be larger than a map of its part: it is cropped to the map's corner and size, and the grids must then
    # be equal.
    column, row = ~transform_of(scene) @ (whole.affine.c, whole.affine.f)
    top, left = max(0, round(row)), max(0, round(column))
    part = crop(scene, slice(top, top + whole.shape[0]), slice(left, left + whole.shape[1]))
    differs = difference(grid_of_array(part), whole)
    if differs is not None:
        raise SceneError(f"the scene and the map do not lie on one grid: {differs}.")
    bands = [str(name) for name in scene["band"].values]
    chosen = FALSE_COLOR if set(FALSE_COLOR) <= set(bands) else tuple(bands[:3])
    if len(chosen) < 3:
        raise BandError(f"a picture needs three bands; it has {', '.join(bands)}.")
    return ", ".join(chosen), opaque(rgb(part, chosen))


def _item(path: Path) -> dict[str, Any]:
    """The STAC item beside a map; empty if there is none."""
    try:
        plain = read_json(path.with_suffix(".json"))
    except (ConfigError, OSError):
        return {}
    sound = isinstance(plain.get("properties"), dict) and isinstance(plain.get("links"), list)
    return plain if plain.get("type") == "Feature" and sound else {}


def _measured(path: Path, item: Mapping[str, Any]) -> dict[str, str]:
    """Metrics from metrics.json of the model that the map's STAC item links to."""
    for link in item.get("links", ()):
        if not isinstance(link, dict) or link.get("rel") != "derived_from":
            continue
        with suppress(ConfigError, OSError, ValueError):  # ValueError: no path at all
            plain = read_json((path.parent / str(link.get("href", ""))).parent / "metrics.json")
            return {name: _mean(each) for name, each in plain.items() if _is_figure(each)}
    return {}


def _is_figure(plain: Any) -> bool:
    """Whether it has a mean and perhaps a spread, both numbers."""
    return isinstance(plain, dict) and all(
        isinstance(number, int | float) for number in (plain.get("mean"), plain.get("std") or 0.0)
    )


def _mean(figure: Mapping[str, Any]) -> str:
    spread = f" ± {figure['std']:.3f}" if figure.get("std") is not None else ""
    return f"{figure['mean']:.3f}{spread}"


def _dates(item: Mapping[str, Any]) -> str:
    """Dates of the map from its STAC item, as text."""
    plain = item.get("properties", {})
    days = [plain.get(name) for name in ("start_datetime", "end_datetime")]
    days = days if all(days) else [plain.get("datetime")]
    return " to ".join(dict.fromkeys(str(day)[:10] for day in days if day))
