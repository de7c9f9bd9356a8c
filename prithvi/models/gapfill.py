"""Gap filling of time series with a masked autoencoder; observed pixels are left unchanged."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from prithvi.errors import ModelError, one_of
from prithvi.models.interpolation import fill
from prithvi.models.layers import to_images
from prithvi.models.mae import PrithviMAE
from prithvi.models.masking import pixel_patches

TOUCHED = ("hidden", "visible")
LANDMARKS = 512


class GapFiller(nn.Module):
    """An autoencoder that masks the gaps, such as clouds, and predicts them from the observed pixels.

    Args:
        mae: the autoencoder. With `blend_fill` its predictions are mixed with the interpolation of
            `prithvi.models.interpolation.fill`.
        touched: treatment of a patch with at least one unknown pixel: `hidden`, as published (arXiv 2404.19609), or
            `visible` if any of its pixels is known, with interpolated values at the unknown ones.
        landmarks: number of known pixels per date for the kernel regression of `fill`; 0 for none.

    Raises:
        ModelError: an unknown value of `touched`.

    """

    def __init__(self, mae: PrithviMAE, touched: str = "hidden", landmarks: int = LANDMARKS) -> None:
        super().__init__()
        self.mae, self.touched, self.landmarks = mae, one_of(touched, TOUCHED, "touched has no", ModelError), landmarks

    @property
    def settings(self) -> dict[str, Any]:
        """Options to record with the weights of a gap filler."""
        return {"touched": self.touched, "landmarks": self.landmarks}

    def forward(
        self,
        images: Tensor,
        known: Tensor,
        temporal_coords: Tensor | None = None,
        location_coords: Tensor | None = None,
    ) -> Tensor:
        """(B, band, T, Y, X) images with every unknown pixel predicted and every known pixel unchanged.

        Args:
            images: (B, band, T, Y, X), standardised; values at unknown pixels are ignored.
            known: (B, T, Y, X) bool, True at observed pixels.
            temporal_coords: (B, T, 2) year and day of year from 0; NaN or None where unknown.
            location_coords: (B, 2) latitude and longitude in degrees; NaN or None where unknown.

        Raises:
            ModelError: shapes that do not fit the model.

        """
        # Gaps are interpolated first: the encoder then sees no arbitrary values in patches that are partly known, and
        # a model with `blend_fill` has the interpolation that its gate mixes with the decoder's prediction.
        mae, config = self.mae, self.mae.config
        grid = mae.encoder.grid_of(images)
        filled = fill(images, known, temporal_coords, landmarks=self.landmarks).to(images.dtype)
        visible = pixel_patches(known, config.patch_size, grid)
        if self.touched == "hidden":
            visible = visible & ~pixel_patches(~known, config.patch_size, grid)
        encoded = mae.encoder(filled, temporal_coords, location_coords, visible)
        tokens = mae.decoder.tokens(encoded, grid, (temporal_coords, location_coords))
        patches = mae.decoded(tokens, encoded, filled, grid, temporal_coords)
        predicted = to_images(patches, config.patch_size, grid)
        return torch.where(known.unsqueeze(1), filled, predicted)
