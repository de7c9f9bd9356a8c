"""Scores of a whole scene, a strip of rows at a time.

Windows are taken row by row. Two bands of memory roll down the scene: the pixels under the present row of windows, and
the sums of weighted scores that later windows may still add to. When a row of windows is done, the rows above the next
one are final and leave. Memory depends on the width of the scene and never on its height.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from prithvi.contract import Contract
from prithvi.scenes import read
from prithvi.windows import WindowPlan, blend_weights

Predict = Callable[[torch.Tensor, torch.Tensor, list[tuple[float, float]]], torch.Tensor]
"""(B, band, T, y, x) pixels and (B, T, y, x) bool validity of windows, and the scene row and column of each window's
middle, to (B, classes, y, x) scores."""


@dataclass(frozen=True)
class BlendedRows:
    """Finished rows of a scene."""

    start: int
    """First row."""
    scores: npt.NDArray[np.float32]
    """(classes, rows, width) blended scores; 0 where no window with data was."""
    valid: npt.NDArray[np.bool_]
    """(rows, width) True where all bands have data on at least one date."""


def blend(
    scene: xr.DataArray,
    contract: Contract,
    predict: Predict,
    plan: WindowPlan,
    batch_size: int = 8,
    progress: Callable[[int], None] | None = None,
) -> Iterator[BlendedRows]:
    """Predicts every window of `plan` and yields finished rows from top to bottom.

    Args:
        scene: what `prithvi.scenes.conform` gives.
        contract: the units pixels are brought to.
        predict: the model.
        plan: windows over the scene.
        batch_size: windows a call of `predict`.
        progress: called with the number of windows done since the last call.

    """
    weights = blend_weights(plan.window)
    strip = _Strip(scene, contract, plan)
    total: npt.NDArray[np.float32] | None = None
    weight = np.zeros((plan.window, strip.width), dtype=np.float32)
    for number, row in enumerate(plan.rows):
        pixels, valid = strip.at(row)
        seen = np.asarray(valid.any(axis=0))
        for first in range(0, len(plan.columns), batch_size):
            columns = plan.columns[first : first + batch_size]
            # A window without any data is not worth a prediction.
            used = [c for c in columns if valid[:, :, c : c + plan.window].any()]
            if used:
                parts = [slice(column, column + plan.window) for column in used]
                scores = predict(
                    torch.from_numpy(np.stack([pixels[..., part] for part in parts])).transpose(1, 2),
                    torch.from_numpy(np.stack([valid[..., part] for part in parts])),
                    [(row + plan.window / 2, column + plan.window / 2) for column in used],
                )
                if total is None:
                    total = np.zeros((scores.shape[1], plan.window, strip.width), dtype=np.float32)
                for part, score in zip(parts, scores.float().cpu().numpy(), strict=True):
                    total[..., part] += score * weights
                    weight[:, part] += weights
            if progress is not None:
                progress(len(columns))
        following = plan.rows[number + 1] if number + 1 < len(plan.rows) else max(plan.height, row + 1)
        done = min(following, plan.height) - row
        if total is None:  # no class count is known before the first window with data
            yield BlendedRows(row, np.zeros((0, done, plan.width), np.float32), seen[:done, : plan.width])
            continue
        scale = np.where(weight[:done] > 0, weight[:done], np.float32(1))
        blended = np.asarray(total[:, :done] / scale, dtype=np.float32)
        yield BlendedRows(row, blended[..., : plan.width], seen[:done, : plan.width])
        total = _roll_up(total, done)
        weight = _roll_up(weight, done)


def _roll_up(band: npt.NDArray[Any], rows: int) -> npt.NDArray[Any]:
    """Drops the first `rows` rows (axis -2) and adds as many of zeros below, in place."""
    kept = band.shape[-2] - rows
    if kept > 0:
        band[..., :kept, :] = band[..., rows:, :]
    band[..., max(kept, 0) :, :] = 0
    return band


class _Strip:
    """The pixels under a row of windows. Each row of the scene is read once."""

    def __init__(self, scene: xr.DataArray, contract: Contract, plan: WindowPlan) -> None:
        self.scene, self.contract, self.plan = scene, contract, plan
        self.width = max(plan.width, plan.window)
        self.start, self.pixels = 0, self._rows(0, 0)

    def _rows(self, first: int, last: int) -> npt.NDArray[np.float32]:
        """(T, band, rows, width), mirrored to the right where the scene is narrower than a window."""
        pixels = read(self.scene.isel(y=slice(first, last)), self.contract).astype(np.float32, copy=False)
        return _mirror(pixels, self.width, axis=3)

    def at(self, row: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Pixels (T, band, window, width) from `row` on, and where they have data in all bands (T, window, width)."""
        have = self.start + self.pixels.shape[2]
        kept = self.pixels[:, :, row - self.start :]
        new = self._rows(have, min(row + self.plan.window, self.plan.height))
        self.start, self.pixels = row, np.concatenate([kept, new], axis=2)
        pixels = _mirror(self.pixels, self.plan.window, axis=2)
        valid = np.asarray(np.isfinite(pixels).all(axis=1))
        return pixels, valid


def _mirror(pixels: npt.NDArray[np.float32], size: int, axis: int) -> npt.NDArray[np.float32]:
    """Fills up to `size` by reflection at the far edge, as often as it takes."""
    missing = size - pixels.shape[axis]
    if missing <= 0 or 0 in pixels.shape:
        if missing <= 0:
            return pixels
        shape = list(pixels.shape)
        shape[axis] = size
        return np.zeros(shape, dtype=np.float32)
    margins = [(0, 0)] * pixels.ndim
    margins[axis] = (0, missing)
    return np.pad(pixels, margins, mode="reflect" if pixels.shape[axis] > 1 else "edge")
