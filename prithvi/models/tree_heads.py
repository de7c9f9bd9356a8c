"""Gradient-boosted trees as heads: on bands and indices, or on these, random features and an encoder's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from prithvi.models.baseline import BaselineHead, check_classes
from prithvi.models.boosted_trees import BoostedTrees
from prithvi.models.heads import register_head
from prithvi.models.pixel_features import RandomFeatures


@register_head("trees")
class TreesHead(BaselineHead):
    """Gradient-boosted trees on bands and indices, and with several dates on their statistics over time.

    Fitted by scikit-learn; what they then give is computed by torch alone.

    Args:
        args: see `BaselineHead`.
        rounds: rounds of boosting.
        size: sizes of the fitted trees (`BoostedTrees.size`), which the fit finds.
        options: see `BaselineHead`.

    """

    pixels: ClassVar[bool] = True

    def __init__(self, *args: Any, rounds: int = 100, size: dict[str, int] | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self.rounds, self.trees = rounds, BoostedTrees(self.num_outputs, **(size or {}))
        self.options |= {"rounds": rounds, "size": size}

    def describe(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, F, Y, X)."""
        return self.bands_and_indices(features)

    def classify(self, rows: Tensor) -> Tensor:
        """(N, F) features to (N, outputs) logits."""
        logits: Tensor = self.trees(rows)
        return logits

    def fit_to(self, rows: Tensor, label: Tensor, classes: Sequence[str], weights: Tensor, seed: int) -> dict[str, Any]:
        """See `BaselineHead.fit_to`.

        Raises:
            MissingExtraError: scikit-learn is not installed.

        """
        check_classes(label)
        self.trees = BoostedTrees.fit(rows, label, weights, seed, self.rounds)
        self.options["size"] = self.trees.size
        return {"fitted": f"{len(self.trees.first)} trees on {rows.shape[1]} features of {len(rows):,} pixels"}


@register_head("token_trees")
class TokenTreesHead(TreesHead):
    """The same trees on bands, indices, random features and the encoder's tokens, by their principal components.

    The encoder is not trained.

    Args:
        embed_dim: channels of the tokens of a date.
        num_frames: number of dates.
        patch: side of a patch.
        num_outputs: number of classes.
        pixel_channels: number of dates times number of bands.
        number: of the random features.
        components: of the tokens.
        options: see `TreesHead`.

    """

    pixels: ClassVar[bool] = False
    detail: ClassVar[bool] = True
    pixel_limit: ClassVar[int] = 200_000
    token_mean: Tensor
    token_axes: Tensor

    def __init__(
        self, embed_dim: int, num_frames: int, patch: int, num_outputs: int, pixel_channels: int = 6,
        number: int = 32, components: int = 16, **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(embed_dim, num_frames, patch, num_outputs, **options)
        self.patch, self.tokens = patch, embed_dim * num_frames
        self.num_frames = pixel_channels // len(self.bands)  # a token may hold several dates
        self.options |= {"number": number, "components": components}
        self.filters = RandomFeatures(pixel_channels, number)
        components = min(components, self.tokens)
        self.register_buffer("token_mean", torch.zeros(self.tokens))
        self.register_buffer("token_axes", torch.zeros(components, self.tokens))

    def prepare(self, features: Sequence[Tensor]) -> None:
        """Finds the principal components of tokens."""
        tokens = torch.cat([part[:, : self.tokens].movedim(1, -1).flatten(0, 2) for part in features]).double()
        self.token_mean.copy_(tokens.mean(dim=0))
        covariance = torch.cov(tokens.T)
        axes = torch.linalg.eigh(covariance).eigenvectors.flip(1)[:, : len(self.token_axes)]
        self.token_axes.copy_(axes.T)

    def describe(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, F, Y, X)."""
        tokens = features[:, : self.tokens] - self.token_mean.view(1, -1, 1, 1)
        context = F.conv2d(tokens, self.token_axes[:, :, None, None])
        context = F.interpolate(context, size=size, mode="bilinear", align_corners=False)
        pixels = F.pixel_shuffle(features[:, self.tokens :], self.patch)
        return torch.cat([self.bands_and_indices(pixels), self.filters(pixels), context], dim=1)
