"""Windows over a scene and their blended scores, some rows at a time.

Windows are taken row by row. Two strips of memory roll down the scene: the pixels under the present row of windows
(`_strips`, read ahead on a thread, each row of the scene once), and the sums of weighted scores that later windows
may still add to (`prithvi.mapping.window_sums`). When a row of windows is done, the rows above the next one are final
and leave. Memory depends on the width of the scene and never on its height.

Which windows are predicted together depends on the plan alone, so that any part of a scene comes out the same whether
what lies above it was computed before or not.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from itertools import count, zip_longest

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from prithvi.contract import Contract
from prithvi.mapping.window_sums import Compared, Sums
from prithvi.scenes import read
from prithvi.scenes.conform import units_of
from prithvi.scenes.pixels import source_of
from prithvi.scenes.validity import Tally
from prithvi.windows import WindowPlan, reflected

Pixels = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
ReadRows = Callable[[int, int], Pixels]
"""First and last (not counted in) row to their (T, band, rows, width) pixels, NaN where there is no data."""

SLAB = 16
"""Rows that are read, or handed on when they are finished, at once."""
Predict = Callable[[torch.Tensor, list[tuple[float, float]]], Iterable[torch.Tensor]]
"""(B, band, T, y, x) pixels of windows, NaN where there is no data, and the row and column of each window's centre, to
(outputs, y, x) scores of each: a (B, outputs, y, x) tensor, or one after the other."""


@dataclass(frozen=True)
class BlendedRows:
    """Finished rows of a scene."""

    start: int
    """First row."""
    scores: torch.Tensor
    """(outputs, rows, width) blended scores, where the model is; 0 where no window with data was. No outputs before the
    first window with data."""
    valid: npt.NDArray[np.bool_]
    """(rows, width) True where an answer is asked for and all bands have data on at least one date."""
    deviation: torch.Tensor | None = None
    """(rows, width) how far the windows over a pixel differ, if they are compared; NaN where fewer than two were."""


def blend(
    rows: ReadRows,
    size: tuple[int, int],
    predict: Predict,
    plan: WindowPlan,
    *,
    batch_size: int = 8,
    ahead: int = 0,
    part: tuple[slice, slice] | None = None,
    wanted: Callable[[int, int], Mask] | None = None,
    cell: int = 1,
    compared: Compared | None = None,
    progress: Callable[[int], None] | None = None,
) -> Iterator[BlendedRows]:
    """Predicts the windows of `plan` and yields finished rows from top to bottom.

    Args:
        rows: where pixels come from.
        size: rows and columns that there are.
        predict: the model.
        plan: windows over them.
        batch_size: windows a call of `predict`.
        ahead: further calls of `predict` before the answers of one are taken, for one that works on threads.
        part: rows and columns to yield; windows that do not touch these rows are left out. None yields all.
        wanted: (rows, width) bool of rows; a window without any that is wanted is left out.
        cell: pixels along the side of one score; the plan's rows, columns and window are multiples of it.
        compared: what of their scores is compared between windows, see `prithvi.mapping.window_sums.Spread`.
        progress: called with the number of windows done since the last call.

    Raises:
        ModelError: scores of another size than the windows.

    """
    # Rows and columns of the result count cells (scores); those of the plan count pixels.
    height, width = -(-size[0] // cell), -(-size[1] // cell)
    down, along = part if part is not None else (slice(0, height), slice(0, width))
    used = [row for row in plan.rows if row // cell < down.stop and (row + plan.window) // cell > down.start]
    sums = Sums(plan, cell, compared)
    with closing(_strips(rows, size, plan, used, wanted)) as strips:
        for batch in _begun_before(_batches(strips, predict, plan, batch_size, ahead), ahead):
            sums.add(batch.scores, [column // cell for column in batch.columns])
            if progress is not None:
                progress(len(batch.columns) + batch.left_out)
            if batch.seen is None:
                continue
            # No later window reaches above the next row of windows: the rows before it are final.
            row, following = batch.row, batch.following
            top, bottom = row // cell, min(down.stop if following is None else following // cell, down.stop)
            answered = _in_cells(batch.seen, cell)
            for start in range(max(top, down.start), bottom, SLAB):
                end = min(start + SLAB, bottom)
                slab = slice(start - top, end - top)
                apart = sums.spread.deviation(slab, along) if sums.spread is not None else None
                yield BlendedRows(start - down.start, sums.mean(slab, along), answered[slab, along], apart)
            sums.move(bottom - top if following is None else following // cell - top)


@dataclass(frozen=True)
class _Batch:
    """Windows of a row that are predicted together."""

    scores: Iterable[torch.Tensor]
    columns: list[int]
    """First column of each."""
    row: int
    following: int | None
    """The next row of windows."""
    seen: Mask | None
    """Of the last batch of a row, see `_strips`."""
    left_out: int = 0
    """Windows of the row without data, told with its last batch."""


def _batches(
    strips: Iterable[tuple[int, int | None, Pixels, Mask]],
    predict: Predict,
    plan: WindowPlan,
    batch_size: int,
    ahead: int,
) -> Iterator[_Batch]:
    """Calls `predict` for the windows of each row, of which some pixel has data on some date and is asked for.

    A batch's pixels stay as they are until `ahead` more batches were made.
    """
    images: npt.NDArray[np.float32] | None = None
    numbers = count()
    for row, following, pixels, seen in strips:
        columns = [c for c in plan.columns if seen[:, c : c + plan.window].any()]
        if images is None:
            images = np.empty((ahead + 1, batch_size, *pixels.shape[:3], plan.window), np.float32)
        for first in range(0, len(columns) or 1, batch_size):
            some = columns[first : first + batch_size]
            own = images[next(numbers) % (ahead + 1), : len(some)]
            for image, column in zip(own, some, strict=True):
                image[:] = pixels[..., column : column + plan.window]
            centres = [(row + plan.window / 2, column + plan.window / 2) for column in some]
            scores = predict(torch.from_numpy(own).transpose(1, 2), centres) if some else ()
            if first + batch_size < len(columns):
                yield _Batch(scores, some, row, following, None)
            else:
                yield _Batch(scores, some, row, following, seen, len(plan.columns) - len(columns))


def _begun_before(batches: Iterable[_Batch], ahead: int) -> Iterator[_Batch]:
    """Each batch once the next `ahead` ones are begun, across rows too, so that no thread waits for a row's end."""
    begun: deque[_Batch] = deque()
    for batch in batches:
        begun.append(batch)
        if len(begun) > ahead:
            yield begun.popleft()
    yield from begun


