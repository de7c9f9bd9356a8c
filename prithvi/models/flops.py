"""Floating-point operations of a training step, for model-flops utilisation (MFU) of a device."""

from __future__ import annotations

import math

from prithvi.models.config import ModelConfig


def training_flops(config: ModelConfig, frames: int, size: int, decode_fraction: float = 1.0) -> float:
    """Operations per sample for the forward and the backward pass (twice the forward); a multiply-add counts as two.

    Only matrix products of linear layers and attention are counted, as usual for model-flops utilisation, and only
    those that the code computes (the last decoder block skips the visible patches).

    Args:
        config: the model.
        frames: number of dates per sample.
        size: side of the crop in pixels.
        decode_fraction: fraction of the hidden patches that are predicted.

    """
    t, h, w = config.grid(frames, size, size)
    patches = t * h * w
    seen = int(patches * (1 - config.mask_ratio))
    asked = math.ceil((patches - seen) * decode_fraction)
    values = config.in_chans * math.prod(config.patch_size)
    encoder = _encoder(config, seen)
    dim, tokens = config.decoder_embed_dim, seen + asked + 1
    decoder: float = (seen + 1) * config.embed_dim * dim + asked * dim * values
    decoder += (config.decoder_depth - 1) * _block(tokens, tokens, dim, config) + _block(asked, tokens, dim, config)
    return 3 * 2 * (encoder + decoder)


def encoder_flops(config: ModelConfig, frames: int, size: int) -> float:
    """Operations per sample for the forward pass of the encoder over all patches; arguments as of `training_flops`."""
    return 2 * _encoder(config, math.prod(config.grid(frames, size, size)))


def _encoder(config: ModelConfig, patches: int) -> float:
    """Multiply-adds of the encoder over some patches."""
    values = config.in_chans * math.prod(config.patch_size)
    embedding: float = patches * values * config.embed_dim
    return embedding + config.depth * _block(patches + 1, patches + 1, config.embed_dim, config)


def _block(queries: int, tokens: int, dim: int, config: ModelConfig) -> float:
    """Multiply-adds of one transformer block in which `queries` of the tokens are computed and all are attended to."""
    # Keys and values cost 2 D^2 per token; query, projection and the two layers of the MLP are computed for the
    # queries only; the last term is attention itself (QK^T and its product with V).
    linear = tokens * 2 * dim * dim + queries * (2 + 2 * config.mlp_ratio) * dim * dim
    return linear + 2 * queries * tokens * dim
