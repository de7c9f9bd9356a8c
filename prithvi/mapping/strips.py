"""The pixels under a row of windows, read ahead on a thread, each row of the scene once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import xarray as xr

from prithvi.contract import Contract
from prithvi.scenes import read
from prithvi.scenes.conform import units_of
from prithvi.scenes.pixels import source_of
from prithvi.scenes.validity import Tally
from prithvi.windows import WindowPlan

Pixels = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Rows = Callable[[int, int], Pixels]
"""First and last (not counted in) row to their (T, band, rows, width) pixels, NaN where there is no data."""

SLAB = 16
"""Rows that are read, or handed on when they are finished, at once."""


def rows_of(scene: xr.DataArray, contract: Contract, tally: Tally | None = None) -> Rows:
    """A scene as `Rows` in the contract's units; from its files where nothing was done to it since it was opened.

    Args:
        scene: what `prithvi.scenes.conform` gives.
        contract: units and bands.
        tally: counts the pixels that are missing because they cannot be reflectance.

    """
    source = source_of(scene)
    if source is not None:
        gain, bias = units_of(scene, contract)
        judged = source.judged(gain, bias)

        def read_files(first: int, last: int) -> Pixels:
            values = contract.from_reflectance(judged.rows_of(first, last, tally), gain, bias)
            return values.astype(np.float32, copy=False)

        return read_files
    pieces = _Pieces(scene, contract, tally)
    return pieces.rows


def look_over(rows: Rows, first: int, last: int) -> None:
    """Reads rows whose answers are there already (of a run that was gone on with), so that a tally counts them too."""
    for start in range(first, last, SLAB):
        rows(start, min(start + SLAB, last))


class _Pieces:
    """Whole pieces of a scene that something was done to; what is not asked for yet is kept."""

    def __init__(self, scene: xr.DataArray, contract: Contract, tally: Tally | None) -> None:
        self.scene, self.contract, self.tally = scene, contract, tally
        self.ends = np.cumsum(scene.chunks[2] if scene.chunks is not None else [scene.sizes["y"]])
        self.start, self.pixels = 0, self._read(0, 0)

    def _read(self, first: int, last: int) -> Pixels:
        part = read(self.scene.isel(y=slice(first, last)), self.contract, self.tally, first)
        return part.astype(np.float32, copy=False)

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


class Strip:
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
    sees the same whatever stands beside it.
    """
    last = plan.columns[-1]
    return np.concatenate([np.arange(last), last + reflected(width - last, plan.window)])
