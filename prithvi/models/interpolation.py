"""Gap filling without learned weights: a smooth surface in space, and a regression on the other dates.

A masked autoencoder with `blend_fill` mixes its predictions with this interpolation, which is also the strongest
baseline for gap filling.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from prithvi.models.masking import take

_TENSION_SPLINE = torch.tensor(
    [[0, 0, 1, 0, 0], [0, 2, -9, 2, 0], [1, -9, 24, -9, 1], [0, 2, -9, 2, 0], [0, 0, 1, 0, 0]], dtype=torch.float32
)
"""Biharmonic minus harmonic operator; it is 0 on thin plates under tension (tension 1 per pixel)."""
_STEP = 1.6 / 72  # the operator's largest eigenvalue is 72: steps of 2 / 72 and more would diverge
_MOMENTUM = 0.85
_STEPS = (32, 16)
"""Iterations at full resolution, and at each coarser level."""
# Chosen on triplets of dates of the WorldCereal site before and after those that results are reported on.
_KERNEL_WIDTH, _KERNEL_PENALTY = 0.06, 0.5
_PIXELS_A_DEVIATION = 60.0
"""Distance in pixels that counts as much in the kernel as a difference of one standard deviation in a feature."""


@torch.no_grad()
def surface(values: Tensor, known: Tensor) -> Tensor:
    """A smooth surface through the known pixels (a spline under tension, solved from coarse to fine).

    Args:
        values: (N, C, Y, X) float32; values at unknown pixels are ignored, but must be finite.
        known: (N, 1, Y, X) bool, True at known pixels.

    Returns:
        (N, C, Y, X) surface, unchanged at known pixels; 0 everywhere in an image without known pixels.

    """
    # Multigrid from coarse to fine: known values are averaged over ever larger blocks, with weights for how well each
    # block is known; then, from the coarsest level back, the surface is upsampled, known values are put in, and a few
    # iterations relax the rest towards the spline. Coarse levels carry values across large gaps, which iterations at
    # full resolution would cross only slowly.
    shape = values.shape
    # All images and bands become channels of one image, in the memory format in which depthwise convolution is fast.
    flat = (1, shape[0] * shape[1], *shape[2:])
    weight = known.expand(shape).reshape(flat).float().contiguous(memory_format=torch.channels_last)
    level = values.float().reshape(flat).contiguous(memory_format=torch.channels_last) * weight
    levels = []
    while max(level.shape[-2:]) > 1:
        levels.append((level, weight))
        size = tuple(min(2, side) for side in level.shape[-2:])
        total = F.avg_pool2d(level * weight, size, ceil_mode=True)
        share = F.avg_pool2d(weight, size, ceil_mode=True)
        level, weight = total / share.clamp(min=1e-8), (4 * share).clamp(max=1.0)
    kernel = _TENSION_SPLINE.to(level.device).expand(flat[1], 1, 5, 5).contiguous()
    for depth, (fine, weight) in reversed(list(enumerate(levels))):
        mode = "bicubic" if min(level.shape[-2:]) >= 4 else "bilinear"
        level = F.interpolate(level, size=fine.shape[-2:], mode=mode, align_corners=False)
        level = fine * weight + level * (1 - weight)
        if min(level.shape[-2:]) >= 4:
            level = _relax(level, weight, kernel, _STEPS[min(depth, 1)])
    return level.reshape(shape)


def _relax(level: Tensor, weight: Tensor, kernel: Tensor, steps: int) -> Tensor:
    """Gradient descent with momentum towards the spline; a pixel moves in proportion to 1 - weight."""
    speed, free = torch.zeros_like(level), 1 - weight
    for _ in range(steps):
        padded = F.pad(level, (2, 2, 2, 2), mode="replicate")
        pull = F.conv2d(padded, kernel, groups=level.shape[1])
        speed.mul_(_MOMENTUM).sub_(pull, alpha=_STEP).mul_(free)
        level = level + speed
    return level


@torch.no_grad()
def fill(
    images: Tensor, known: Tensor, temporal_coords: Tensor | None = None, ridge: float = 0.02, landmarks: int = 0
) -> Tensor:
    """Fills the gaps of a time series of images of one location.

    First, each date becomes a `surface`. With several dates, each date is then predicted from the surfaces of the
    others: their mean, weighted by proximity in time, plus a ridge regression on all their bands, fitted to the known
    pixels of the date, plus a surface through the residuals at these pixels. With `landmarks`, a kernel regression on
    that many known pixels first models the part of the residuals that is nonlinear or varies in space.

    Args:
        images: (B, band, T, Y, X), standardised; values at unknown pixels are ignored.
        known: (B, T, Y, X) bool, True at pixels to fill from.
        temporal_coords: (B, T, 2) year and day of year, for the proximity of dates; NaN or None where unknown.
        ridge: penalty on the coefficients, relative to the number of known pixels.
        landmarks: number of known pixels per date, spread evenly, for the kernel regression; 0 for none.

    Returns:
        (B, band, T, Y, X) float32, unchanged at known pixels and filled at all others.

    """
    batch, bands, frames, height, width = images.shape
    images = torch.where(known.unsqueeze(1), images, 0.0).float()
    seen = known.flatten(0, 1).unsqueeze(1)
    by_date = images.transpose(1, 2).flatten(0, 1)
    surfaces = surface(by_date, seen).view(batch, frames, bands, height, width)
    if frames == 1:
        return surfaces.transpose(1, 2)
    with torch.autocast(images.device.type, enabled=False):
        trend = _from_other_dates(images.transpose(1, 2), surfaces, known, temporal_coords, ridge, landmarks)
    trend = trend.flatten(0, 1)
    found = trend + surface(by_date - trend, seen)
    found = torch.where(seen, by_date, found)
    return found.view(batch, frames, bands, height, width).transpose(1, 2)


def _from_other_dates(
    images: Tensor, surfaces: Tensor, known: Tensor, temporal_coords: Tensor | None, ridge: float, landmarks: int
) -> Tensor:
    """(B, T, band, Y, X) prediction of each date from the other dates."""
    # For each date, weighted least squares over its known pixels: features are the other dates' bands, the target is
    # the date minus the mean of the others. Centred features keep the intercept (`offset`) out of the penalty.
    batch, frames, bands, height, width = images.shape
    mean = torch.einsum("btu,bucyx->btcyx", _nearness(known, temporal_coords), surfaces)
    out = []
    for date in range(frames):
        if known[:, date].all():  # no gaps: the prediction is not used
            out.append(mean[:, date])
            continue
        others = [other for other in range(frames) if other != date]
        features = surfaces[:, others].flatten(1, 2).flatten(2).transpose(1, 2)  # (B, pixel, feature)
        target = (images[:, date] - mean[:, date]).flatten(2).transpose(1, 2)  # (B, pixel, band)
        weight = known[:, date].flatten(1).unsqueeze(-1).float()
        count = weight.sum(dim=1, keepdim=True)
        features = features - (features * weight).sum(dim=1, keepdim=True) / count.clamp(min=1)
        # A prior worth sixteen pixels shrinks the offset, so that a handful of pixels does not set a date's level.
        offset = (target * weight).sum(dim=1, keepdim=True) / (count + 16)
        weighted = (features * weight).transpose(1, 2)
        size = features.shape[-1]
        normal = weighted @ features + ridge * (count + 16) * torch.eye(size, device=images.device)
        coefficients = torch.linalg.solve(normal, weighted @ (target - offset))
        predicted = features @ coefficients + offset
        if landmarks:
            predicted = predicted + _by_likeness(features, target - predicted, weight.squeeze(-1) > 0, width, landmarks)
        out.append(mean[:, date] + predicted.transpose(1, 2).reshape(batch, bands, height, width))
    return torch.stack(out, dim=1)


def _by_likeness(features: Tensor, target: Tensor, known: Tensor, width: int, landmarks: int) -> Tensor:
    """(B, pixel, band) kernel ridge regression of the residuals `target`, on known pixels with similar features nearby.

    Args:
        features: (B, pixel, feature) centred bands of the other dates.
        target: (B, pixel, band) residuals of the linear regression.
        known: (B, pixel) bool, True at known pixels.
        width: columns of the image.
        landmarks: number of known pixels to fit on.

    """
    # The kernel is a Gaussian of the distance between pixels in scaled features and position together. Landmarks that
    # are missing, in samples with few known pixels, get zero rows, which the penalty on the diagonal keeps solvable.
    batch, pixels, _ = features.shape
    place = torch.arange(pixels, device=features.device)
    place = torch.stack([place // width, place % width], dim=1) / _PIXELS_A_DEVIATION
    scaled = torch.cat([features / features.std(dim=1, keepdim=True).clamp(min=1e-6), place.expand(batch, -1, -1)], 2)
    # Landmarks spread evenly over the known pixels: sorting by multiples of the golden ratio (modulo 1) is a
    # low-discrepancy draw that is the same on every device.
    order = (torch.arange(pixels, device=features.device) * 0.6180339887498949) % 1.0
    chosen = torch.where(known, order, 2.0 + order).argsort(dim=1)[:, :landmarks]
    there = known.gather(1, chosen).float()
    nodes, values = take(scaled, chosen), take(target, chosen) * there.unsqueeze(-1)
    kernel = torch.exp(-_KERNEL_WIDTH * torch.cdist(nodes, nodes) ** 2) * there.unsqueeze(1) * there.unsqueeze(2)
    kernel = kernel + _KERNEL_PENALTY * torch.eye(chosen.shape[1], device=features.device)
    dual = torch.linalg.solve(kernel, values)
    found: Tensor = torch.exp(-_KERNEL_WIDTH * torch.cdist(scaled, nodes) ** 2) @ dual
    return found


def _nearness(known: Tensor, temporal_coords: Tensor | None) -> Tensor:
    """(B, T, T) weights of the other dates in a date's mean: 1 / days apart, 0 for dates without known pixels."""
    batch, frames = known.shape[:2]
    weight = torch.ones(batch, frames, frames, device=known.device)
    if temporal_coords is not None:
        year, day = temporal_coords.double().unbind(dim=-1)
        past = year - 1  # whole years of the Gregorian calendar, so that days are right over the turn of a year
        days = 365 * past + (past / 4).floor() - (past / 100).floor() + (past / 400).floor() + day
        apart = (days.unsqueeze(2) - days.unsqueeze(1)).abs().clamp(min=1.0).float()
        weight = torch.where(apart.isfinite(), 1.0 / apart, weight)
        # If any date of a sample is unknown, all dates of the sample have equal weight.
        weight = torch.where(days.isfinite().all(dim=1)[:, None, None], weight, 1.0)
    others = ~torch.eye(frames, dtype=torch.bool, device=known.device)
    weight = weight * known.flatten(2).any(dim=2).unsqueeze(1) * others
    return weight / weight.sum(dim=2, keepdim=True).clamp(min=1e-12)
