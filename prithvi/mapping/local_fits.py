"""Fits of one date of a window on features of its pixels: over the whole window, place by place, and a smooth rest.

All arrays are float32; a pixel's weight is 0 where its value is unknown, and what stands there does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.float32]

HINGES = 128
"""Kinks of the features that the fit over the whole window knows."""
FITTED_ON = 4096
"""Pixels that it is fitted on at most, spread evenly over those known."""
RIDGE, HINGE_RIDGE = 0.02, 100.0
"""Penalties: of the linear coefficients by known pixel, and of the hinges over all."""
PRIOR = 16.0
"""Pixels' worth of prior that hold an offset at 0, so that a handful of pixels does not set a date's level."""
PIXELS_A_DEVIATION = 120.0
"""Distance that counts as much as a difference of one standard deviation in a feature."""
PIECE = 2048
"""Pixels that hinges are computed of at once."""
LEAST_OF_USUAL = 0.3
"""A pixel's usual error is at least this share of the window's."""
TILE = 16
"""Side of the squares whose corners have coefficients of their own."""
REACH, WINDOW_PRIOR = 14.0, 25.0
"""Of a corner's fit: standard deviation of the weights in pixels; what the window's own fit counts in it, in pixels."""
SMOOTHING = 0.5
"""Pixels' worth of prior that holds the smooth rest at 0 where few pixels are known."""


def fit_window(features: Pixels, target: Pixels, weights: Sequence[Pixels]) -> list[tuple[Pixels, Pixels]]:
    """Ridge regressions of a target on features and on hinges (rectified random projections) of them and of the place.

    Hinges make it nonlinear at the price of a matrix product.

    Args:
        features: (feature, y, x).
        target: (band, y, x), finite.
        weights: (y, x) of each fit, somewhere above 0; the kinks of the hinges are taken from the first.

    Returns:
        For each of the weights: (band, y, x) the fit, and how far off it usually is at such a pixel, which is a fit of
        its absolute errors on the same features and hinges.

    """
    bands, height, width = target.shape
    count, flat = len(features), features.reshape(len(features), height * width)
    # The place and a constant go with the features into one product, which makes the hinges.
    y, x = np.indices((height, width), np.float32).reshape(2, -1)
    place = np.stack([y - height / 2, x - width / 2]).astype(np.float32) / np.float32(PIXELS_A_DEVIATION)
    on = _spread(weights[0])
    mean = flat[:, on].mean(axis=1, keepdims=True)
    directions, draws = _directions(count + 2)
    deviation = np.maximum(flat[:, on].std(axis=1), np.float32(1e-2))
    directions = directions / np.concatenate([deviation, np.ones(2, np.float32)])
    # Each hinge has its kink at a known pixel, so that all of them bend where there is data.
    kinks = on[(draws * len(on)).astype(int)]
    at = np.concatenate([flat[:, kinks] - mean, place[:, kinks]])
    start = np.einsum("hf,fh->h", directions, at)[:, None]

    def design(pixels: npt.NDArray[np.intp] | slice) -> Pixels:
        """(feature + hinge, pixel)."""
        found = np.empty((count + HINGES, len(place[0, pixels])), np.float32)
        np.subtract(flat[:, pixels], mean, out=found[:count])
        hinges = found[count:]
        np.matmul(directions, np.concatenate([found[:count], place[:, pixels]]), out=hinges)
        np.maximum(np.subtract(hinges, start, out=hinges), 0, out=hinges)
        return found

    penalty = np.full(count + HINGES, HINGE_RIDGE)
    coefficients, offsets, usuals = [], [], []
    for weight in weights:
        on = _spread(weight)
        some, there, values = design(on), weight.ravel()[on], target.reshape(bands, -1)[:, on]
        middle = some.mean(axis=1, keepdims=True)
        some -= middle
        weighted = some * there
        penalty[:count] = RIDGE * (len(on) + PRIOR)
        inverse = np.linalg.inv((weighted @ some.T).astype(np.float64) + np.diag(penalty))
        offset = (values * there).sum(axis=1, keepdims=True) / (there.sum() + PRIOR)
        of_target = (inverse @ (weighted @ (values - offset).T)).T
        errors = np.abs(values - offset - of_target.astype(np.float32) @ some)
        usual = np.average(errors, axis=1, weights=there)[:, None]
        both = np.concatenate([of_target, (inverse @ (weighted @ (errors - usual).T)).T]).astype(np.float32)
        coefficients.append(both)
        usuals.append(usual)
        offsets.append(np.concatenate([offset, usual]) - both @ middle)
    # All fits in one pass, in pieces whose hinges stay in the processor's cache.
    stacked, constant = np.concatenate(coefficients), np.concatenate(offsets)
    found = np.empty((len(stacked), height * width), np.float32)
    for first in range(0, height * width, PIECE):
        piece = slice(first, first + PIECE)
        np.matmul(stacked, design(piece), out=found[:, piece])
    found += constant
    found = found.reshape(len(weights), 2, bands, height, width)
    for (_, off), usual in zip(found, usuals, strict=True):
        np.maximum(off, np.float32(LEAST_OF_USUAL) * usual[..., None], out=off)
    return [(fit, off) for fit, off in found]


