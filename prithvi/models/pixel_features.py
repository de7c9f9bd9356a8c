"""What simple methods know of a pixel: bands, spectral indices, their course in time, surroundings, random filters."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

INDICES = {
    "ndvi": ("nir", "red"), "ndwi": ("green", "nir"), "mndwi": ("green", "swir_1"), "ndmi": ("nir", "swir_1"),
    "nbr": ("nir", "swir_2"),
}  # fmt: skip
"""Normalised differences (first - second) / (first + second) by name; `nir` is the narrow band, else the broad one."""


def pairs_of(bands: Sequence[str]) -> dict[str, tuple[int, int]]:
    """The places of the two bands of each index that some bands allow."""
    nir = "nir_narrow" if "nir_narrow" in bands else "nir_broad"
    named = {name: [nir if band == "nir" else band for band in pair] for name, pair in INDICES.items()}
    return {
        name: (bands.index(first), bands.index(second))
        for name, (first, second) in named.items()
        if first in bands and second in bands
    }


def normalised_differences(images: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """(B, T, band, Y, X) values in proportion to reflectance to (B, T, index, Y, X), from -1 to 1.

    NaN where a value is missing or both are 0. Reflectances below 0 would lead beyond -1 and 1.
    """
    first, second = (images[:, :, [pair[place] for pair in pairs]] for place in (0, 1))
    return ((first - second) / (first + second)).clamp(-1, 1)


def over_time(values: Tensor) -> Tensor:
    """Mean, standard deviation, minimum and maximum over the dates with data: (B, T, C, Y, X) to (B, 4, C, Y, X).

    NaN where no date has data.
    """
    known = values.isfinite()
    number = known.sum(dim=1)
    filled = values.nan_to_num()
    mean = filled.sum(dim=1) / number
    spread = (torch.where(known, (filled - mean[:, None]) ** 2, 0).sum(dim=1) / number).sqrt()
    least = torch.where(known, filled, torch.inf).amin(dim=1)
    most = torch.where(known, filled, -torch.inf).amax(dim=1)
    none = number == 0
    found = [mean, spread, torch.where(none, torch.nan, least), torch.where(none, torch.nan, most)]
    return torch.stack(found, dim=1)


def surroundings(images: Tensor, side: int) -> Tensor:
    """Mean, standard deviation, minimum and maximum over the square around each pixel: (B, C, Y, X) to (B, 4*C, Y, X).

    Args:
        images: without NaN.
        side: of the square in pixels, an odd number; at an image's edge it is cut off.

    """
    middle = side // 2

    def mean_of(values: Tensor) -> Tensor:
        return F.avg_pool2d(values, side, stride=1, padding=middle, count_include_pad=False)

    mean = mean_of(images)
    spread = (mean_of(images**2) - mean**2).clamp(min=0).sqrt()
    most, least = (sign * F.max_pool2d(sign * images, side, stride=1, padding=middle) for sign in (1, -1))
    return torch.cat([mean, spread, least, most], dim=1)


class RandomFeatures(nn.Module):
    """Random convolutions and what they exceed 0 by: features that nobody trained.

    After Rolf et al. 2021 (Nature Communications 12, 4392), who average them over an image; here each pixel has its
    own. Half of the filters look at single pixels and half at squares.

    Args:
        channels: of the input.
        number: of the features.
        side: of the squares in pixels, an odd number.

    """

    point_weight: Tensor
    point_bias: Tensor
    square_weight: Tensor
    square_bias: Tensor

    def __init__(self, channels: int, number: int, side: int = 7) -> None:
        super().__init__()
        # Drawn from a generator of their own, and kept with the weights: no seed has to give them again.
        draw = torch.Generator().manual_seed(0)
        for name, filters, size in (("point", number // 2, 1), ("square", number - number // 2, side)):
            weight = torch.randn(filters, channels, size, size, generator=draw) / (channels * size**2) ** 0.5
            self.register_buffer(f"{name}_weight", weight)
            self.register_buffer(f"{name}_bias", torch.randn(filters, generator=draw) / 2)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, Y, X) standardised images to (B, number, Y, X)."""
        reach = self.square_weight.shape[-1] // 2
        padded = F.pad(images, (reach,) * 4, mode="replicate")
        points = F.conv2d(images, self.point_weight, self.point_bias)
        return F.relu(torch.cat([points, F.conv2d(padded, self.square_weight, self.square_bias)], dim=1))
