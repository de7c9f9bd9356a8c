"""Fine-tuning for a class at every pixel; floods, burn scars and crops are presets of it (configs/)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from prithvi.contract import Contract
from prithvi.errors import ConfigError, nearest
from prithvi.fitted import ClassEntry, FittedModel
from prithvi.metrics import IGNORE, CalibrationMetric, SegmentationMetrics, fit_temperature
from prithvi.modelfolder import contract_of, initialise
from prithvi.models import Segmenter, Standardise
from prithvi.models.zoo import configure
from prithvi.tasks.adapting import merged, prepare
from prithvi.tasks.augment import flip_and_turn
from prithvi.tasks.losses import SEGMENTATION_LOSSES
from prithvi.tasks.optimising import fine_tuning
from prithvi.tasks.sliding import sliding_scores


class SegmentationTask(L.LightningModule):
    """An encoder and a head, trained on labelled pixels.

    Args:
        model: name of the encoder (`prithvi models list`).
        contract: bands, statistics and scale of the input, as `Contract.to_dict` writes them; `prithvi fit` takes them
            from the data, Python code passes `data.contract.to_dict()`.
        classes: class names in the order of the label numbers; `prithvi fit` takes them from the data.
        colors: class colours (RRGGBB), for maps.
        init: weights the encoder starts from: a name or hub id of published weights, or a file; null for random ones.
        statistics: `data` to standardise by the dataset's published mean and standard deviation; `init` by those that
            the weights were pretrained with.
        head: `fcn` (the paper's neck and head) or `light`, or any registered head.
        head_options: options of the head.
        model_options: other fields of the model's configuration, such as depth.
        num_frames: dates of the input.
        window: side of the square the model sees, in pixels: training crops, validation and mapping windows.
        loss: `ce` (cross-entropy), `dice` or `focal`, or several joined by +, as ce+dice.
        class_weights: weight of each class in the loss.
        lr: highest learning rate of AdamW.
        weight_decay: of matrices; biases and norms have none.
        warmup: share of the steps in which the learning rate rises, before it falls along a cosine.
        layer_decay: factor of the learning rate from each encoder block to the one before it; 1 trains all alike.
        finetune: `full`, the encoder too; `frozen`, the head alone; `lora`, the head and low-rank additions to the
            encoder's attention.
        lora_rank: of these.
        coordinates: give the model dates and places, where it has codes for them.
        augment: draw one of the eight flips and quarter turns for every training batch.

    Raises:
        ConfigError: the options do not fit together.

    """

    def __init__(
        self,
        model: str = "prithvi_hls_tiny",
        contract: dict[str, Any] | None = None,
        classes: list[str] | None = None,
        colors: list[str] | None = None,
        init: str | None = None,
        statistics: str = "data",
        head: str = "fcn",
        head_options: dict[str, Any] | None = None,
        model_options: dict[str, Any] | None = None,
        num_frames: int = 1,
        window: int = 224,
        loss: str = "ce",
        class_weights: list[float] | None = None,
        lr: float = 1e-4,
        weight_decay: float = 0.05,
        warmup: float = 0.1,
        layer_decay: float = 1.0,
        finetune: str = "full",
        lora_rank: int = 8,
        coordinates: bool = False,
        augment: bool = True,
    ) -> None:
        super().__init__()
        if contract is None or not classes:
            raise ConfigError(
                "SegmentationTask needs contract= and classes=: what the input looks like, and what to find."
            )
        if class_weights is not None and len(class_weights) != len(classes):
            raise ConfigError(f"{len(class_weights)} class weights for {len(classes)} classes ({', '.join(classes)}).")
        if colors is not None and len(colors) != len(classes):
            raise ConfigError(f"{len(colors)} colours for {len(classes)} classes ({', '.join(classes)}).")
        self.losses = loss.split("+")
        for name in self.losses:
            if name not in SEGMENTATION_LOSSES:
                raise ConfigError(f"there is no loss {name!r}: {nearest(name, SEGMENTATION_LOSSES)}")
        reserved = {"num_frames", "img_size", "bands", "in_chans", "mean", "std"} & set(model_options or {})
        if reserved:
            raise ConfigError(
                f"model_options holds {', '.join(sorted(reserved))}, which num_frames, window and contract say."
            )
        self.save_hyperparameters()
        self.contract = Contract.from_dict(contract)
        if statistics == "init" and init is not None:
            self.contract = rescaled(contract_of(init, model), self.contract)
        elif statistics != "data":
            raise ConfigError(
                f"statistics is {statistics!r} with init {init!r}: it is data, or init where that is given."
            )
        self.classes = list(classes)
        self.colors = list(colors or [])
        config = configure(
            model, num_frames, window, self.contract.bands,
            mean=self.contract.mean, std=self.contract.std, **(model_options or {}),
        )  # fmt: skip
        self.model = Segmenter(config, len(classes), head, head_options)
        self.head_name, self.head_options = head, dict(head_options or {})
        self.standardise = Standardise(self.contract)
        self.init_report = initialise(self.model.encoder, init) if init is not None else None
        prepare(self.model.encoder, finetune, lora_rank)
        self.window, self.coordinates, self.augment = window, coordinates, augment
        self.lr, self.weight_decay, self.warmup, self.layer_decay = lr, weight_decay, warmup, layer_decay
        weights = torch.tensor(class_weights if class_weights is not None else [1.0] * len(classes))
        self.class_weights: Tensor
        self.register_buffer("class_weights", weights, persistent=False)
        self.metrics = nn.ModuleDict({part: SegmentationMetrics(self.classes) for part in ("val_", "test_")})
        self.calibration = nn.ModuleDict({part: CalibrationMetric() for part in ("val_", "test_")})
        self.temperature = 1.0

    def forward(self, batch: dict[str, Any]) -> Tensor:
        """(B, classes, Y, X) scores of a batch as `prithvi.data` makes it, of any size."""
        images = self.standardise(batch["image"], batch.get("valid"))
        coordinates = (batch.get("temporal_coords"), batch.get("location_coords")) if self.coordinates else (None, None)
        if images.shape[-2:] == (self.window, self.window):
            scores: Tensor = self.model(images, *coordinates)
            return scores
        return sliding_scores(lambda part: self.model(part, *coordinates), images, self.window, self.window // 2)

    def loss(self, scores: Tensor, label: Tensor) -> Tensor:
        """The chosen losses added up, each a mean over labelled pixels; 0 (with a gradient) where none is labelled.

        Args:
            scores: (B, classes, Y, X).
            label: (B, Y, X) class numbers, `IGNORE` where there is none.

        """
        scores = scores.float()
        parts = [SEGMENTATION_LOSSES[name](scores, label, self.class_weights) for name in self.losses]
        return torch.stack(parts).sum()

    @staticmethod
    def label_of(batch: dict[str, Any]) -> Tensor:
        """(B, Y, X) labels, `IGNORE` also where the image has no data on any date."""
        label: Tensor = batch["label"]
        return torch.where(batch["valid"].any(dim=1), label, IGNORE) if "valid" in batch else label

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        if self.augment:
            batch = flip_and_turn(batch)
        loss = self.loss(self(batch), self.label_of(batch))
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch["label"]))
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self._evaluate(batch, "val")

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self._evaluate(batch, "test")

    def _evaluate(self, batch: dict[str, Any], part: str) -> None:
        scores, label = self(batch), self.label_of(batch)
        self.metrics[f"{part}_"].update(scores.argmax(dim=1), label)  # type: ignore[operator]
        self.calibration[f"{part}_"].update(scores, label)  # type: ignore[operator]
        self.log(
            f"{part}/loss", self.loss(scores, label), prog_bar=part == "val", batch_size=len(label), sync_dist=True
        )

    def on_validation_epoch_end(self) -> None:
        self._report("val")

    def on_test_epoch_end(self) -> None:
        self._report("test")

    def _report(self, part: str) -> None:
        metrics, calibration = self.metrics[f"{part}_"], self.calibration[f"{part}_"]
        assert isinstance(metrics, SegmentationMetrics)
        assert isinstance(calibration, CalibrationMetric)
        figures = {**metrics.compute(), "ECE": calibration.compute().error}
        self.log_dict({f"{part}/{name}": value.float() for name, value in figures.items()})
        metrics.reset()
        calibration.reset()

    @torch.no_grad()
    def calibrate(self, batches: Iterable[dict[str, Any]], pixels: int = 4096) -> float:
        """Fits the temperature that confidences are read at, on whole images blended as mapping blends them.

        Args:
            batches: of chips that training did not see.
            pixels: labelled pixels of each batch that are taken, evenly.

        Returns:
            The temperature, which `fitted` keeps; 1 where no pixel is labelled.

        """
        training, found = self.training, []
        self.eval()
        for batch in batches:
            here = {key: value.to(self.device) if isinstance(value, Tensor) else value for key, value in batch.items()}
            scores, label = self(here).float().movedim(1, -1), self.label_of(here)
            counted = label != IGNORE
            step = max(1, int(counted.sum()) // pixels)
            found.append((scores[counted][::step].cpu(), label[counted][::step].cpu()))
        self.train(training)
        scores, label = (torch.cat(parts) for parts in zip(*found, strict=True))
        self.temperature = fit_temperature(scores, label) if len(label) else 1.0
        return self.temperature

    def configure_optimizers(self) -> Any:
        steps = int(self.trainer.estimated_stepping_batches)
        return fine_tuning(self, steps, self.lr, self.weight_decay, self.warmup, self.layer_decay)

    def fitted(self, **provenance: Any) -> FittedModel:
        """The trained model with everything that mapping needs; `prithvi.modelfolder.save` keeps it."""
        colors = self.colors or [f"{distinct_color(i):06X}" for i in range(len(self.classes))]
        entries = [ClassEntry(i, name, color) for i, (name, color) in enumerate(zip(self.classes, colors, strict=True))]
        return FittedModel(
            model=merged(self.model), contract=self.contract, classes=tuple(entries), head=self.head_name,
            head_options=self.head_options, window=self.window, coordinates=self.coordinates,
            temperature=self.temperature, provenance=provenance,
        )  # fmt: skip


def rescaled(pretrained: Contract, data: Contract) -> Contract:
    """The contract of some data with the statistics and the clipping of a pretrained model, in the data's units."""
    own, factor = pretrained.select(data.bands), data.scale / pretrained.scale
    return dataclasses.replace(
        data, mean=tuple(factor * value for value in own.mean), std=tuple(factor * value for value in own.std),
        clip=(factor * own.clip[0], factor * own.clip[1]) if own.clip is not None else None,
    )  # fmt: skip


def distinct_color(index: int) -> int:
    """A distinct RGB number for classes that came without colours (golden-angle hues)."""
    import colorsys

    red, green, blue = colorsys.hsv_to_rgb(index * 0.618 % 1.0, 0.6, 0.85)
    return int(red * 255) << 16 | int(green * 255) << 8 | int(blue * 255)
