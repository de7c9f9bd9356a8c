"""Sine-cosine codes of patch position, date and location, as in Prithvi (arXiv 2310.18660 and 2412.02732)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from prithvi.errors import ModelError, counted
from prithvi.models.config import Grid, ModelConfig
from prithvi.models.masking import take


def _sine_code(size: int, positions: np.ndarray) -> np.ndarray:
    """(N, size) code of N positions: all sines, then all cosines, at geometrically decreasing frequencies."""
    frequency = 1.0 / 10000 ** (np.arange(size // 2) / (size / 2))
    angle = np.outer(positions, frequency)
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)


def position_code(dim: int, grid: Grid) -> Tensor:
    """(1, 1 + t*y*x, dim) float32 position code of a patch grid (t, y, x); the class token's row of zeros is first.

    The code consists of 6/16 for the column, 6/16 for the row and 4/16 for the date, in that order; patches are
    numbered with x fastest and t slowest. The result is cached: do not modify it.
    """
    return _position_code(dim, grid)


# What `torch.compiler.assume_constant_result` sets. Calling that imports torch's compiler, half of a small map's time.
position_code._dynamo_marked_constant = True  # type: ignore[attr-defined]


@lru_cache(maxsize=32)
def _position_code(dim: int, grid: Grid) -> Tensor:
    # Computed by numpy in double precision and rounded once at the end, so that the code is the same on every device.
    frames, rows, columns = grid
    x = _sine_code(dim // 16 * 6, np.arange(columns))
    y = _sine_code(dim // 16 * 6, np.arange(rows))
    t = _sine_code(dim // 16 * 4, np.arange(frames))
    across, down = np.tile(x, (frames * rows, 1)), np.tile(np.repeat(y, columns, axis=0), (frames, 1))
    code = np.concatenate([across, down, np.repeat(t, rows * columns, axis=0)], axis=1)
    return torch.from_numpy(np.concatenate([np.zeros((1, dim)), code])).float().unsqueeze(0)


def position_code_at(built: Tensor, built_grid: Grid, grid: Grid) -> Tensor:
    """(1, 1 + t*y*x, dim) position code for `grid`, from the (1, 1 + L, dim) code of `built_grid`.

    For a different number of dates the code is recomputed; for a different height or width it is interpolated
    (bicubic, corners aligned), so that a larger image gets the training positions stretched over it.
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
    # Always computed in float32 on the CPU: at the year 2023 the last bit of a frequency changes the code by 1e-4, so
    # that another device's rounding of the power would be visible in the result.
    exponent = torch.arange(size // 2, dtype=torch.float32, device="cpu") / (size / 2)
    return 1.0 / 10000**exponent


class CoordinateCode(nn.Module):
    """Weighted code of a pair of coordinates: (year, day of year from 0) of a date, or (lat, lon) in degrees.

    Each coordinate takes one half of the code. Coordinates stay float32 whatever the model's precision: in bfloat16
    the six years 2018 to 2023 share two distinct codes. A pair with a NaN is unknown and has a code of zeros.
    """

    def __init__(self, dim: int, learn_scale: bool) -> None:
        super().__init__()
        # Plain tensors, not buffers, so that casting the model to bfloat16 leaves them in float32.
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


Codes = tuple[CoordinateCode | None, CoordinateCode | None]
"""The date code and the location code of a model; None where it has none."""
Coordinates = tuple[Tensor | None, Tensor | None]
"""(B, T, 2) year and day of year from 0, and (B, 2) latitude and longitude in degrees; None where unknown."""


def coordinate_codes(dim: int, config: ModelConfig) -> Codes:
    """The codes of a model of this width."""
    time, place = (
        CoordinateCode(dim, config.coords_scale_learn) if name in config.coords_encoding else None
        for name in ("time", "location")
    )
    return time, place


def patch_codes(
    built: Tensor, built_grid: Grid, grid: Grid, index: Tensor, codes: Codes, coordinates: Coordinates
) -> Tensor:
    """(B, K, D) sum of position, date and location codes of the patches at `index`.

    Args:
        built: (1, 1 + L, D) position codes of `built_grid`, the class token's row first.
        built_grid: number of patches along (time, y, x) that `built` is for.
        grid: number of patches along (time, y, x).
        index: (B, K) patch numbers.
        codes: see `coordinate_codes`.
        coordinates: dates and locations of the samples.

    Raises:
        ModelError: coordinates are not of shape (B, T, 2) and (B, 2).

    """
    # Date and location codes are float32 and are added up before the cast to the position code's type. All patches of
    # a date share its code: the date of patch number i is i // (patches per date).
    position = take(position_code_at(built, built_grid, grid)[:, 1:], index)
    (time, place), (dates, places), total = codes, coordinates, None
    if time is not None and dates is not None:
        _check("temporal_coords", dates, index, (grid[0], 2), "year and day of year (from 0) of each date")
        total = take(time(dates), index // (grid[1] * grid[2]))
    if place is not None and places is not None:
        _check("location_coords", places, index, (2,), "latitude, longitude")
        here = place(places).unsqueeze(1)
        total = here if total is None else total + here
    return position if total is None else position + total.to(position.dtype)


def _check(name: str, coordinates: Tensor, index: Tensor, shape: tuple[int, ...], meaning: str) -> None:
    if coordinates.shape[1:] != shape:
        wanted = ", ".join(map(str, ("batch", *shape)))
        raise ModelError(f"{name} has shape {tuple(coordinates.shape)}; it must be ({wanted}): {meaning}.")
    if coordinates.shape[0] != index.shape[0]:
        raise ModelError(
            f"coordinates of {counted(coordinates.shape[0], 'sample')} for a batch of "
            f"{counted(index.shape[0], 'image')}."
        )
