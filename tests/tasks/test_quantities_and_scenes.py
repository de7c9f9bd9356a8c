"""Regression and classification: what is predicted, what counts, what is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from prithvi.catalog import dataset
from prithvi.contract import IGNORE
from prithvi.errors import ConfigError
from prithvi.mapping import map_scene
from prithvi.metrics import RegressionMetrics
from prithvi.modelio import open_folder, save
from prithvi.scenes import open_scene
from prithvi.tasks import ClassificationTask, RegressionTask

OPTIONS: dict[str, Any] = {
    "contract": dataset("sen1floods11").contract.to_dict(), "window": 16, "lr": 3e-3, "augment": False,
    "model_options": {"embed_dim": 64, "depth": 2, "num_heads": 2},
}  # fmt: skip
# What Lightning says of small data and of a run without validation.
pytestmark = pytest.mark.filterwarnings("ignore:The 't.*_dataloader' does not", "ignore:You defined a .valid")
BIOMASS = {"name": "biomass", "mean": 60.0, "std": 40.0, "unit": "t/ha"}


def trained(task: L.LightningModule, batch: dict[str, Any], tmp_path: Path, steps: int = 60) -> dict[str, float]:
    class Rows(torch.utils.data.Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return len(batch["image"])

        def __getitem__(self, row: int) -> dict[str, Any]:
            return {name: value[row] for name, value in batch.items()}

    trainer = L.Trainer(
        max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path, num_sanity_val_steps=0, limit_val_batches=0,
    )  # fmt: skip
    loader = DataLoader(Rows(), 8)
    trainer.fit(task, loader)
    (figures,) = trainer.test(task, loader, verbose=False)
    return {name.removeprefix("test/"): value for name, value in figures.items()}


def test_a_quantity_is_learnt_measured_in_its_unit_and_kept(tmp_path: Path) -> None:
    torch.manual_seed(0)
    image = torch.randint(500, 4000, (8, 6, 1, 4, 4)).repeat_interleave(4, -1).repeat_interleave(4, -2)
    batch = {
        "id": torch.arange(8), "image": image, "valid": torch.ones(8, 1, 16, 16, dtype=torch.bool),
        "target": image[:, 3, 0].float() / 40,
    }  # fmt: skip
    batch["target"][0, :3] = torch.nan
    batch["valid"][1, 0, 5] = False
    task = RegressionTask(BIOMASS, head="light", **OPTIONS)
    figures = trained(task, batch, tmp_path, 200)
    spread = float(batch["target"][batch["target"].isfinite()].std())
    assert figures["RMSE"] < 0.5 * spread
    assert figures["R2"] > 0.75
    fitted = open_folder(save(task.fitted(), tmp_path / "model"))
    assert (fitted.task, str(fitted.quantity)) == ("regression", "biomass (t/ha)")
    assert "biomass (t/ha)" in (tmp_path / "model" / "README.md").read_text()
    with torch.no_grad():
        assert torch.equal(fitted.model(task.standardise(image, batch["valid"])), task.eval()(batch))


def test_a_model_is_measured_by_its_own_statistics_of_the_quantity_whatever_those_of_the_data_are() -> None:
    torch.manual_seed(0)
    task = RegressionTask(BIOMASS, head="light", **OPTIONS).eval()
    image = torch.randint(500, 4000, (1, 6, 1, 16, 16))
    batch = {"image": image, "target": image[:, 3, 0].float() / 40}
    other = RegressionTask({**BIOMASS, "mean": 90.0, "std": 5.0, "unit": ""}, head="light", **OPTIONS).eval()
    other.adopt(task.fitted())
    with torch.no_grad():
        scores = task(batch)
        assert torch.equal(other.predicted(other(batch)), task.predicted(scores))
        assert other.loss_of(batch, scores) == task.loss_of(batch, scores)
    assert other.predicts() == task.predicts()
    elsewhere = RegressionTask({**BIOMASS, "unit": "kg/m2"}, head="light", **OPTIONS)
    with pytest.raises(ConfigError, match=r"predicts biomass \(t/ha\), and the data have biomass \(kg/m2\): bring"):
        elsewhere.adopt(task.fitted())


def test_what_has_no_target_changes_nothing() -> None:
    task = RegressionTask(BIOMASS, loss="huber", head="light", **OPTIONS)
    batch = {"valid": torch.ones(1, 1, 8, 8, dtype=torch.bool), "target": torch.full((1, 8, 8), 30.0)}
    batch["target"][0, 0] = torch.nan
    batch["valid"][0, 0, 1] = False
    scores = torch.randn(1, 1, 8, 8)
    changed = scores.clone()
    changed[0, 0, :2] += 9
    assert task.loss_of(batch, scores) == task.loss_of(batch, changed)
    target = (batch["target"][0, 2:] - 60) / 40
    torch.testing.assert_close(task.loss_of(batch, scores), torch.nn.functional.huber_loss(scores[0, 0, 2:], target))
    batch["target"][0, 0] = torch.inf
    assert torch.isfinite(task.loss_of(batch, scores))
    batch["target"][:] = torch.nan
    assert task.loss_of(batch, scores) == 0
    with pytest.raises(ConfigError, match="no loss 'l2': did you mean l1"):
        RegressionTask(BIOMASS, loss="l2", **OPTIONS)
    with pytest.raises(ConfigError, match="needs quantity="):
        RegressionTask(**OPTIONS)
    with pytest.raises(ConfigError, match="has the losses ce and focal; found 'dice'"):
        ClassificationTask(classes=["a", "b"], loss="dice", **OPTIONS)
    with pytest.raises(ConfigError, match="std of biomass must be above 0"):
        RegressionTask({**BIOMASS, "std": 0.0}, **OPTIONS)


def test_figures_of_a_quantity_are_those_of_numpy_however_they_are_split() -> None:
    generator = np.random.default_rng(0)
    truth, predicted = 1e5 + generator.normal(size=900), 1e5 + generator.normal(size=900)
    metrics, other = RegressionMetrics(), RegressionMetrics()
    for number, part in enumerate(np.array_split(np.arange(900), 7)):
        target = torch.from_numpy(truth[part])
        target = torch.cat([target, torch.tensor([torch.nan])])
        one = metrics if number < 4 else other
        one.update(torch.cat([torch.from_numpy(predicted[part]), torch.zeros(1)]), target)
    metrics._reduce_states(other.metric_state)  # what several processes do
    error = predicted - truth
    expected = {
        "RMSE": np.sqrt((error**2).mean()), "MAE": np.abs(error).mean(), "bias": error.mean(),
        "R2": 1 - (error**2).sum() / ((truth - truth.mean()) ** 2).sum(),
    }  # fmt: skip
    one_go = RegressionMetrics()
    one_go.update(torch.from_numpy(predicted), torch.from_numpy(truth))
    for name, value in one_go.compute().items():
        assert float(value) == pytest.approx(expected[name], rel=1e-9), name


def test_a_class_of_the_whole_chip_is_learnt_and_never_mapped(tmp_path: Path, six_bands, write_tif) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    label = torch.arange(8) % 2
    image = 800 + 900 * label[:, None, None, None, None] + torch.randint(0, 300, (8, 6, 1, 16, 16))
    label[7] = IGNORE
    batch = {"id": torch.arange(8), "image": image, "valid": torch.ones(8, 1, 16, 16, dtype=torch.bool), "label": label}
    task = ClassificationTask(classes=["field", "wood"], **OPTIONS)
    figures = trained(task, batch, tmp_path)
    assert figures["aAcc"] == 1.0
    assert not [name for name in figures if "IoU" in name]
    with torch.no_grad():
        larger = task({"image": image.repeat(1, 1, 1, 1, 2)})
        assert larger.shape == (8, 2)
        torch.testing.assert_close(larger[:, 0] > larger[:, 1], task.eval()(batch)[:, 0] > task(batch)[:, 1])
    fitted = open_folder(save(task.fitted(), tmp_path / "model"))
    assert (fitted.task, fitted.head) == ("classification", "pooled")
    with pytest.raises(ConfigError, match="a map needs an answer for every pixel; this model is for classification"):
        map_scene(fitted, open_scene(write_tif(six_bands[:, :32, :32])), tmp_path / "m.tif")


def test_data_without_statistics_are_not_taken_as_standardised() -> None:
    contract = {**OPTIONS["contract"], "mean": [0.0] * 6, "std": [1.0] * 6}
    with pytest.raises(ConfigError, match="the data say no mean and standard deviation"):
        ClassificationTask(classes=["a", "b"], **{**OPTIONS, "contract": contract})
    task = ClassificationTask(
        classes=["a", "b"], contract=contract, init="prithvi_hls_tiny", statistics="init", window=16
    )
    assert task.contract.has_statistics
