"""Hidden pixels out of the known ones without any weights: a smooth surface in space, a regression on the other dates.

A masked autoencoder with `blend_fill` mixes its own predictions with this, and it is the strongest simple method that
gap filling is compared with.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from prithvi.models.masking import take

_TENSION_SPLINE = torch.tensor(
    [[0, 0, 1, 0, 0], [0, 2, -9, 2, 0], [1, -9, 24, -9, 1], [0, 2, -9, 2, 0], [0, 0, 1, 0, 0]], dtype=torch.float32
)
"""Biharmonic less harmonic operator: where it is 0 the surface is a thin plate under tension (tension 1 a pixel)."""
_STEP = 1.6 / 72  # the operator's largest eigenvalue is 72, and 2 / 72 would be the limit
_MOMENTUM = 0.85
_STEPS = (32, 16)
"""Iterations at the pixels themselves, and at every coarser level."""
# Chosen on the WorldCereal site by triplets of dates before and after those that results are reported on.
_KERNEL_WIDTH, _KERNEL_PENALTY = 0.06, 0.5
_PIXELS_A_DEVIATION = 60.0
"""How far apart two pixels of one look are as unlike as two of one place whose bands differ by a deviation."""


@torch.no_grad()
def surface(values: Tensor, known: Tensor) -> Tensor:
    """A smooth surface through the known pixels (a spline under tension, solved from coarse to fine).

    Args:
        values: (N, C, Y, X) float32; what stands at unknown pixels does not matter, but must be finite.
        known: (N, 1, Y, X) bool.

    Returns:
        (N, C, Y, X): known pixels as they were; 0 everywhere in an image of which nothing is known.

    """
    shape = values.shape
    # All images and bands as channels of one, the memory order in which a depthwise convolution is fast.
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
    """Gradient steps with momentum towards the spline, holding what is known."""
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
    """Fills a series of images of one place.

    Each date is a `surface` first. With several dates, each is then predicted from the others' surfaces: their mean,
    nearer dates weighing more, corrected by a ridge regression on all their bands that is fitted on the date's known
    pixels; and a surface through what the regression leaves at the known pixels is added. With `landmarks` a kernel
    regression on that many known pixels finds what is not linear, or not the same everywhere, in what is left.

    Args:
        images: (B, band, T, Y, X), standardised; values at unknown pixels do not matter.
        known: (B, T, Y, X) bool, the pixels that may be used.
        temporal_coords: (B, T, 2) year and day of year, which say how near dates are; NaN or None where unknown.
        ridge: penalty on the coefficients, a share of the number of known pixels.
        landmarks: known pixels of each date, drawn evenly, that the kernel regression is fitted on; 0 leaves it out.

    Returns:
        (B, band, T, Y, X) float32: known pixels as they were, everything else filled.

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
    """(B, T, band, Y, X) each date as the others predict it."""
    batch, frames, bands, height, width = images.shape
    mean = torch.einsum("btu,bucyx->btcyx", _nearness(known, temporal_coords), surfaces)
    out = []
    for date in range(frames):
        if known[:, date].all():  # nothing to predict
            out.append(mean[:, date])
            continue
        others = [other for other in range(frames) if other != date]
        features = surfaces[:, others].flatten(1, 2).flatten(2).transpose(1, 2)  # (B, pixel, feature)
        target = (images[:, date] - mean[:, date]).flatten(2).transpose(1, 2)  # (B, pixel, band)
        weight = known[:, date].flatten(1).unsqueeze(-1).float()
        count = weight.sum(dim=1, keepdim=True)
        features = features - (features * weight).sum(dim=1, keepdim=True) / count.clamp(min=1)
        # Sixteen pixels' worth of doubt, so that a handful does not set the level of the whole date.
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
    """(B, pixel, band) kernel ridge regression: what known pixels of a like look, and near, have left over."""
    batch, pixels, _ = features.shape
    place = torch.arange(pixels, device=features.device)
    place = torch.stack([place // width, place % width], dim=1) / _PIXELS_A_DEVIATION
    scaled = torch.cat([features / features.std(dim=1, keepdim=True).clamp(min=1e-6), place.expand(batch, -1, -1)], 2)
    # Evenly over the known pixels: the golden ratio's multiples, in order, as a draw that is the same everywhere.
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
    """(B, T, T) weight of each other date in a date's mean: one over the days between, 0 for a date without pixels."""
    batch, frames = known.shape[:2]
    weight = torch.ones(batch, frames, frames, device=known.device)
    if temporal_coords is not None:
        days = temporal_coords[..., 0].double() * 365.25 + temporal_coords[..., 1].double()
        apart = (days.unsqueeze(2) - days.unsqueeze(1)).abs().clamp(min=1.0).float()
        weight = torch.where(apart.isfinite(), 1.0 / apart, weight)
        # One date without a day makes all of its sample's count alike.
        weight = torch.where(days.isfinite().all(dim=1)[:, None, None], weight, 1.0)
    weight = (
        weight * known.flatten(2).any(dim=2).unsqueeze(1) * ~torch.eye(frames, dtype=torch.bool, device=known.device)
    )
    return weight / weight.sum(dim=2, keepdim=True).clamp(min=1e-12)