def _spread(weight: Pixels) -> npt.NDArray[np.intp]:
    """Pixels of a weight above 0, `FITTED_ON` at most: evenly spread by multiples of the golden ratio."""
    known = np.flatnonzero(weight)
    if len(known) <= FITTED_ON:
        return known
    return np.sort(known[np.argsort((np.arange(len(known)) * 0.6180339887498949) % 1, kind="stable")[:FITTED_ON]])


@lru_cache(maxsize=64)
def _directions(count: int) -> tuple[Pixels, npt.NDArray[np.float64]]:
    """(hinge, count) random directions of about unit length, and (hinge,) numbers in [0, 1); always the same."""
    random = np.random.default_rng(0)
    directions = random.standard_normal((HINGES, count)) / np.sqrt(count)
    return directions.astype(np.float32), random.random(HINGES)


@dataclass
class LocalFit:
    """Ridge regressions at the corners of a grid of tiles, each on the pixels around it, blended in between.

    A corner's coefficients are held at those of the whole window by a prior that counts as `WINDOW_PRIOR` pixels, in
    the metric of the features themselves: where few pixels are known around a corner, the window's own fit stands.

    Args:
        features: (feature, y, x), with means near 0 where the target is known.

    """

    features: Pixels
    blocks: Pixels = field(init=False)
    """(row, column, pixel, feature + 1): squares of half a tile; the last feature is 1."""

    def __post_init__(self) -> None:
        _, height, width = self.features.shape
        self.blocks = self._cut(np.concatenate([self.features, np.ones((1, height, width), np.float32)]))

    def _cut(self, image: Pixels) -> Pixels:
        """(band, y, x) to (row, column, pixel, band) of half tiles, zeros beyond the edges."""
        bands, height, width = image.shape
        down, along, half = -(-height // TILE) * 2, -(-width // TILE) * 2, TILE // 2
        if (height, width) != (down * half, along * half):
            image = np.pad(image, ((0, 0), (0, down * half - height), (0, along * half - width)))
        cut = image.reshape(bands, down, half, along, half).transpose(1, 3, 2, 4, 0)
        return np.ascontiguousarray(cut).reshape(down, along, half * half, bands)

    def __call__(self, target: Pixels, weight: Pixels) -> Pixels:
        """(band, y, x) fit of a target.

        Args:
            target: (band, y, x), finite.
            weight: (y, x); somewhere above 0.

        """
        bands, height, width = target.shape
        down, along, size, count = self.blocks.shape
        half = TILE // 2
        weighted: Any = (self.blocks * self._cut(weight[None])).swapaxes(2, 3)
        normal, right = weighted @ self.blocks, weighted @ self._cut(target)
        total = float(weight.sum())
        whole = normal.sum(axis=(0, 1))
        whole[np.arange(count), np.arange(count)] += np.append(np.full(count - 1, RIDGE * (total + PRIOR)), PRIOR)
        common = np.linalg.solve(whole.astype(np.float64), right.sum(axis=(0, 1)).astype(np.float64)).astype(np.float32)
        # The sums of all half tiles around a corner, nearer ones weighing more: two products with matrices of weights.
        vertical, horizontal = _gaussian(down), _gaussian(along)

        def around(sums: Pixels) -> Pixels:
            rows = (vertical @ sums.reshape(down, -1)).reshape(-1, along, sums[0, 0].size)
            return (horizontal @ rows).reshape(-1, *sums.shape[2:])

        near, rest = around(normal), around(right)
        own = np.linalg.solve(near + whole * np.float32(WINDOW_PRIOR / total), rest - near @ common) + common
        corners = own.reshape(down // 2 + 1, along // 2 + 1, count, bands)
        # A half tile lies between the same four corners as the other three of its tile.
        tiles = np.stack([corners[:-1, :-1], corners[:-1, 1:], corners[1:, :-1], corners[1:, 1:]], axis=3)
        tiles = tiles.reshape(down // 2, along // 2, count, 4 * bands).repeat(2, axis=0).repeat(2, axis=1)
        four = (self.blocks @ tiles).reshape(down // 2, 2, along // 2, 2, size, 4, bands)
        found = (four * _between()[None, :, None, :, :, :, None]).sum(axis=5, dtype=np.float32)
        found = found.reshape(down, along, half, half, bands).transpose(4, 0, 2, 1, 3)
        image: Pixels = found.reshape(bands, down * half, along * half)[:, :height, :width]
        return image


def _gaussian(blocks: int) -> Pixels:
    """(corner, block) weights of half tiles in the sums of a corner, along one axis."""
    corners, middles = np.arange(blocks // 2 + 1) * TILE, (np.arange(blocks) + 0.5) * TILE / 2
    return np.exp(-0.5 * ((corners[:, None] - middles) / REACH) ** 2).astype(np.float32)


@lru_cache(maxsize=1)
def _between() -> Pixels:
    """(2, 2, pixel, corner) bilinear weights of a tile's four corners in each of its half tiles."""
    share = (np.arange(TILE) + 0.5) / TILE
    y, x = np.broadcast_arrays(share[:, None], share[None])
    weights = np.stack([(1 - y) * (1 - x), (1 - y) * x, y * (1 - x), y * x], axis=-1)
    half = TILE // 2
    cut = weights.reshape(2, half, 2, half, 4).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(cut, np.float32).reshape(2, 2, half * half, 4)


def smooth(values: Pixels, weight: Pixels, prior: float | None = None) -> Pixels:
    """A smooth (band, y, x) surface near weighted values, by corrections from coarse to fine; 0 far from all of them.

    Args:
        values: (band, y, x), finite.
        weight: (y, x).
        prior: how many pixels' worth holds each correction at 0; default `SMOOTHING`.

    """
    # Levels of a pyramid hold sums of values and of weights, so that a level's mean is right however few it knows. Each
    # level, from the coarsest, corrects the surface by the smoothed mean of what it still misses.
    levels: list[Any] = [np.concatenate([values * weight, weight[None]])]
    while max(levels[-1].shape[1:]) > 4:
        fine = levels[-1]
        if fine.shape[1] % 2 or fine.shape[2] % 2:
            fine = np.pad(fine, ((0, 0), (0, fine.shape[1] % 2), (0, fine.shape[2] % 2)))
        pairs = fine[:, ::2] + fine[:, 1::2]
        levels.append(pairs[:, :, ::2] + pairs[:, :, 1::2])
    surface = np.zeros_like(levels[-1][:-1])
    for level in reversed(levels):
        if surface.shape[1:] != level.shape[1:]:
            surface = _twice(_twice(surface, 1), 2)[:, : level.shape[1], : level.shape[2]]
        missed = level.copy()
        missed[:-1] -= level[-1] * surface
        missed = _blur(_blur(missed, 1), 2)
        surface = surface + missed[:-1] / (missed[-1] + np.float32(SMOOTHING if prior is None else prior))
    return np.asarray(surface, np.float32)


def blurred(image: Pixels) -> Pixels:
    """(band, y, x) means over 3 x 3 pixels with weights 1 2 1 along each axis, the edge's values beyond the edges."""
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)), "edge")
    return _blur(_blur(padded, 1), 2)[:, 1:-1, 1:-1]


def _blur(image: Pixels, axis: int) -> Pixels:
    """Weights 1/4, 1/2, 1/4 along an axis, zeros beyond the edges."""
    out = image * np.float32(0.5)
    first, last = [slice(None)] * 3, [slice(None)] * 3
    first[axis], last[axis] = slice(1, None), slice(None, -1)
    quarter = image * np.float32(0.25)
    out[tuple(first)] += quarter[tuple(last)]
    out[tuple(last)] += quarter[tuple(first)]
    return out


def _twice(image: Pixels, axis: int) -> Pixels:
    """Twice as many pixels along an axis, linear in between, the edge's value beyond the edges."""
    image = np.moveaxis(image, axis, -1)
    beyond = np.concatenate([image[..., :1], image, image[..., -1:]], axis=-1) * np.float32(0.25)
    out = np.empty((*image.shape[:-1], 2 * image.shape[-1]), np.float32)
    main = image * np.float32(0.75)
    np.add(main, beyond[..., :-2], out=out[..., ::2])
    np.add(main, beyond[..., 2:], out=out[..., 1::2])
    return np.moveaxis(out, -1, axis)
