"""One engine for every verb that runs windows over a scene, and its two sinks: a Dataset and files.

A verb is a `Run`: it says which arrays come out of a scene (`outputs`) and computes them from top to bottom, a few rows
at a time (`rows`). `as_dataset` makes arrays of that, at once for a scene in memory and through Dask for a lazy one;
`write` hands the rows to a writer of files and takes care of progress, of resuming and of what is counted on the way.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr
from dask.delayed import delayed

from prithvi import windows
from prithvi.contract import Contract
from prithvi.mapping.inference import PlaceAndDates
from prithvi.mapping.sliding_window import SLAB, BlendedRows, Mask, Predict, ReadRows, blend, rows_of
from prithvi.mapping.window_sums import Compared
from prithvi.products.provenance import LEFT_OUT
from prithvi.scenes.area import Area, crop
from prithvi.scenes.block_cache import room_for
from prithvi.scenes.conform import units_of
from prithvi.scenes.grids import grid_of_array, write_grid
from prithvi.scenes.pixels import cache_bytes
from prithvi.scenes.validity import Tally
from prithvi.windows import WindowPlan

ROWS = 1024
"""Rows of a lazy result's blocks, about: one row of windows is computed twice at every border."""

Arrays = dict[str, npt.NDArray[Any]]
"""Name to (..., rows, width) values."""
Progress = Callable[[int, int], None]
"""Called with the windows done and their number in all."""


@dataclass(frozen=True)
class Part:
    """Windows, rows and columns of the result to compute, with mask and place; picklable."""

    plan: WindowPlan
    """Windows over the pixels."""
    rows: slice
    """Result rows to compute, counted from the first of the pixels; one cell is `cell` x `cell` pixels."""
    columns: slice
    """Result columns, likewise."""
    place: PlaceAndDates
    """Where and when the pixels were seen."""
    mask: Callable[[int, int], Mask] | None = None
    """(rows, width) bool of rows of pixels: where an answer is asked for. None asks everywhere."""
    cell: int = 1
    """Pixels along the side of one value of the result."""
    tally: Tally | None = None
    """Counts pixels that are treated as nodata because they cannot be reflectance."""
    count: Callable[[int], None] | None = None
    """Called with the number of windows done since the last call."""

    def blend(
        self,
        rows: ReadRows,
        scene: xr.DataArray,
        predict: Predict,
        batch_size: int,
        compared: Compared | None = None,
        ahead: int = 0,
    ) -> Iterator[BlendedRows]:
        """The blended scores of a part of a scene, whose pixels come from `rows`; see `sliding_window.blend`."""
        size, inside = (scene.sizes["y"], scene.sizes["x"]), (self.rows, self.columns)
        return blend(
            rows, size, predict, self.plan, batch_size=batch_size, ahead=ahead, part=inside, wanted=self.mask,
            cell=self.cell, compared=compared, progress=self.count,
        )  # fmt: skip


