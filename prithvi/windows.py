"""Layout of sliding windows on a scene, and the weights that blend overlapping windows; in pure numpy."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from prithvi.errors import ConfigError

OVERLAP = 0.25
"""Share of a window that neighbours have in common in a map by default; measured by benchmarks/bench_overlap.py."""
COMPARED = 0.5
"""The same where windows are compared: most pixels lie under four of them then, and under one with the other."""
AT_ONCE, FEW = 8, 2
"""Windows of 224 x 224 pixels that are predicted at once, and by one of several threads on a CPU."""


@dataclass(frozen=True)
class WindowPlan:
    """A grid of equal windows that covers a scene.

    The last row and column of windows end at the scene's edge, so that no window extends beyond a scene that it fits
    into. Along an axis in which the scene is smaller than a window there is a single window from 0, which extends
    beyond the edge; the reader pads it by reflection.
    """

    height: int
    """Scene rows."""
    width: int
    """Scene columns."""
    window: int
    """Rows and columns of a window."""
    stride: int
    """Pixels between the starts of windows; the last ones may be closer."""
    rows: tuple[int, ...]
    """First row of each row of windows, ascending."""
    columns: tuple[int, ...]
    """First column of each column of windows, ascending."""

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    @property
    def overlaps(self) -> bool:
        """Whether there is a pixel under more than one window."""
        steps = [after - before for starts in (self.rows, self.columns) for before, after in pairwise(starts)]
        return min(steps, default=self.window) < self.window

    def require_overlap(self) -> None:
        """Raises ConfigError where no pixel lies under two windows, of which a disagreement needs some."""
        if not self.overlaps:
            raise ConfigError(
                f"windows of {self.window} pixels every {self.stride} over {self.height} x {self.width} pixels do not "
                "overlap, so that none can disagree with another: leave out the disagreement, or say a smaller stride "
                "where the scene is larger than a window."
            )

    def over(self, rows: slice, columns: slice) -> tuple[WindowPlan, slice, slice]:
        """The windows that overlap a part of the scene, and the part of the scene that they cover.

        Args:
            rows: rows of the part (start, stop).
            columns: columns of the part (start, stop).

        Returns:
            The plan of these windows, relative to the first of them, and the rows and columns of the scene that they
            cover.

        """
        down, height = _touching(self.rows, self.window, rows, self.height)
        along, width = _touching(self.columns, self.window, columns, self.width)
        plan = WindowPlan(
            height - down[0], width - along[0], self.window, self.stride, tuple(row - down[0] for row in down),
            tuple(column - along[0] for column in along),
        )  # fmt: skip
        return plan, slice(down[0], height), slice(along[0], width)


def _touching(starts: tuple[int, ...], window: int, part: slice, size: int) -> tuple[tuple[int, ...], int]:
    """Starts of the windows that overlap a part, and the end of the last one within the scene."""
    found = tuple(start for start in starts if start < part.stop and start + window > part.start)
    return found, min(found[-1] + window, size)


def starts(size: int, window: int, stride: int) -> tuple[int, ...]:
    """First pixels of windows along one axis: multiples of `stride`, then one that ends at `size`.

    >>> starts(512, 224, 112)
    (0, 112, 224, 288)
    >>> starts(100, 224, 112)
    (0,)
    """
    if size <= window:
        return (0,)
    last = size - window
    return (*range(0, last, stride), last)


def stride_of(window: int, stride: int | None, overlap: float | None, compared: bool = False) -> int:
    """Pixels between windows, said in pixels or as the share of a window that neighbours have in common.

    Args:
        window: side of a window.
        stride: pixels between them.
        overlap: 0 for windows side by side, 0.5 for one every half window.
        compared: whether windows are compared, which chooses the overlap where neither is said.

    Raises:
        ConfigError: both are said, or an overlap that is not at least 0 and below 1.

    """
    if stride is not None:
        if overlap is not None:
            raise ConfigError(
                f"the stride {stride} and the overlap {overlap:g} say the same thing: leave one of them out."
            )
        return stride
    share = (COMPARED if compared else OVERLAP) if overlap is None else overlap
    if not 0 <= share < 1:
        raise ConfigError(f"the overlap {share:g} must be at least 0 and below 1: it is a share of the window.")
    return max(1, round(window * (1 - share)))


def plan(height: int, width: int, window: int, stride: int | None = None) -> WindowPlan:
    """Windows of `window` pixels every `stride` pixels (None: half a window) over `height` x `width`.

    Raises:
        ConfigError: the stride is not between 1 and the window, or a size is below 1.

    """
    if min(height, width, window) < 1:
        raise ConfigError(f"cannot plan windows of {window} over {height} x {width} pixels.")
    stride = max(1, window // 2) if stride is None else stride
    if not 1 <= stride <= window:
        raise ConfigError(f"the stride {stride} must lie between 1 and the window {window}, or pixels are left out.")
    return WindowPlan(height, width, window, stride, starts(height, window, stride), starts(width, window, stride))


def at_once(window: int) -> int:
    """How many windows are predicted at once by default: 8 of 224 pixels, of smaller ones as many as have their pixels.

    A call has costs that do not depend on its pixels. More than four times as many windows bring little.
    """
    return AT_ONCE * _times(window)


def by_a_thread(window: int, batch_size: int) -> int:
    """How many windows of a batch one thread predicts at once: a quarter of the default, at most.

    That does not depend on the number of threads: the last digits of scores depend on what is predicted together.
    """
    return min(batch_size, FEW * max(1, min(_times(window), batch_size // AT_ONCE)))


def _times(window: int) -> int:
    return max(1, min(4, round((224 / window) ** 2)))


def reflected(size: int, wanted: int) -> npt.NDArray[np.intp]:
    """Which of `size` rows stands at each of `wanted`, those beyond the edge mirrored as often as it takes."""
    beyond = max(wanted - size, 0)
    index: npt.NDArray[np.intp] = np.pad(np.arange(size), (0, beyond), mode="reflect" if size > 1 else "edge")
    return index


def blend_weights(window: int) -> npt.NDArray[np.float32]:
    """(window, window) weights that decrease smoothly from the window centre to the edge and are never 0.

    The profile along each axis is a squared sine. With an overlap of one half, weights of neighbouring windows add up
    to a constant, and tokens at the edge, which have the least context, have the least weight.
    """
    position = (np.arange(window) + 0.5) / window
    profile = np.maximum(np.sin(np.pi * position) ** 2, 1e-3)
    return np.asarray(np.outer(profile, profile), dtype=np.float32)
