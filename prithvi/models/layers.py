"""The pieces of the transformer: attention, feed-forward, the pre-norm block, patches."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Multi-head self-attention over (B, N, D) by torch's fused kernel."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, attend: Tensor | None, first: int = 0) -> Tensor:
        """`attend` (B, 1, 1, N) is True where a token may be looked at; None where all may.

        Tokens from `first` on are computed, (B, N - first, D); all are looked at.
        """
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
        """(B, N, parts * D) to that many of (B, heads, N, D / heads)."""
        batch, tokens, _ = x.shape
        return x.view(batch, tokens, parts, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)


class Mlp(nn.Module):
    """Two linear layers with a GELU between."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class Block(nn.Module):
    """Pre-norm transformer block; `drop_path` leaves out a branch for a random share of the samples."""

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
        kept = torch.rand(x.shape[0], 1, 1, device=x.device) >= self.drop_path
        return x * kept / (1.0 - self.drop_path)

    def forward(self, x: Tensor, attend: Tensor | None = None, first: int = 0) -> Tensor:
        """(B, N, D) to (B, N - first, D): tokens from `first` on, which have looked at all."""
        x = x[:, first:] + self._branch(self.attn(self.norm1(x), attend, first))
        return x + self._branch(self.mlp(self.norm2(x)))


class PatchEmbed(nn.Module):
    """One linear map of every patch, its weights shaped (and named) as the 3-D convolution of the published files."""

    def __init__(self, in_chans: int, patch_size: tuple[int, int, int], dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(in_chans, dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, patches: Tensor) -> Tensor:
        """(B, K, band*t*y*x) patches as `to_patches(..., band_last=False)` cuts them, to (B, K, D)."""
        return F.linear(patches, self.proj.weight.flatten(1), self.proj.bias)


def to_patches(images: Tensor, patch_size: tuple[int, int, int], band_last: bool) -> Tensor:
    """(B, band, T, Y, X) images cut into (B, L, patch values), patches counting x fastest and t slowest.

    Inside a patch values run (t, y, x, band) when `band_last`, as the MAE predicts them, else (band, t, y, x), as the
    weights of the patch embedding lie.
    """
    batch, bands, frames, height, width = images.shape
    s, p, q = patch_size
    t, h, w = frames // s, height // p, width // q
    x = images.reshape(batch, bands, t, s, h, p, w, q)
    x = x.permute(0, 2, 4, 6, 3, 5, 7, 1) if band_last else x.permute(0, 2, 4, 6, 1, 3, 5, 7)
    return x.reshape(batch, t * h * w, bands * s * p * q)


def to_images(patches: Tensor, patch_size: tuple[int, int, int], grid: tuple[int, int, int]) -> Tensor:
    """The opposite of `to_patches(..., band_last=True)`: (B, L, patch values) to (B, band, T, Y, X)."""
    s, p, q = patch_size
    t, h, w = grid
    x = patches.reshape(patches.shape[0], t, h, w, s, p, q, -1)
    x = x.permute(0, 7, 1, 4, 2, 5, 3, 6)
    return x.reshape(x.shape[0], x.shape[1], t * s, h * p, w * q)


def init_linear_and_norm(module: nn.Module) -> None:
    """Xavier for linear layers, ones and zeros for norms, as MAE initialises them."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
