"""Confidences are calibrated wherever a model is kept: the temperature belongs to the weights it was fitted for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from torch.utils.data import DataLoader

from prithvi.catalog import dataset
from prithvi.data import Chip, ChipDataset
from prithvi.metrics import CalibrationMetric, TemperatureMetric
from prithvi.modelio import load, save
from prithvi.tasks import SegmentationTask
from tests.conftest import SPAIN, SPAIN_LABEL, small_task

STEPS = 6


def loader(columns: tuple[int, int], crop: int | None = None, samples: int | None = None) -> DataLoader[Any]:
    chip = Chip("Spain", SPAIN, SPAIN_LABEL, columns=columns)
    return DataLoader(ChipDataset([chip], dataset("sen1floods11"), crop, samples), 4 if crop else 1)


def trainer(**options: Any) -> L.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return L.Trainer(**{**quiet, "num_sanity_val_steps": 0, **options})


@pytest.fixture(scope="module")
def validation() -> DataLoader[Any]:
    return loader((256, 320))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, validation: DataLoader[Any]) -> tuple[SegmentationTask, Path]:
    """A task after a short fit with a validation every other step, and its checkpoint of the first of them."""
    task = small_task(lr=1e-3)
    first = ModelCheckpoint(tmp_path_factory.mktemp("fit"), monitor="step", mode="min", save_weights_only=True)
    options = {"max_steps": STEPS, "val_check_interval": 2, "callbacks": [first], "num_sanity_val_steps": 2}
    trainer(**options).fit(task, loader((0, 224), 32, 4 * STEPS), validation)
    return task, Path(first.best_model_path)


def fitted_to(task: SegmentationTask, batches: DataLoader[Any]) -> float:
    """The temperature of a task's weights, fitted here."""
    metric, task = TemperatureMetric(), task.eval()
    with torch.no_grad():
        for batch in batches:
            metric.update(task(batch), task.label_of(batch))
    return float(metric.compute())


def test_a_checkpoint_keeps_the_temperature_of_its_weights(
    trained: tuple[SegmentationTask, Path], validation: DataLoader[Any], tmp_path: Path
) -> None:
    task, checkpoint = trained
    ended = task.temperature
    assert ended == pytest.approx(fitted_to(task, validation), abs=1e-4)
    early = small_task()
    assert early.temperature == 1.0
    early.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"])
    assert early.temperature == pytest.approx(fitted_to(early, validation), abs=1e-4)
    assert early.temperature != ended
    folder = save(early.fitted(), tmp_path / "model")
    assert load(folder).temperature == early.temperature
    assert "not calibrated" not in (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("alone", [False, True], ids=["whole", "weights alone"])
def test_checkpoints_hold_the_averages_that_were_validated_and_the_temperature_that_was_fitted_to_them(
    validation: DataLoader[Any], tmp_path: Path, *, alone: bool
) -> None:
    task = small_task(lr=1e-3)
    kept = ModelCheckpoint(tmp_path, monitor="val/loss", mode="max", save_top_k=-1, save_weights_only=alone)
    options = {"max_steps": STEPS, "val_check_interval": 2, "callbacks": [EMAWeightAveraging(decay=0.7), kept]}
    trainer(**options).fit(task, loader((0, 224), 32, 4 * STEPS), validation)
    # The figure that a checkpoint was chosen by is that of its weights.
    for path, loss in kept.best_k_models.items():
        again = small_task()
        again.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["state_dict"])
        assert again.temperature == pytest.approx(fitted_to(again, validation), abs=1e-4)
        measured = trainer().validate(again, validation, verbose=False)
        assert measured[0]["val/loss"] == pytest.approx(float(loss), rel=1e-5)
    assert task.temperature == pytest.approx(fitted_to(task, validation), abs=1e-4)


def test_without_validation_the_card_says_that_the_confidence_is_not_calibrated(
    validation: DataLoader[Any], tmp_path: Path
) -> None:
    task = small_task()
    options: dict[str, Any] = {"max_steps": 2, "limit_val_batches": 0, "enable_checkpointing": False}
    trainer(**options).fit(task, loader((0, 224), 32, 8), validation)
    assert task.temperature == 1.0
    folder = save(task.fitted(), tmp_path / "model")
    assert "Its confidence is not calibrated." in (folder / "README.md").read_text(encoding="utf-8")


def test_measuring_a_model_leaves_its_temperature(
    trained: tuple[SegmentationTask, Path], validation: DataLoader[Any]
) -> None:
    task = small_task()
    task.adopt(trained[0].fitted())
    task.temperature = 3.0
    for verb in ("validate", "test"):
        getattr(trainer(), verb)(task, validation, verbose=False)
        assert task.temperature == 3.0


def test_the_calibration_error_of_a_test_is_that_of_the_confidences_in_maps(
    trained: tuple[SegmentationTask, Path], validation: DataLoader[Any]
) -> None:
    task, by_hand = small_task(), CalibrationMetric()
    task.adopt(trained[0].fitted())
    task.temperature = 0.25
    (figures,) = trainer().test(task, validation, verbose=False)
    with torch.no_grad():
        for batch in validation:
            by_hand.update(task.eval()(batch) / 0.25, task.label_of(batch))
    assert figures["test/ECE"] == pytest.approx(float(by_hand.compute().error), abs=1e-6)


def test_a_checkpoint_of_an_older_version_is_read_and_is_not_calibrated() -> None:
    task = small_task()
    older = {name: value for name, value in task.state_dict().items() if name != "temperature_"}
    task.temperature = 2.0
    task.load_state_dict(older)
    assert task.temperature == 1.0
