"""What is wrong with embeddings, seen while their rows pass by: values that are no numbers, absurd ones, seams."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from prithvi.windows import WindowPlan

FAR = 100.0
"""How many times the root mean square of all values the largest is where something is wrong. (Standard deviations of
single features say nothing: many are 0 nearly everywhere.)"""
SEAM = 1.25
"""How much more neighbours differ across borders of windows where these show."""
COARSE = 0.25
"""Step of whole numbers, in standard deviations of a feature, beyond which they say too little of it."""


class Checks:
    """Adds up rows of vectors; see `sentence` and `faults`.

    Args:
        plan: the windows over the pixels.
        cell: pixels along the side of one vector.
        features: of a vector, all steps.

    """

    def __init__(self, plan: WindowPlan, cell: int, features: int) -> None:
        self.vectors = self.broken = 0
        self.sums, self.squares = np.zeros(features), np.zeros(features)
        self.low, self.high = np.full(features, np.inf), np.full(features, -np.inf)
        # Windows begin and end at these places; across one neighbours come of other windows.
        self.borders = tuple(
            {edge // cell for start in starts for edge in (start, start + plan.window)}
            for starts in (plan.rows, plan.columns)
        )
        self.steps = np.zeros((2, 2))
        """[elsewhere, across borders] times [sum of differences, their number]."""
        self._row, self._last = 0, np.empty((0, 0), np.float32)

    def add(self, rows: npt.NDArray[np.floating]) -> None:
        """Looks at the next (step, feature, rows, width)."""
        values = rows.reshape(-1, *rows.shape[-2:]).astype(np.float32)
        finite = np.isfinite(values)
        whole = finite.all(axis=0)
        self.vectors += int(whole.sum())
        self.broken += int((~whole & ~np.isnan(values).all(axis=0)).sum())
        known = values[:, whole].astype(np.float64)
        if known.size:
            self.sums += known.sum(axis=1)
            self.squares += (known**2).sum(axis=1)
            self.low, self.high = np.minimum(self.low, known.min(axis=1)), np.maximum(self.high, known.max(axis=1))
        values[:, ~whole] = np.nan
        along = np.abs(np.diff(values, axis=2)).mean(axis=0)
        for column in range(along.shape[1]):
            self._step(along[:, column], column + 1 in self.borders[1])
        if self._last.size:
            values = np.concatenate([self._last[:, None], values], axis=1)
        down = np.abs(np.diff(values, axis=1)).mean(axis=0)
        first = self._row if self._last.size else self._row + 1
        for row in range(down.shape[0]):
            self._step(down[row], first + row in self.borders[0])
        self._row += rows.shape[-2]
        self._last = values[:, -1].copy()

    def _step(self, differences: npt.NDArray[np.floating], border: bool) -> None:
        known = differences[np.isfinite(differences)]
        self.steps[int(border)] += known.sum(dtype=np.float64), known.size

    @property
    def deviations(self) -> npt.NDArray[np.float64]:
        """(feature,) standard deviations."""
        many = max(self.vectors, 1)
        found: npt.NDArray[np.float64] = np.sqrt(np.maximum(self.squares / many - (self.sums / many) ** 2, 0))
        return found

    @property
    def farthest(self) -> float:
        """The largest value, in root mean squares of all values of all features."""
        if not self.vectors or not self.squares.any():
            return 0.0
        largest = np.max(np.abs([self.low, self.high]))
        return float(largest / np.sqrt(self.squares.sum() / (self.vectors * self.squares.size)))

    @property
    def seam(self) -> float:
        """How many times as much neighbours differ across borders of windows as elsewhere; NaN where none tells."""
        (elsewhere, number), (across, borders) = self.steps
        return float(across / borders / (elsewhere / number)) if number and borders and elsewhere else float("nan")

    def sentence(self) -> str:
        """All of it in words."""
        broken = f"{self.broken:,} more have values that are no numbers" if self.broken else "all of numbers"
        words = [f"{self.vectors:,} vectors, {broken}"]
        if self.vectors:
            words.append(f"the largest value is {self.farthest:.1f} times the root mean square of all")
        if np.isfinite(self.seam):
            words.append(f"across borders of windows neighbours differ {self.seam:.2f} times as much as elsewhere")
        return "; ".join(words) + "."

    def faults(self) -> list[str]:
        """A sentence for each thing that is wrong, with what to do."""
        found = []
        if self.broken:
            found.append(
                f"{self.broken:,} vectors have values that are no numbers: look at their pixels, or the model."
            )
        if self.farthest > FAR:
            found.append(
                f"a value is {self.farthest:.0f} times the root mean square of all: pixels that are no reflectance, or "
                "a model that was not made for them."
            )
        if self.vectors > 1 and not self.deviations.any():
            found.append("all vectors are the same: the scene is uniform, or the model has no trained weights.")
        if self.seam > SEAM:
            found.append(
                f"borders of windows show: across them neighbours differ {self.seam:.1f} times as much as elsewhere. A "
                "smaller stride blends more windows."
            )
        return found