@dataclass(frozen=True)
class Target:
    """The part of a scene that a run computes."""

    scene: xr.DataArray
    """(time, band, y, x): all pixels that the windows cover."""
    part: Part
    grid: xr.DataArray
    """What the result lies on: an array (..., y, x) with its place."""

    @classmethod
    def of(
        cls,
        scene: xr.DataArray,
        window: int,
        stride: int | None,
        area: Area | None = None,
        wanted: xr.DataArray | None = None,
    ) -> Target:
        """The windows of the whole scene, or those of them that touch an area; only their pixels are read.

        Args:
            scene: (time, band, y, x).
            window: side of a window.
            stride: pixels between them.
            area: the part that the result shows.
            wanted: (y, x) bool on the scene's grid: where an answer is asked for, beside that.

        """
        plan = windows.plan(scene.sizes["y"], scene.sizes["x"], window, stride)
        if area is None:
            whole = cls.whole(scene, plan)
            return whole if wanted is None else replace(whole, part=replace(whole.part, mask=partial(_of, wanted.data)))
        # Three boxes lie in each other: the scene; the pixels under windows that touch the area (`rows`, `columns`);
        # and the box of the area itself (`down`, `along`), which the result shows.
        down, along = area.window(scene)
        plan, rows, columns = plan.over(down, along)
        seen = crop(scene, rows, columns)
        # The mask may travel to other processes: it takes along where the scene's pixels lie, and no pixels.
        places = scene.isel(time=0, band=0, drop=True)
        places = places.copy(data=da.zeros(places.shape, bool, chunks=-1))

        also = None if wanted is None else wanted.data[rows, columns]

        def mask(first: int, last: int) -> Mask:
            """Within the box of the area, so that a window is not run for its margin alone."""
            inside = area.mask(places, slice(rows.start + first, rows.start + last), columns)
            return inside if also is None else inside & _of(also, first, last)

        inside = slice(down.start - rows.start, down.stop - rows.start)
        across = slice(along.start - columns.start, along.stop - columns.start)
        return cls(seen, Part(plan, inside, across, PlaceAndDates.of(seen), mask), crop(scene, down, along))

    @classmethod
    def whole(cls, scene: xr.DataArray, plan: WindowPlan, grid: xr.DataArray | None = None, cell: int = 1) -> Target:
        """All of a scene.

        Args:
            scene: (time, band, y, x).
            plan: windows over it.
            grid: what the result lies on, if not on the scene's own pixels.
            cell: pixels along the side of one value of the result.

        """
        grid = scene if grid is None else grid
        rows, columns = slice(0, grid.sizes["y"]), slice(0, grid.sizes["x"])
        return cls(scene, Part(plan, rows, columns, PlaceAndDates.of(scene), cell=cell), grid)

    def blocks(self) -> Iterator[tuple[slice, Part]]:
        """Some `ROWS` rows of the result after another: the rows of pixels that each needs, and the part itself.

        A block is computed from all windows that touch it, so that its values do not depend on where blocks begin.
        """
        whole, cell = self.part, self.part.cell
        step = max(1, ROWS // cell)
        for first in range(whole.rows.start, whole.rows.stop, step):
            last = min(first + step, whole.rows.stop)
            plan, rows, _ = whole.plan.over(slice(first * cell, last * cell), slice(0, whole.plan.width))
            top, above = rows.start, rows.start // cell
            mask = None if whole.mask is None else partial(_shifted, whole.mask, top)
            inside, place = slice(first - above, last - above), whole.place.below(top)
            pixels = slice(top, min(rows.stop, self.scene.sizes["y"]))  # cells may hang over the scene's lower edge
            yield pixels, replace(whole, plan=plan, rows=inside, place=place, mask=mask)

    def tally(self) -> Tally:
        """Counts the pixels of the result that are treated as nodata because they cannot be reflectance."""
        cell, shape = self.part.cell, self.scene.sizes
        rows, columns = (slice(axis.start * cell, axis.stop * cell) for axis in (self.part.rows, self.part.columns))
        return Tally(shape["time"], shape["y"], rows, columns, self.part.mask)


def _of(wanted: da.Array | Mask, first: int, last: int) -> Mask:
    part = wanted[first:last]
    # On this thread: it is one of several that read ahead, or of a cluster's worker.
    return np.asarray(part.compute(scheduler="synchronous") if isinstance(part, da.Array) else part)


def _shifted(mask: Callable[[int, int], Mask], top: int, first: int, last: int) -> Mask:
    return mask(top + first, top + last)


class Run(Protocol):
    """What a verb computes: a frozen dataclass of everything but the scene, which Dask's workers get a copy of."""

    @property
    def contract(self) -> Contract | None:
        """Units that pixels are read in; None takes the values as they are."""

    def outputs(self, target: Target) -> xr.Dataset:
        """The result with its coordinates and attributes; its arrays (..., y, x) are lazy and blank."""

    def rows(self, scene: xr.DataArray, part: Part) -> Iterator[tuple[int, Arrays]]:
        """First row, counted from the part's own, and values of rows that are finished, from top to bottom.

        Args:
            scene: the pixels (time, band, y, x); of them only values and attributes are looked at.
            part: what is computed of them.

        """


def as_dataset(run: Run, target: Target) -> xr.Dataset:
    """The result as arrays: in memory if the scene is, else lazy, in blocks of rows.

    Warns:
        UserWarning: pixels in memory are treated as nodata because they cannot be reflectance.

    """
    blank, scene = run.outputs(target), target.scene
    if scene.chunks is None:
        tally = target.tally() if run.contract is not None else None
        result = blank.copy(data=_in_memory(run, scene.attrs, scene.data, replace(target.part, tally=tally)))
        return result.assign_attrs(left_out(tally, scene, run.contract, 4))
    # Lazy: one task a block, which gets the pixels under its windows as a numpy array. The run, with the model in it,
    # is one node of the graph that all tasks share, and Dask does not search it for collections (traverse=False).
    work = delayed(partial(_in_memory, run, scene.attrs), pure=False, traverse=False)
    blocks: dict[str, list[Any]] = {str(name): [] for name in blank}
    for rows, part in target.blocks():
        height = part.rows.stop - part.rows.start
        values = work(scene.isel(y=rows).data, part)
        for name, parts in blocks.items():
            *outer, _, width = blank[name].shape
            parts.append(da.from_delayed(values[name], (*outer, height, width), blank[name].dtype))
    return blank.copy(data={name: da.concatenate(parts, axis=-2) for name, parts in blocks.items()})


def _in_memory(run: Run, attrs: Mapping[str, Any], pixels: npt.NDArray[Any], part: Part) -> Arrays:
    """All values of a part, each array allocated once and filled from top to bottom."""
    scene = xr.DataArray(pixels, dims=("time", "band", "y", "x"), attrs=attrs)
    height = part.rows.stop - part.rows.start
    arrays: Arrays = {}
    for start, values in run.rows(scene, part):
        if not arrays:
            shapes = {name: (*rows.shape[:-2], height, rows.shape[-1]) for name, rows in values.items()}
            arrays = {name: np.empty(shapes[name], rows.dtype) for name, rows in values.items()}
        for name, rows in values.items():
            arrays[name][..., start : start + rows.shape[-2], :] = rows
    return arrays


class Writer(Protocol):
    """Takes the rows of a result from top to bottom, and puts the files in place when all are there."""

    @property
    def start(self) -> int:
        """The first row that it does not have yet."""

    def write(self, values: Mapping[str, npt.NDArray[Any]]) -> None:
        """Takes the next rows."""

    def keep(self) -> None:
        """Makes sure that the rows so far outlive this process."""


def write(
    run: Run, target: Target, writer: Writer, progress: Progress | None = None, passes: tuple[int, int] = (0, 1)
) -> Tally:
    """Computes the rows that a writer lacks and hands them over; memory does not depend on their number.

    Args:
        run: what is computed.
        target: of what.
        writer: where the rows go.
        progress: called with the windows done and their number in all.
        passes: how many runs are done before this one, and how many there are in all, for the progress.

    Returns:
        The count of pixels that were treated as nodata, in all rows of the result.

    """
    part, plan, tally = target.part, target.part.plan, target.tally()
    begin = part.rows.start + writer.start
    finished = sum(row + plan.window <= begin * part.cell for row in plan.rows) * len(plan.columns)
    done = passes[0] * len(plan)

    def count(number: int) -> None:
        nonlocal done
        done += number
        if progress is not None:
            progress(done, passes[1] * len(plan))

    count(finished)
    # What lies above the next row of windows is final. Rows are kept there and nowhere between: keeping waits for the
    # disk, and a run that resumes within a row of windows has to predict that row again anyway.
    borders = {row // part.cell for row in plan.rows} | {part.rows.stop}
    # By itself GDAL would keep file blocks in a twentieth of all memory, and a map from top to bottom never asks for
    # them again: it remembers a row of the scene's blocks and little more.
    with room_for(min(4_000_000 + cache_bytes(target.scene), 1_000_000_000)):
        if begin > part.rows.start:  # rows of an interrupted run, which the tally counts as well
            look_over = rows_of(target.scene, run.contract, tally)
            for first in range(part.rows.start, begin, SLAB):
                look_over(first, min(first + SLAB, begin))
        rest = replace(part, rows=slice(begin, part.rows.stop), tally=tally, count=count)
        for start, values in run.rows(target.scene, rest):
            writer.write(values)
            if begin + start + next(iter(values.values())).shape[-2] in borders:
                writer.keep()
    return tally


def left_out(
    tally: Tally | None, scene: xr.DataArray, contract: Contract | None, stacklevel: int = 3
) -> dict[str, str]:
    """The tag that says which pixels were treated as nodata because they cannot be reflectance, and a warning.

    Args:
        tally: what counted them; without any there is neither tag nor warning.
        scene: whose values.
        contract: their units, where the scene does not state them.
        stacklevel: of the warning; by default it names the line that called the caller of this.

    Warns:
        UserWarning: there are such pixels.

    """
    text = tally.sentence(*units_of(scene, contract)) if tally is not None else ""
    if not text:
        return {}
    warnings.warn(text, stacklevel=stacklevel)
    return {LEFT_OUT: text}


def placed(arrays: Mapping[str, tuple[Sequence[str], Any]], grid: xr.DataArray) -> xr.Dataset:
    """Arrays on a grid.

    Args:
        arrays: name to the names of the dimensions before y and x, and the array (..., y, x).
        grid: (..., y, x) whose place they have.

    """
    coords = {name: grid.coords[name] for name in ("y", "x", "spatial_ref") if name in grid.coords}
    result: xr.Dataset = xr.Dataset(
        {name: ((*dims, "y", "x"), values) for name, (dims, values) in arrays.items()}, coords
    )
    if grid.rio.crs is not None:
        result = result.rio.write_crs(grid.rio.crs)
    return write_grid(result, grid_of_array(grid))


def blank(shape: tuple[int, ...], dtype: Any) -> da.Array:
    """What stands in `Run.outputs`."""
    array: da.Array = da.zeros(shape, dtype=dtype, chunks=-1)
    return array
