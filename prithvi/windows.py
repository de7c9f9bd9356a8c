"""Where windows lie on a scene, and how much each pixel of a window counts where windows overlap. Pure numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prithvi.errors import ConfigError


@dataclass(frozen=True)
class WindowPlan:
    """A grid of equal windows that covers a scene.

    The last row and column of windows end where the scene ends, so that no window leaves a scene it fits into. A scene
    smaller than a window gets a single window that starts at 0 and hangs over the edge; the reader fills that
    part by reflection.
    """

    height: int
    """Scene rows."""
    width: int
    """Scene columns."""
    window: int
    """Rows and columns of a window."""
    rows: tuple[int, ...]
    """First row of each row of windows, ascending."""
    columns: tuple[int, ...]
    """First column of each column of windows, ascending."""

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)


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


def plan(height: int, width: int, window: int, stride: int) -> WindowPlan:
    """Windows of `window` pixels every `stride` pixels over `height` x `width`.

    Raises:
        ConfigError: the stride is not between 1 and the window, or a size is below 1.

    """
    if min(height, width, window) < 1:
        raise ConfigError(f"cannot plan windows of {window} over {height} x {width} pixels.")
    if not 1 <= stride <= window:
        raise ConfigError(f"the stride {stride} must lie between 1 and the window {window}, or pixels are left out.")
    return WindowPlan(height, width, window, starts(height, window, stride), starts(width, window, stride))


def blend_weights(window: int) -> npt.NDArray[np.float32]:
    """(window, window) weights that fall smoothly from the middle to the edge and never reach 0.

    A squared sine along each axis: where windows overlap by half, neighbours add up to a constant, and the edge
    tokens, which see least context, count least.
    """
    position = (np.arange(window) + 0.5) / window
    profile = np.maximum(np.sin(np.pi * position) ** 2, 1e-3)
    return np.asarray(np.outer(profile, profile), dtype=np.float32)
