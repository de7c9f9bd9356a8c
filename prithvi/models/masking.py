"""Which patches the encoder sees and which the decoder predicts: drawn at random, or given from outside."""

from __future__ import annotations

import math
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


@dataclass(frozen=True)
class Masking:
    """What pretraining shows of a batch, and what it asks for. A patch in neither list is as if it were not there."""

    visible: Kept
    hidden: Kept
    """In random order, so that the first half of a sample's is a random half."""

    def fewer(self, share: float) -> Masking:
        """The same with only a random share of the hidden patches asked for."""
        if share >= 1.0:
            return self
        index, present = self.hidden.index, self.hidden.present
        # A sample with fewer hidden patches than others keeps its share of its own.
        count = math.ceil(index.shape[1] * share)
        if present is not None:
            own = (present.sum(dim=1, keepdim=True) * share).ceil()
            present = torch.arange(count, device=index.device) < own
        return Masking(self.visible, Kept(index[:, :count], present))


def hide(noise: Tensor, mask_ratio: float, present: Tensor | None = None) -> Masking:
    """Hides the patches of the largest numbers.

    Args:
        noise: (B, L) uniform numbers from 0 to 1. Equal numbers at one place in all dates hide it in all (`tube`).
        mask_ratio: share hidden; int(L * (1 - mask_ratio)) stay, as in the published code.
        present: (B, L) bool, False for patches without data, which are neither shown nor asked for; each sample then
            hides its share of what it has. None where all is there.

    Raises:
        ModelError: a share outside 0 to 1.

    """
    if not 0.0 <= mask_ratio <= 1.0:
        raise ModelError(f"the mask ratio is {mask_ratio}; it is the hidden share, from 0 to 1.")
    patches = noise.shape[1]
    keep = int(patches * (1 - mask_ratio))
    if present is None:
        order = noise.argsort(dim=1, stable=True)
        return Masking(Kept(order[:, :keep], None), Kept(order[:, keep:], None))
    order = (noise + 2.0 * ~present).argsort(dim=1, stable=True)
    there = present.sum(dim=1, keepdim=True)
    # Half a thousandth of a patch, so that 0.25 x 64 is not 15 for the last bit of a product.
    seen = (there * (1 - mask_ratio) + 5e-4).floor().to(torch.int64).clamp(max=keep)
    return _cut(order, seen, there - seen, keep, patches - keep)


def split(visible: Tensor, noise: Tensor, present: Tensor | None = None) -> Masking:
    """A (B, L) bool mask from outside, such as a cloud's, any number visible a sample.

    Args:
        visible: True for the patches that may be seen.
        noise: (B, L) uniform numbers from 0 to 1, which order the hidden ones.
        present: see `hide`.

    """
    hidden = ~visible
    if present is not None:
        visible, hidden = visible & present, hidden & present
    order = torch.where(visible, noise, torch.where(hidden, noise + 1.0, 3.0)).argsort(dim=1, stable=True)
    seen, asked = visible.sum(dim=1, keepdim=True), hidden.sum(dim=1, keepdim=True)
    return _cut(order, seen, asked, int(seen.max()), int(asked.max()))


def _cut(order: Tensor, seen: Tensor, asked: Tensor, most_seen: int, most_asked: int) -> Masking:
    """Each sample's `order` cut behind its own (B, 1) counts, filled up to common lengths."""
    places = torch.arange(order.shape[1], device=order.device)
    after = (seen + places[:most_asked]).clamp(max=order.shape[1] - 1)
    return Masking(
        Kept(order[:, :most_seen], places[:most_seen] < seen),
        Kept(order.gather(1, after), places[:most_asked] < asked),
    )


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


def flags(kept: Kept, patches: int) -> Tensor:
    """What `pack` was given: (B, L) bool, True for the patches that are there."""
    there = torch.ones_like(kept.index, dtype=torch.bool) if kept.present is None else kept.present
    return torch.zeros(len(kept.index), patches, dtype=torch.bool, device=kept.index.device).scatter_(
        1, kept.index, there
    )


def patch_pixels(patches: Tensor, patch_size: tuple[int, int, int], grid: tuple[int, int, int]) -> Tensor:
    """(B, L) of patches to (B, T, Y, X) of their pixels."""
    values = patches.view(-1, *grid)
    for axis, size in enumerate(patch_size, start=1):
        values = values.repeat_interleave(size, dim=axis)
    return values


def pixel_patches(pixels: Tensor, patch_size: tuple[int, int, int], grid: tuple[int, int, int]) -> Tensor:
    """(B, T, Y, X) bool pixels to (B, L) bool patches that hold any."""
    s, p, q = patch_size
    t, h, w = grid
    return pixels.reshape(-1, t, s, h, p, w, q).any(dim=6).any(dim=4).any(dim=2).flatten(1)


def take(tokens: Tensor, index: Tensor) -> Tensor:
    """(B or 1, L, D) tokens at (B, K) places: (B, K, D)."""
    tokens = tokens.expand(index.shape[0], -1, -1)
    return tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))
