"""Sheets of a filled time series: observed and filled pixels of each date."""

from __future__ import annotations

from pathlib import Path

import rasterio
from rasterio.enums import Resampling
from rasterio.errors import RasterioError

from prithvi.errors import SceneError
from prithvi.plot.pictures import TRUE_COLOR, rgb, stretch, thinning
from prithvi.products.provenance import Provenance
from prithvi.report.sheets import Entry, Probe, Sheet, opaque, origin, thinned_note
from prithvi.scenes import open_scene
from prithvi.scenes.grids import grid_of

_STATES = {0: ("observed", "6B7A8F"), 1: ("filled", "E69F00"), 255: ("nothing in reach", "FFFFFF")}
_HOLE = (0, 0, 0, 0)


def dates_in(folder: Path) -> list[Path]:
    """The images in a folder of `prithvi fill`, sorted by date; those with a mask of filled pixels."""
    masks = sorted(folder.glob("*_filled.tif"))
    return [
        file for mask in masks if (file := mask.with_name(mask.name.removesuffix("_filled.tif") + ".tif")).is_file()
    ]


def sheets_of_series(folder: Path) -> list[Sheet]:
    """One sheet per date, all with a common stretch.

    Raises:
        SceneError: a file cannot be read.

    """
    # Each sheet has two pictures to compare: the filled image, transparent where nothing could be filled, and the same
    # image transparent at all pixels but the observed ones.
    files = dates_in(folder)
    try:
        with rasterio.open(files[0]) as raster:
            step = thinning(raster.height, raster.width)
            bands = [str(name) for name in raster.descriptions]
    except RasterioError as error:
        raise SceneError(f"{files[0]} cannot be read ({error}).") from error
    chosen = TRUE_COLOR if set(TRUE_COLOR) <= set(bands) else tuple((bands * 3)[:3])
    scenes = [open_scene(file).isel(y=slice(None, None, step), x=slice(None, None, step)) for file in files]
    limits = stretch(*scenes, bands=chosen)
    found = []
    for file, scene in zip(files, scenes, strict=True):
        whole = opaque(rgb(scene, chosen, limits=limits))
        with rasterio.open(file.with_name(f"{file.stem}_filled.tif")) as mask:
            states = mask.read(1, out_shape=whole.shape[:2], resampling=Resampling.nearest)
            ground, tags = grid_of(mask).zoom_to(whole.shape[:2]), mask.tags()
        whole[states == 255] = _HOLE
        observed = whole.copy()
        observed[states != 0] = _HOLE
        counts = {value: float((states == value).mean()) for value in _STATES}
        legend = [Entry(*_STATES[value], f"{share:.1%}") for value, share in counts.items() if share]
        probes = [Probe("pixel", states, -1, {value: name for value, (name, _) in _STATES.items()})]
        facts = origin("filled by", Provenance.from_tags(tags), tags)
        pictures = ("observed", observed), ("filled", whole)
        found.append(Sheet(file.stem, *pictures, probes, legend, facts, ground, step, thinned_note(step)))
    return found
