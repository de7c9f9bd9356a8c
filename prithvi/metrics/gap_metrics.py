"""Metrics of gap filling: errors in reflectance over hidden pixels alone, by band and by cloud fraction."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric

_SIGMA, _RADIUS = 1.5, 5  # as in scikit-image, which truncates the window at 3.5 sigma: 11 pixels
_C1, _C2 = 0.01**2, 0.03**2


def _window_sums(values: Tensor) -> Tensor:
    """(N, C, Y - 10, X - 10) Gaussian-weighted sums around each pixel of (N, C, Y, X) whose window lies inside."""
    steps = torch.arange(-_RADIUS, _RADIUS + 1, dtype=values.dtype, device=values.device)
    weight = torch.exp(-(steps**2) / (2 * _SIGMA**2))
    weight = (weight / weight.sum()).expand(values.shape[1], 1, 1, -1)
    values = F.conv2d(values, weight, groups=values.shape[1])
    return F.conv2d(values, weight.transpose(2, 3), groups=values.shape[1])


def ssim_map(predicted: Tensor, truth: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Structural similarity (SSIM, Wang et al. 2004) of hidden pixels, from hidden pixels alone.

    The Gaussian window (sigma 1.5) is zero at visible pixels and normalised over the hidden ones, since visible pixels
    are equal by construction and would raise the similarity. If all pixels are hidden, the result is that of
    scikit-image's `structural_similarity` with `gaussian_weights=True, use_sample_covariance=False, data_range=1`.

    Args:
        predicted: (N, C, Y, X) reflectance, clipped to the data range 0 to 1.
        truth: (N, C, Y, X) reflectance, clipped likewise.
        hidden: (N, 1, Y, X) bool, True at hidden pixels.

    Returns:
        Similarity (N, C, Y - 10, X - 10) of pixels whose window lies inside the image, and the bool mask
        (N, 1, Y - 10, X - 10) of hidden ones, which count.

    """
    if min(truth.shape[-2:]) <= 2 * _RADIUS:
        empty = truth.new_zeros(*truth.shape[:2], 0, 0)
        return empty, empty[:, :1].bool()
    weight = hidden.double()
    p, t = (value.double().clamp(0, 1) * weight for value in (predicted, truth))
    total = _window_sums(weight).clamp(min=1e-12)
    mean_p, mean_t = _window_sums(p) / total, _window_sums(t) / total
    var_p = _window_sums(p * p) / total - mean_p**2
    var_t = _window_sums(t * t) / total - mean_t**2
    covariance = _window_sums(p * t) / total - mean_p * mean_t
    similarity = ((2 * mean_p * mean_t + _C1) * (2 * covariance + _C2)) / (
        (mean_p**2 + mean_t**2 + _C1) * (var_p + var_t + _C2)
    )
    inside = slice(_RADIUS, -_RADIUS)
    return similarity, hidden[..., inside, inside]


class GapMetrics(Metric):
    """Accumulates filled images; `compute` returns all metrics by name.

    MAE and RMSE are over hidden pixels, SSIM is a mean over hidden pixels whose window lies inside the image.
    `ssim_published` follows arXiv 2404.19609: both images are set to 0 outside the gaps and the mean is over all
    pixels, so that it increases with the clear fraction.

    Args:
        bands: band names, in the order of the images.
        bins: number of bins of an image's hidden fraction.

    """

    full_state_update = False
    totals: Tensor

    def __init__(self, bands: Sequence[str], bins: int = 5) -> None:
        super().__init__()
        self.bands, self.bins = list(bands), bins
        # Sums of |error|, error^2, similarity and published similarity, and of the pixels, compared pixels and images
        # that they are of.
        totals = torch.zeros(7, bins, len(self.bands), dtype=torch.float64)
        self.add_state("totals", totals, dist_reduce_fx="sum")

    def update(self, predicted: Tensor, truth: Tensor, hidden: Tensor) -> None:
        """Adds filled images, one per sample and date; images without hidden pixels do not count.

        Args:
            predicted: (N, band, Y, X) filled reflectance.
            truth: (N, band, Y, X) true reflectance.
            hidden: (N, Y, X) bool, True at hidden pixels whose true value is known.

        """
        some = hidden.flatten(1).any(dim=1)
        predicted, truth, hidden = predicted[some].double(), truth[some].double(), hidden[some].unsqueeze(1)
        if not len(truth):
            return
        truth = torch.where(hidden, truth, 0.0)  # may be NaN at nodata pixels
        predicted = torch.where(hidden, predicted, 0.0)
        error = (predicted - truth).abs()
        share = hidden.double().mean(dim=(1, 2, 3))
        place = (share * self.bins).long().clamp(max=self.bins - 1)
        similarity, counted = ssim_map(predicted, truth, hidden)
        published, _ = ssim_map(predicted, truth, torch.ones_like(hidden))
        whole = float(published.numel() > 0)  # 0 if no window lies inside the images
        means = published.sum(dim=(2, 3)) / max(1, published[0, 0].numel())
        sums = [error.sum(dim=(2, 3)), (error**2).sum(dim=(2, 3)), (similarity * counted).sum(dim=(2, 3)), means]
        counts = [hidden.double().sum(dim=(2, 3)), counted.double().sum(dim=(2, 3)), torch.full_like(means, whole)]
        self.totals.index_add_(1, place, torch.stack([value.expand_as(means) for value in (*sums, *counts)]))

    def compute(self) -> dict[str, Tensor]:
        """`mae`, `rmse`, `ssim` and `ssim_published`, each also per band and per bin of the hidden fraction.

        Names are such as `mae`, `mae_red` and `mae_20-40%`. Metrics without any pixel are NaN; empty bins are left out.
        """
        found = {}
        parts = {"": slice(None)} | {
            f"_{100 * place // self.bins}-{100 * (place + 1) // self.bins}%": slice(place, place + 1)
            for place in range(self.bins)
            if self.totals[4, place, 0] > 0
        }
        for suffix, part in parts.items():
            absolute, squared, similarity, published, pixels, compared, images = self.totals[:, part].sum(dim=1)
            figures = {
                "mae": absolute / pixels,
                "rmse": squared / pixels,
                "ssim": similarity / compared,
                "ssim_published": published / images,
            }
            for name, by_band in figures.items():
                root = torch.sqrt if name == "rmse" else torch.nn.Identity()
                found[f"{name}{suffix}"] = root(by_band.mean())
                if not suffix:
                    found |= {f"{name}_{band}": root(value) for band, value in zip(self.bands, by_band, strict=True)}
        return found
