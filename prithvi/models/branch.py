"""The per-pixel branch of our own small models: spectra and indices at full resolution, with tokens for context.

A patch of 8 x 8 pixels has one token, so detail comes from the pixels themselves. The branch sees each date's bands,
normalised-difference indices and day of year, and is mixed over dates; `Fusion` adds the tokens through a gate that
begins shut, so that a model starts as the branch alone and uses the tokens only as far as they help.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prithvi.models.config import ModelConfig
from prithvi.models.encoder import Encoder
from prithvi.models.pixel_features import pairs_of

DATE_CODES = ("date_sin", "date_cos")
KERNELS = (3, 3)
"""Sides of the branch's convolutions; a linear layer over dates and channels follows."""


def channels_of(bands: Sequence[str]) -> tuple[str, ...]:
    """Names of the branch's input channels: bands, indices, date codes."""
    return (*bands, *pairs_of(bands), *DATE_CODES)


class Indices(nn.Module):
    """Normalised-difference indices of standardised images.

    Args:
        bands: common names of the bands.
        mean: mean of each band, by which the images were standardised.
        std: standard deviation of each band.

    """

    def __init__(self, bands: Sequence[str], mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        pairs = list(pairs_of(bands).values())
        self.first, self.second = [a for a, _ in pairs], [b for _, b in pairs]
        # The contract, which is saved with the weights, is the only source of the statistics.
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)
        self.mean: Tensor
        self.std: Tensor

    def forward(self, pixels: Tensor) -> Tensor:
        """(..., band, Y, X) standardised images to (..., index, Y, X) indices from -1 to 1."""
        # Over dark ground both bands are near 0, where noise would decide: the sum counts as 5 % of its mean at least.
        values = pixels * self.std + self.mean
        a, b = values[..., self.first, :, :], values[..., self.second, :, :]
        least = 0.05 * (self.mean[self.first] + self.mean[self.second]).abs()
        return ((a - b) / torch.maximum(a + b, least)).clamp(-1.0, 1.0)


def date_planes(images: Tensor, temporal_coords: Tensor | None) -> Tensor:
    """(B, 2, T, Y, X) sine and cosine of the day of year; 0 where the date is unknown.

    Args:
        images: (B, band, T, Y, X), for the shape.
        temporal_coords: (B, T, 2) year and day of year from 0; NaN or None where unknown.

    """
    batch, _, frames, height, width = images.shape
    if temporal_coords is None:
        return images.new_zeros(batch, len(DATE_CODES), frames, height, width)
    angle = temporal_coords[..., 1].to(images.dtype) * (2 * math.pi / 365.25)
    codes = torch.stack([angle.sin(), angle.cos()], dim=1)
    return torch.nan_to_num(codes)[..., None, None].expand(-1, -1, -1, height, width)


def with_dates(images: Tensor, temporal_coords: Tensor | None) -> Tensor:
    """(B, T, band + 2, Y, X) the pixels of each date with its codes, of (B, band, T, Y, X) images."""
    return torch.cat([images, date_planes(images, temporal_coords)], dim=1).transpose(1, 2)


class PixelBranch(nn.Module):
    """Convolutions at full resolution, the same for each date, and a linear layer over each date and the mean of all.

    Args:
        config: bands, statistics and `pixel_width`.

    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.pixel_width
        self.indices = Indices(config.bands, config.mean, config.std)
        widths = [len(channels_of(config.bands)), *[width] * len(KERNELS)]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, side, padding=side // 2)
            for (before, after), side in zip(pairwise(widths), KERNELS, strict=True)
        )
        self.own, self.mean = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1, bias=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, T, band + 2, Y, X) standardised bands and date codes to (B, T, width, Y, X) features."""
        bands, codes = pixels[:, :, : -len(DATE_CODES)], pixels[:, :, -len(DATE_CODES) :]
        # Clouds and sunglint are ten standard deviations away; clipped, they do not drown the rest.
        x = torch.cat([bands.clamp(-4.0, 4.0), 3 * self.indices(bands), codes], dim=2).flatten(0, 1)
        x = x.contiguous(memory_format=torch.channels_last)  # a third faster on a CPU
        for convolution in self.convolutions:
            x = F.relu(convolution(x), inplace=True)
        # The linear layer over [a date's features, their mean over dates] is two layers, of which the second is
        # computed once for all dates.
        batch, dates = pixels.shape[:2]
        mean = x.reshape(batch, dates, *x.shape[1:]).mean(dim=1) if dates > 1 else x
        mixed = self.own(x).reshape(batch, dates, *x.shape[1:]) + self.mean(mean).unsqueeze(1)
        return F.relu(mixed, inplace=True)


