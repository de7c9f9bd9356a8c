"""Callbacks that monitor pretraining: pictures of reconstructions, loss curves, a linear probe, and throughput."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from prithvi.errors import ConfigError
from prithvi.files import atomic_file, write_text
from prithvi.models.masking import flags, patch_pixels
from prithvi.tasks.pretrain import PretrainTask
from prithvi.tasks.probe import linear_probe

COMPOSITES = {
    "true colour": ("red", "green", "blue"),
    "infrared": ("nir_narrow", "red", "green"),
    "short-wave": ("swir_2", "nir_narrow", "red"),
}
"""Band combinations to draw, of which those are used whose bands the model has."""


class _AtSteps(L.Callback, ABC):
    """Acts after every `every_n_steps`-th step of the optimiser, once however many batches are accumulated for it."""

    def __init__(self, every_n_steps: int) -> None:
        self.every_n_steps, self._seen = every_n_steps, 0

    def on_train_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        self._seen = trainer.global_step  # a resumed run acted on this one before

    def on_train_batch_end(self, trainer: L.Trainer, task: L.LightningModule, outputs: Any, batch: Any, _: int) -> None:
        step, before = trainer.global_step, self._seen
        self._seen = step
        if step > before and step % self.every_n_steps == 0:
            self.act(trainer, task)

    @abstractmethod
    def act(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """What is due."""


class Reconstructions(_AtSteps):
    """Pictures of the first validation chips: input, visible patches and reconstruction, in several band combinations.

    They are written to DEFAULT_ROOT_DIR/pictures, and to TensorBoard if it is a logger of the run.

    Args:
        every_n_steps: steps between pictures; the last step has one too.
        samples: number of chips shown.

    """

    def __init__(self, every_n_steps: int = 1000, samples: int = 4) -> None:
        super().__init__(every_n_steps)
        self.samples = samples
        self._batch: dict[str, Any] | None = None

    def on_validation_batch_start(self, trainer: L.Trainer, task: L.LightningModule, batch: Any, *_: Any) -> None:
        self._keep(batch)

    def _keep(self, batch: dict[str, Any]) -> None:
        if self._batch is None:
            entries = {name: value for name, value in batch.items() if isinstance(value, (Tensor, list))}
            self._batch = {name: value[: self.samples] for name, value in entries.items()}

    def on_train_batch_start(self, trainer: L.Trainer, task: L.LightningModule, batch: Any, *_: Any) -> None:
        self._keep(batch)

    def on_train_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        if trainer.global_step % self.every_n_steps:  # else it was drawn
            self.act(trainer, task)

    def act(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Draws the kept chips."""
        if self._batch is None or trainer.world_size > 1:  # a forward pass of sharded weights needs all devices
            return
        assert isinstance(task, PretrainTask)
        figure = picture(task, self._batch)
        write_figure(figure, Path(trainer.default_root_dir) / "pictures" / f"step-{trainer.global_step:07d}.png")
        for logger in trainer.loggers:
            board: Any = getattr(logger, "experiment", None)
            if hasattr(board, "add_figure"):
                board.add_figure("reconstruction", figure, trainer.global_step)


