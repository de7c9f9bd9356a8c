"""Masks: which patches the encoder sees and which the decoder predicts, at random or given by the caller."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from prithvi.errors import ModelError
from prithvi.models.config import Grid


@dataclass(frozen=True)
class Kept:
    """A selection of patches for each sample of a batch, padded on the right to a common number."""

    index: Tensor
    """(B, K) int64 patch numbers; beyond a sample's own number they are padding, which names other patches."""
    present: Tensor | None
    """(B, K) bool, False for padding; None if every sample has K patches."""

    @property
    def there(self) -> Tensor:
        """(B, K) bool, False for padding."""
        return torch.ones_like(self.index, dtype=torch.bool) if self.present is None else self.present


def attention_mask(*parts: Kept) -> Tensor | None:
    """(B, 1, 1, 1 + K) mask of a class token and the patches of all parts: False for padding; None without padding."""
    if all(kept.present is None for kept in parts):
        return None
    there = torch.cat([kept.there for kept in parts], dim=1)
    return torch.nn.functional.pad(there, (1, 0), value=True)[:, None, None, :]


@dataclass(frozen=True)
class Masking:
    """The visible patches of a batch and the hidden ones to predict; patches in neither are ignored."""

    visible: Kept
    hidden: Kept
    """In random order, so that the first n hidden patches of a sample are a random subset."""

    def fewer(self, share: float) -> Masking:
        """A masking with a random fraction `share` of each sample's hidden patches."""
        if share >= 1.0:
            return self
        index, present = self.hidden.index, self.hidden.present
        # The fraction is of each sample's own number of hidden patches, not of the padded length.
        count = math.ceil(index.shape[1] * share)
        if present is not None:
            own = (present.sum(dim=1, keepdim=True) * share).ceil()
            present = torch.arange(count, device=index.device) < own
        return Masking(self.visible, Kept(index[:, :count], present))


def hide(noise: Tensor, mask_ratio: float, present: Tensor | None = None) -> Masking:
    """Hides the patches with the largest noise.

    Args:
        noise: (B, L) uniform numbers from 0 to 1. The same number at all dates of a position hides it at all dates
            (`tube`).
        mask_ratio: fraction of patches to hide; int(L * (1 - mask_ratio)) stay visible, as in the published code.
        present: (B, L) bool, False for patches without data, which are neither visible nor predicted; the fraction is
            then of the patches with data in each sample. None if all have data.

    Raises:
        ModelError: the fraction is outside 0 to 1.

    """
    if not 0.0 <= mask_ratio <= 1.0:
        raise ModelError(f"the mask ratio is {mask_ratio}; it is the hidden share, from 0 to 1.")
    patches = noise.shape[1]
    keep = int(patches * (1 - mask_ratio))
    if present is None:
        order = noise.argsort(dim=1, stable=True)
        return Masking(Kept(order[:, :keep], None), Kept(order[:, keep:], None))
    order = (noise + 2.0 * ~present).argsort(dim=1, stable=True)  # patches without data go last
    there = present.sum(dim=1, keepdim=True)
    # The margin of 5e-4 patches guards the floor against rounding: 0.25 x 64 must be 16, not 15.
    seen = (there * (1 - mask_ratio) + 5e-4).floor().to(torch.int64).clamp(max=keep)
    return _cut(order, seen, there - seen, keep, patches - keep)


def split(visible: Tensor, noise: Tensor, present: Tensor | None = None) -> Masking:
    """Masking from a given mask, such as a cloud mask.

    Args:
        visible: (B, L) bool, True for visible patches, whose number may differ between samples.
        noise: (B, L) uniform numbers from 0 to 1 that determine the order of the hidden patches.
        present: (B, L) bool, False for patches without data, which are neither visible nor predicted; None if all
            have data.

    """
    # One sort puts the patches of each sample into the order visible, hidden, without data (keys 0-1, 1-2 and 3).
    hidden = ~visible
    if present is not None:
        visible, hidden = visible & present, hidden & present
    order = torch.where(visible, noise, torch.where(hidden, noise + 1.0, 3.0)).argsort(dim=1, stable=True)
    seen, asked = visible.sum(dim=1, keepdim=True), hidden.sum(dim=1, keepdim=True)
    return _cut(order, seen, asked, int(seen.max()), int(asked.max()))


def _cut(order: Tensor, seen: Tensor, asked: Tensor, most_seen: int, most_asked: int) -> Masking:
    """Splits each sample's `order` after its first `seen` and next `asked` patches (B, 1), padded to common lengths."""
    places = torch.arange(order.shape[1], device=order.device)
    after = (seen + places[:most_asked]).clamp(max=order.shape[1] - 1)
    return Masking(
        Kept(order[:, :most_seen], places[:most_seen] < seen), Kept(order.gather(1, after), places[:most_asked] < asked)
    )


def random_visible(
    batch: int, patches: int, mask_ratio: float, device: torch.device, generator: torch.Generator | None = None
) -> Tensor:
    """(B, L) bool, True for int(L * (1 - mask_ratio)) random patches of each sample.

    The draw is that of the published code (the patches with the smallest of L uniform numbers stay), so that a seed
    hides the same patches in both.

    Raises:
        ModelError: the fraction is outside 0 to 1.

    """
    noise = torch.rand(batch, patches, generator=generator, device=device)
    return flags(hide(noise, mask_ratio).visible, patches)


def pack(visible: Tensor, count: int | None = None) -> Kept:
    """Packs a (B, L) bool mask into patch numbers.

    With `count`, the caller states that every sample has that many visible patches, which avoids a device
    synchronisation.
    """
    # A stable sort puts visible patches first and keeps their order. Samples with fewer visible patches than others are
    # padded with hidden ones, which `present` excludes from attention.
    index = visible.to(torch.uint8).argsort(dim=1, descending=True, stable=True)
    if count is not None:
        return Kept(index[:, :count], None)
    counts = visible.sum(dim=1)
    if torch.compiler.is_compiling():  # compiled shapes must not depend on data: keep all L columns
        return Kept(index, torch.arange(visible.shape[1], device=visible.device) < counts[:, None])
    most = int(counts.max())
    if int(counts.min()) == most:
        return Kept(index[:, :most], None)
    return Kept(index[:, :most], torch.arange(most, device=visible.device) < counts[:, None])


def flags(kept: Kept, patches: int) -> Tensor:
    """Inverse of `pack`: (B, L) bool, True for the selected patches."""
    none = torch.zeros(len(kept.index), patches, dtype=torch.bool, device=kept.index.device)
    return none.scatter_(1, kept.index, kept.there)


def patch_pixels(patches: Tensor, patch_size: Grid, grid: Grid) -> Tensor:
    """Expands (B, L) values of patches to (B, T, Y, X) values of their pixels."""
    values = patches.view(-1, *grid)
    for axis, size in enumerate(patch_size, start=1):
        values = values.repeat_interleave(size, dim=axis)
    return values


def pixel_patches(pixels: Tensor, patch_size: Grid, grid: Grid) -> Tensor:
    """(B, L) bool, True for patches with at least one True pixel in (B, T, Y, X)."""
    s, p, q = patch_size
    t, h, w = grid
    return pixels.reshape(-1, t, s, h, p, w, q).any(dim=6).any(dim=4).any(dim=2).flatten(1)


def take(tokens: Tensor, index: Tensor) -> Tensor:
    """(B, K, D) tokens at the (B, K) patch numbers `index` of (B or 1, L, D) tokens."""
    tokens = tokens.expand(index.shape[0], -1, -1)
    return tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))
