"""What several devices need besides Lightning: a gradient for each weight, and each sample counted once."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from typing import cast

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DistributedSampler


def with_every_weight(loss: Tensor, task: L.LightningModule) -> Tensor:
    """A loss of the same value on which the scales of the codes of dates and places depend, too, with a gradient of 0.

    DistributedDataParallel refuses a weight that no loss depends on, and these are such where a model is given no
    coordinates. Frozen, they would leave the optimiser, and older checkpoints could not be gone on from.

    Args:
        loss: of a training step.
        task: whose weights are trained.

    """
    if task._trainer is None or task.trainer.world_size == 1:
        return loss
    for name, weight in task.named_parameters():
        if weight.requires_grad and ("temporal_embed" in name or "location_embed" in name):
            loss = loss + 0.0 * weight.sum()
    return loss


def repeated(task: L.LightningModule, part: str, loader: int, batch: int, size: int) -> Tensor:
    """(B,) bool, True for samples that this device is shown a second time, so that all devices have as many.

    Args:
        task: in a validation or test; where it has no trainer nothing is repeated.
        part: `val` or `test`.
        loader: number of the data loader, where there are several.
        batch: number of the batch on this device.
        size: its samples.

    """
    # torch's sampler gives each device every n-th sample, and fills the last round with the first samples again.
    if task._trainer is None:
        return torch.zeros(size, dtype=torch.bool)
    loaders = task.trainer.val_dataloaders if part == "val" else task.trainer.test_dataloaders
    if isinstance(loaders, Mapping):
        loaders = list(loaders.values())
    loaders = loaders if isinstance(loaders, (list, tuple)) else [loaders]
    sampler, each = (getattr(loaders[loader], name, None) for name in ("sampler", "batch_size"))
    if not isinstance(sampler, DistributedSampler) or each is None:
        return torch.zeros(size, dtype=torch.bool)
    place = batch * each + torch.arange(size)
    length = len(cast("Sized", sampler.dataset))
    found: Tensor = place * sampler.num_replicas + sampler.rank >= length
    return found