@torch.no_grad()
def picture(task: PretrainTask, batch: dict[str, Any]) -> Any:
    """A matplotlib figure with a row per chip and date and three columns per band combination."""
    from matplotlib.figure import Figure

    training = task.training
    task.eval()
    view = task.prepare(batch, torch.Generator().manual_seed(task.seed))
    images = view.images
    grid = task.mae.encoder.grid_of(images)
    visible = flags(view.masking.visible, math.prod(grid))
    out = task.mae(images, *view.coordinates, visible=visible, known=view.known)
    task.train(training)
    shown = patch_pixels(visible, task.mae.config.patch_size, grid).unsqueeze(1)
    columns = [images, torch.where(shown, images, torch.nan), torch.where(shown, images, out.pred)]
    sets = {name: bands for name, bands in COMPOSITES.items() if set(bands) <= set(task.contract.bands)}
    rows = [(sample, date) for sample in range(len(images)) for date in range(images.shape[2])]
    width = 3 * max(1, len(sets))
    figure = Figure(figsize=(1.9 * width, 2.0 * len(rows) + 0.4), layout="constrained")
    axes = figure.subplots(len(rows), width, squeeze=False)
    for line, (sample, date) in zip(axes, rows, strict=True):
        for number, (name, bands) in enumerate(sets.items()):
            index = [task.contract.bands.index(band) for band in bands]
            original = images[sample, index, date].float().cpu().numpy()
            low, high = np.percentile(original, [1, 99], axis=(1, 2))[..., None, None]
            for kind, (title, values) in enumerate(zip(("input", "visible", "reconstructed"), columns, strict=True)):
                ax = line[3 * number + kind]
                ax.imshow(_stretched(values[sample, index, date].float().cpu().numpy(), low, high))
                ax.set_axis_off()
                if (sample, date) == rows[0]:
                    ax.set_title(f"{name}: {title}" if kind == 0 else title, fontsize=8)
    return figure


def _stretched(values: npt.NDArray[Any], low: npt.NDArray[Any], high: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(band, Y, X) values as (Y, X, 3) from 0 to 1, mid-grey where NaN (hidden)."""
    scaled = np.clip((values - low) / np.maximum(high - low, 1e-6), 0, 1)
    return np.where(np.isnan(values), 0.5, scaled).transpose(1, 2, 0)


def write_figure(figure: Any, target: Path, dpi: int = 90) -> None:
    """Writes a PNG; see `prithvi.files.atomic_file`."""
    with atomic_file(target) as written:
        figure.savefig(written, dpi=dpi)


class LossCurve(L.Callback):
    """Writes DEFAULT_ROOT_DIR/loss.png and loss.csv: training and validation loss, continued when a run is resumed.

    Args:
        every_n_steps: steps that each point of the training curve averages.

    """

    def __init__(self, every_n_steps: int = 50) -> None:
        self.every_n_steps = every_n_steps
        self.train: list[tuple[int, float]] = []
        self.val: list[tuple[int, float]] = []
        self._sum, self._count = 0.0, 0

    def state_dict(self) -> dict[str, Any]:
        return {"train": self.train, "val": self.val, "sum": float(self._sum), "count": self._count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.train, self.val = list(state_dict["train"]), list(state_dict["val"])
        self._sum, self._count = state_dict["sum"], state_dict["count"]

    def on_train_batch_end(self, trainer: L.Trainer, task: L.LightningModule, outputs: Any, batch: Any, _: int) -> None:
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        self._sum, self._count = self._sum + loss.detach(), self._count + 1
        if self._count >= self.every_n_steps * trainer.accumulate_grad_batches:
            self.train.append((trainer.global_step, float(self._sum) / self._count))
            self._sum, self._count = 0.0, 0

    def on_validation_epoch_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        found = [float(v) for name, v in trainer.callback_metrics.items() if name.startswith("val/loss")]
        if found and not trainer.sanity_checking:
            self.val.append((trainer.global_step, sum(found) / len(found)))
        self._write(trainer)

    def on_train_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        if self._count:
            self.train.append((trainer.global_step, float(self._sum) / self._count))
        self._write(trainer)

    @rank_zero_only
    def _write(self, trainer: L.Trainer) -> None:
        if not self.train:
            return
        from matplotlib.figure import Figure

        root = Path(trainer.default_root_dir)
        figure = Figure(figsize=(7, 4), layout="constrained")
        ax = figure.subplots()
        for name, curve in (("training", self.train), ("validation", self.val)):
            if curve:
                ax.plot(*zip(*curve, strict=True), label=name)
        ax.set(xlabel="step", ylabel="loss of hidden pixels (standardised)", yscale="log")
        ax.legend()
        write_figure(figure, root / "loss.png")
        lines = [f"{part},{step},{loss}" for part in ("train", "val") for step, loss in getattr(self, part)]
        write_text(root / "loss.csv", "\n".join(["part,step,loss", *lines]) + "\n")


class LinearProbe(_AtSteps):
    """Logs `probe/mIoU` and `probe/mAcc` of a linear classifier on the frozen features of data.probe.

    Args:
        every_n_steps: steps between probes; the first is before training.

    Raises:
        ConfigError: at the start, if the data have no labelled store, or training uses several devices.

    """

    def __init__(self, every_n_steps: int = 1000) -> None:
        super().__init__(every_n_steps)

    def on_fit_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        if trainer.world_size > 1:
            raise ConfigError("LinearProbe runs on one device; on several, probe the checkpoints.")
        data: Any = getattr(trainer, "datamodule", None)
        self.loaders = {part: data.probe_dataloader(part) for part in ("train", "val")}
        self.classes = [entry.name for entry in data.probe.spec.classes]

    def on_train_batch_start(self, trainer: L.Trainer, task: L.LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == 0 and batch_idx == 0:
            self.act(trainer, task)

    def act(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Fits and measures the probe."""
        assert isinstance(task, PretrainTask)
        train, val = self.loaders["train"], self.loaders["val"]
        found = linear_probe(task.mae.encoder, task.standardise, train, val, self.classes)
        figures = {f"probe/{name}": found[name] for name in ("mIoU", "mAcc")}
        for logger in trainer.loggers:
            logger.log_metrics(figures, trainer.global_step)
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in figures.items()})


