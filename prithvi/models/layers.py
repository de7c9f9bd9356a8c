"""Building blocks of the transformer: attention, MLP, the pre-norm block, and cutting images into patches."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prithvi.models.config import Grid


class Attention(nn.Module):
    """Multi-head self-attention over (B, N, D) with torch's fused kernel."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, attend: Tensor | None, first: int = 0) -> Tensor:
        """(B, N, D) to (B, N - first, D): tokens from `first` on, each of which attends to all tokens.

        `attend` (B, 1, 1, N) is False for tokens that are excluded from attention; None if there are none.
        """
        # With first > 0, queries are computed for the requested tokens only, by slicing the fused qkv weights.
        if first == 0:
            q, k, v = self._heads(self.qkv(x), 3)
        else:
            weight, bias, dim = self.qkv.weight, self.qkv.bias, x.shape[-1]
            (q,) = self._heads(F.linear(x[:, first:], weight[:dim], bias[:dim]), 1)
            k, v = self._heads(F.linear(x, weight[dim:], bias[dim:]), 2)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=attend)
        out: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return out

    def _heads(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """(B, N, parts * D) to a tuple of `parts` tensors (B, heads, N, D / heads)."""
        batch, tokens, _ = x.shape
        return x.view(batch, tokens, parts, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)


class Mlp(nn.Module):
    """Two linear layers with a GELU in between."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class Block(nn.Module):
    """Pre-norm transformer block; in training, `drop_path` is the rate at which samples skip a branch."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float, norm_eps: float, drop_path: float = 0.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attn = Attention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = drop_path

    def _branch(self, x: Tensor) -> Tensor:
        if not self.training or self.drop_path == 0.0:
            return x
        # Scaling the remaining samples by 1 / (1 - rate) keeps the expected value of the branch.
        kept = torch.rand(x.shape[0], 1, 1, device=x.device) >= self.drop_path
        return x * kept / (1.0 - self.drop_path)

    def forward(self, x: Tensor, attend: Tensor | None = None, first: int = 0) -> Tensor:
        """(B, N, D) to (B, N - first, D): tokens from `first` on, each of which attends to all tokens."""
        x = x[:, first:] + self._branch(self.attn(self.norm1(x), attend, first))
        return x + self._branch(self.mlp(self.norm2(x)))


class PatchEmbed(nn.Module):
    """Linear embedding of patches, with weights shaped and named as the 3-D convolution of the published files."""

    def __init__(self, in_chans: int, patch_size: Grid, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(in_chans, dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, patches: Tensor) -> Tensor:
        """(B, K, band*t*y*x) patches from `to_patches(..., band_last=False)` to (B, K, D) tokens."""
        return F.linear(patches, self.proj.weight.flatten(1), self.proj.bias)


def to_patches(images: Tensor, patch_size: Grid, band_last: bool) -> Tensor:
    """(B, band, T, Y, X) images to (B, L, values) patches, numbered with x fastest and t slowest.

    The values of a patch are ordered (t, y, x, band) if `band_last`, as the decoder predicts them, else
    (band, t, y, x), as in the weights of the patch embedding.
    """
    batch, bands, frames, height, width = images.shape
    s, p, q = patch_size
    t, h, w = frames // s, height // p, width // q
    x = images.reshape(batch, bands, t, s, h, p, w, q)
    x = x.permute(0, 2, 4, 6, 3, 5, 7, 1) if band_last else x.permute(0, 2, 4, 6, 1, 3, 5, 7)
    return x.reshape(batch, t * h * w, bands * s * p * q)


def to_images(patches: Tensor, patch_size: Grid, grid: Grid) -> Tensor:
    """Inverse of `to_patches(..., band_last=True)`: (B, L, values) patches to (B, band, T, Y, X) images."""
    s, p, q = patch_size
    t, h, w = grid
    x = patches.reshape(patches.shape[0], t, h, w, s, p, q, -1)
    x = x.permute(0, 7, 1, 4, 2, 5, 3, 6)
    return x.reshape(x.shape[0], x.shape[1], t * s, h * p, w * q)


def init_linear_and_norm(module: nn.Module) -> None:
    """Initialises linear layers (Xavier) and norms (weight 1, bias 0) as MAE does."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