def _in_cells(seen: Mask, cell: int) -> Mask:
    """Whether a cell has a pixel with data."""
    if cell == 1:
        return seen
    height, width = seen.shape[0] // cell, seen.shape[1] // cell
    return np.asarray(seen[: height * cell, : width * cell].reshape(height, cell, width, cell).any(axis=(1, 3)))


def rows_of(scene: xr.DataArray, contract: Contract | None, tally: Tally | None = None) -> ReadRows:
    """A scene's pixels by rows, read from its files if nothing was done to it since it was opened.

    Args:
        scene: what `prithvi.scenes.conform` gives.
        contract: units that pixels are converted to; None leaves the values as they are.
        tally: counts the pixels that are missing because they cannot be reflectance.

    """
    source = source_of(scene) if contract is not None else None
    if source is None or contract is None:
        return _by_chunks(scene, contract, tally)
    gain, bias = units_of(scene, contract)
    possible = source.without_impossible(gain, bias)

    def read_files(first: int, last: int) -> Pixels:
        values = contract.from_reflectance(possible.rows_of(first, last, tally), gain, bias)
        return values.astype(np.float32, copy=False)

    return read_files


def _by_chunks(scene: xr.DataArray, contract: Contract | None, tally: Tally | None) -> ReadRows:
    """Reads a scene through Dask by whole chunks, of which it keeps the last; slices one in memory."""

    def read_part(first: int, last: int) -> Pixels:
        part = read(scene.isel(y=slice(first, last)), contract, tally, first)
        return part if contract is None else part.astype(np.float32, copy=False)

    if scene.chunks is None:
        return read_part
    starts = np.cumsum([0, *scene.chunks[2]]).tolist()

    @lru_cache(maxsize=1)  # rows are asked for from top to bottom
    def chunk(number: int) -> Pixels:
        return read_part(starts[number], starts[number + 1])

    def rows(first: int, last: int) -> Pixels:
        numbers = range(bisect_right(starts, first) - 1, bisect_left(starts, last))
        return np.concatenate([chunk(n)[:, :, max(first - starts[n], 0) : last - starts[n]] for n in numbers], axis=2)

    return rows