class Throughput(L.Callback):
    """Logs `speed/samples_per_s`, `speed/data_wait` (fraction of time spent waiting for data) and `speed/mfu`
    (model-flops utilisation, a fraction of the device's peak).

    Args:
        every_n_steps: steps that each figure averages.
        peak_tflops: peak performance of the device in 10^12 operations per second; null to measure it with a large
            matrix product in the trainer's precision.

    """

    def __init__(self, every_n_steps: int = 50, peak_tflops: float | None = None) -> None:
        self.every_n_steps, self.peak_tflops = every_n_steps, peak_tflops
        self._restart()

    def on_train_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        if self.peak_tflops is None:
            half = "16" in str(trainer.precision)
            self.peak_tflops = measured_peak(task.device, torch.bfloat16 if half else torch.float32) / 1e12
        self._restart()

    def _restart(self) -> None:
        self._began = self._waiting_since = time.perf_counter()
        self._waited = self._flops = 0.0
        self._samples = self._batches = 0

    def on_train_batch_start(self, trainer: L.Trainer, task: L.LightningModule, batch: Any, batch_idx: int) -> None:
        self._waited += time.perf_counter() - self._waiting_since

    def on_train_batch_end(self, trainer: L.Trainer, task: L.LightningModule, outputs: Any, batch: Any, _: int) -> None:
        assert isinstance(task, PretrainTask)
        self._samples += len(batch["id"])
        self._flops += task.flops_of(batch)
        self._batches += 1
        if self._batches == self.every_n_steps * trainer.accumulate_grad_batches:
            if task.device.type == "cuda":
                torch.cuda.synchronize(task.device)
            taken = time.perf_counter() - self._began
            assert self.peak_tflops is not None
            figures = {
                "speed/samples_per_s": self._samples * trainer.world_size / taken,
                "speed/data_wait": self._waited / taken,
                "speed/mfu": self._flops / taken / (self.peak_tflops * 1e12),
            }
            task.log_dict(figures, rank_zero_only=True)
            self._restart()
        self._waiting_since = time.perf_counter()


def measured_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of a large square matrix product, the best of several."""
    size = 8192 if device.type == "cuda" else 1024
    a = torch.randn(size, size, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(8):
        began = time.perf_counter()
        a @ a
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best
