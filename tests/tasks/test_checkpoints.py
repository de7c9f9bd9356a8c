"""A checkpoint is gone on from, and measured, only by a task in which its weights mean what they meant."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import yaml
from torch.utils.data import DataLoader

from prithvi.catalog import dataset
from prithvi.contract import Contract
from prithvi.data import Chip, ChipDataset
from prithvi.errors import ConfigError
from prithvi.modelio import open_folder, save
from prithvi.tasks import RegressionTask, SegmentationTask
from tests.conftest import SPAIN, SPAIN_LABEL, small_task

CONTRACT = dataset("sen1floods11").contract
OTHER = dataclasses.replace(CONTRACT, mean=tuple(value + 300 for value in CONTRACT.mean))
SMALL: dict[str, Any] = {"window": 32, "head": "light", "model_options": {"embed_dim": 64, "depth": 2, "num_heads": 2}}
BIOMASS = {"name": "biomass", "mean": 60.0, "std": 40.0, "unit": "t/ha"}
pytestmark = pytest.mark.filterwarnings("ignore:The 't.*_dataloader' does not", "ignore:You defined a .valid")


def trainer(steps: int = 4) -> L.Trainer:
    return L.Trainer(
        max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, limit_val_batches=0,
    )  # fmt: skip


def chips(crop: int | None = 32) -> DataLoader[Any]:
    chip = Chip("Spain", SPAIN, SPAIN_LABEL, rows=(0, 64), columns=(200, 264))
    return DataLoader(ChipDataset([chip], dataset("sen1floods11"), crop, 8 if crop else None), 2)


def kept(task: L.LightningModule, folder: Path) -> Path:
    """A checkpoint of a task as it is."""
    run = trainer()
    run.strategy.connect(task)
    run.save_checkpoint(folder / "kept.ckpt")
    return folder / "kept.ckpt"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an epoch of four steps."""
    run = trainer()
    run.fit(small_task(), chips())
    path = tmp_path_factory.mktemp("fit") / "last.ckpt"
    run.save_checkpoint(path)
    return path


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"classes": ["water", "land"]}, "the classes land, water, and this configuration has water, land: say"),
        ({"contract": OTHER.to_dict()}, "the means .*: say the same, or test the model folder of its run"),
        (
            {"contract": dataclasses.replace(CONTRACT, clip=(0.0, 5000.0)).to_dict()},
            "the clip none, and this configuration has 0, 5000: say",
        ),
        (
            {"contract": dataclasses.replace(CONTRACT, bands=CONTRACT.bands[::-1]).to_dict()},
            "the bands blue, .*, and this configuration has swir_2, ",
        ),
    ],
)
def test_a_checkpoint_of_another_meaning_is_neither_measured_nor_gone_on_from(
    options: dict[str, Any], said: str, checkpoint: Path
) -> None:
    with pytest.raises(ConfigError, match=rf"last.ckpt was trained with {said}"):
        trainer().test(small_task(**options), chips(), ckpt_path=checkpoint, verbose=False, weights_only=True)
    way = said.replace("test the model folder of its run", r"begin a run from its weights \(model.init\)")
    with pytest.raises(ConfigError, match=rf"last.ckpt was trained with {way}"):
        trainer(5).fit(small_task(**options), chips(), ckpt_path=checkpoint, weights_only=True)


def test_the_same_settings_go_on_also_after_yaml_and_json(checkpoint: Path) -> None:
    for written in (yaml.safe_load(yaml.safe_dump(CONTRACT.to_dict())), json.loads(json.dumps(CONTRACT.to_dict()))):
        run = trainer(5)
        run.fit(small_task(contract=written, classes=("land", "water")), chips(), ckpt_path=checkpoint)
        assert run.global_step == 5


def test_a_checkpoint_of_an_older_version_goes_on_and_is_compared_by_what_it_says(
    checkpoint: Path, tmp_path: Path
) -> None:
    content = torch.load(checkpoint, weights_only=True)
    del content["prithvi"]
    torch.save(content, tmp_path / "older.ckpt")
    with pytest.raises(ConfigError, match=r"older.ckpt was trained with the means"):
        trainer(5).fit(small_task(contract=OTHER.to_dict()), chips(), ckpt_path=tmp_path / "older.ckpt")
    for key in ("contract", "classes"):
        del content["hyper_parameters"][key]
    torch.save(content, tmp_path / "oldest.ckpt")
    for name in ("older", "oldest"):
        run = trainer(5)
        run.fit(small_task(), chips(), ckpt_path=tmp_path / f"{name}.ckpt")
        assert run.global_step == 5


def test_statistics_of_the_initial_weights_are_compared_too(tmp_path: Path) -> None:
    own = small_task(init="prithvi_hls_tiny", statistics="init", model_options={})
    path = kept(own, tmp_path)
    with pytest.raises(ConfigError, match=r"trained with the means 570.861, .*, and this configuration has 1424.55, "):
        trainer().test(small_task(model_options={}), chips(), ckpt_path=path, verbose=False, weights_only=True)


def test_the_model_folder_that_the_refusal_names_is_measured_with_its_own_statistics(
    checkpoint: Path, tmp_path: Path
) -> None:
    task = SegmentationTask.load_from_checkpoint(checkpoint, weights_only=True)
    other = small_task(contract=OTHER.to_dict())
    other.adopt(open_folder(save(task.fitted(), tmp_path / "model")))
    own, its = (trainer().test(each, chips(None), verbose=False)[0] for each in (task, other))
    assert its == pytest.approx(own, nan_ok=True)


def test_options_that_a_caller_gives_while_opening_a_checkpoint_are_the_callers(checkpoint: Path) -> None:
    task = SegmentationTask.load_from_checkpoint(checkpoint, contract=OTHER.to_dict(), weights_only=True)
    assert task.contract == OTHER


def test_a_quantity_of_other_statistics_is_refused(tmp_path: Path) -> None:
    path = kept(RegressionTask(BIOMASS, contract=CONTRACT.to_dict(), **SMALL), tmp_path)
    other = RegressionTask({**BIOMASS, "mean": 90.0}, contract=CONTRACT.to_dict(), **SMALL)
    said = r"quantity biomass \(mean 60, std 40\), and .* has biomass \(mean 90, std 40\): say the same, or"
    with pytest.raises(ConfigError, match=said):
        trainer().fit(other, chips(), ckpt_path=path, weights_only=True)


def test_what_was_standardised_by_is_in_the_checkpoint(checkpoint: Path) -> None:
    assert Contract.from_dict(torch.load(checkpoint, weights_only=True)["prithvi"]["contract"]) == CONTRACT
