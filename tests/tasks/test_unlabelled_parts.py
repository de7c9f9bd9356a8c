"""Parts without a labelled pixel, classes that training never sees, and JSON without NaN."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from prithvi.contract import IGNORE
from prithvi.data import ChipDataModule
from prithvi.errors import DatasetError
from prithvi.evaluation.compare import Result, Trial, read_result, write_result
from prithvi.files import dumps
from tests.conftest import small_task

Write = Callable[..., Path]
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:The number of training batches", "ignore:You defined a",
    "ignore:.*checkpoint.*exists",
)  # fmt: skip
BANDS = ["blue", "green", "red", "nir_narrow", "swir_1", "swir_2"]
PARTS = ("train", "val", "test")


def folder(tmp_path: Path, write_tif: Write, empty: str) -> dict[str, Any]:
    """A chip of each part; the mask of one part holds nothing but 255, which is ignored."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir(exist_ok=True)
    generator = np.random.default_rng(0)
    for part in PARTS:
        write_tif(generator.integers(100, 3000, (6, 32, 32)).astype(np.int16), f"images/{part}.tif", names=None)
        mask = np.full((1, 32, 32), 255 if part == empty else 1, np.uint8)
        mask[0, :9] = 255 if part == empty else 2
        write_tif(mask, f"masks/{part}.tif", names=None)
        (tmp_path / f"{part}.txt").write_text(f"{part}\n")
    return {
        "image": "images/{id}.tif", "label": "masks/{id}.tif", "sensor": "hls-s30", "bands": BANDS, "ignore": [255],
        "classes": [{"value": 1, "name": "land"}, {"value": 2, "name": "water"}],
        "lists": {part: f"{part}.txt" for part in PARTS}, "mean": [1500] * 6, "std": [900] * 6,
    }  # fmt: skip


def trainer(tmp_path: Path, **more: Any) -> L.Trainer:
    return L.Trainer(
        **{"max_epochs": 1, "accelerator": "cpu", "logger": False, "enable_checkpointing": False,
           "enable_progress_bar": False, "enable_model_summary": False, "default_root_dir": tmp_path, **more}
    )  # fmt: skip


@pytest.mark.parametrize("empty", PARTS)
def test_a_part_without_a_label_is_refused_before_a_step_is_made(tmp_path: Path, write_tif: Write, empty: str) -> None:
    options = folder(tmp_path, write_tif, empty)
    task = small_task(values=[1, 2])

    def run(**splits: str) -> None:
        data = ChipDataModule(str(tmp_path), folder=options, crop=None, batch_size=1, num_workers=0, **splits)
        runner = trainer(tmp_path)
        if empty == "test":
            runner.test(task, data, verbose=False)
        else:
            runner.fit(task, data)

    before = [value.clone() for value in task.parameters()]
    what = "learn" if empty == "train" else "measure"
    with pytest.raises(DatasetError) as refusal:
        run()
    told = str(refusal.value)
    assert f"of 1 chip of the split '{empty}' of" in told
    assert f"there is nothing to {what}: name another split (data.{empty}_split)" in told
    assert all(torch.equal(*pair) for pair in zip(before, task.parameters(), strict=True))
    run(**{f"{empty}_split": "val" if empty != "val" else "test"})  # as it says


class Rows(torch.utils.data.Dataset):  # type: ignore[type-arg]
    def __init__(self, *labels: int) -> None:
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> dict[str, Any]:
        image = torch.randint(100, 3000, (6, 1, 32, 32), generator=torch.Generator().manual_seed(row))
        return {
            "id": str(row), "image": image, "valid": torch.ones(1, 32, 32, dtype=torch.bool),
            "label": torch.full((32, 32), self.labels[row]),
        }  # fmt: skip


def test_a_validation_that_measured_nothing_ends_the_run_at_once(tmp_path: Path) -> None:
    """Of data of one's own, which nobody looked through beforehand; a sanity check of two batches proves nothing."""
    with pytest.raises(DatasetError, match=r"no pixel of what was run for val has a label where its image has data"):
        trainer(tmp_path).fit(small_task(), DataLoader(Rows(0, 1)), DataLoader(Rows(IGNORE, IGNORE)))
    trainer(tmp_path).fit(small_task(), DataLoader(Rows(0, 1)), DataLoader(Rows(IGNORE, IGNORE, 1)))


def test_a_checkpoint_is_not_chosen_by_a_figure_without_a_value(tmp_path: Path) -> None:
    """Lightning takes NaN for minus infinity, so that the first epoch would be kept."""
    task = small_task(classes=["land", "water", "snow"], colors=None)
    with torch.no_grad():  # which is then never predicted
        bias = task.model.head.linear.bias
        bias[2 * len(bias) // 3 :] = -1e4
    keeper = ModelCheckpoint(tmp_path / "kept", monitor="val/IoU_snow", mode="max")
    runner = trainer(tmp_path, enable_checkpointing=True, callbacks=[keeper])
    with pytest.raises(
        DatasetError, match=r"val/IoU_snow is nan in the validation.*Monitor another figure, such as val/loss"
    ):
        runner.fit(task, DataLoader(Rows(0, 1)), DataLoader(Rows(0, 1)))
    keeper = ModelCheckpoint(tmp_path / "kept", monitor="val/loss")
    task.train()
    with pytest.warns(UserWarning, match="no pixel of the training chips was snow, so that the model cannot know it"):
        trainer(tmp_path, enable_checkpointing=True, callbacks=[keeper]).fit(
            task, DataLoader(Rows(0, 1)), DataLoader(Rows(0, 1))
        )


def test_a_class_that_training_never_sees_is_said(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="no pixel of the training chips was water, so that the model cannot know it"):
        trainer(tmp_path).fit(small_task(), DataLoader(Rows(0, IGNORE)), DataLoader(Rows(0, 1)))


def test_json_has_null_for_what_is_no_number(tmp_path: Path) -> None:
    told = {"a": float("nan"), "b": [1.5, float("-inf")], "c": {"d": (float("inf"), None, True, "NaN")}}
    assert json.loads(dumps(told), parse_constant=pytest.fail) == {
        "a": None, "b": [1.5, None], "c": {"d": [None, None, True, "NaN"]},
    }  # fmt: skip
    result = Result(Trial("m", 1.0, 0), {"mIoU": float("-inf"), "mF1": float("nan"), "mAcc": 0.5}, 1.0, 3)
    write_result(tmp_path, result, {})
    text = next(tmp_path.rglob("result.json")).read_text()
    assert json.loads(text, parse_constant=pytest.fail)["figures"] == {"mIoU": None, "mF1": None, "mAcc": 0.5}
    again = read_result(tmp_path, Trial("m", 1.0, 0), {})
    assert again is not None
    assert np.isnan(again.figures["mIoU"])
