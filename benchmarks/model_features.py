"""Features of every pixel from a model that is not trained further, and what they are compared with.

All functions give (F, y, x) of (time, band, y, x) reflectance with NaN where there are no data. None sees a label.
"""

from __future__ import annotations

import datetime as dt
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter
from torch.nn import functional as F

from prithvi.models import PrithviMAE, Standardise
from prithvi.models.branch import date_planes
from prithvi.models.heads import tokens_to_grid

Features = npt.NDArray[np.float32]
PAIRS = ((3, 2), (1, 3), (1, 4), (3, 4), (3, 5), (4, 5))
"""Bands of the indices: NDVI, NDWI, MNDWI, NDMI, NBR, and SWIR 1 against SWIR 2."""


def filled(image: Features) -> Features:
    """The image with missing values from the median over its dates, else the median of the band."""
    if np.isfinite(image).all():
        return image
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # medians of nothing
        dates = np.nanmedian(image, axis=0) if len(image) > 1 else image[0]
        bands = np.nanmedian(image, axis=(0, 2, 3))
    over = np.where(np.isnan(dates), np.nan_to_num(bands)[:, None, None], dates)
    return np.where(np.isnan(image), over, image).astype(np.float32)


def raw(image: Features) -> Features:
    """The bands of all dates."""
    return filled(image).reshape(-1, *image.shape[2:])


def with_indices(image: Features) -> Features:
    """(time, band + index, y, x) bands and six normalised differences, between -1 and 1 also over dark water."""
    known = filled(image)
    pairs = [(known[:, a], known[:, b]) for a, b in PAIRS]
    indices = [((a - b) / (a + b).clip(min=0.02)).clip(-1, 1) for a, b in pairs]
    return np.concatenate([known, np.stack(indices, axis=1)], axis=1)


def spectral(image: Features) -> Features:
    """Bands and indices of all dates, and their mean, deviation, least and greatest value over the dates if several."""
    values = with_indices(image)
    flat = values.reshape(-1, *values.shape[2:])
    if len(values) == 1:
        return flat
    return np.concatenate([flat, values.mean(axis=0), values.std(axis=0), values.min(axis=0), values.max(axis=0)])


def smoothed(features: Features, sigma: float) -> Features:
    """Each feature under a Gaussian: how much the neighbourhood alone is worth."""
    return np.stack([gaussian_filter(feature, sigma) for feature in features])


def in_squares(image: Features, size: int) -> list[tuple[slice, slice]]:
    """Squares that cover an image, the last ones of a row or column moved inwards."""
    starts = [
        sorted({*range(0, max(1, length - size + 1), size), max(0, length - size)}) for length in image.shape[-2:]
    ]
    return [(slice(row, row + size), slice(column, column + size)) for row in starts[0] for column in starts[1]]


@torch.no_grad()
def model_features(
    model: PrithviMAE, image: Features, days: Sequence[dt.date | None], parts: Sequence[str] = ("last",)
) -> Features:
    """What a pretrained model knows of each pixel.

    Args:
        model: with `num_frames` of the image's dates; the image is given to it in squares of its own size.
        image: (time, band, y, x) reflectance.
        days: date of each image, None if unknown.
        parts: `last` for the tokens after the last block and `all` for those after each block, both brought to the
            pixels by bilinear interpolation; `branch` for the features of the branch of pixels, if the model has one,
            and `fused` for these with tokens added through the gate.

    """
    result: list[Features] = []
    standardise = Standardise(model.config.contract)
    images = torch.from_numpy(image * 10_000).transpose(0, 1)[None]
    known = [(day.year, day.timetuple().tm_yday - 1) if day else (np.nan, np.nan) for day in days]
    times = torch.tensor([known], dtype=torch.float32)
    for part in parts:
        whole: Any = None
        for square in in_squares(image, min(*model.config.img_size, *image.shape[2:])):
            piece = standardise(images[(..., *square)])
            features = (token_features if part in ("last", "all") else branch_features)(model, piece, times, part)[
                0
            ].numpy()
            if whole is None:
                whole = np.empty((len(features), *image.shape[2:]), np.float32)
            whole[(..., *square)] = features
        result.append(whole)
    return np.concatenate(result)


def token_features(model: PrithviMAE, images: torch.Tensor, times: torch.Tensor, part: str) -> torch.Tensor:
    """(1, F, y, x) tokens of all dates at every pixel."""
    layers = model.encoder.forward_features(images, times)
    grid = model.encoder.grid_of(images)
    chosen = torch.cat([tokens_to_grid(layer, grid) for layer in (layers if part == "all" else layers[-1:])], dim=1)
    return F.interpolate(chosen, size=tuple(images.shape[-2:]), mode="bilinear", align_corners=False)


def branch_features(model: PrithviMAE, images: torch.Tensor, times: torch.Tensor, part: str) -> torch.Tensor:
    """(1, F, y, x) of all dates by the branch of pixels, without tokens (`branch`) or with them (`fused`)."""
    if part == "fused":
        return model.pixel_features(images, times).flatten(1, 2)
    assert model.branch is not None
    pixels = torch.cat([images, date_planes(images, times)], dim=1).transpose(1, 2)
    found: torch.Tensor = model.branch.pixels(pixels).flatten(1, 2)
    return found


def has_branch(model: PrithviMAE) -> bool:
    """Whether a model has a branch of pixels."""
    return model.branch is not None


def random_filters(images: Sequence[Features], size: int, number: int, kind: str, seed: int) -> Features:
    """(number, channel * size * size) filters of norm 1 and mean 0.

    Args:
        images: standardised (channel, y, x) images that patches are drawn from, with no label looked at.
        size: pixels along the side of a filter.
        number: of filters.
        kind: `patches` for random places of the images (Coates and Ng 2012; MOSAIKS, Rolf et al. 2021), `gaussian`
            for independent normal weights.
        seed: of the draws.

    """
    generator = np.random.default_rng([seed, size])
    channels = len(images[0])
    if kind == "gaussian":
        filters = generator.normal(size=(number, channels * size * size))
    else:
        filters = np.empty((number, channels * size * size))
        for row in filters:
            image = images[generator.integers(len(images))]
            y, x = (generator.integers(length - size + 1) for length in image.shape[1:])
            row[:] = image[:, y : y + size, x : x + size].ravel()
    filters -= filters.mean(axis=1, keepdims=True)
    return (filters / np.linalg.norm(filters, axis=1, keepdims=True).clip(1e-6)).astype(np.float32)


def filtered(image: Features, rows: Any, columns: Any, filters: Features, size: int) -> Features:
    """(pixel, 2 * filter) responses above and below 0 at some pixels of a standardised (channel, y, x) image."""
    half = size // 2
    padded = np.pad(image, ((0, 0), (half, half), (half, half)), mode="reflect")
    around = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))
    responses = around[:, rows, columns].transpose(1, 0, 2, 3).reshape(len(rows), -1) @ filters.T
    return np.concatenate([responses.clip(min=0), (-responses).clip(min=0)], axis=1)
