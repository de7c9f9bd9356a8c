"""Overviews of a Zarr store: every level half as many rows and columns as the one before, in groups as GDAL has them.

`ovr_2x`, `ovr_4x` and so on lie beside the arrays of full resolution, which stay where they are, and the group says by
the convention multiscales which is which. GDAL 3.13 reads and writes stores of this layout; it shows overviews of the
one array that the layout names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr
from odc.geo.geobox import GeoBox

from prithvi.scenes.geozarr import declared, grid_attributes, pyramid_attributes
from prithvi.scenes.grids import grid_of_array, is_turned, write_grid

SMALLEST = 512
"""Pixels: a level with no longer side has no further one."""
_ROWS = 256
"""Of a level, made at once."""


def add_overviews(store: Path, first: str) -> None:
    """Writes the levels of all arrays (..., y, x) of a store of format 3, and its attributes.

    A level's pixel is the mean of the four below it that have data; of classes and flags the value that most of these
    have, the first of several in the order of rows. The last row and column of an odd number stand for two.

    Args:
        store: its folder; small ones stay as they are.
        first: the array that the layout names.

    """
    whole = xr.open_zarr(store, consolidated=False, decode_coords="all", mask_and_scale=False, chunks=None)
    pixels = {str(name): array for name, array in whole.data_vars.items() if array.dims[-2:] == ("y", "x")}
    below, levels, factor = store, {"": grid_of_array(pixels[first])}, 1
    while max(levels[list(levels)[-1]].shape) > SMALLEST:
        factor *= 2
        name, grid = f"ovr_{factor}x", _half(levels[list(levels)[-1]])
        _lay_out(store, name, whole, pixels, grid)
        for array in pixels:
            _reduce(below / array, store / name / array, _is_category(pixels[array]))
        levels[name], below = grid, store / name
    if len(levels) == 1:
        return
    group = zarr.open_group(store, mode="r+", use_consolidated=False)
    conventions: Any = [entry for entry in group.attrs["zarr_conventions"] if entry["name"] != "multiscales"]  # type: ignore[union-attr,index,call-overload]
    method = "mode" if _is_category(pixels[first]) else "average"
    more = pyramid_attributes(first, pixels[first].ndim, levels, method)
    group.attrs.update({**more, "zarr_conventions": [*conventions, *declared("multiscales")]})


def _half(grid: GeoBox) -> GeoBox:
    height, width = (-(-size // 2) for size in grid.shape)
    return GeoBox((height, width), grid.affine @ grid.affine.scale(2), grid.crs)


def _is_category(array: xr.DataArray) -> bool:
    return "flag_values" in array.attrs


def _lay_out(store: Path, name: str, whole: xr.Dataset, pixels: dict[str, xr.DataArray], grid: GeoBox) -> None:
    """The empty arrays of a level, with coordinates and place of their own."""
    height, width = grid.shape
    level = xr.Dataset(coords={key: each for key, each in whole.coords.items() if not {"y", "x"} & {key, *each.dims}})
    if {"y", "x"} <= set(whole.coords) and not is_turned(grid):
        at = grid.affine
        xs, ys = at.c + at.a * (np.arange(width) + 0.5), at.f + at.e * (np.arange(height) + 0.5)
        level = level.assign_coords(y=("y", ys, whole["y"].attrs), x=("x", xs, whole["x"].attrs))
    level = write_grid(level, grid).assign_attrs(grid_attributes(grid))
    level.to_zarr(store, group=name, mode="w", consolidated=False, zarr_format=3)
    group = zarr.open_group(store / name, mode="r+", use_consolidated=False)
    for key, array in pixels.items():
        made: Any = zarr.open_array(store / key, mode="r")
        chunks = tuple(min(pair) for pair in zip(made.chunks, (*made.shape[:-2], height, width), strict=True))
        group.create_array(
            key,
            shape=(*made.shape[:-2], height, width),
            chunks=chunks,
            dtype=made.dtype,
            fill_value=made.fill_value,
            attributes=dict(made.attrs),
            dimension_names=[str(dim) for dim in array.dims],
            compressors=made.compressors,
            config={"write_empty_chunks": True},
        )


def _reduce(below: Path, above: Path, category: bool) -> None:
    """Makes an array of the one below it, some rows at a time."""
    source, target = zarr.open_array(below, mode="r"), zarr.open_array(above, mode="r+")
    height = target.shape[-2]
    for place in np.ndindex(target.shape[:-3]):  # one date after another
        for first in range(0, height, _ROWS):
            last = min(first + _ROWS, height)
            values = np.asarray(source[(*place, ..., slice(2 * first, 2 * last), slice(None))])
            target[(*place, ..., slice(first, last), slice(None))] = halved(values, source.fill_value, category)


def halved(values: npt.NDArray[Any], nodata: Any, category: bool) -> npt.NDArray[Any]:
    """(..., rows, columns) to (..., rows / 2, columns / 2), rounded up.

    Args:
        values: of any type.
        nodata: what says nothing; a pixel has it where all four below it do.
        category: whether values are names and no quantities.

    """
    *outer, height, width = values.shape
    padded = np.pad(values, [(0, 0)] * len(outer) + [(0, height % 2), (0, width % 2)], "edge")
    four = np.stack([padded[..., down::2, along::2] for down in (0, 1) for along in (0, 1)])
    known = ~np.isnan(four) if four.dtype.kind == "f" else four != nodata
    empty = np.asarray(nodata, values.dtype)
    if category:
        # How many of the four agree with each; the first of the best wins.
        votes = np.where(known, (four[:, None] == four[None]).sum(axis=1), 0)
        best = np.take_along_axis(four, votes.argmax(axis=0)[None], axis=0)[0]
        return np.where(known.any(axis=0), best, empty)
    many = known.sum(axis=0)
    mean = np.where(known, four, 0).sum(axis=0, dtype=np.float64) / np.maximum(many, 1)
    mean = mean if four.dtype.kind == "f" else np.rint(mean)
    return np.where(many > 0, mean, empty).astype(values.dtype)
