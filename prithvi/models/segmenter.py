"""An encoder and a head: logits of every pixel, or of the chip as a whole."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prithvi.errors import ModelError, counted
from prithvi.models.branch import with_dates
from prithvi.models.config import ModelConfig
from prithvi.models.encoder import Encoder
from prithvi.models.heads import build_head, has_trait, tokens_to_grid
from prithvi.models.zoo import build_encoder


class Segmenter(nn.Module):
    """Encoder and head from standardised images to logits of every pixel, or of the image with a pooling head.

    Args:
        config: configuration of the encoder; the head stacks its `num_frames` dates.
        num_classes: number of classes (or of regression outputs).
        head: a name in `prithvi.models.HEADS`; with a head that works on pixels there is no encoder.
        head_options: options of the head.

    """

    def __init__(
        self, config: ModelConfig, num_classes: int, head: str = "fcn", head_options: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        if config.patch_size[1] != config.patch_size[2]:
            raise ModelError(f"heads need square patches; this model's are {config.patch_size[1:]} (y, x).")
        self.config = config
        frames, options = config.num_frames // config.patch_size[0], head_options or {}
        self.encoder: Encoder | None = None
        self.detail, self.dated = has_trait(head, "detail"), has_trait(head, "dated")
        if self.dated:
            options = {"config": config, **options}
        if has_trait(head, "pixels"):
            self.head = build_head(head, len(config.bands), config.num_frames, 1, num_classes, **options)
        else:
            self.encoder = build_encoder(config)
            if self.detail and not self.dated:
                options = {"pixel_channels": len(config.bands) * config.num_frames, **options}
            self.head = build_head(head, config.embed_dim, frames, config.patch_size[1], num_classes, **options)
        self.indices: tuple[int, ...] = tuple(getattr(self.head, "indices", ()))
        if not all(-config.depth <= index < config.depth for index in self.indices):
            raise ModelError(f"head {head!r} wants the blocks {self.indices} of an encoder that has {config.depth}.")

    def features(
        self, images: Tensor, temporal_coords: Tensor | None = None, location_coords: Tensor | None = None
    ) -> Tensor:
        """Features for the head: (B, layers*T*D, h, w), or (B, T*band, Y, X) for a head of pixels.

        Args:
            images: (B, band, T, Y, X), standardised.
            temporal_coords: (B, T, 2) year and day of year from 0; NaN or None where unknown.
            location_coords: (B, 2) latitude and longitude in degrees; NaN or None where unknown.

        Raises:
            ModelError: the number of dates or bands is not the model's, or the size is not a multiple of the patch's.

        """
        if images.shape[2] != self.config.num_frames:
            raise ModelError(
                f"the images have {counted(images.shape[2], 'date')}; this model was made for {self.config.num_frames}."
            )
        pixels = with_dates(images, temporal_coords) if self.dated else images.transpose(1, 2)
        if self.encoder is None:
            return pixels.flatten(1, 2)
        grid = self.encoder.grid_of(images)
        if self.indices:
            layers = self.encoder.forward_features(images, temporal_coords, location_coords)
            parts = [tokens_to_grid(layers[index], grid) for index in self.indices]
        else:
            parts = [tokens_to_grid(self.encoder(images, temporal_coords, location_coords).tokens, grid)]
        if self.detail:
            # pixel_unshuffle moves the pixels of each patch into channels, so that they fit the patch grid.
            parts.append(F.pixel_unshuffle(pixels.flatten(1, 2), self.config.patch_size[1]))
        return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]

    def forward(
        self, images: Tensor, temporal_coords: Tensor | None = None, location_coords: Tensor | None = None
    ) -> Tensor:
        """(B, classes, Y, X) logits of (B, band, T, Y, X) standardised images; (B, classes) with a pooling head.

        Raises:
            ModelError: the number of dates or bands is not the model's, or the size is not a multiple of the patch's.

        """
        features = self.features(images, temporal_coords, location_coords)
        scores: Tensor = self.head(features, (images.shape[3], images.shape[4]))
        return scores