def _strips(
    rows: ReadRows,
    size: tuple[int, int],
    plan: WindowPlan,
    used: Sequence[int],
    wanted: Callable[[int, int], Mask] | None,
) -> Generator[tuple[int, int | None, Pixels, Mask]]:
    """What lies under each row of windows, in one strip of memory of a window's height that moves down the scene.

    What a window lacks at the scene's far edges is filled by reflection of what it has.

    Args:
        rows: where pixels come from.
        size: rows and columns that there are.
        plan: windows; they may hang over the far edges.
        used: first rows of the rows of windows, from top to bottom.
        wanted: (rows, width) bool of rows, False where no answer is asked for; None asks everywhere.

    Yields:
        The row, the one that follows, pixels (T, band, window, width), NaN in all bands where one has no data, and
        (window, width) where one of the dates has data and an answer is asked for. Pixels are changed by the next step.

    """
    (height, width), window, last = size, plan.window, plan.columns[-1]
    # Which column stands at each place of a row of windows. The last window mirrors what it has itself, so that it sees
    # the same in a scene of any width.
    along = np.concatenate([np.arange(last), last + reflected(width - last, window)])
    strip = ahead = np.empty((0, 0, 0, 0), np.float32)
    seen = np.zeros((window, len(along)), bool)
    start = filled = used[0] if used else 0
    reading: Future[tuple[Pixels, Mask | bool]] | None = None

    def read_rows(first: int, last: int) -> tuple[Pixels, Mask | bool]:
        nonlocal ahead
        for top in range(first, last, SLAB):
            part = rows(top, min(top + SLAB, last))
            if ahead.shape[2] != last - first:  # the first time, and at the end
                ahead = np.empty((*part.shape[:2], last - first, part.shape[3]), np.float32)
            ahead[:, :, top - first : top - first + part.shape[2]] = part
        return ahead, True if wanted is None else wanted(first, last)

    with ThreadPoolExecutor(1, "pixels") as pool:
        for row, following in zip_longest(used, used[1:]):
            end, kept = min(row + window, height), max(filled - row, 0)
            pixels, asked = (reading or pool.submit(read_rows, row + kept, end)).result()
            if strip.size == 0:
                strip = np.empty((*pixels.shape[:2], window, len(along)), np.float32)
            # The strip moves down in place, plane by plane: rows that the next windows see again go to the top, and the
            # rows that were read meanwhile come below. Nothing is allocated after the first step.
            moved, new = row - start, slice(kept, kept + pixels.shape[2])
            for plane in (*strip.reshape(-1, *strip.shape[2:]), seen):
                plane[:kept] = plane[moved : moved + kept]
            seen[kept:] = False
            for time, stack in enumerate(pixels):  # a pixel that lacks one band has none
                valid = np.isfinite(stack[0])
                for values in stack[1:]:
                    valid &= np.isfinite(values)
                strip[time, :, new, :width] = stack
                strip[time, :, new, :width][:, ~valid] = np.nan
                seen[new, :width] |= valid & asked
            if len(along) > width:  # beside the scene
                strip[:, :, new, width:] = strip[:, :, new][..., along[width:]]
            if row + window > height:  # below it
                strip[:, :, height - row :] = strip[:, :, reflected(height - row, window)[height - row :]]
            start, filled = row, end
            if following is not None:  # read while the windows of this row are predicted
                reading = pool.submit(read_rows, max(end, following), min(following + window, height))
            yield row, following, strip, seen.copy()
