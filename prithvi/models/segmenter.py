"""An encoder and a head: a score for every class at every pixel."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from prithvi.errors import ModelError
from prithvi.models.config import ModelConfig
from prithvi.models.encoder import PrithviEncoder
from prithvi.models.heads import build_head, tokens_to_grid


class Segmenter(nn.Module):
    """Per-pixel scores out of standardised images.

    Args:
        config: shape of the encoder; its `num_frames` is the number of dates the head stacks.
        num_classes: classes (or regression outputs).
        head: a name in `prithvi.models.HEADS`.
        head_options: options of that head.

    """

    def __init__(
        self, config: ModelConfig, num_classes: int, head: str = "fcn", head_options: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        if config.patch_size[1] != config.patch_size[2]:
            raise ModelError(f"heads need square patches; this model's are {config.patch_size[1:]} (y, x).")
        self.config = config
        self.encoder = PrithviEncoder(config)
        frames = config.num_frames // config.patch_size[0]
        self.head = build_head(
            head, config.embed_dim, frames, config.patch_size[1], num_classes, **(head_options or {})
        )

    def forward(
        self, images: Tensor, temporal_coords: Tensor | None = None, location_coords: Tensor | None = None
    ) -> Tensor:
        """(B, band, T, Y, X) standardised images to (B, classes, Y, X) scores before the softmax.

        Raises:
            ModelError: another number of dates or bands than the model was made for, or an uneven size.

        """
        grid = self.encoder.grid_of(images)
        if images.shape[2] != self.config.num_frames:
            raise ModelError(
                f"the images have {images.shape[2]} dates; this model was made for {self.config.num_frames}."
            )
        encoded = self.encoder(images, temporal_coords, location_coords)
        scores: Tensor = self.head(tokens_to_grid(encoded.tokens, grid), (images.shape[3], images.shape[4]))
        return scores
