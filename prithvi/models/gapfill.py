"""Gaps in a series filled by a masked autoencoder, observed pixels left as they are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from prithvi.errors import ModelError, nearest
from prithvi.models.interpolation import fill
from prithvi.models.layers import to_images, to_patches
from prithvi.models.mae import PrithviMAE
from prithvi.models.masking import pixel_patches

TOUCHED = ("hidden", "visible")
LANDMARKS = 512


class GapFiller(nn.Module):
    """An autoencoder with a mask from outside: what clouds cover is predicted from everything else.

    Args:
        mae: the autoencoder. With `blend_fill` its predictions are mixed with those of
            `prithvi.models.interpolation.fill`.
        touched: what becomes of a patch with one unknown pixel or more: `hidden`, as published (arXiv 2404.19609), or
            `visible` if any of its pixels is known, the unknown ones standing as `fill` fills them.
        landmarks: of `fill`.

    Raises:
        ModelError: no such way to treat touched patches.

    """

    def __init__(self, mae: PrithviMAE, touched: str = "hidden", landmarks: int = LANDMARKS) -> None:
        super().__init__()
        if touched not in TOUCHED:
            raise ModelError(f"touched has no {touched!r}: {nearest(touched, TOUCHED)}")
        self.mae, self.touched, self.landmarks = mae, touched, landmarks

    @property
    def settings(self) -> dict[str, Any]:
        """What stands beside the weights in the record of a gap filler."""
        return {"touched": self.touched, "landmarks": self.landmarks}

    def forward(
        self,
        images: Tensor,
        known: Tensor,
        temporal_coords: Tensor | None = None,
        location_coords: Tensor | None = None,
    ) -> Tensor:
        """The same images with every unknown pixel predicted.

        Args:
            images: (B, band, T, Y, X), standardised; values at unknown pixels do not matter.
            known: (B, T, Y, X) bool.
            temporal_coords: (B, T, 2) year and day of year from 0; NaN or None where unknown.
            location_coords: (B, 2) latitude and longitude in degrees; NaN or None where unknown.

        Raises:
            ModelError: shapes that do not fit the model.

        """
        mae, config = self.mae, self.mae.config
        grid = mae.encoder.grid_of(images)
        filled = fill(images, known, temporal_coords, landmarks=self.landmarks).to(images.dtype)
        visible = pixel_patches(known, config.patch_size, grid)
        if self.touched == "hidden":
            visible = visible & ~pixel_patches(~known, config.patch_size, grid)
        encoded = mae.encoder(filled, temporal_coords, location_coords, visible)
        tokens = mae.decoder.tokens(encoded, grid, temporal_coords, location_coords)
        patches = mae.decoder.patches(tokens, to_patches(filled, config.patch_size, band_last=True))
        predicted = to_images(patches, config.patch_size, grid)
        return torch.where(known.unsqueeze(1), filled, predicted)
