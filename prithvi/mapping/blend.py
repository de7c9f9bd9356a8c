"""Scores of a whole scene, some rows at a time.

Windows are taken row by row. Two bands of memory roll down the scene: the pixels under the present row of windows, and
the sums of weighted scores that later windows may still add to. When a row of windows is done, the rows above the next
one are final and leave. Memory depends on the width of the scene and never on its height.

Which windows are predicted together depends on the plan alone, so that any part of a scene comes out the same whether
what lies above it was computed before or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from prithvi.errors import ModelError
from prithvi.mapping.strips import Mask, Rows, Strip
from prithvi.windows import WindowPlan, blend_weights

Predict = Callable[[torch.Tensor, list[tuple[float, float]]], Iterable[torch.Tensor]]
"""(B, band, T, y, x) pixels of windows, NaN where there is no data, and the row and column of each window's middle, to
(outputs, y, x) scores of each: a (B, outputs, y, x) tensor, or one after the other."""

SLAB = 32
"""Finished rows that are handed on at once."""
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
    last: bool
    """Whether the next rows need more windows."""


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
    height, width = -(-size[0] // cell), -(-size[1] // cell)
    down, along = part if part is not None else (slice(0, height), slice(0, width))
    window = plan.window // cell
    used = [row for row in plan.rows if row // cell < down.stop and (row + plan.window) // cell > down.start]
    sums = _Sums(plan, cell)
    with Strip(rows, size, plan, wanted) as strip:
        for number, row in enumerate(used):
            following = used[number + 1] if number + 1 < len(used) else None
            pixels, valid, asked = strip.at(row, following)
            seen = valid.any(axis=0) & asked
            columns = [c for c in plan.columns if seen[:, c : c + plan.window].any()]
            for first in range(0, len(columns), batch_size):
                batch = columns[first : first + batch_size]
                stack = np.stack([pixels[..., c : c + plan.window] for c in batch])
                middles = [(row + plan.window / 2, c + plan.window / 2) for c in batch]
                sums.add(predict(torch.from_numpy(stack).transpose(1, 2), middles), [c // cell for c in batch])
                if progress is not None:
                    progress(len(batch))
            if progress is not None:
                progress(len(plan.columns) - len(columns))
            top, bottom = row // cell, min(down.stop if following is None else following // cell, down.stop)
            answered = _in_cells(seen, cell)
            for start in range(max(top, down.start), bottom, SLAB):
                end = min(start + SLAB, bottom)
                slab = slice(start - top, end - top)
                yield BlendedRows(start - down.start, sums.mean(slab, along), answered[slab, along], end == bottom)
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
