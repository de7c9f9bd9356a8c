"""AdamW for fine-tuning: weight decay of matrices only, warm-up and cosine schedule, layer-wise learning rates."""

from __future__ import annotations

import math
import re
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import LearningRateFinder
from torch import nn

from prithvi.errors import ConfigError


def fine_tuning(
    task: nn.Module, steps: int, lr: float, weight_decay: float, warmup: float, layer_decay: float = 1.0
) -> dict[str, Any]:
    """Optimiser and schedule of fine-tuning, as `configure_optimizers` returns them.

    Args:
        task: the module whose trainable parameters are optimised.
        steps: steps of the whole run.
        lr: peak learning rate.
        weight_decay: weight decay of matrices; biases, norms and tokens have none.
        warmup: fraction of the steps in which the rate rises, before cosine decay to 0.
        layer_decay: factor of the rate from each encoder block to the one before it (as in BEiT and MAE fine-tuning);
            the head and the encoder's final norm have the full rate.

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
    """An optimiser with linear warm-up and cosine decay, as `configure_optimizers` returns them.

    Args:
        optimizer: the optimiser, with peak learning rates.
        steps: steps of the whole run.
        warmup: fraction of the steps in which the rate rises.
        start: rate of the first step as a fraction of the peak; default 1 / (number of warm-up steps).
        end: final rate as a fraction of the peak.

    """
    rise = max(1, int(warmup * steps))

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise if start is None else start + (1 - start) * step / rise
        fall = min(1.0, (step - rise) / max(1, steps - rise))
        return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * fall))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def remade_after_search(trainer: L.Trainer) -> None:
    """Makes optimiser and schedule anew where Lightning's callback has just searched for a rate, which they hold then.

    Args:
        trainer: at the start of a fit, before the optimiser's state is read from a checkpoint.

    """
    # The callback itself sets the rates of the optimiser alone, which the schedule overwrites after the first step.
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    if any(isinstance(callback, LearningRateFinder) for callback in callbacks):
        trainer.strategy.setup_optimizers(trainer)


def refuse_whole_precision(trainer: L.Trainer) -> None:
    """Refuses weights in anything but float32, which images and statistics are in.

    Raises:
        ConfigError: the trainer's precision is `bf16-true`, `16-true` or `64-true`.

    """
    if str(trainer.precision) in ("bf16-true", "16-true", "64-true"):
        raise ConfigError(
            f"trainer.precision is {trainer.precision}, and weights are trained in float32 here: say bf16-mixed (or "
            "16-mixed on a GPU), which computes in half precision, or 32-true."
        )


def _block(name: str) -> int:
    """Number of the encoder block of a parameter; -1 if it is in none."""
    found = re.search(r"encoder\.(?:inner\.)?blocks\.(\d+)\.", name)
    return int(found.group(1)) if found else -1


def _below_top(name: str, depth: int) -> int:
    """Number of encoder blocks above a parameter: all for the embeddings, none for final norm and head."""
    if _block(name) >= 0:
        return depth - 1 - _block(name)
    inside = re.search(r"encoder\.(patch_embed|cls_token|temporal_embed|location_embed)", name)
    return depth if inside else 0
