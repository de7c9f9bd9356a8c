"""The masked autoencoder: encode what is visible, predict what is hidden, compare (arXiv 2111.06377)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prithvi.contract import Contract
from prithvi.errors import ModelError
from prithvi.models.codes import CoordinateCode, position_code, position_code_at
from prithvi.models.config import ModelConfig
from prithvi.models.encoder import Encoded, PrithviEncoder, coordinate_codes
from prithvi.models.layers import Block, init_linear_and_norm, to_images, to_patches
from prithvi.models.masking import random_visible


@dataclass(frozen=True)
class MAEOutput:
    """What one forward pass of `PrithviMAE` gives."""

    loss: Tensor
    """Mean squared error over hidden patches, standardised units; 0 when nothing is hidden."""
    pred: Tensor
    """(B, band, T, Y, X) prediction of every pixel, visible ones too. With `norm_pix_loss` each patch is in units of
    its own mean and standard deviation."""
    mask: Tensor
    """(B, L) bool, True where a patch was hidden."""


class MAEDecoder(nn.Module):
    """A small transformer over all patches, a learned token in the place of each hidden one."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.decoder_embed_dim
        self.grid = config.grid(config.num_frames, *config.img_size)
        self.decoder_pos_embed: Tensor
        self.decoder_embed = nn.Linear(config.embed_dim, dim)
        self.temporal_embed_dec = (
            CoordinateCode(dim, config.coords_scale_learn) if "time" in config.coords_encoding else None
        )
        self.location_embed_dec = (
            CoordinateCode(dim, config.coords_scale_learn) if "location" in config.coords_encoding else None
        )
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.register_buffer("decoder_pos_embed", position_code(dim, self.grid).clone())
        self.decoder_blocks = nn.ModuleList(
            Block(dim, config.decoder_num_heads, config.mlp_ratio, config.norm_eps) for _ in range(config.decoder_depth)
        )
        self.decoder_norm = nn.LayerNorm(dim, eps=config.norm_eps)
        s, p, q = config.patch_size
        self.decoder_pred = nn.Linear(dim, s * p * q * config.in_chans)
        self.apply(init_linear_and_norm)
        nn.init.normal_(self.mask_token, std=0.02)

    def tokens(
        self,
        encoded: Encoded,
        grid: tuple[int, int, int],
        temporal_coords: Tensor | None = None,
        location_coords: Tensor | None = None,
    ) -> Tensor:
        """(B, L, D) decoded tokens of all patches of `grid`, normalised, before they become pixels."""
        x = self.decoder_embed(encoded.tokens)
        mask_token = self.mask_token.to(x.dtype)
        seen, kept = x[:, 1:], encoded.kept
        if kept.present is not None:
            seen = torch.where(kept.present.unsqueeze(-1), seen, mask_token)
        patches = grid[0] * grid[1] * grid[2]
        every = mask_token.expand(x.shape[0], patches, -1)
        every = every.scatter(1, kept.index.unsqueeze(-1).expand(-1, -1, x.shape[-1]), seen)
        code = position_code_at(self.decoder_pos_embed, self.grid, grid)
        code = code + coordinate_codes(
            code, grid, x.shape[0], self.temporal_embed_dec, temporal_coords, self.location_embed_dec, location_coords
        )
        x = torch.cat([x[:, :1], every], dim=1) + code
        for block in self.decoder_blocks:
            x = block(x)
        out: Tensor = self.decoder_norm(x)[:, 1:]
        return out


class PrithviMAE(nn.Module):
    """Encoder and decoder of one published (or own) variant; `prithvi.models.build` makes it by name.

    Its parameters have the names of the published version 2 files, so that files move both ways.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = PrithviEncoder(config)
        self.decoder = MAEDecoder(config)

    @property
    def contract(self) -> Contract:
        """What the weights expect of their input."""
        return self.config.contract

    def forward(
        self,
        images: Tensor,
        temporal_coords: Tensor | None = None,
        location_coords: Tensor | None = None,
        mask_ratio: float = 0.75,
        visible: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> MAEOutput:
        """Hides patches, predicts all, and compares the hidden ones.

        Args:
            images: (B, band, T, Y, X), standardised, without NaN.
            temporal_coords: (B, T, 2) year and day of year from 0; NaN or None where unknown.
            location_coords: (B, 2) latitude and longitude in degrees; NaN or None where unknown.
            mask_ratio: share of patches hidden at random; 0 hides none. Not used with `visible`.
            visible: (B, L) bool, the patches that may be seen; any number a sample.
            generator: source of the random numbers; None for torch's own.

        Raises:
            ModelError: shapes that do not fit the model.

        """
        grid = self.encoder.grid_of(images)
        batch, patches, count = images.shape[0], grid[0] * grid[1] * grid[2], None
        if visible is None:
            visible = random_visible(batch, patches, mask_ratio, images.device, generator)
            count = int(patches * (1 - mask_ratio))
        elif visible.device != images.device:
            raise ModelError(f"visible is on {visible.device} and the images on {images.device}.")
        encoded = self.encoder(images, temporal_coords, location_coords, visible, count)
        tokens = self.decoder.tokens(encoded, grid, temporal_coords, location_coords)
        pred = self.decoder.decoder_pred(tokens)
        mask = ~visible
        return MAEOutput(self._loss(images, pred, mask), to_images(pred, self.config.patch_size, grid), mask)

    def _loss(self, images: Tensor, pred: Tensor, mask: Tensor) -> Tensor:
        """Mean over the values of a patch, then over the hidden patches of the batch."""
        target = to_patches(images, self.config.patch_size, band_last=True)
        if self.config.norm_pix_loss:
            mean, var = target.mean(dim=-1, keepdim=True), target.var(dim=-1, keepdim=True)
            target = (target - mean) / (var + 1e-6) ** 0.5
        error = ((pred - target) ** 2).mean(dim=-1)
        return (error * mask).sum() / mask.sum().clamp(min=1)
