"""The base of all fine-tuning tasks: encoder and head, the data's contract, sliding windows, optimiser."""

from __future__ import annotations

import abc
import contextlib
import hashlib
import json
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from prithvi.contract import IGNORE
from prithvi.errors import ConfigError, DatasetError, InapplicableError
from prithvi.modelio import load_weights
from prithvi.modelio.predictor import Predictor
from prithvi.models import Segmenter, Standardise
from prithvi.models.baseline import BaselineHead
from prithvi.models.branch_heads import BranchClassifier, FusedHead
from prithvi.models.checkpoint import weight_bytes
from prithvi.models.heads import has_trait
from prithvi.models.zoo import ENCODERS, configure
from prithvi.tasks.augment import flip_and_turn
from prithvi.tasks.lora import merged, prepare
from prithvi.tasks.measured_task import MeasuredTask
from prithvi.tasks.several_devices import repeated, with_every_weight
from prithvi.tasks.sliding import blended, windows_of

_SAID_ELSEWHERE = {"num_frames", "img_size", "bands", "in_chans", "mean", "std"}


class FineTuningTask(MeasuredTask):
    """An encoder and a head. A task says what its outputs mean: `loss_of`, `labelled`, `evaluate` and `predicts`.

    Args:
        outputs: number of outputs of the head per pixel, or per chip.
        model: name of the encoder (`prithvi models list`).
        contract: bands, statistics and scale of the input, as from `Contract.to_dict`; `prithvi fit` takes them from
            the data, Python code passes `data.contract.to_dict()`.
        init: initial weights of the encoder: a name or hub id of published weights, or a file; null for random ones.
        statistics: `data` to standardise by the mean and standard deviation of the data; `init` by those that the
            weights were pretrained with.
        head: `fcn` (the paper's neck and head), `light`, `fused` (a branch of pixels and indices, with the tokens
            through a gate), `detail` (tokens and pixels) or `pooled` (one output vector per chip); without the encoder
            `branch` (that branch alone) and `unet` (a baseline); the class name of a TerraTorch decoder such as
            UperNetDecoder; a baseline that is fitted without gradient steps (`prithvi.models.baseline`), which takes
            nothing from `init` but its statistics, or its encoder as it is; or any registered head.
        head_options: options of the head.
        model_options: other fields of the model's configuration, such as depth.
        num_frames: number of dates of the input.
        window: side in pixels of the square that the model sees: training crops, validation and mapping windows.
        lr: peak learning rate of AdamW.
        weight_decay: weight decay of matrices; biases and norms have none.
        warmup: fraction of the steps in which the learning rate rises, before cosine decay.
        layer_decay: factor of the learning rate from each encoder block to the one before it; 1 for none.
        finetune: `full` to train the encoder too; `frozen` for the head alone; `lora` for the head and low-rank
            adapters of the encoder's attention.
        lora_rank: rank of the adapters.
        coordinates: give the model dates and locations, if it has codes for them.
        augment: apply one of the eight symmetries of the square to every training batch.
        new_bands: let bands that `init` has no weights for begin with random ones.

    Raises:
        ConfigError: incompatible options.
        CheckpointError: `init` does not fit, or lacks a band.

    """

    not_its_own: ClassVar[tuple[str, ...]] = ("quantity",)
    """Options that the command line passes to every task and this one does not use."""
    takes_baselines: ClassVar[bool] = False
    """Whether heads that are fitted without gradient steps can be its own."""
    found: dict[str, Any]
    """What such a fit found, for the record (`prithvi.tasks.baseline_fit`)."""

    def __init__(
        self,
        outputs: int,
        model: str = "prithvi_hls_tiny",
        contract: dict[str, Any] | None = None,
        init: str | None = None,
        statistics: str = "data",
        head: str = "fcn",
        head_options: dict[str, Any] | None = None,
        model_options: dict[str, Any] | None = None,
        num_frames: int = 1,
        window: int = 224,
        lr: float = 1e-4,
        weight_decay: float = 0.05,
        warmup: float = 0.1,
        layer_decay: float = 1.0,
        finetune: str = "full",
        lora_rank: int = 8,
        coordinates: bool = False,
        augment: bool = True,
        new_bands: bool = False,
    ) -> None:
        super().__init__(contract, statistics, init, model)
        reserved = _SAID_ELSEWHERE & set(model_options or {})
        if reserved:
            named = ", ".join(sorted(reserved))
            raise ConfigError(f"model_options holds {named}, which num_frames, window and contract say.")
        if model in ENCODERS and init is not None and statistics == "data":
            warnings.warn(
                f"{model} was pretrained with its own scale, not that of the data: say model.statistics: init.",
                stacklevel=2,
            )
        self.save_hyperparameters(ignore=["outputs", *self.not_its_own])
        config = configure(
            model, num_frames, window, self.contract.bands,
            mean=self.contract.mean, std=self.contract.std, **(model_options or {}),
        )  # fmt: skip
        self.fitted_at_once = has_trait(head, "fitted")
        if self.fitted_at_once and not self.takes_baselines:
            raise InapplicableError(f"the baseline {head!r} tells classes of pixels; {type(self).__name__} does not.")
        self.head_name, self.head_options = head, dict(head_options or {})
        if self.fitted_at_once:
            stated = ("bands", "mean", "std", "nodata")
            self.head_options["input"] = {key: self.contract.to_dict()[key] for key in stated}
        self.model = Segmenter(config, outputs, head, self.head_options)
        encoder = self.model.encoder
        branched = isinstance(self.model.head, BranchClassifier)
        if encoder is None and not self.fitted_at_once and ((init is not None and not branched) or finetune != "full"):
            more = "" if branched else "without init, and "
            raise ConfigError(f"head {head!r} works on pixels: {more}with finetune: full.")
        self.init_report = None
        if init is not None and (encoder is not None or branched):
            self.init_report = load_weights(self.model, init, new_bands)
            if encoder is None and set(self.init_report.fresh) - set(self.contract.bands):
                raise ConfigError(f"{init} has no per-pixel branch, and head {head!r} is nothing else: leave out init.")
        if isinstance(self.model.head, FusedHead):
            self.model.head.shut()
        if encoder is not None:
            prepare(encoder, "frozen" if self.fitted_at_once else finetune, lora_rank)
        self.frozen = finetune == "frozen" or self.fitted_at_once
        if self.frozen and encoder is not None:  # intended here, though Lightning warns about it
            encoder.eval()
            warnings.filterwarnings("ignore", "Found .* in eval mode at the start of training")
        self.window, self.coordinates, self.augment = window, coordinates, augment
        self.schedule = {"lr": lr, "weight_decay": weight_decay, "warmup": warmup, "layer_decay": layer_decay}
        self.counted = torch.zeros((), dtype=torch.int64)
        self.summed = torch.zeros(2)
        """Sum of the losses of the samples of a validation or test so far, and their number."""
        self.found = {}

    def train(self, mode: bool = True) -> FineTuningTask:
        """Sets training mode; a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.frozen and self.model.encoder is not None:
            self.model.encoder.eval()
        return self

    def encode(self, batch: Mapping[str, Any]) -> list[Tensor]:
        """Features (B, layers*T*D, h, w) of all sliding windows of a batch, row by row.

        Args:
            batch: a batch of `prithvi.data`, with images of any size.

        """
        images = self.standardise(batch["image"], batch.get("valid"))
        coordinates = self.coordinates_of(batch)
        with torch.no_grad() if self.frozen else contextlib.nullcontext():
            return [self.model.features(part, *coordinates) for part in windows_of(images, self.window)]

    def forward(self, batch: Mapping[str, Any]) -> Tensor:
        """(B, outputs, Y, X) outputs for a batch of `prithvi.data`, or (B, outputs) with a pooling head.

        Samples may have cached `features` (B, windows, layers*T*D, h, w) from `encode` and their `size` (B, 2) in rows
        and columns instead of images; in a mixed batch, `cached` (B) is True for them, and images are of the others.
        """
        # Three kinds of batches: images only, cached features only, or both. All windows go through the head one by
        # one, and `blended` joins them.
        if "features" not in batch:
            return self._scores(self.encode(batch), *batch["image"].shape[-2:])
        height, width = batch["size"][0].tolist()
        parts = list(batch["features"].unbind(dim=1))
        if "image" in batch:  # mixed: all samples pass the head together, since batch norms depend on the whole batch
            cached = batch["cached"]
            fresh = self.encode({**batch, "valid": batch["valid"][~cached]})
            order = torch.argsort(torch.cat([cached.nonzero(), (~cached).nonzero()]).flatten())
            parts = [torch.cat([kept, new.to(kept.dtype)])[order] for kept, new in zip(parts, fresh, strict=True)]
        return self._scores(parts, height, width)

    def _scores(self, features: list[Tensor], height: int, width: int) -> Tensor:
        parts = (self.model.head(part, (self.window, self.window)) for part in features)
        return blended(parts, height, width, self.window)

    def features_name(self) -> str:
        """A digest of everything besides the images that features depend on: weights, contract, window, blocks.

        Raises:
            ConfigError: features are not constant (trainable encoder, or augmentation).

        """
        encoder = self.model.encoder
        if encoder is None or not self.frozen or self.augment:
            raise ConfigError(
                "features are kept where neither the encoder nor its input moves: model.finetune: frozen and "
                "model.augment: false."
            )
        content = hashlib.sha256()
        for part in weight_bytes(encoder):
            content.update(part)
        model = self.model
        about = [
            self.contract.to_dict(), model.config.to_dict(), self.window, model.indices, model.detail, self.coordinates,
        ]  # fmt: skip
        content.update(json.dumps(about, default=str).encode())
        return content.hexdigest()[:16]

    def adopt(self, fitted: Predictor) -> None:
        """Replaces the model by a fitted one, with its statistics, window and use of coordinates, to evaluate it.

        Raises:
            ConfigError: bands, scale or outputs of the model differ from the task's.

        """
        own = self.fitted()
        for what, its, ours in (
            ("task", fitted.task, own.task),
            ("bands", fitted.contract.bands, self.contract.bands),
            ("scale", fitted.contract.scale, self.contract.scale),
            ("classes", [entry.name for entry in fitted.classes], [entry.name for entry in own.classes]),
            ("quantity", fitted.quantity and fitted.quantity.name, own.quantity and own.quantity.name),
        ):
            if its != ours:
                raise ConfigError(f"the model has {_text_of(its)} as {what}, and the data have {_text_of(ours)}.")
        self.model, self.contract, self.standardise = fitted.model, fitted.contract, Standardise(fitted.contract)
        self.window, self.coordinates = fitted.window, fitted.coordinates

    @abc.abstractmethod
    def loss_of(self, batch: Mapping[str, Any], scores: Tensor) -> Tensor:
        """Mean loss of a batch over labelled pixels (or chips), from the outputs (B, outputs, ...) of the head."""

    @abc.abstractmethod
    def labelled(self, batch: Mapping[str, Any]) -> Tensor:
        """Bool tensor, True at pixels (or chips) that have a label and data."""

    @abc.abstractmethod
    def evaluate(self, batch: Mapping[str, Any], scores: Tensor, part: str) -> None:
        """Adds the outputs of a batch to the metrics of a part (`val` or `test`)."""

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        if self.augment:
            batch = flip_and_turn(batch)
        scores = self(batch)
        loss = self.loss_of(batch, scores)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(scores))
        return with_every_weight(loss, self)

    def _evaluate(self, batch: dict[str, Any], batch_idx: int, part: str, loader: int) -> None:
        scores = self(batch)
        again = repeated(self, part, loader, batch_idx, len(scores)).to(scores.device)
        if again.any():
            batch = _without_labels(batch, again)
        self.evaluate(batch, scores, part)
        self.counted = self.counted + self.labelled(batch).sum()
        samples = (~again).sum().float()
        self.summed = self.summed.to(scores.device) + torch.stack(
            [self.loss_of(batch, scores).float() * samples, samples]
        )

    def _log_figures(self, part: str) -> None:
        # Lightning's own mean over devices takes each to have had as many samples.
        total, samples = torch.as_tensor(self.all_gather(self.summed.to(self.device))).reshape(-1, 2).sum(dim=0)
        self.summed = torch.zeros(2)
        self.log(f"{part}/loss", total / samples, prog_bar=part == "val", sync_dist=True)
        super()._log_figures(part)

    def check_figures(self, part: str, figures: Mapping[str, Tensor]) -> None:
        """Raises a DatasetError where nothing was labelled, or a figure that checkpoints are chosen by has no value."""
        total = torch.as_tensor(self.all_gather(self.counted.to(self.device))).sum()
        self.counted = torch.zeros((), dtype=torch.int64)
        if self.trainer.sanity_checking:  # which sees two batches
            return
        if not total:
            raise DatasetError(
                f"no pixel of what was run for {part} has a label where its image has data, so that nothing can be "
                f"measured: name another split (data.{part}_split), or leave out trainer.limit_{part}_batches."
            )
        # Monitored metrics must be finite, since Lightning ranks NaN as the worst value without an error.
        for callback in self.trainer.callbacks if part == "val" else ():  # type: ignore[attr-defined]
            name = str(getattr(callback, "monitor", None))
            if name in figures and not figures[name].isfinite():
                raise DatasetError(
                    f"{name} is {float(figures[name])} in the validation that the best checkpoint is to be chosen by: "
                    "its class does not occur there, or the scores are not finite. Monitor another figure, such as "
                    "val/loss."
                )

    def configure_optimizers(self) -> Any:
        if self.fitted_at_once:
            raise ConfigError(
                f"head {self.head_name!r} is fitted without gradient steps: prithvi.tasks.fit_head(task, chips), or "
                "prithvi fit."
            )
        return super().configure_optimizers()

    def fitted(self, **provenance: Any) -> Predictor:
        """The trained model with everything needed to apply it, for `prithvi.modelio.save`."""
        head = self.model.head
        options = head.options if isinstance(head, BaselineHead) else self.head_options
        return Predictor.fine_tuned(
            merged(self.model), self.contract, head=self.head_name, head_options=options,
            window=self.window, coordinates=self.coordinates, provenance=provenance, **self.predicts(),
        )  # fmt: skip

    @abc.abstractmethod
    def predicts(self) -> dict[str, Any]:
        """Fields of `Predictor` that describe the output: the task, and classes or a quantity."""


def _without_labels(batch: Mapping[str, Any], rows: Tensor) -> dict[str, Any]:
    """A batch in which some of its (B,) rows have no label."""
    result, empty = dict(batch), {"label": IGNORE, "target": torch.nan}
    for key in empty.keys() & batch.keys():
        value = batch[key].long() if key == "label" else batch[key]  # bytes hold no -1
        result[key] = value.masked_fill(rows.view(-1, *[1] * (value.ndim - 1)), empty[key])
    return result


def _text_of(found: Any) -> str:
    return ", ".join(found) if isinstance(found, (list, tuple)) else str(found)
