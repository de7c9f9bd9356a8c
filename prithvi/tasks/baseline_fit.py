"""Heads that are fitted without gradient steps: to labelled pixels of whole training chips, once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import lightning as L
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from torch import Tensor
from torch.utils.data import default_collate

from prithvi.errors import ConfigError, DatasetError, counted
from prithvi.metrics import IGNORE
from prithvi.models.baseline import BaselineHead
from prithvi.tasks.checkpoint_files import WholeCheckpoints
from prithvi.tasks.segmentation import SegmentationTask
from prithvi.tasks.sliding import windows_of

_SHOWN = 16
"""Chips that a head is shown before pixels are drawn."""


class Chips(Protocol):
    """Whole samples of `prithvi.data`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...


class Trainer(L.Trainer):
    """Lightning's trainer with whole checkpoints; its fit of a head without gradient steps is one look at the chips."""

    def fit(self, model: L.LightningModule, *args: Any, **options: Any) -> None:
        """Trains; a head without gradient steps is fitted at once, to the data module's `training_samples`.

        Arguments are those of `lightning.Trainer.fit`.

        Raises:
            ConfigError: such a head is to go on from a checkpoint, or the data module has no such samples.

        """
        if type(self.strategy.checkpoint_io) is TorchCheckpointIO:  # a plugin that somebody chose stays
            self.strategy.checkpoint_io = WholeCheckpoints()
        if not (isinstance(model, SegmentationTask) and model.fitted_at_once):
            return super().fit(model, *args, **options)
        data = options.get("datamodule")
        if options.get("ckpt_path") is not None:
            raise ConfigError(f"head {model.head_name!r} is fitted at once and has no checkpoint to go on from.")
        if data is None or not hasattr(data, "training_samples"):
            raise ConfigError(f"head {model.head_name!r} is fitted to labelled chips; {type(data).__name__} has none.")
        fit_head(model.to(self.strategy.root_device), data.training_samples())
        model.calibrating = True  # this validation is part of the fit
        self.validate(model, datamodule=data, verbose=False)
        model.calibrating = False


@torch.no_grad()
def fit_head(task: SegmentationTask, chips: Chips) -> None:
    """Fits the head of a task, if it is one without gradient steps, and leaves what was found in `task.found`.

    As many labelled pixels are drawn of each chip, and each window of it, by the seed of torch's default generator.

    Args:
        task: changed in place.
        chips: whole training chips, such as `ChipDataModule.training_samples` gives.

    Raises:
        ConfigError: it is another head.
        DatasetError: no pixel is labelled, or fewer than two classes are.
        InapplicableError: such a baseline cannot be made of these data.

    """
    head = task.model.head
    if not isinstance(head, BaselineHead):
        raise ConfigError(f"head {task.head_name!r} is trained by gradient steps: prithvi fit, or a Trainer.")
    seed = torch.initial_seed() % 2**32
    draw, each = torch.Generator().manual_seed(seed), max(1, head.pixel_limit // len(chips))
    task.eval()
    if task.model.encoder is not None:
        some = sorted({number * len(chips) // _SHOWN for number in range(_SHOWN)})
        head.prepare([task.encode(_batch(chips[index], task.device))[0] for index in some])
    rows, labels = [], []
    for index in range(len(chips)):
        found, label = _drawn(task, head, _batch(chips[index], task.device), each, draw)
        rows.append(found.cpu())
        labels.append(label.cpu())
    label = torch.cat(labels)
    if not len(label):
        raise DatasetError(
            f"no pixel of the {counted(len(chips), 'training chip')} has a label, and there is nothing to fit to."
        )
    head.cpu()
    task.found = head.fit_to(torch.cat(rows), label, task.classes, task.class_weights.cpu(), seed)
    head.to(task.device)
    task.seen.zero_()
    task.seen.index_fill_(0, label.to(task.device), True)
    task.on_train_end()


def _batch(sample: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    batch: dict[str, Any] = default_collate([sample])
    return {key: value.to(device) if isinstance(value, Tensor) else value for key, value in batch.items()}


def _drawn(
    task: SegmentationTask, head: BaselineHead, batch: dict[str, Any], each: int, draw: torch.Generator
) -> tuple[Tensor, Tensor]:
    """(N, F) features and (N,) classes of up to `each` labelled pixels of a chip."""
    windows = task.encode(batch)
    truth = windows_of(task.label_of(batch), task.window)
    rows, labels = [], []
    for features, label in zip(windows, truth, strict=True):
        known = (label[0] != IGNORE).flatten().nonzero()[:, 0]
        some = torch.randperm(len(known), generator=draw)[: max(1, each // len(windows))]
        known = known[some.to(known.device)]
        described = head.describe(features, (task.window, task.window))[0].flatten(1)
        rows.append(described[:, known].T)
        labels.append(label[0].flatten()[known])
    return torch.cat(rows), torch.cat(labels)
