"""Errors of reconstructed patches, of a model and of baselines without one: means and interpolation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator
from torch import Tensor

from prithvi.models import PrithviMAE, Standardise
from prithvi.models.interpolation import fill
from prithvi.models.masking import random_visible

Pixels = npt.NDArray[np.float32]
Seen = npt.NDArray[np.bool_]


def visible_mean(image: Pixels, seen: Seen) -> Pixels:
    """(band, T, Y, X) filled with the mean of the visible pixels (`seen`, (T, Y, X)) of each band and date.

    A date without visible pixels gets the mean over all dates.
    """
    count = seen.sum(axis=(1, 2))
    by_date = (image * seen).sum(axis=(2, 3)) / np.maximum(count, 1)
    overall = (image * seen).sum(axis=(1, 2, 3)) / max(1, seen.sum())
    means = np.where(count > 0, by_date, overall[:, None])
    return np.broadcast_to(means[..., None, None], image.shape).astype(np.float32)


def interpolated(image: Pixels, seen: Seen) -> Pixels:
    """(band, T, Y, X) interpolated from the visible pixels of each date: linearly, or by the nearest one outside."""
    filled = visible_mean(image, seen).copy()
    rows, columns = np.mgrid[: image.shape[2], : image.shape[3]]
    for date in range(image.shape[1]):
        known = seen[date]
        if known.sum() < 3:
            continue
        points = np.stack([rows[known], columns[known]], axis=1)
        values = image[:, date][:, known].T
        linear = LinearNDInterpolator(points, values)(rows, columns)
        nearest = NearestNDInterpolator(points, values)(rows, columns)
        filled[:, date] = np.where(np.isnan(linear), nearest, linear).transpose(2, 0, 1)
    return filled


def other_dates_mean(image: Pixels, seen: Seen) -> Pixels:
    """(band, T, Y, X) mean of each pixel over dates at which it is visible; `visible_mean` where it never is."""
    count = seen.sum(axis=0)
    mean = (image * seen).sum(axis=1) / np.maximum(count, 1)
    filled = np.where(count > 0, mean, 0.0)[:, None].repeat(image.shape[1], axis=1)
    return np.where((count > 0)[None, None], filled, visible_mean(image, seen)).astype(np.float32)


BASELINES: dict[str, Callable[[Pixels, Seen], Pixels]] = {
    "mean of the visible patches": visible_mean,
    "interpolation from the visible patches": interpolated,
    "mean of the other dates": other_dates_mean,
}
FILLING = "filling without a model"


@torch.no_grad()
def reconstruction_errors(
    mae: PrithviMAE,
    batches: Iterable[dict[str, Any]],
    mask_ratio: float = 0.75,
    block: int | None = None,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Errors in reflectance over hidden clear pixels of all samples, of a model and of the baselines.

    Args:
        mae: the model.
        batches: batches of `StoreDataset`, with images in reflectance x 10,000.
        mask_ratio: fraction of squares hidden at random, independently at each date.
        block: side of the hidden squares in pixels, a multiple of the model's patch size; None for one patch.
        seed: seed of the masks.

    Returns:
        `mae` and `rmse` for each of `model`, `FILLING` (`prithvi.models.interpolation`) and `BASELINES`. Dates without
        data are not counted, and the mean of the other dates needs more than one date.

    """
    mae.eval()
    standardise = Standardise(mae.contract)
    step = block or mae.config.patch_size[1]
    generator = torch.Generator().manual_seed(seed)
    sums: dict[str, npt.NDArray[np.float64]] = {}
    for batch in batches:
        size, _, frames, height, width = batch["image"].shape
        # Visibility is drawn on a grid of squares, then expanded to pixels for the baselines and to patches for the
        # model. Patches of dates without data are hidden from the model too.
        places = (height // step) * (width // step)
        drawn = random_visible(size * frames, places, mask_ratio, torch.device("cpu"), generator)
        squares = drawn.view(size, frames, height // step, width // step)
        pixels = squares.repeat_interleave(step, 2).repeat_interleave(step, 3)
        shown = squares.repeat_interleave(step // mae.config.patch_size[1], 2)
        shown = shown.repeat_interleave(step // mae.config.patch_size[2], 3).flatten(1)
        there = batch["valid"].flatten(2).any(dim=2)
        shown = shown & there.repeat_interleave(shown.shape[1] // frames, 1)
        images = standardise(batch["image"], batch["valid"])
        seen = pixels & batch["valid"]
        out = mae(images, batch["temporal_coords"], batch["location_coords"], visible=shown, known=seen)
        predicted = {"model": out.pred, FILLING: fill(images, seen, batch["temporal_coords"])}
        _add(sums, batch, {name: _raw(values, standardise) for name, values in predicted.items()}, seen)
    return {
        name: {"mae": float(total[0] / total[2]) / 1e4, "rmse": float(np.sqrt(total[1] / total[2])) / 1e4}
        for name, total in sums.items()
    }


def _raw(values: Tensor, standardise: Standardise) -> Pixels:
    """Standardised values in contract units."""
    raw: Pixels = (values * standardise.std + standardise.mean).numpy()
    return raw


def _add(
    sums: dict[str, npt.NDArray[np.float64]], batch: dict[str, Any], predicted: dict[str, Pixels], seen: Tensor
) -> None:
    """Adds the errors of a batch to the sums of each method: absolute, squared, and the number of values."""
    for row in range(len(seen)):
        dates = batch["valid"][row].flatten(1).any(dim=1).numpy()
        image = batch["image"][row].numpy().astype(np.float32)[:, dates]
        known = seen[row].numpy()[dates]
        counts = batch["clear"][row].numpy()[dates] & ~known
        filled = {name: values[row][:, dates] for name, values in predicted.items()}
        filled |= {
            name: method(image, known)
            for name, method in BASELINES.items()
            if name != "mean of the other dates" or image.shape[1] > 1
        }
        for name, values in filled.items():
            error = (values - image)[:, counts].astype(np.float64)
            total = np.array([np.abs(error).sum(), (error**2).sum(), error.size])
            sums[name] = sums.get(name, np.zeros(3)) + total
