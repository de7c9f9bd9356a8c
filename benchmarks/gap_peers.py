"""Well-known simple ways to fill gaps, beside ours in bench_gap_filling.py; they do not ship.

Each takes (band, T, y, x) reflectance, (T, y, x) which pixels are known, (T,) days and the index of the date asked for,
and gives (band, y, x); NaN where it has no answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans

from prithvi.mapping.fillers import neighbours
from prithvi.mapping.local_regression import TOGETHER, part_to_hide
from prithvi.mapping.local_regression import fill_dates as local_regression
from prithvi.mapping.methods import linear_in_time

Pixels = npt.NDArray[Any]
Peer = Callable[[Pixels, Pixels, Pixels, int], Pixels]
PIXELS_A_CLUSTER = 40
"""Fewer known pixels than this are not worth a regression of their own."""


def clusters(image: Pixels, known: Pixels, days: Pixels, date: int, number: int = 8, together: int = 3) -> Pixels:
    """k-means of the pixels by what the neighbouring dates show, and a linear regression in each cluster.

    Gaps of the neighbours are interpolated in time first.
    """
    group = neighbours(known, date, together)
    others = [other for other in group if other != date]
    lined = linear_in_time(image[:, group], known[group], days[group])
    features = np.concatenate([lined[:, group.index(other)] for other in others])
    bands, shape = len(image), image.shape[2:]
    flat, target = features.reshape(len(features), -1).T, image[:, date].reshape(bands, -1).T
    there = np.isfinite(flat).all(axis=1)
    fitted = there & known[date].ravel()
    found = np.full((flat.shape[0], bands), np.nan)
    if fitted.sum() < 2:
        return lined[:, group.index(date)]
    number = int(np.clip(fitted.sum() // PIXELS_A_CLUSTER, 1, number))
    scale = np.maximum(flat[there].std(axis=0), 1e-6)
    labels = np.full(len(flat), -1)
    labels[there] = KMeans(number, n_init=1, random_state=0, max_iter=50).fit_predict(flat[there] / scale)
    for label in range(number):
        mine, of = labels == label, fitted & (labels == label)
        # A cluster of which next to nothing is known has the regression of all.
        of = of if of.sum() >= PIXELS_A_CLUSTER else fitted
        x, y = flat[of], target[of]
        middle = x.mean(axis=0)
        normal = (x - middle).T @ (x - middle) + 1e-3 * np.eye(x.shape[1])
        slopes = np.linalg.solve(normal, (x - middle).T @ (y - y.mean(axis=0)))
        found[mine] = (flat[mine] - middle) @ slopes + y.mean(axis=0)
    return found.T.reshape(bands, *shape)


def harmonic(image: Pixels, known: Pixels, days: Pixels, date: int, waves: int = 2, damping: float = 0.5) -> Pixels:
    """HANTS: yearly waves fitted to each pixel and band, three times, without dates that lie far below the fit."""
    angle = 2 * np.pi * days[:, None] * np.arange(1, waves + 1) / 365.25
    basis = np.concatenate([np.ones((len(days), 1)), np.cos(angle), np.sin(angle)], axis=1)
    penalty = damping * np.diag([1e-6, *np.ones(2 * waves)])
    return _by_pixel(image, known, date, basis, penalty)


def whittaker(image: Pixels, known: Pixels, days: Pixels, date: int, smoothness: float = 1e4) -> Pixels:
    """Whittaker: a value a date, as smooth in time as the penalty on second differences (by day) makes it."""
    gaps = np.maximum(np.diff(days), 0.5)
    slopes = np.diff(np.eye(len(days)), axis=0) / gaps[:, None]
    bends = np.diff(slopes, axis=0) / np.sqrt((gaps[:-1] + gaps[1:]) / 2)[:, None]
    # A little of the first differences as well, so that beyond the last known date a line goes level.
    penalty = smoothness * bends.T @ bends + 1e-2 * slopes.T @ slopes
    return _by_pixel(image, known, date, np.eye(len(days)), penalty)


def _by_pixel(image: Pixels, known: Pixels, date: int, basis: Pixels, penalty: Pixels) -> Pixels:
    """Penalised least squares in time of each pixel and band; low outliers of the first fits are left out."""
    bands, number, *shape = image.shape
    pixels = np.flatnonzero(known.any(axis=0).ravel())
    weights = known.reshape(number, -1).T[pixels].astype(float)
    values = np.where(known, image, 0).reshape(bands, number, -1)[:, :, pixels]
    found = np.full((bands, shape[0] * shape[1]), np.nan)
    for band, of in enumerate(values):
        weight = weights
        for _ in range(3):
            normal = np.einsum("pt,ti,tj->pij", weight, basis, basis, optimize=True) + penalty
            right = np.einsum("pt,tp,ti->pi", weight, of, basis, optimize=True)
            fit = np.linalg.solve(normal, right[..., None])[..., 0] @ basis.T
            off = np.abs(of.T - fit)
            spread = 1.4826 * np.median(off[weights > 0]) if (weights > 0).any() else 0.0
            kept = weights * (off <= max(3 * spread, 0.02))
            weight = np.where(kept.sum(axis=1, keepdims=True) >= 3, kept, weights)
        found[band, pixels] = fit[:, date]
    return found.reshape(bands, *shape)


def ours(image: Pixels, known: Pixels, days: Pixels, date: int) -> Pixels:
    """`local_regression` in the form of the others."""
    return local_regression(image, known, days, [date], TOGETHER, False)[0][:, 0]


def linear(image: Pixels, known: Pixels, days: Pixels, date: int) -> Pixels:
    """Linear in time in the form of the others."""
    return linear_in_time(image, known, days)[:, date]


def mixture(image: Pixels, known: Pixels, days: Pixels, date: int) -> Pixels:
    """Ours, clusters and linear, each weighing by its error (to the power of -4) on known pixels hidden on purpose."""
    hidden = part_to_hide(known[date]) if known[date].sum() > 64 else np.zeros_like(known[date])
    left = known.copy()
    left[date] &= ~hidden
    answers, weights = [], []
    for method in MIXED:
        answer = method(image, known, days, date)
        error = 1.0
        if hidden.any():
            tried = method(np.where(left, image, np.nan), left, days, date)
            error = np.abs(tried - image[:, date])[:, hidden]
            error = float(np.nanmean(error)) if np.isfinite(error).any() else 1.0
        answers.append(answer)
        weights.append(np.where(np.isfinite(answer), 1 / max(error, 1e-6) ** 4, 0.0))
    total = np.sum(weights, axis=0)
    mixed = np.sum([w * np.nan_to_num(a) for w, a in zip(weights, answers, strict=True)], axis=0)
    return np.where(total > 0, mixed / np.where(total > 0, total, 1), np.nan)


MIXED: tuple[Peer, ...] = (ours, clusters, linear)
PEERS: Mapping[str, Peer] = {"clusters": clusters, "harmonic": harmonic, "whittaker": whittaker, "mixture": mixture}
