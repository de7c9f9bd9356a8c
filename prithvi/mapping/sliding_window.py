"""Windows over a scene and their blended scores, some rows at a time.

Windows are taken row by row. Two bands of memory roll down the scene: the pixels under the present row of windows
(`RowBuffer`, read ahead on a thread, each row of the scene once), and the sums of weighted scores that later windows
may still add to (`_Sums`). When a row of windows is done, the rows above the next one are final and leave. Memory
depends on the width of the scene and never on its height.

Which windows are predicted together depends on the plan alone, so that any part of a scene comes out the same whether
what lies above it was computed before or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from prithvi.contract import Contract
from prithvi.errors import ModelError
from prithvi.scenes import read
from prithvi.scenes.conform import units_of
from prithvi.scenes.pixels import source_of
from prithvi.scenes.validity import Tally
from prithvi.windows import WindowPlan, blend_weights

Pixels = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Rows = Callable[[int, int], Pixels]
"""First and last (not counted in) row to their (T, band, rows, width) pixels, NaN where there is no data."""

SLAB = 16
"""Rows that are read, or handed on when they are finished, at once."""
Predict = Callable[[torch.Tensor, list[tuple[float, float]]], Iterable[torch.Tensor]]
"""(B, band, T, y, x) pixels of windows, NaN where there is no data, and the row and column of each window's centre, to
(outputs, y, x) scores of each: a (B, outputs, y, x) tensor, or one after the other."""

_MANY = 64
"""Windows over a pixel from which on their sums are kept in float64."""


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


def blend(
    rows: Rows,
    size: tuple[int, int],
    predict: Predict,
    plan: WindowPlan,
    *,
    batch_size: int = 8,
    part: tuple[slice, slice] | None = None,
    wanted: Callable[[int, int], Mask] | None = None,
    cell: int = 1,
    progress: Callable[[int], None] | None = None,
) -> Iterator[BlendedRows]:
    """Predicts the windows of `plan` and yields finished rows from top to bottom.

    Args:
        rows: where pixels come from.
        size: rows and columns that there are.
        predict: the model.
        plan: windows over them.
        batch_size: windows a call of `predict`.
        part: rows and columns to yield; windows that do not touch these rows are left out. None yields all.
        wanted: (rows, width) bool of rows; a window without any that is wanted is left out.
        cell: pixels along the side of one score; the plan's rows, columns and window are multiples of it.
        progress: called with the number of windows done since the last call.

    Raises:
        ModelError: scores of another size than the windows.

    """
    # Rows and columns of the result count cells (scores); those of the plan count pixels.
    height, width = -(-size[0] // cell), -(-size[1] // cell)
    down, along = part if part is not None else (slice(0, height), slice(0, width))
    window = plan.window // cell
    used = [row for row in plan.rows if row // cell < down.stop and (row + plan.window) // cell > down.start]
    sums = _Sums(plan, cell)
    images: npt.NDArray[np.float32] | None = None
    with RowBuffer(rows, size, plan, wanted) as buffer:
        for number, row in enumerate(used):
            following = used[number + 1] if number + 1 < len(used) else None
            pixels, valid, asked = buffer.at(row, following)
            # A window is run if some pixel of it has data on some date and is asked for.
            seen = valid.any(axis=0) & asked
            columns = [c for c in plan.columns if seen[:, c : c + plan.window].any()]
            if images is None:
                images = np.empty((batch_size, *pixels.shape[:3], plan.window), np.float32)
            for first in range(0, len(columns), batch_size):
                batch = columns[first : first + batch_size]
                for image, column in zip(images, batch, strict=False):
                    image[:] = pixels[..., column : column + plan.window]
                centres = [(row + plan.window / 2, column + plan.window / 2) for column in batch]
                windows = torch.from_numpy(images[: len(batch)]).transpose(1, 2)
                sums.add(predict(windows, centres), [column // cell for column in batch])
                if progress is not None:
                    progress(len(batch))
            if progress is not None:
                progress(len(plan.columns) - len(columns))
            # No later window reaches above the next row of windows: the rows before it are final.
            top, bottom = row // cell, min(down.stop if following is None else following // cell, down.stop)
            answered = _in_cells(seen, cell)
            for start in range(max(top, down.start), bottom, SLAB):
                end = min(start + SLAB, bottom)
                slab = slice(start - top, end - top)
                yield BlendedRows(start - down.start, sums.mean(slab, along), answered[slab, along])
            sums.move(bottom - top if following is None else following // cell - top, window)


class _Sums:
    """Weighted scores under a row of windows, and the weights."""

    def __init__(self, plan: WindowPlan, cell: int) -> None:
        self.window = plan.window // cell
        self.width = (plan.columns[-1] + plan.window) // cell
        many = (plan.window / plan.stride) ** 2 > _MANY
        self.dtype = torch.float64 if many else torch.float32
        self.weights = torch.from_numpy(blend_weights(self.window)).to(self.dtype)
        self.weight = torch.zeros(self.window, self.width, dtype=self.dtype)
        self.total: torch.Tensor | None = None

    def add(self, scores: Iterable[torch.Tensor], columns: list[int]) -> None:
        for column, score in zip(columns, scores, strict=True):
            if score.ndim != 3 or score.shape[1:] != (self.window, self.window):
                raise ModelError(
                    f"the model gave {' x '.join(map(str, score.shape[1:]))} scores for a window; {self.window} x "
                    f"{self.window} were to be."
                )
            if self.total is None:
                self.total = torch.zeros(len(score), self.window, self.width, dtype=self.dtype, device=score.device)
                self.weights, self.weight = self.weights.to(score.device), self.weight.to(score.device)
            part = slice(column, column + self.window)
            self.total[..., part].addcmul_(score.to(self.dtype), self.weights)
            self.weight[:, part] += self.weights

    def mean(self, rows: slice, columns: slice) -> torch.Tensor:
        weight = self.weight[rows, columns]
        if self.total is None:  # how many outputs there are is not known before the first window with data
            return torch.zeros(0, *weight.shape)
        return (self.total[:, rows, columns] / torch.where(weight > 0, weight, 1)).float()

    def move(self, done: int, window: int) -> None:
        """Drops the first rows and adds as many of zeros below, in place."""
        kept = window - done
        for band in (*(() if self.total is None else self.total), self.weight):
            if kept > 0:
                band[:kept] = band[done:].clone()
            band[max(kept, 0) :] = 0


def _in_cells(seen: Mask, cell: int) -> Mask:
    """Whether a cell has a pixel with data."""
    if cell == 1:
        return seen
    height, width = seen.shape[0] // cell, seen.shape[1] // cell
    return np.asarray(seen[: height * cell, : width * cell].reshape(height, cell, width, cell).any(axis=(1, 3)))


def rows_of(scene: xr.DataArray, contract: Contract | None, tally: Tally | None = None) -> Rows:
    """A scene's pixels by rows, read from its files if nothing was done to it since it was opened.

    Args:
        scene: what `prithvi.scenes.conform` gives.
        contract: units that pixels are converted to; None leaves the values as they are.
        tally: counts the pixels that are missing because they cannot be reflectance.

    """
    source = source_of(scene) if contract is not None else None
    if source is None or contract is None:
        return _Pieces(scene, contract, tally).rows
    gain, bias = units_of(scene, contract)
    judged = source.judged(gain, bias)

    def read_files(first: int, last: int) -> Pixels:
        values = contract.from_reflectance(judged.rows_of(first, last, tally), gain, bias)
        return values.astype(np.float32, copy=False)

    return read_files


def look_over(rows: Rows, first: int, last: int) -> None:
    """Reads rows that an interrupted run has finished, so that a tally counts them too."""
    for start in range(first, last, SLAB):
        rows(start, min(start + SLAB, last))


class _Pieces:
    """Reads a scene through Dask by whole chunks, and keeps what is not asked for yet; slices one in memory."""

    def __init__(self, scene: xr.DataArray, contract: Contract | None, tally: Tally | None) -> None:
        self.scene, self.contract, self.tally = scene, contract, tally
        self.ends = np.cumsum(scene.chunks[2] if scene.chunks is not None else [scene.sizes["y"]])
        self.start, self.pixels = 0, self._read(0, 0)

    def _read(self, first: int, last: int) -> Pixels:
        part = read(self.scene.isel(y=slice(first, last)), self.contract, self.tally, first)
        return part if self.contract is None else part.astype(np.float32, copy=False)

    def rows(self, first: int, last: int) -> Pixels:
        if self.scene.chunks is None:
            return self._read(first, last)
        if not self.start <= first <= self.start + self.pixels.shape[2]:
            self.start = int(np.concatenate([[0], self.ends])[np.searchsorted(self.ends, first, side="right")])
            self.pixels = self.pixels[:, :, :0]
        end = self.start + self.pixels.shape[2]
        if last > end:
            more = self._read(end, int(self.ends[np.searchsorted(self.ends, last)]))
            self.pixels = np.concatenate([self.pixels, more], axis=2) if self.pixels.shape[2] else more
        self.start, self.pixels = first, self.pixels[:, :, first - self.start :]
        return self.pixels[:, :, : last - first]


class RowBuffer:
    """A band of a window's height that moves down a scene; context manager.

    What a window lacks at the scene's far edges is filled by reflection of what it has.

    Args:
        rows: where pixels come from.
        size: rows and columns that there are.
        plan: windows; they may hang over the far edges.
        wanted: (rows, width) bool of rows, False where no answer is asked for; None asks everywhere.

    """

    def __init__(
        self, rows: Rows, size: tuple[int, int], plan: WindowPlan, wanted: Callable[[int, int], Mask] | None = None
    ) -> None:
        self.rows, self.plan, self.wanted = rows, plan, wanted
        self.along = _overhang(size[1], plan)
        self.height, self.width = size
        self.start = self.filled = 0
        self.pixels: Pixels = np.empty((0, 0, 0, 0), np.float32)
        self.valid: Mask = np.empty((0, 0, 0), bool)
        self.asked: Mask = np.empty((0, 0), bool)
        self.ahead: Pixels = np.empty((0, 0, 0, 0), np.float32)
        self.pool = ThreadPoolExecutor(1, "pixels")
        self.next: tuple[int, int, Future[tuple[Pixels, Mask]]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)

    def at(self, row: int, following: int | None) -> tuple[Pixels, Mask, Mask]:
        """Pixels (T, band, window, width) from `row` on, where they have data in all bands (T, window, width), and
        where an answer is asked for (window, width). They are changed by the next call.

        Args:
            row: not above that of the last call.
            following: the row of the next call, whose pixels are read meanwhile.

        """
        window, end = self.plan.window, min(row + self.plan.window, self.height)
        if self.filled == 0:
            self.start = self.filled = row
        kept = max(self.filled - row, 0)
        first = row + kept
        pixels, asked = self._wait(first, end)
        if self.pixels.shape[0] == 0:
            self.pixels = np.empty((*pixels.shape[:2], window, len(self.along)), np.float32)
            self.valid = np.empty((pixels.shape[0], window, len(self.along)), bool)
            self.asked = np.empty((window, len(self.along)), bool)
        # The band moves down in place, plane by plane: rows that the next windows see again go to the top, and the rows
        # that were read meanwhile come below. Nothing is allocated after the first call.
        moved = row - self.start
        for band in (*self.pixels.reshape(-1, *self.pixels.shape[2:]), *self.valid, self.asked):
            band[:kept] = band[moved : moved + kept]
        self._place(pixels, asked, kept)
        if row + window > self.height:  # below the scene
            inside = reflected(self.height - row, window)[self.height - row :]
            below = slice(self.height - row, window)
            self.pixels[:, :, below], self.valid[:, below] = self.pixels[:, :, inside], self.valid[:, inside]
            self.asked[below] = False
        self.start, self.filled = row, end
        del pixels, asked
        if following is not None:
            self._read(max(end, following), min(following + window, self.height))
        return self.pixels, self.valid, self.asked

    def _place(self, pixels: Pixels, asked: Mask, kept: int) -> None:
        """New rows below those that were kept. A pixel that lacks one band has none."""
        new, width = slice(kept, kept + pixels.shape[2]), self.width
        for time, stack in enumerate(pixels):
            valid = np.isfinite(stack[0])
            for band in stack[1:]:
                valid &= np.isfinite(band)
            self.pixels[time, :, new, :width] = stack
            self.pixels[time, :, new, :width][:, ~valid] = np.nan
            self.valid[time, new, :width] = valid
        self.asked[new, :width] = asked
        if len(self.along) > width:
            beside = self.along[width:]
            self.pixels[:, :, new, width:] = self.pixels[:, :, new][..., beside]
            self.valid[:, new, width:] = self.valid[:, new][..., beside]
            self.asked[new, width:] = False

    def _wait(self, first: int, last: int) -> tuple[Pixels, Mask]:
        if self.next is None or self.next[:2] != (first, last):
            self._read(first, last)
        assert self.next is not None
        found = self.next[2].result()
        self.next = None
        return found

    def _read(self, first: int, last: int) -> None:
        def work() -> tuple[Pixels, Mask]:
            asked = np.ones((last - first, self.width), bool) if self.wanted is None else self.wanted(first, last)
            for start in range(first, last, SLAB):
                rows = self.rows(start, min(start + SLAB, last))
                if self.ahead.shape[2] != last - first:  # the first time, and at the end
                    self.ahead = np.empty((*rows.shape[:2], last - first, rows.shape[3]), np.float32)
                self.ahead[:, :, start - first : start - first + rows.shape[2]] = rows
            return self.ahead, asked

        self.next = first, last, self.pool.submit(work)


def reflected(size: int, wanted: int) -> npt.NDArray[np.intp]:
    """Which of `size` rows stands at each of `wanted`, those beyond the edge mirrored as often as it takes."""
    beyond = max(wanted - size, 0)
    index: npt.NDArray[Any] = np.pad(np.arange(size), (0, beyond), mode="reflect" if size > 1 else "edge")
    return index


def _overhang(width: int, plan: WindowPlan) -> npt.NDArray[np.intp]:
    """Which column stands at each place of a row of windows. The last window mirrors what it has itself, so that it
    sees the same in a scene of any width.
    """
    last = plan.columns[-1]
    return np.concatenate([np.arange(last), last + reflected(width - last, plan.window)])
