"""A window of a series filled, and how far off that is likely to be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from prithvi.errors import ConfigError
from prithvi.mapping.scoring import device_of
from prithvi.models import PrithviMAE, Standardise
from prithvi.models.gapfill import GapFiller

Pixels = npt.NDArray[np.float32]
Known = npt.NDArray[np.bool_]
Fill = Callable[[Pixels, Known, Pixels, tuple[float, float]], Pixels]
"""(band, T, y, x) pixels, (T, y, x) which of them are known, (T, 2) year and day of the year from 0, and (latitude,
longitude), to the same pixels filled; NaN where nothing can be said, or where date and place are not known."""

FEW = 32
"""Pixels below which a date's own errors are not taken for it alone."""


def with_model(model: PrithviMAE, device: str | torch.device | None = None) -> Fill:
    """Filling by an autoencoder, made for as many dates as it is given.

    Args:
        model: what `prithvi.load` gives for a pretrained model's name or folder.
        device: torch device; default a GPU where there is one.

    """
    place = device_of(device)
    filler = GapFiller(model).to(place).eval()
    standardise = Standardise(model.contract).to(place)
    config = model.config

    @torch.inference_mode()
    def fill(image: Pixels, known: Known, times: Pixels, where: tuple[float, float]) -> Pixels:
        if image.shape[1] != config.num_frames:
            raise ConfigError(
                f"the model was made for {config.num_frames} dates, and {image.shape[1]} are filled together."
            )
        there = torch.from_numpy(known)[None].to(place)
        images = standardise(torch.from_numpy(np.nan_to_num(image))[None].to(place), there)
        coordinates = torch.from_numpy(times)[None].to(place), torch.tensor([where], dtype=torch.float32, device=place)
        filled = filler(images, there, *coordinates) * standardise.std + standardise.mean
        result: Pixels = np.where(known, image, filled[0].float().cpu().numpy())
        return result

    return fill


@dataclass(frozen=True)
class Filled:
    """A window without gaps."""

    image: Pixels
    """(band, T, y, x); observed pixels as they were, NaN where nothing can be said."""
    uncertainty: Pixels
    """(band, T, y, x) standard error in the same units: 0 where observed, NaN where it cannot be known."""


def fill_window(
    fill: Fill, image: Pixels, known: Known, times: Pixels, where: tuple[float, float], uncertainty: bool = True
) -> Filled:
    """Fills a window, and its errors from gaps that are made in what is known.

    Each date's gaps are laid over the date after it and the date before it, what they hide there is filled as well,
    and its root mean square error by band is that of the date whose gaps they are. Where they hide too little, it
    leans on all dates' errors.

    Args:
        fill: how.
        image: (band, T, y, x) pixels.
        known: (T, y, x) which of them are.
        times: (T, 2) year and day of the year from 0.
        where: latitude and longitude.
        uncertainty: whether to make the gaps; without, it is NaN in what was filled.

    """
    zero = np.zeros(image.shape, np.float32)
    if known.all():
        return Filled(image, zero)
    filled = fill(image, known, times, where)
    errors = np.full((image.shape[0], image.shape[1]), np.nan)
    if uncertainty:
        errors = _errors(fill, image, known, times, where)
    unknown = np.broadcast_to(~known, image.shape)
    deviation = np.where(unknown, errors[:, :, None, None], zero).astype(np.float32)
    return Filled(filled, np.where(np.isfinite(filled), deviation, np.float32(np.nan)))


def _errors(
    fill: Fill, image: Pixels, known: Known, times: Pixels, where: tuple[float, float]
) -> npt.NDArray[np.float64]:
    """(band, T) root mean square errors under each date's gaps."""
    dates = len(known)
    squares, counts = np.zeros((image.shape[0], dates)), np.zeros(dates)
    for shift in {1, dates - 1}:
        gaps = np.roll(~known, shift, axis=0)  # the gaps of date n over date n + shift
        left = known & ~gaps
        hidden = known & gaps
        if not left.any() or not hidden.any():
            continue
        found = fill(np.where(left, image, np.float32(np.nan)), left, times, where)
        for date in range(dates):
            of = hidden[date] & np.isfinite(found[:, date]).all(axis=0)
            owner = (date - shift) % dates
            squares[:, owner] += ((found[:, date] - image[:, date])[:, of].astype(np.float64) ** 2).sum(axis=1)
            counts[owner] += of.sum()
    if counts.sum() == 0:
        return np.full(squares.shape, np.nan)
    common = squares.sum(axis=1, keepdims=True) / counts.sum()
    mean: npt.NDArray[np.float64] = (squares + FEW * common) / (counts + FEW)
    return np.sqrt(mean)