class Fusion(nn.Module):
    """Adds tokens, interpolated to the pixels, to the features of the branch, through a gate per channel.

    Args:
        dim: width of the tokens.
        width: channels of the branch.

    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.project = nn.Linear(dim, width)
        self.gate = nn.Parameter(torch.zeros(width))

    def forward(self, features: Tensor, tokens: Tensor, shut: Tensor | None = None) -> Tensor:
        """(B, T, width, Y, X) features of the branch and (B, t, D, h, w) tokens to (B, T, width, Y, X).

        The T dates may be more than the t steps of the tokens: a token then serves all dates of its patch. `shut` is
        (B,) bool, True for samples that are to get nothing of the tokens.
        """
        x = self.project(self.norm(tokens.movedim(2, -1))).movedim(-1, 2)
        x = x * self.gate[:, None, None]
        if shut is not None:
            x = x * (~shut)[:, None, None, None, None]
        (batch, steps), size = x.shape[:2], features.shape[-2:]
        x = F.interpolate(x.flatten(0, 1), size=size, mode="bilinear", align_corners=False)
        x = x.reshape(batch, steps, *x.shape[1:])
        return features + x.repeat_interleave(features.shape[1] // steps, dim=1)


class FusedBranch(nn.Module):
    """Branch and fusion, as a pretrained autoencoder and the head `fused` have them.

    Args:
        config: the model; its `pixel_width` is above 0.
        dim: width of the tokens.

    """

    def __init__(self, config: ModelConfig, dim: int) -> None:
        super().__init__()
        self.width = config.pixel_width
        self.pixels = PixelBranch(config)
        self.fusion = Fusion(dim, config.pixel_width)

    def forward(self, pixels: Tensor, tokens: Tensor, shut: Tensor | None = None) -> Tensor:
        """(B, T, band + 2, Y, X) pixels with date codes and (B, t, D, h, w) tokens to (B, T, width, Y, X) features."""
        fused: Tensor = self.fusion(self.pixels(pixels), tokens, shut)
        return fused


def pixel_features(
    encoder: Encoder,
    branch: FusedBranch,
    images: Tensor,
    temporal_coords: Tensor | None = None,
    location_coords: Tensor | None = None,
    shut: Tensor | None = None,
) -> Tensor:
    """(B, T, width, Y, X) features of each pixel, fused with the tokens of all patches.

    Args:
        encoder: of the tokens.
        branch: of the pixels.
        images: (B, band, T, Y, X), standardised.
        temporal_coords: (B, T, 2) year and day of year from 0; NaN or None where unknown.
        location_coords: (B, 2) latitude and longitude in degrees; NaN or None where unknown.
        shut: (B,) bool, True for samples whose features are those of the branch alone; None for none.

    Raises:
        ModelError: shapes that do not fit the encoder.

    """
    tokens = encoder(images, temporal_coords, location_coords).tokens[:, 1:]
    tokens = tokens.reshape(tokens.shape[0], *encoder.grid_of(images), -1).movedim(-1, 2)
    features: Tensor = branch(with_dates(images, temporal_coords), tokens, shut)
    return features


class PixelDecoder(nn.Module):
    """What a masked autoencoder with a branch has beside it: a correction of reconstructions, and labels to learn.

    Args:
        config: the model.

    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.correct = nn.Conv2d(config.pixel_width, config.in_chans, 1) if config.blend_fill else None
        self.labels = nn.Conv2d(config.pixel_width, len(config.labels), 1) if config.labels else None
        if self.correct is not None:  # at first, reconstructions are those of the decoder
            nn.init.zeros_(self.correct.weight)
            nn.init.zeros_(self.correct.bias)  # type: ignore[arg-type]
