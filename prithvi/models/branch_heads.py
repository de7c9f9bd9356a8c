"""Heads with the per-pixel branch: alone, and with the tokens of an encoder."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prithvi.errors import ModelError
from prithvi.models.branch import FusedBranch, PixelBranch
from prithvi.models.config import ModelConfig
from prithvi.models.heads import register_head


class BranchClassifier(nn.Module):
    """What heads with a branch share: outputs of each pixel from the branch's features of all dates.

    Args:
        dates: number of dates.
        width: channels of the branch.
        num_outputs: number of outputs.

    """

    def __init__(self, dates: int, width: int, num_outputs: int) -> None:
        super().__init__()
        self.dates = dates
        self.several = nn.Conv2d(dates * width, 2 * width, 1) if dates > 1 else None
        self.classifier = nn.Conv2d(2 * width if dates > 1 else width, num_outputs, 1)

    def classify(self, features: Tensor) -> Tensor:
        """(B, T, width, Y, X) features to (B, outputs, Y, X)."""
        x = features.flatten(1, 2)
        if self.several is not None:
            x = F.gelu(self.several(x))
        scores: Tensor = self.classifier(x)
        return scores

    @torch.no_grad()
    def start_from(self, weight: Tensor, bias: Tensor, labels: Sequence[str], classes: Sequence[str]) -> list[str]:
        """Lets classes begin as the pretrained labels of the same name.

        Args:
            weight: (labels, width, 1, 1) of the pretrained classifier.
            bias: (labels,) of it.
            labels: their names; of `land/trees` the last part.
            classes: names of the head's outputs.

        Returns:
            The classes that did: all of them or none, since scores of one and the other cannot be compared.

        """
        rows = {name.rpartition("/")[2].casefold(): row for row, name in enumerate(labels)}
        found = [rows.get(name.strip().casefold()) for name in classes]
        if self.several is not None or None in found or weight.shape[1] != self.classifier.in_channels:
            return []
        chosen = torch.tensor(found)
        self.classifier.weight.copy_(weight[chosen])
        self.classifier.bias.copy_(bias[chosen])  # type: ignore[union-attr]
        return list(classes)


def configured(config: ModelConfig | None, head: str, width: int | None) -> ModelConfig:
    """The configuration with the width of the head's branch: the stated one, the model's, or 32.

    Raises:
        ModelError: there is no configuration.

    """
    if config is None:
        raise ModelError(f"the head {head} is built with the model's configuration (config=).")
    return dataclasses.replace(config, pixel_width=width or config.pixel_width or 32)


@register_head("branch")
class BranchHead(BranchClassifier):
    """The per-pixel branch alone, without an encoder, and a classifier of each pixel.

    Each pixel is told from the 5 x 5 pixels around it. Where weights come from an autoencoder with a branch, it begins
    as it was pretrained.

    Args:
        config: bands, statistics and number of dates.
        width: channels of the branch; None for the model's, or 32.

    """

    pixels = dated = concurrent = True

    def __init__(
        self,
        embed_dim: int,
        num_frames: int,
        patch: int,
        num_outputs: int,
        config: ModelConfig | None = None,
        width: int | None = None,
    ) -> None:
        config = configured(config, "branch", width)
        super().__init__(num_frames, config.pixel_width, num_outputs)
        self.branch = nn.ModuleDict({"pixels": PixelBranch(config)})

    def forward(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, T*(band + 2), Y, X) to (B, outputs, *size)."""
        pixels = features.reshape(features.shape[0], self.dates, -1, *features.shape[2:])
        return self.classify(self.branch["pixels"](pixels))


@register_head("fused")
class FusedHead(BranchClassifier):
    """The per-pixel branch, with the tokens added through a gate that begins shut, and a classifier of each pixel.

    Where the encoder's weights come from an autoencoder with a branch, the branch begins as it was pretrained. The gate
    begins shut there, too (`shut`): how far tokens help is learned anew for each task.

    Args:
        config: the model; of published shapes, which have no branch, one of `width` channels is added.
        width: channels of the branch; None for the model's, or 32.

    """

    detail = dated = concurrent = True

    def __init__(
        self,
        embed_dim: int,
        num_frames: int,
        patch: int,
        num_outputs: int,
        config: ModelConfig | None = None,
        width: int | None = None,
    ) -> None:
        config = configured(config, "fused", width)
        super().__init__(config.num_frames, config.pixel_width, num_outputs)
        self.patch, self.steps, self.dim = patch, num_frames, embed_dim
        self.branch = FusedBranch(config, embed_dim)

    def forward(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, t*D + T*(band + 2)*patch**2, h, w) to (B, outputs, *size)."""
        count, batch = self.steps * self.dim, features.shape[0]  # len() would fix the batch of an exported program
        tokens = features[:, :count].reshape(batch, self.steps, self.dim, *features.shape[2:])
        pixels = F.pixel_shuffle(features[:, count:], self.patch)
        return self.classify(self.branch(pixels.reshape(batch, self.dates, -1, *pixels.shape[2:]), tokens))

    @torch.no_grad()
    def shut(self) -> None:
        """Shuts the gate, so that training starts from what the branch alone answers."""
        self.branch.fusion.gate.zero_()
