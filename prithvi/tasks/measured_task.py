"""What fine-tuning and gap filling share: the data's contract, figures of validation and test, the optimiser."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import lightning as L
from torch import Tensor, nn
from torchmetrics import Metric

from prithvi.contract import Contract
from prithvi.errors import ConfigError, one_of
from prithvi.modelio import contract_of
from prithvi.models import Standardise
from prithvi.tasks.meaning import refuse_another, state
from prithvi.tasks.optimizer import fine_tuning, refuse_whole_precision, remade_after_search
from prithvi.tasks.weight_averages import save_averages


class MeasuredTask(L.LightningModule, ABC):
    """A task that validates and tests alike, and sums up the figures of each part at its end.

    A task sets the attributes below, and says in `_evaluate` what a batch adds to the metric of its part.

    Args:
        contract: of the data, as `Contract.to_dict` writes it.
        statistics: `data`, or `init` for those of the weights that the task starts from.
        init: these weights.
        model: name of the model, for weights that do not name theirs.

    Raises:
        ConfigError: there is no contract, or no such statistics.

    """

    metrics: nn.ModuleDict
    """`val_` and `test_`, a metric each."""
    coordinates: bool
    """Whether the model is given dates and places."""
    schedule: dict[str, float]
    """Peak rate and the other options of `prithvi.tasks.optimizer.fine_tuning`."""

    def __init__(self, contract: dict[str, Any] | None, statistics: str, init: str | None, model: str) -> None:
        super().__init__()
        if contract is None:
            raise ConfigError(f"{type(self).__name__} needs contract=: bands and statistics of its input.")
        self.contract = data = Contract.from_dict(contract)
        if one_of(statistics, ("data", "init"), "statistics has no") == "init":
            if init is None:
                raise ConfigError("statistics are those of init, and there is none: say init, or statistics: data.")
            pretrained = contract_of(init, model)
            if unknown := [band for band in data.bands if band not in pretrained.bands]:
                raise ConfigError(
                    f"{init} has no mean and standard deviation of {', '.join(unknown)}: take those of the data "
                    "(model.statistics: data, with mean and std in data.folder), or leave these bands out."
                )
            self.contract = rescaled(pretrained, data)
        elif not data.has_statistics:
            raise ConfigError(
                "the data say no mean and standard deviation of their bands: say mean and std in data.folder, or take "
                "those that the weights were pretrained with (model.statistics: init, with model.init)."
            )
        self.standardise = Standardise(self.contract)

    def metric(self, part: str) -> Metric:
        """The metric of a part (`val` or `test`)."""
        found = self.metrics[f"{part}_"]
        assert isinstance(found, Metric)
        return found

    def coordinates_of(self, batch: Mapping[str, Any]) -> tuple[Tensor | None, Tensor | None]:
        """(B, T, 2) year and day and (B, 2) latitude and longitude of a batch; None where the model is given none."""
        return (batch.get("temporal_coords"), batch.get("location_coords")) if self.coordinates else (None, None)

    @property
    def lr(self) -> float:
        """Peak learning rate; where Lightning's search for one puts what it found."""
        return self.schedule["lr"]

    @lr.setter
    def lr(self, rate: float) -> None:
        self.schedule["lr"] = rate

    def setup(self, stage: str) -> None:
        """Raises a ConfigError where the trainer's precision is not for this task."""
        refuse_whole_precision(self.trainer)

    def on_fit_start(self) -> None:
        remade_after_search(self.trainer)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        save_averages(self, checkpoint)
        state(self.contract, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raises a ConfigError where the weights of a run would mean something else in this task."""
        if self._trainer is not None:  # `load_from_checkpoint` takes its options from the checkpoint, or the caller's
            refuse_another(
                str(self.trainer.ckpt_path or "the checkpoint"), checkpoint, self.contract, dict(self.hparams),
                measuring=self.trainer.state.fn != "fit",
            )  # fmt: skip

    @abstractmethod
    def _evaluate(self, batch: dict[str, Any], batch_idx: int, part: str, loader: int) -> None:
        """Adds a batch to the metric of a part, and to its loss."""

    def validation_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        self._evaluate(batch, batch_idx, "val", dataloader_idx)

    def test_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        self._evaluate(batch, batch_idx, "test", dataloader_idx)

    def report(self, part: str) -> dict[str, Tensor]:
        """The figures of a part by name, which then begin anew."""
        figures: dict[str, Tensor] = self.metric(part).compute()
        self.metric(part).reset()
        return figures

    def check_figures(self, part: str, figures: Mapping[str, Tensor]) -> None:
        """Raises an error where figures mean nothing; of a task that can tell."""

    def _log_figures(self, part: str) -> None:
        figures = {f"{part}/{name}": value.float() for name, value in self.report(part).items()}
        self.check_figures(part, figures)
        self.log_dict(figures)

    def on_validation_epoch_end(self) -> None:
        self._log_figures("val")

    def on_test_epoch_end(self) -> None:
        self._log_figures("test")

    def configure_optimizers(self) -> Any:
        return fine_tuning(self, int(self.trainer.estimated_stepping_batches), **self.schedule)


def rescaled(pretrained: Contract, data: Contract) -> Contract:
    """The contract of some data with the statistics and the clipping of a pretrained model, in the data's units."""
    own, factor = pretrained.select(data.bands), data.scale / pretrained.scale
    return dataclasses.replace(
        data, mean=tuple(factor * value for value in own.mean), std=tuple(factor * value for value in own.std),
        clip=(factor * own.clip[0], factor * own.clip[1]) if own.clip is not None else None,
    )  # fmt: skip
