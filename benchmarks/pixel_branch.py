"""The branch of pixels alone, as a head without an encoder: what the tokens have to add to."""

from __future__ import annotations

from typing import Any

import torch
from model_features import PAIRS
from torch import Tensor, nn

from prithvi.contract import Contract
from prithvi.models.config import ModelConfig
from prithvi.models.heads import register_head

HEAD = "branch_alone"


@register_head(HEAD)
class BranchAlone(nn.Module):
    """Bands and normalised differences of each date, convolutions of 3, 3 and 1 pixels, and a linear classifier.

    Args:
        mean: of each band in reflectance, by which the images were standardised.
        std: likewise.
        width: channels.

    """

    pixels = concurrent = True

    def __init__(self, embed_dim: int, num_frames: int, patch: int, num_outputs: int, mean: list[float],
                 std: list[float], width: int = 32) -> None:  # fmt: skip
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 1, -1, 1, 1), persistent=False)
        self.frames = num_frames
        self.layers = nn.Sequential(
            nn.Conv2d(embed_dim + len(PAIRS), width, 3, padding=1), nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1), nn.GELU(), nn.Conv2d(width, width, 1), nn.GELU(),
        )  # fmt: skip
        self.classify = nn.Conv2d(num_frames * width, num_outputs, 1)

    def forward(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, T*band, Y, X) to (B, outputs, *size)."""
        images = features.unflatten(1, (self.frames, -1))
        light = images * self.std + self.mean
        pairs = [(light[:, :, a], light[:, :, b]) for a, b in PAIRS]
        index = torch.stack([((a - b) / (a + b).clamp(min=0.02)).clamp(-1, 1) for a, b in pairs], dim=2)
        found: Tensor = self.layers(torch.cat([images, index], dim=2).flatten(0, 1))
        return self.classify(found.unflatten(0, (-1, self.frames)).flatten(1, 2))


def options_of(config: ModelConfig, contract: Contract) -> dict[str, Any]:
    """Options of the head for images standardised by a contract."""
    mean, std = ([value / contract.scale for value in values] for values in (contract.mean, contract.std))
    return {"mean": mean, "std": std, "width": getattr(config, "pixel_width", 0) or 32}
