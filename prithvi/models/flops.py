"""How many floating-point operations a training step takes, to compare with what a device can do."""

from __future__ import annotations

import math

from prithvi.models.config import ModelConfig


def training_flops(config: ModelConfig, frames: int, size: int, decode_fraction: float = 1.0) -> float:
    """Operations of one sample, forward and backward (twice the forward), a multiply-add counted as two.

    Matrix products of linear layers and attention only, as model-flops utilisation is counted; what is not needed (the
    visible patches in the last decoder block) is left out as the code leaves it out.

    Args:
        config: the model.
        frames: dates of a sample.
        size: side of the crop in pixels.
        decode_fraction: share of the hidden patches that are predicted.

    """
    t, h, w = config.grid(frames, size, size)
    patches = t * h * w
    seen = int(patches * (1 - config.mask_ratio))
    asked = math.ceil((patches - seen) * decode_fraction)
    values = config.in_chans * math.prod(config.patch_size)
    encoder: float = seen * values * config.embed_dim + config.depth * _block(
        seen + 1, seen + 1, config.embed_dim, config
    )
    dim, tokens = config.decoder_embed_dim, seen + asked + 1
    decoder: float = (seen + 1) * config.embed_dim * dim + asked * dim * values
    decoder += (config.decoder_depth - 1) * _block(tokens, tokens, dim, config) + _block(asked, tokens, dim, config)
    return 3 * 2 * (encoder + decoder)


def _block(queries: int, tokens: int, dim: int, config: ModelConfig) -> float:
    """Multiply-adds of one transformer block with that many tokens computed and looked at."""
    linear = tokens * 2 * dim * dim + queries * (2 + 2 * config.mlp_ratio) * dim * dim
    return linear + 2 * queries * tokens * dim
