"""Which patches the encoder sees: drawn at random, or given from outside, any number a sample."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prithvi.errors import ModelError


@dataclass(frozen=True)
class Kept:
    """The patches of a batch that are visible, packed to the left."""

    index: Tensor
    """(B, K) int64 patch numbers; beyond a sample's own count they name hidden patches and do not count."""
    present: Tensor | None
    """(B, K) bool, False where `index` is only filling; None when every sample has K."""

    def attend(self) -> Tensor | None:
        """(B, 1, 1, 1 + K) True for the class token and the patches that are there."""
        if self.present is None:
            return None
        return torch.nn.functional.pad(self.present, (1, 0), value=True)[:, None, None, :]


def random_visible(
    batch: int, patches: int, mask_ratio: float, device: torch.device, generator: torch.Generator | None = None
) -> Tensor:
    """(B, L) bool, True for int(L * (1 - mask_ratio)) patches drawn a sample.

    The draw is the one of the published code (the lowest of L uniform numbers stay), so that one seed hides the same
    patches in both.
    """
    if not 0.0 <= mask_ratio <= 1.0:
        raise ModelError(f"the mask ratio is {mask_ratio}; it is the hidden share, from 0 to 1.")
    noise = torch.rand(batch, patches, generator=generator, device=device)
    keep = int(patches * (1 - mask_ratio))
    index = noise.argsort(dim=1)[:, :keep]
    return torch.zeros(batch, patches, dtype=torch.bool, device=device).scatter_(1, index, True)


def pack(visible: Tensor, count: int | None = None) -> Kept:
    """Packs a (B, L) bool mask. `count` says that every sample has that many visible patches, and spares a look."""
    index = visible.to(torch.uint8).argsort(dim=1, descending=True, stable=True)
    if count is not None:
        return Kept(index[:, :count], None)
    counts = visible.sum(dim=1)
    if torch.compiler.is_compiling():  # no shape may come from data: keep every place
        return Kept(index, torch.arange(visible.shape[1], device=visible.device) < counts[:, None])
    most = int(counts.max())
    if int(counts.min()) == most:
        return Kept(index[:, :most], None)
    return Kept(index[:, :most], torch.arange(most, device=visible.device) < counts[:, None])


def take(tokens: Tensor, index: Tensor) -> Tensor:
    """(B or 1, L, D) tokens at (B, K) places: (B, K, D)."""
    tokens = tokens.expand(index.shape[0], -1, -1)
    return tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))
