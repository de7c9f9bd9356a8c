"""Which dates of each tile go together: the clearest ones, by what items state of their clouds or by their Fmasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pystac
import rasterio
from rasterio.errors import RasterioError

from prithvi.chips.date_rule import DateRule, date_sequences
from prithvi.errors import DatasetError, SceneError
from prithvi.hls.fmask import FILL, good
from prithvi.hls.granules import Granule
from prithvi.hls.items import MISSING, asset_href, by_tile
from prithvi.parallel import Progress, run
from prithvi.scenes.access import gdal_environment, readable

SPLIT = "prithvi:split"
"""Property of an item: the part that chips of its tile belong to."""
SEQUENCES = "prithvi:sequences"
"""Property of an item: `number/position` of each sequence of its tile that it belongs to."""

_THIN = 8
"""Every how many pixels an Fmask is looked at to tell the share of clouds."""


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
    # Tile by tile, as dates of different tiles have nothing to do with each other. The choice is written into copies of
    # the items (`number/position` of each sequence), so that it travels in any file of items and a build repeats it.
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


def measure(items: Sequence[pystac.Item], progress: Progress | None = None) -> dict[str, tuple[float, float]]:
    """Share of clouds and of missing pixels of each item, by id: as it states them, else out of its Fmask.

    Raises:
        SceneError: an Fmask cannot be read.

    """
    # Most archives state clouds and some state missing pixels; only where one is lacking is the Fmask opened, every
    # eighth pixel of it (an overview where the file has one), on threads as it is the network that takes the time.
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
