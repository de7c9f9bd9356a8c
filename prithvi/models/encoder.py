"""The encoder: embedding of visible patches, position, date and location codes, and transformer blocks."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from prithvi.contract import Contract
from prithvi.errors import ModelError
from prithvi.models.codes import Coordinates, coordinate_codes, patch_codes, position_code
from prithvi.models.config import Grid, ModelConfig
from prithvi.models.layers import Block, PatchEmbed, init_linear_and_norm, to_patches
from prithvi.models.masking import Kept, attention_mask, pack, take


@dataclass(frozen=True)
class Encoded:
    """Output of the encoder."""

    tokens: Tensor
    """(B, 1 + K, D) class token and tokens of visible patches, after the final norm."""
    kept: Kept
    """Numbers of the visible patches."""


class Encoder(nn.Module, abc.ABC):
    """What makes tokens of images: ours (`PrithviEncoder`), or another project's behind the same interface."""

    adapted: ClassVar[tuple[str, ...]] = ("attn.qkv", "attn.proj")
    """The linear layers of a block that LoRA adapts."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.grid = config.grid(config.num_frames, *config.img_size)

    @property
    def contract(self) -> Contract:
        """The input that the pretrained weights expect."""
        return self.config.contract

    def own_state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Of published tensors those of this encoder, by its own names."""
        return dict(state)

    def grid_of(self, images: Tensor) -> Grid:
        """Number of patches along (time, y, x) of a batch of images.

        Raises:
            ModelError: the shape is not (batch, band, time, y, x), the number of bands is not the model's, or the
                size is not a multiple of the patch size.

        """
        if images.ndim != 5:
            raise ModelError(
                f"the images have shape {tuple(images.shape)}; they must be (batch, band, time, y, x): "
                "a single date has time 1 (images.unsqueeze(2))."
            )
        if images.shape[1] != self.config.in_chans:
            raise ModelError(
                f"the images have {images.shape[1]} bands in a shape of (batch, band, time, y, x); "
                f"this model wants {self.config.in_chans}: {', '.join(self.config.bands)}."
            )
        return self.config.grid(*images.shape[2:])

    @abc.abstractmethod
    def forward(
        self,
        images: Tensor,
        temporal_coords: Tensor | None = None,
        location_coords: Tensor | None = None,
        visible: Tensor | Kept | None = None,
        count: int | None = None,
    ) -> Encoded:
        """Encodes the visible patches; see `PrithviEncoder.forward`."""

    @abc.abstractmethod
    def forward_features(
        self, images: Tensor, temporal_coords: Tensor | None = None, location_coords: Tensor | None = None
    ) -> list[Tensor]:
        """Tokens (B, 1 + L, D) after each block; see `PrithviEncoder.forward_features`."""


class PrithviEncoder(Encoder):
    """Vision transformer over patches of (time, y, x), with optional date and location codes."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        dim = config.embed_dim
        self.pos_embed: Tensor
        self.patch_embed = PatchEmbed(config.in_chans, config.patch_size, dim)
        self.temporal_embed_enc, self.location_embed_enc = coordinate_codes(dim, config)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.register_buffer("pos_embed", position_code(dim, self.grid).clone())
        self.blocks = nn.ModuleList(
            Block(dim, config.num_heads, config.mlp_ratio, config.norm_eps, config.drop_path)
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(dim, eps=config.norm_eps)
        self.apply(init_linear_and_norm)
        nn.init.xavier_uniform_(self.patch_embed.proj.weight.data.flatten(1))
        nn.init.zeros_(self.patch_embed.proj.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.cls_token, std=0.02)

    def _embed(self, patches: Tensor, grid: Grid, index: Tensor, coordinates: Coordinates) -> Tensor:
        """(B, 1 + K, D) class token and tokens of the (B, K, values) patches at `index`, with their codes."""
        codes = self.temporal_embed_enc, self.location_embed_enc
        x = self.patch_embed(patches) + patch_codes(self.pos_embed, self.grid, grid, index, codes, coordinates)
        # The class token has no date or location code; its position code is the first row of pos_embed.
        token = self.cls_token + self.pos_embed[:, :1]
        return torch.cat([token.to(x.dtype).expand(x.shape[0], -1, -1), x], dim=1)

    def forward(
        self,
        images: Tensor,
        temporal_coords: Tensor | None = None,
        location_coords: Tensor | None = None,
        visible: Tensor | Kept | None = None,
        count: int | None = None,
    ) -> Encoded:
        """Encodes the visible patches; hidden patches are not embedded at all.

        Args:
            images: (B, band, T, Y, X), standardised.
            temporal_coords: (B, T, 2) year and day of year from 0; NaN or None where unknown.
            location_coords: (B, 2) latitude and longitude in degrees; NaN or None where unknown.
            visible: (B, L) bool, True for visible patches, whose number may differ between samples; or the same,
                already packed; None for all patches.
            count: number of visible patches per sample, if the caller knows that it is the same in all samples.

        Raises:
            ModelError: shapes that do not fit the model.

        """
        # Visible patches are selected before the embedding, not after it as in MAE: with 75 % masked, a quarter of the
        # embedding is computed.
        grid = self.grid_of(images)
        patches = to_patches(images, self.config.patch_size, band_last=False)
        if visible is None:
            kept = Kept(_every(patches), None)
        elif isinstance(visible, Kept):
            kept, patches = visible, take(patches, visible.index)
        else:
            if visible.shape != patches.shape[:2] or visible.dtype != torch.bool:
                raise ModelError(
                    f"visible is {tuple(visible.shape)} of {visible.dtype}; it must be {tuple(patches.shape[:2])} of "
                    f"torch.bool: a value for each patch of the {' x '.join(map(str, grid))} grid (time, y, x)."
                )
            kept = pack(visible, count)
            patches = take(patches, kept.index)
        x = self._embed(patches, grid, kept.index, (temporal_coords, location_coords))
        attend = attention_mask(kept)
        for block in self.blocks:
            x = block(x, attend)
        return Encoded(self.norm(x), kept)

    def forward_features(
        self, images: Tensor, temporal_coords: Tensor | None = None, location_coords: Tensor | None = None
    ) -> list[Tensor]:
        """Tokens (B, 1 + L, D) after each block, class token first; the final norm is applied to the last one."""
        grid = self.grid_of(images)
        patches = to_patches(images, self.config.patch_size, band_last=False)
        x = self._embed(patches, grid, _every(patches), (temporal_coords, location_coords))
        features = []
        for block in self.blocks:
            x = block(x)
            features.append(x)
        features[-1] = self.norm(x)
        return features


def _every(patches: Tensor) -> Tensor:
    """(B, L) the numbers 0 to L - 1 of all patches, for each sample."""
    return torch.arange(patches.shape[1], device=patches.device).expand(patches.shape[0], -1)
