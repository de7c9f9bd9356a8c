"""Averages of the weights, which Lightning's `WeightAveraging` keeps beside a task and validates in its place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning as L
from torch.optim.swa_utils import AveragedModel


def averages_of(task: L.LightningModule) -> Iterator[L.LightningModule]:
    """Of a task in training the copies whose weights are averages of its own; mostly none or one."""
    for callback in task.trainer.callbacks:  # type: ignore[attr-defined]
        for kept in vars(callback).values():
            if isinstance(kept, AveragedModel) and isinstance(kept.module, type(task)):
                yield kept.module


def save_averages(task: L.LightningModule, checkpoint: dict[str, Any]) -> None:
    """Puts the averages into a checkpoint of weights alone, as they are in a whole one.

    Args:
        task: in training.
        checkpoint: what Lightning is about to save; `state_dict` is changed.

    """
    # Of `ModelCheckpoint(save_weights_only=True)` Lightning (2.6) asks no callback, and the averaging, which puts the
    # averages into a whole checkpoint, is one: the file would hold weights other than those it was chosen by.
    if "callbacks" in checkpoint or task._trainer is None:
        return
    for average in averages_of(task):
        checkpoint["state_dict"] = average.state_dict()
