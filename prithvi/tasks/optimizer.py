"""The optimiser of fine-tuning: AdamW, decay of matrices alone, a rise and a cosine, lower rates for earlier blocks."""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch import nn


def fine_tuning(
    task: nn.Module, steps: int, lr: float, weight_decay: float, warmup: float, layer_decay: float = 1.0
) -> dict[str, Any]:
    """What `configure_optimizers` returns.

    Args:
        task: its trainable parameters are trained.
        steps: of the whole run.
        lr: highest learning rate.
        weight_decay: of matrices; biases, norms and tokens have none.
        warmup: share of the steps in which the rate rises, before it falls along a cosine to 0.
        layer_decay: factor from each encoder block to the one before it (as in BEiT and MAE fine-tuning); what is not
            the encoder's, and its last block's norm, has the full rate.

    """
    depth = 1 + max((_block(name) for name, _ in task.named_parameters()), default=0)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in task.named_parameters():
        if parameter.requires_grad:
            decay = weight_decay if parameter.ndim > 1 and not name.endswith(("cls_token", "mask_token")) else 0.0
            groups.setdefault((lr * layer_decay ** _below_top(name, depth), decay), []).append(parameter)
    optimizer = torch.optim.AdamW(
        [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()], lr=lr
    )
    return with_schedule(optimizer, steps, warmup)


def with_schedule(
    optimizer: torch.optim.Optimizer, steps: int, warmup: float, start: float | None = None, end: float = 0.0
) -> dict[str, Any]:
    """What `configure_optimizers` returns: learning rates that rise linearly and then fall along half a cosine.

    Args:
        optimizer: with the highest rates.
        steps: of the whole run.
        warmup: share of the steps in which the rate rises.
        start: rate of the first step, as a share of the highest; default that of one step of the rise.
        end: rate of the last step, as a share of the highest.

    """
    rise = max(1, int(warmup * steps))

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise if start is None else start + (1 - start) * step / rise
        fall = min(1.0, (step - rise) / max(1, steps - rise))
        return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * fall))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _block(name: str) -> int:
    """Number of the encoder block that a parameter belongs to; -1 for any other."""
    found = re.search(r"encoder\.blocks\.(\d+)\.", name)
    return int(found.group(1)) if found else -1


def _below_top(name: str, depth: int) -> int:
    """How many blocks lie above a parameter: none above what is not the encoder's, all above its patch embedding."""
    if _block(name) >= 0:
        return depth - 1 - _block(name)
    inside = re.search(r"encoder\.(patch_embed|cls_token|temporal_embed|location_embed)", name)
    return depth if inside else 0
