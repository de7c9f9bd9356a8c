"""From granules to what is cut out of them: per tile, which dates go together."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pystac
import rasterio
from rasterio.errors import RasterioError
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

from prithvi.chips.cutting import GranuleFiles, TileUnit
from prithvi.chips.dates import DateRule, date_sequences
from prithvi.chips.running import Progress, run
from prithvi.errors import DatasetError, SceneError
from prithvi.hls.access import gdal_environment, readable
from prithvi.hls.fmask import FILL, good
from prithvi.hls.granules import Granule
from prithvi.hls.items import MISSING, asset_href
from prithvi.hls.tiles import tile_footprints
from prithvi.scenes.polygons import read_vectors

SPLIT = "prithvi:split"
"""Property of an item: the part that chips of its tile belong to."""
SEQUENCES = "prithvi:sequences"
"""Property of an item: `number/position` of each sequence of its tile that it belongs to."""

_THIN = 8
"""Every how many pixels an Fmask is looked at to tell the share of clouds."""


def by_tile(items: Sequence[pystac.Item]) -> dict[str, list[pystac.Item]]:
    """Items of each tile in order of time."""
    tiles: dict[str, list[pystac.Item]] = {}
    for item in sorted(items, key=lambda item: Granule.parse(item.id)):
        tiles.setdefault(Granule.parse(item.id).tile, []).append(item)
    return tiles


def choose_dates(
    items: Sequence[pystac.Item],
    rule: DateRule,
    *,
    split: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> list[pystac.Item]:
    """The items that sequences of dates are made of, each saying to which it belongs.

    Args:
        items: granules, of any number of tiles.
        rule: what a sequence has to fulfil; relaxed tile by tile where it leaves too few.
        split: tile to part; tiles that are not named are left out. None keeps all.
        progress: called while Fmasks are looked at, where items do not state their shares of clouds and missing pixels.
        note: called with a sentence for each tile whose rule was relaxed.

    Raises:
        DatasetError: no sequence in any tile.

    """
    tiles = {tile: found for tile, found in by_tile(items).items() if split is None or tile in split}
    shares = measure([item for found in tiles.values() for item in found], progress)
    chosen = []
    for tile, found in tiles.items():
        times = [Granule.parse(item.id).time for item in found]
        cloud, missing = zip(*(shares[item.id] for item in found), strict=True)
        sequences = date_sequences(times, cloud, missing, rule)
        if sequences.sentence():
            note(f"T{tile}: {sequences.sentence()}.")
        belongs: dict[int, list[str]] = {}
        for number, dates in enumerate(sequences.dates):
            for position, index in enumerate(dates):
                belongs.setdefault(index, []).append(f"{number}/{position}")
        for index, words in sorted(belongs.items()):
            item = found[index].clone()
            item.properties[SEQUENCES] = words
            if split is not None:
                item.properties[SPLIT] = split[tile]
            chosen.append(item)
    if not chosen:
        raise DatasetError(
            f"none of the {len(tiles)} tiles has {rule.frames} dates {rule.min_gap} to {rule.max_gap} days apart that "
            "are clear enough, also after relaxing: search a longer time, or fewer --frames."
        )
    return chosen


def tile_units(
    items: Sequence[pystac.Item],
    template: TileUnit,
    bands: Sequence[str],
    frames: int,
    *,
    area: BaseGeometry | None = None,
) -> list[TileUnit]:
    """One unit a tile, out of items that say which sequences they belong to.

    Args:
        items: what `choose_dates` gives.
        template: filters, limits, labels and seed of every tile.
        bands: common names in the store's order.
        frames: dates in a sample.
        area: geometry in longitude and latitude that chips have to touch.

    Raises:
        DatasetError: sequences of another length than `frames`.
        BandError: a granule lacks a band.

    """
    units = []
    for tile, found in by_tile(items).items():
        sequences: dict[int, dict[int, int]] = {}
        for index, item in enumerate(found):
            for word in item.properties.get(SEQUENCES, []):
                number, position = map(int, str(word).split("/"))
                sequences.setdefault(number, {})[position] = index
        rows = [tuple(row[place] for place in sorted(row)) for _, row in sorted(sequences.items())]
        if any(len(row) != frames for row in rows):
            raise DatasetError(
                f"the dates of T{tile} were chosen in sequences of {len(rows[0])}, and {frames} were asked for: choose "
                "again."
            )
        granules = tuple(_files(item, bands) for item in found)
        options = gdal_environment([granule.fmask for granule in granules])
        units.append(
            replace(
                template,
                tile=tile,
                granules=granules,
                sequences=tuple(rows),
                area=json.dumps(mapping(area)) if area is not None else None,
                options=tuple(sorted((key, str(value)) for key, value in options.items())),
            )
        )
    return units


def _files(item: pystac.Item, bands: Sequence[str]) -> GranuleFiles:
    granule = Granule.parse(item.id)
    return GranuleFiles(
        name=str(granule),
        time=granule.time,
        bands=tuple(readable(asset_href(item, band)) for band in bands),
        fmask=readable(asset_href(item, "fmask")),
        fill=granule.fill,
        split=str(item.properties.get(SPLIT, "")),
    )


def measure(items: Sequence[pystac.Item], progress: Progress | None = None) -> dict[str, tuple[float, float]]:
    """Share of clouds and of missing pixels of each item, by id: as it states them, else out of its Fmask.

    Raises:
        SceneError: an Fmask cannot be read.

    """
    shares: dict[str, tuple[float, float]] = {}
    tasks: dict[str, Any] = {}
    for item in items:
        cloud, missing = item.properties.get("eo:cloud_cover"), item.properties.get(MISSING)
        if cloud is not None and missing is not None:
            shares[item.id] = (float(cloud) / 100, float(missing))
        else:
            tasks[item.id] = (
                _look,
                (readable(asset_href(item, "fmask")), None if cloud is None else float(cloud) / 100),
            )
    failed = run(tasks, workers=8, progress=progress, done=shares.__setitem__)
    for error in failed.values():
        raise error
    return shares


def _look(path: str, cloud: float | None) -> tuple[float, float]:
    """Shares of clouds (and their shadows, among pixels with data) and of missing pixels, by every eighth pixel."""
    try:
        with rasterio.Env(**gdal_environment([path])), rasterio.open(path) as raster:
            small = raster.read(1, out_shape=(max(1, raster.height // _THIN), max(1, raster.width // _THIN)))
    except RasterioError as error:
        raise SceneError(f"{path} cannot be read ({error}): leave the granule out, or fetch it again.") from error
    there = small != FILL
    missing = 1 - float(there.mean())
    if cloud is None:
        cloud = 1 - float(good(small)[there].mean()) if there.any() else 1.0
    return float(np.clip(cloud, 0, 1)), missing


def read_tiles(path: str | Path, items: Sequence[pystac.Item]) -> gpd.GeoDataFrame:
    """A table of tiles to choose among: those of which there are granules, with their squares where it has none.

    Raises:
        DatasetError: the file cannot be read, has no column `tile`, or names no tile that there is a granule of.

    """
    file = Path(path)
    try:
        frame = pd.read_csv(file) if file.suffix.lower() == ".csv" else read_vectors(file, "a table of tiles")
    except (OSError, ValueError) as error:
        raise DatasetError(f"{file} cannot be read as a table of tiles ({error}).") from error
    if "tile" not in frame.columns:
        raise DatasetError(f"{file} has no column tile; it has {', '.join(map(str, frame.columns))}.")
    frame = frame.assign(tile=frame["tile"].astype(str).str.removeprefix("T"))
    there = frame[frame["tile"].isin(by_tile(items))].reset_index(drop=True)
    if there.empty:
        raise DatasetError(f"{file} names {len(frame)} tiles, and there is no granule of any of them.")
    if not isinstance(there, gpd.GeoDataFrame):
        there = gpd.GeoDataFrame(there, geometry=tile_footprints(there["tile"]).geometry)
    return there
