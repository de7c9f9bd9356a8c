"""Sine codes of position, time and place, as Prithvi has them (arXiv 2310.18660 and 2412.02732)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn


def _sine_code(size: int, positions: np.ndarray) -> np.ndarray:
    """(N, size) code of N positions: all sines, then all cosines, of geometrically falling frequencies."""
    frequency = 1.0 / 10000 ** (np.arange(size // 2) / (size / 2))
    angle = np.outer(positions, frequency)
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def position_code(dim: int, grid: tuple[int, int, int]) -> Tensor:
    """(1, 1 + t*y*x, dim) float32 code of a patch grid (t, y, x), a row of zeros for the class token first.

    6/16 of the code hold the column, 6/16 the row, 4/16 the date, in that order; patches count x fastest, t slowest.
    Do not write into the result: it is kept.
    """
    return _position_code(dim, grid)


@lru_cache(maxsize=32)
def _position_code(dim: int, grid: tuple[int, int, int]) -> Tensor:
    frames, rows, columns = grid
    x = _sine_code(dim // 16 * 6, np.arange(columns))
    y = _sine_code(dim // 16 * 6, np.arange(rows))
    t = _sine_code(dim // 16 * 4, np.arange(frames))
    code = np.concatenate(
        [
            np.tile(x, (frames * rows, 1)),
            np.tile(np.repeat(y, columns, axis=0), (frames, 1)),
            np.repeat(t, rows * columns, axis=0),
        ],
        axis=1,
    )
    code = np.concatenate([np.zeros((1, dim)), code])
    return torch.from_numpy(code).float().unsqueeze(0)


def position_code_at(built: Tensor, built_grid: tuple[int, int, int], grid: tuple[int, int, int]) -> Tensor:
    """(1, 1 + t*y*x, dim) position code for `grid`, out of the (1, 1 + L, dim) code of `built_grid`.

    Another number of dates is computed anew; another height or width is interpolated (bicubic, corners aligned), so
    that a model fed with a larger image sees its own training positions stretched over it.
    """
    if grid == built_grid:
        return built
    if grid[0] != built_grid[0]:
        built_grid = (grid[0], *built_grid[1:])
        built = position_code(built.shape[-1], built_grid).to(built.device, built.dtype)
    if grid == built_grid:
        return built
    dim = built.shape[-1]
    patches = built[:, 1:].reshape(*built_grid, dim).permute(0, 3, 1, 2)  # (t, dim, y, x)
    patches = nn.functional.interpolate(patches, size=grid[1:], mode="bicubic", align_corners=True)
    patches = patches.permute(0, 2, 3, 1).reshape(1, -1, dim)
    return torch.cat([built[:, :1], patches], dim=1)


def _frequencies(size: int) -> Tensor:
    # float32 steps on the CPU, wherever they are used: at the year 2023 the last bit of a frequency moves the code
    # by 1e-4, so that a device's own rounding of the power would show.
    exponent = torch.arange(size // 2, dtype=torch.float32, device="cpu") / (size / 2)
    return 1.0 / 10000**exponent


class CoordinateCode(nn.Module):
    """The weighted code of a pair of numbers: (year, day of year from 0) of a date, or (lat, lon) in degrees.

    The first half of the code holds the first number, the second half the second. Coordinates stay float32 in any
    precision: in bfloat16 the years 2018 to 2023 have two distinct codes. A pair with a NaN counts as unknown and
    adds nothing.
    """

    def __init__(self, dim: int, learn_scale: bool) -> None:
        super().__init__()
        # Not buffers: a model cast to bfloat16 must keep these in float32.
        self.frequencies = (_frequencies(dim // 2), _frequencies(dim - dim // 2))
        self.scale: Tensor
        if learn_scale:
            self.scale = nn.Parameter(torch.full((1,), 0.1))
        else:
            self.register_buffer("scale", torch.ones(1))

    def forward(self, coordinates: Tensor) -> Tensor:
        """(..., 2) coordinates to (..., dim) codes."""
        coordinates = coordinates.to(torch.float32)
        known = torch.isfinite(coordinates).all(dim=-1, keepdim=True)
        coordinates = torch.where(known, coordinates, 0.0)
        parts = []
        for axis, frequency in enumerate(self.frequencies):
            angle = coordinates[..., axis, None] * frequency.to(coordinates.device)
            parts += [torch.sin(angle), torch.cos(angle)]
        return self.scale * torch.cat(parts, dim=-1) * known
