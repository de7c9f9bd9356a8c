"""The masked autoencoder (arXiv 2111.06377): encodes visible patches, predicts hidden ones and compares."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prithvi.contract import Contract
from prithvi.errors import ModelError
from prithvi.models.branch import FusedBranch, PixelDecoder, pixel_features, with_dates
from prithvi.models.codes import Coordinates, coordinate_codes, patch_codes, position_code
from prithvi.models.config import Grid, ModelConfig
from prithvi.models.encoder import Encoded, PrithviEncoder
from prithvi.models.interpolation import fill
from prithvi.models.layers import Block, init_linear_and_norm, to_images, to_patches
from prithvi.models.masking import Kept, Masking, attention_mask, flags, patch_pixels, random_visible, take


@dataclass(frozen=True)
class MAEOutput:
    """Output of a forward pass of `PrithviMAE`."""

    loss: Tensor
    """Mean squared error over hidden patches in standardised units; 0 if none is hidden."""
    pred: Tensor
    """(B, band, T, Y, X) prediction of all pixels, visible ones included. With `norm_pix_loss`, each patch is
    standardised by its own mean and standard deviation."""
    mask: Tensor
    """(B, L) bool, True for hidden patches."""


@dataclass(frozen=True)
class HiddenError:
    """Error of the predictions at the hidden pixels of a batch; `total / pixels` is the loss."""

    total: Tensor
    """Squared (or absolute) error in standardised units, averaged over bands and summed over the counted pixels."""
    pixels: Tensor
    """Number of counted pixels: hidden ones that have data."""

    @property
    def loss(self) -> Tensor:
        """Mean error per counted pixel; 0 if there are none."""
        return self.total / self.pixels.clamp(min=1)


class MAEDecoder(nn.Module):
    """A small transformer over all patches, with a learned mask token in place of each hidden patch."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.decoder_embed_dim
        self.grid = config.grid(config.num_frames, *config.img_size)
        self.decoder_pos_embed: Tensor
        self.decoder_embed = nn.Linear(config.embed_dim, dim)
        self.temporal_embed_dec, self.location_embed_dec = coordinate_codes(dim, config)
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
        self.decoder_gate = nn.Linear(dim, config.in_chans) if config.blend_fill else None
        if self.decoder_gate is not None:  # sigmoid(-3) = 0.05: at first, predictions are mostly the interpolation
            nn.init.zeros_(self.decoder_gate.weight)
            nn.init.constant_(self.decoder_gate.bias, -3.0)

    def tokens(self, encoded: Encoded, grid: Grid, coordinates: Coordinates, hidden: Kept | None = None) -> Tensor:
        """Decoded tokens after the final norm: (B, L, D) of all patches of `grid`, or (B, H, D) of `hidden` alone.

        Both are equal. Attention does not depend on the order of tokens, so those of `hidden` are not put in place,
        and the last block is computed for them only.
        """
        x = self.decoder_embed(encoded.tokens)
        seen, kept, mask_token = x[:, 1:], encoded.kept, self.mask_token.to(x.dtype)

        def codes(index: Tensor) -> Tensor:
            modules = self.temporal_embed_dec, self.location_embed_dec
            return patch_codes(self.decoder_pos_embed, self.grid, grid, index, modules, coordinates)

        if hidden is None:
            # Start from mask tokens everywhere, scatter the visible tokens to their patches, then add the codes.
            # Padding in `kept` points at hidden patches, so it is overwritten with the mask token before the scatter.
            if kept.present is not None:
                seen = torch.where(kept.present.unsqueeze(-1), seen, mask_token)
            every = mask_token.expand(x.shape[0], math.prod(grid), -1)
            every = every.scatter(1, kept.index.unsqueeze(-1).expand(-1, -1, x.shape[-1]), seen)
            patches = [every + codes(torch.arange(every.shape[1], device=x.device).expand(x.shape[0], -1))]
            attend, first = None, 0
        else:
            # The sequence is [class token, visible patches, hidden patches]; padding of either kind is masked.
            patches = [seen + codes(kept.index), mask_token + codes(hidden.index)]
            attend, first = attention_mask(kept, hidden), 1 + seen.shape[1]
        x = torch.cat([x[:, :1] + self.decoder_pos_embed[:, :1].to(x.dtype), *patches], dim=1)
        for number, block in enumerate(self.decoder_blocks, start=1):
            x = block(x, attend, first if number == len(self.decoder_blocks) else 0)
        out: Tensor = self.decoder_norm(x)
        return out[:, 1:] if hidden is None else out

    def patches(self, tokens: Tensor, filled: Tensor | None) -> Tensor:
        """(B, H, values) patches from (B, H, D) decoded tokens.

        Args:
            tokens: (B, H, D) decoded tokens.
            filled: (B, H, values) interpolation of the same patches; None without `blend_fill`.

        """
        # Values of a patch run (t, y, x, band): the gate of each band is repeated over the pixels of the patch.
        own: Tensor = self.decoder_pred(tokens)
        if self.decoder_gate is None or filled is None:
            return own
        share = torch.sigmoid(self.decoder_gate(tokens)).repeat(1, 1, own.shape[-1] // self.decoder_gate.out_features)
        return torch.lerp(filled.to(own.dtype), own, share)


class PrithviMAE(nn.Module):
    """Encoder and decoder of a published or custom variant; `prithvi.models.build` makes one by name.

    Parameters are named as in the published version 2 files, so that weights can be exchanged in both directions.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = PrithviEncoder(config)
        self.decoder = MAEDecoder(config)
        # A branch learns from corrections of the interpolation and from labels: without either it has no use.
        learns = config.pixel_width > 0 and (config.blend_fill or bool(config.labels))
        self.branch = FusedBranch(config, config.embed_dim) if learns else None
        self.pixel_decoder = PixelDecoder(config) if learns else None

    @property
    def contract(self) -> Contract:
        """The input that the weights expect."""
        return self.config.contract

    def forward(
        self,
        images: Tensor,
        temporal_coords: Tensor | None = None,
        location_coords: Tensor | None = None,
        mask_ratio: float = 0.75,
        visible: Tensor | None = None,
        generator: torch.Generator | None = None,
        known: Tensor | None = None,
    ) -> MAEOutput:
        """Masks patches, predicts all of them, and computes the loss on the hidden ones.

        Args:
            images: (B, band, T, Y, X), standardised, without NaN.
            temporal_coords: (B, T, 2) year and day of year from 0; NaN or None where unknown.
            location_coords: (B, 2) latitude and longitude in degrees; NaN or None where unknown.
            mask_ratio: fraction of patches hidden at random; ignored with `visible`.
            visible: (B, L) bool, True for visible patches, whose number may differ between samples.
            generator: random generator; None for torch's default.
            known: (B, T, Y, X) bool, pixels that a model with `blend_fill` interpolates from, which may lie inside
                hidden patches; None for the pixels of the visible patches.

        Raises:
            ModelError: shapes that do not fit the model.

        """
        grid = self.encoder.grid_of(images)
        batch, patches, count = images.shape[0], math.prod(grid), None
        if visible is None:
            visible = random_visible(batch, patches, mask_ratio, images.device, generator)
            count = int(patches * (1 - mask_ratio))
        elif visible.device != images.device:
            raise ModelError(f"visible is on {visible.device} and the images on {images.device}.")
        encoded = self.encoder(images, temporal_coords, location_coords, visible, count)
        tokens = self.decoder.tokens(encoded, grid, (temporal_coords, location_coords))
        filled = self._filled(images, visible, temporal_coords, known) if self.config.blend_fill else None
        pred = self.decoded(tokens, encoded, filled, grid, temporal_coords)
        mask = ~visible
        weight = mask.unsqueeze(-1).expand(-1, -1, math.prod(self.config.patch_size))
        error = self._error(pred, to_patches(images, self.config.patch_size, band_last=True), weight)
        return MAEOutput(error.loss, to_images(pred, self.config.patch_size, grid), mask)

    def hidden_error(
        self,
        images: Tensor,
        masking: Masking,
        counts: Tensor | None = None,
        temporal_coords: Tensor | None = None,
        location_coords: Tensor | None = None,
        known: Tensor | None = None,
        absolute: bool = False,
    ) -> HiddenError:
        """The pretraining step: embeds only visible patches and predicts only the hidden patches in `masking`.

        If `masking` contains all hidden patches, the loss equals that of `forward`. With a part of them
        (`Masking.fewer`) the others are absent: predicted patches attend to fewer mask tokens.

        Args:
            images: (B, band, T, Y, X), standardised, without NaN.
            masking: the visible patches and the hidden patches to predict.
            counts: (B, T, Y, X) bool, pixels that count in the loss; None for all.
            temporal_coords: (B, T, 2) year and day of year from 0; NaN or None where unknown.
            location_coords: (B, 2) latitude and longitude in degrees; NaN or None where unknown.
            known: (B, T, Y, X) bool, pixels that a model with `blend_fill` interpolates from, which may lie inside
                hidden patches; None for the pixels of the visible patches.
            absolute: use absolute instead of squared errors.

        """
        grid, hidden = self.encoder.grid_of(images), masking.hidden
        encoded = self.encoder(images, temporal_coords, location_coords, masking.visible)
        tokens = self.decoder.tokens(encoded, grid, (temporal_coords, location_coords), hidden)
        filled = None
        if self.config.blend_fill:
            filled = self._filled(images, flags(masking.visible, math.prod(grid)), temporal_coords, known)
        pred = self.decoded(tokens, encoded, filled, grid, temporal_coords, hidden.index)
        target = take(to_patches(images, self.config.patch_size, band_last=True), hidden.index)
        # A pixel counts if the caller says so and its patch is not padding. Without either condition, all pixels count
        # and the faster mean reduction gives the same result.
        weight = None
        if counts is not None:
            weight = take(to_patches(counts.unsqueeze(1), self.config.patch_size, band_last=True), hidden.index)
        if hidden.present is not None:
            there = hidden.present.unsqueeze(-1).expand(-1, -1, math.prod(self.config.patch_size))
            weight = there if weight is None else weight & there
        return self._error(pred, target, weight, absolute)

    def decoded(
        self,
        tokens: Tensor,
        encoded: Encoded,
        filled: Tensor | None,
        grid: Grid,
        temporal_coords: Tensor | None = None,
        index: Tensor | None = None,
    ) -> Tensor:
        """(B, H, values) predicted patches, in the order of the decoder (t, y, x, band).

        Args:
            tokens: (B, H, D) decoded tokens.
            encoded: the visible patches.
            filled: (B, band, T, Y, X) interpolated images; None without `blend_fill`.
            grid: number of patches along (time, y, x).
            temporal_coords: (B, T, 2) year and day of year.
            index: (B, H) numbers of the decoded patches; None for all.

        """

        def cut(images: Tensor) -> Tensor:
            patches = to_patches(images, self.config.patch_size, band_last=True)
            return patches if index is None else take(patches, index)

        if filled is None:
            return self.decoder.patches(tokens, None)
        pred = self.decoder.patches(tokens, cut(filled))
        if self.branch is None or self.pixel_decoder is None or self.pixel_decoder.correct is None:
            return pred
        # The decoder mixes a whole patch's prediction with the interpolation; the branch sees each interpolated pixel
        # in its surroundings and on the other dates, and corrects it.
        features = self.branch(with_dates(filled, temporal_coords), _on_grid(encoded, grid))
        correction: Tensor = self.pixel_decoder.correct(features.flatten(0, 1))
        batch, dates, _, *size = features.shape
        return pred + cut(correction.reshape(batch, dates, -1, *size).transpose(1, 2))

    def pixel_features(
        self,
        images: Tensor,
        temporal_coords: Tensor | None = None,
        location_coords: Tensor | None = None,
        shut: Tensor | None = None,
    ) -> Tensor:
        """(B, T, pixel_width, Y, X) features of the branch, fused with the tokens of all patches.

        Samples that are True in `shut`, (B,) bool, have features of the branch alone.

        Raises:
            ModelError: the model has no branch, or shapes that do not fit it.

        """
        if self.branch is None:
            raise ModelError(
                f"{self.config.architecture} has no per-pixel branch: pixel_width is 0, or nothing taught it."
            )
        return pixel_features(self.encoder, self.branch, images, temporal_coords, location_coords, shut)

    def label_scores(
        self,
        images: Tensor,
        temporal_coords: Tensor | None = None,
        location_coords: Tensor | None = None,
        shut: Tensor | None = None,
    ) -> Tensor:
        """(B, label, Y, X) scores of the classes in `config.labels`, the mean over all dates.

        Samples that are True in `shut`, (B,) bool, are scored by the branch alone.

        Raises:
            ModelError: the model learned no labels, or shapes that do not fit it.

        """
        if self.pixel_decoder is None or self.pixel_decoder.labels is None:
            raise ModelError(f"{self.config.architecture} learned no labels beside the reconstruction.")
        features = self.pixel_features(images, temporal_coords, location_coords, shut).mean(dim=1)
        scores: Tensor = self.pixel_decoder.labels(features)
        return scores

    def _error(self, pred: Tensor, target: Tensor, weight: Tensor | None, absolute: bool = False) -> HiddenError:
        """Error of (B, H, values) patches over the pixels in `weight` (B, H, pixel) bool; None for all."""
        pred, target = (values.reshape(*values.shape[:2], -1, self.config.in_chans) for values in (pred, target))
        if self.config.norm_pix_loss:
            target = _by_patch(target, weight)
        pred = pred.to(torch.promote_types(pred.dtype, torch.float32))
        distance = nn.functional.l1_loss if absolute else nn.functional.mse_loss
        if weight is None:
            pixels = torch.tensor(target[..., 0].numel(), device=target.device)
            return HiddenError(distance(pred, target) * pixels, pixels)
        error = distance(pred, target, reduction="none").mean(dim=-1)
        return HiddenError((error * weight).sum(), weight.sum())

    def _filled(self, images: Tensor, visible: Tensor, temporal_coords: Tensor | None, known: Tensor | None) -> Tensor:
        """(B, band, T, Y, X) images interpolated from the known pixels."""
        if known is None:
            known = patch_pixels(visible, self.config.patch_size, self.encoder.grid_of(images))
        return fill(images, known, temporal_coords)


def _on_grid(encoded: Encoded, grid: Grid) -> Tensor:
    """(B, t, D, h, w) tokens of the visible patches in place, 0 at hidden ones."""
    seen, kept = encoded.tokens[:, 1:], encoded.kept
    if kept.present is not None:  # padding points at hidden patches
        seen = seen * kept.present.unsqueeze(-1)
    index = kept.index.unsqueeze(-1).expand_as(seen)
    every = seen.new_zeros(seen.shape[0], math.prod(grid), seen.shape[-1]).scatter(1, index, seen)
    return every.reshape(every.shape[0], *grid, -1).movedim(-1, 2)


def _by_patch(target: Tensor, weight: Tensor | None) -> Tensor:
    """(B, H, pixel, band) patches, each standardised by the mean and standard deviation of its counted pixels."""
    w = torch.ones_like(target) if weight is None else weight.unsqueeze(-1).expand_as(target)
    number = w.sum(dim=(-1, -2), keepdim=True)
    mean = (target * w).sum(dim=(-1, -2), keepdim=True) / number.clamp(min=1)
    var = ((target - mean) ** 2 * w).sum(dim=(-1, -2), keepdim=True) / (number - 1).clamp(min=1)
    return (target - mean) / (var + 1e-6) ** 0.5
