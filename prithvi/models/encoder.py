"""The encoder: embedding of visible patches, position, date and location codes, and transformer blocks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prithvi.errors import ModelError
from prithvi.models.codes import CoordinateCode, position_code, position_code_at
from prithvi.models.config import ModelConfig
from prithvi.models.layers import Block, PatchEmbed, init_linear_and_norm, to_patches
from prithvi.models.masking import Kept, pack, take


@dataclass(frozen=True)
class Encoded:
    """Output of the encoder."""

    tokens: Tensor
    """(B, 1 + K, D) class token and tokens of visible patches, after the final norm."""
    kept: Kept
    """Numbers of the visible patches."""


class PrithviEncoder(nn.Module):
    """Vision transformer over patches of (time, y, x), with optional date and location codes."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.embed_dim
        self.grid = config.grid(config.num_frames, *config.img_size)
        self.pos_embed: Tensor
        self.patch_embed = PatchEmbed(config.in_chans, config.patch_size, dim)
        self.temporal_embed_enc = (
            CoordinateCode(dim, config.coords_scale_learn) if "time" in config.coords_encoding else None
        )
        self.location_embed_enc = (
            CoordinateCode(dim, config.coords_scale_learn) if "location" in config.coords_encoding else None
        )
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.register_buffer("pos_embed", position_code(dim, self.grid).clone())
        self.blocks = nn.ModuleList(
            Block(dim, config.num_heads, config.mlp_ratio, config.norm_eps, config.drop_path)
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(dim, eps=config.norm_eps)
        self._init_weights()

    def _init_weights(self) -> None:
        self.apply(init_linear_and_norm)
        nn.init.xavier_uniform_(self.patch_embed.proj.weight.data.flatten(1))
        nn.init.zeros_(self.patch_embed.proj.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.cls_token, std=0.02)

    def grid_of(self, images: Tensor) -> tuple[int, int, int]:
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

    def _codes(
        self, grid: tuple[int, int, int], index: Tensor, temporal_coords: Tensor | None, location_coords: Tensor | None
    ) -> Tensor:
        """(B, K, D) sum of position, date and location codes of the patches at `index`."""
        return patch_codes(
            position_code_at(self.pos_embed, self.grid, grid), grid, index,
            self.temporal_embed_enc, temporal_coords, self.location_embed_enc, location_coords,
        )  # fmt: skip

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
        x = self.patch_embed(patches) + self._codes(grid, kept.index, temporal_coords, location_coords)
        attend = kept.attend()
        x = self._with_class_token(x)
        for block in self.blocks:
            x = block(x, attend)
        return Encoded(self.norm(x), kept)

    def forward_features(
        self, images: Tensor, temporal_coords: Tensor | None = None, location_coords: Tensor | None = None
    ) -> list[Tensor]:
        """Tokens (B, 1 + L, D) after each block, class token first; the final norm is applied to the last one."""
        grid = self.grid_of(images)
        patches = to_patches(images, self.config.patch_size, band_last=False)
        x = self.patch_embed(patches) + self._codes(grid, _every(patches), temporal_coords, location_coords)
        x = self._with_class_token(x)
        features = []
        for block in self.blocks:
            x = block(x)
            features.append(x)
        features[-1] = self.norm(x)
        return features

    def _with_class_token(self, x: Tensor) -> Tensor:
        # The class token has no date or location code; its position code is the first row of pos_embed.
        token = self.cls_token + self.pos_embed[:, :1]
        return torch.cat([token.to(x.dtype).expand(x.shape[0], -1, -1), x], dim=1)


def patch_codes(
    position: Tensor,
    grid: tuple[int, int, int],
    index: Tensor,
    time: CoordinateCode | None,
    temporal_coords: Tensor | None,
    place: CoordinateCode | None,
    location_coords: Tensor | None,
) -> Tensor:
    """(B, K, D) sum of position, date and location codes of the patches at `index`.

    Args:
        position: (1, 1 + L, D) position codes, the class token's row first.
        grid: number of patches along (time, y, x).
        index: (B, K) patch numbers.
        time: date code; None if the model has none.
        temporal_coords: (B, T, 2) year and day of year from 0; None if unknown.
        place: location code; None if the model has none.
        location_coords: (B, 2) latitude and longitude in degrees; None if unknown.

    Raises:
        ModelError: coordinates are not of shape (B, T, 2) and (B, 2).

    """
    # Date and location codes are float32 and are added up before the cast to the position code's type. All patches of
    # a date share its code: the date of patch number i is i // (patches per date).
    codes = take(position[:, 1:], index)
    total = None
    if time is not None and temporal_coords is not None:
        if temporal_coords.ndim != 3 or temporal_coords.shape[1:] != (grid[0], 2):
            raise ModelError(
                f"temporal_coords has shape {tuple(temporal_coords.shape)}; it must be (batch, {grid[0]}, 2): year and "
                "day of year (from 0) of each date."
            )
        _refuse_other_batch(temporal_coords, index.shape[0])
        total = take(time(temporal_coords), index // (grid[1] * grid[2]))
    if place is not None and location_coords is not None:
        if location_coords.ndim != 2 or location_coords.shape[1] != 2:
            raise ModelError(
                f"location_coords has shape {tuple(location_coords.shape)}; it must be (batch, 2): latitude, longitude."
            )
        _refuse_other_batch(location_coords, index.shape[0])
        here = place(location_coords).unsqueeze(1)
        total = here if total is None else total + here
    return codes if total is None else codes + total.to(codes.dtype)


def _every(patches: Tensor) -> Tensor:
    """(B, L) the numbers 0 to L - 1 of all patches, for each sample."""
    return torch.arange(patches.shape[1], device=patches.device).expand(patches.shape[0], -1)


def _refuse_other_batch(coordinates: Tensor, batch: int) -> None:
    if coordinates.shape[0] != batch:
        raise ModelError(f"coordinates of {coordinates.shape[0]} samples for a batch of {batch} images.")
