"""What is summed up under a row of windows: their weighted scores, and how far they differ from one another.

Both are strips of memory as high as a window and as wide as the scene, which roll down with the rows of windows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from prithvi.errors import ModelError
from prithvi.windows import WindowPlan, blend_weights

Compared = Callable[[torch.Tensor], torch.Tensor]
"""(outputs, y, x) scores of a window to the (values, y, x) in which windows are compared."""
_MANY = 64
"""Windows over a pixel from which on their sums are kept in float64."""


class Sums:
    """Weighted scores under a row of windows, and the weights.

    Args:
        plan: the windows.
        cell: pixels along the side of one score.
        compared: what is compared between windows; None compares nothing, and costs nothing.

    """

    def __init__(self, plan: WindowPlan, cell: int, compared: Compared | None = None) -> None:
        self.window = plan.window // cell
        self.width = (plan.columns[-1] + plan.window) // cell
        many = (plan.window / plan.stride) ** 2 > _MANY
        self.dtype = torch.float64 if many else torch.float32
        self.weights = torch.from_numpy(blend_weights(self.window)).to(self.dtype)
        self.weight = torch.zeros(self.window, self.width, dtype=self.dtype)
        self.total: torch.Tensor | None = None
        self.spread = Spread(compared, self.window, self.width) if compared is not None else None

    def add(self, scores: Iterable[torch.Tensor], columns: list[int]) -> None:
        """Adds the (outputs, window, window) scores of windows, each from its first column on."""
        for column, score in zip(columns, scores, strict=True):
            if score.ndim != 3 or score.shape[1:] != (self.window, self.window):
                given, side = " x ".join(map(str, score.shape[1:])), self.window
                raise ModelError(f"the model gave {given} scores for a window; expected {side} x {side}.")
            if self.total is None:
                self.total = torch.zeros(len(score), self.window, self.width, dtype=self.dtype, device=score.device)
                self.weights, self.weight = self.weights.to(score.device), self.weight.to(score.device)
            part = slice(column, column + self.window)
            self.total[..., part].addcmul_(score.to(self.dtype), self.weights)
            self.weight[:, part] += self.weights
            if self.spread is not None:
                self.spread.add(score, part)

    def mean(self, rows: slice, columns: slice) -> torch.Tensor:
        """(outputs, rows, columns) blended scores; no outputs before the first window with data."""
        weight = self.weight[rows, columns]
        if self.total is None:  # how many outputs there are is not known before the first window with data
            return torch.zeros(0, *weight.shape)
        return (self.total[:, rows, columns] / torch.where(weight > 0, weight, 1)).float()

    def move(self, done: int) -> None:
        """Drops the first rows and adds as many of zeros below, in place."""
        for plane in (*(() if self.total is None else self.total), self.weight):
            _move(plane, done)
        if self.spread is not None:
            self.spread.move(done)


class Spread:
    """The standard deviation between the windows over each pixel, in one pass (Welford 1962).

    Windows count alike: by their blending weights the middle of a window would have a single opinion. Of several values
    (the probabilities of classes) it is the root of half the sum of their variances: 0 where all windows say the same,
    and with two classes the standard deviation of either's probability.

    Args:
        compared: what of the scores is compared.
        window: rows and columns of a window.
        width: columns under a row of windows.

    """

    def __init__(self, compared: Compared, window: int, width: int) -> None:
        self.compared, self.size = compared, (window, width)
        self.windows = self.squares = torch.zeros(self.size)
        self.means = torch.zeros(0, *self.size)

    def add(self, scores: torch.Tensor, columns: slice) -> None:
        """Adds a window's scores."""
        values = self.compared(scores).float()
        if not len(self.means):
            self.means = torch.zeros(len(values), *self.size, device=values.device)
            self.windows, self.squares = torch.zeros(2, *self.size, device=values.device)
        windows, squares = self.windows[:, columns], self.squares[:, columns]
        windows += 1
        for value, means in zip(values, self.means, strict=True):
            mean = means[:, columns]
            off = value - mean
            mean += off / windows
            squares += off * (value - mean)

    def deviation(self, rows: slice, columns: slice) -> torch.Tensor:
        """(rows, columns) standard deviation; NaN where fewer than two windows were."""
        windows, halves = self.windows[rows, columns], 2 if len(self.means) > 1 else 1
        variance = self.squares[rows, columns].clamp(min=0) / windows.clamp(min=1) / halves
        return torch.where(windows > 1, variance.sqrt(), torch.nan)

    def move(self, done: int) -> None:
        """See `Sums.move`."""
        for plane in (*self.means, self.windows, self.squares) if len(self.means) else ():
            _move(plane, done)


def _move(plane: torch.Tensor, done: int) -> None:
    kept = len(plane) - done
    if kept > 0:
        plane[:kept] = plane[done:].clone()
    plane[max(kept, 0) :] = 0
