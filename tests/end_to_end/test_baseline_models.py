"""Baselines are models: fitted by 'prithvi fit', mapped from their folder, and candidates of `--model.head auto`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

from prithvi.catalog import config_path
from prithvi.cli.auto_head import Measured, choose
from prithvi.errors import ConfigError, MissingExtraError
from prithvi.modelio import load
from prithvi.modelio.predictor import Predictor
from prithvi.tasks import fit_head
from tests.conftest import Answer, small_task

Cli = Callable[..., Answer]
pytestmark = [
    pytest.mark.filterwarnings("ignore:The number of training batches"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory"),
]


def of_squares(root: Path, runs: Path) -> list[object]:
    """Options for the shipped flood configuration on squares of the shipped image."""
    return [
        "-c", config_path("flood"), "--data.root", root, "--data.splits", root, "--data.crop", 32,
        "--data.batch_size", 2, "--data.num_workers", 0, "--model.window", 32,
        "--model.model_options", '{"embed_dim": 64, "depth": 2, "num_heads": 2}', "--trainer.max_epochs", 1,
        "--trainer.default_root_dir", runs, "--trainer.logger.init_args.save_dir", runs, "--trainer.accelerator", "cpu",
        "--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "head",
    [
        "index",
        *(
            pytest.param(head, marks=pytest.mark.slow)
            for head in ("trees", "image_statistics", "random_features", "token_trees")
        ),
    ],
)
def test_a_baseline_is_fitted_and_mapped_as_any_model(
    head: str, prithvi: Cli, squares: Path, six_bands: np.ndarray, write_tif: Callable[..., Path],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if "trees" in head:
        pytest.importorskip("sklearn")
    settings = of_squares(squares, tmp_path / "runs")
    answer = prithvi("fit", *settings, "--model.head", head)
    assert answer.code == 0, answer.err
    folder = tmp_path / "runs" / "model"
    assert {file.suffix for file in folder.iterdir()} == {".safetensors", ".json", ".md"}
    model = load(folder)
    assert isinstance(model, Predictor)
    assert (model.head, model.provenance["steps"]) == (head, 0)
    assert model.provenance["val/IoU_water"] > 0.5
    # The labels are the index over its threshold: without a mistake nothing is calibrated.
    assert model.provenance["val/IoU_water"] == 1 or head != "index"
    assert (model.temperature != 1) == (model.provenance["val/IoU_water"] < 1)
    assert f"| fitted | {model.provenance['fitted']} |" in (folder / "README.md").read_text()
    item = json.loads((folder / "item.json").read_text())
    assert item["properties"]["mlm:total_parameters"] > 0

    # Mapping needs no scikit-learn, and a pixel without data has no class.
    monkeypatch.setitem(sys.modules, "sklearn", None)
    pixels = six_bands[:, 100:180, 350:430].copy()
    pixels[:, 7, 9] = -9999
    scene = write_tif(pixels, nodata=-9999)
    answer = prithvi(
        "map", folder, scene, "-o", tmp_path / "maps", "--sensor", "sentinel-2-l1c", "--date", "2019-09-18"
    )
    assert answer.code == 0, answer.err
    (mapped,) = (tmp_path / "maps").glob("*.tif")
    with rasterio.open(mapped) as raster:
        found = raster.read(1)
    water = pixels[1].astype(float) > pixels[4]  # the labels' own rule
    known = np.ones(found.shape, bool)
    known[7, 9] = False
    assert (found == 255).sum() == 1
    assert found[7, 9] == 255
    assert ((found == 1) == water)[known].mean() > 0.9
    tested = prithvi("test", *settings, "--ckpt_path", folder)
    assert tested.code == 0, tested.err


def test_fitting_trees_without_scikit_learn_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    chip = {
        "image": torch.randint(200, 4000, (6, 1, 32, 32)), "valid": torch.ones(1, 32, 32, dtype=torch.bool),
        "label": torch.randint(0, 2, (32, 32)),
    }  # fmt: skip
    with pytest.raises(MissingExtraError, match=r"gradient boosting needs .*pip install 'prithvi\[baselines\]'"):
        fit_head(small_task(head="trees"), [chip])
    with pytest.raises(ConfigError, match="head 'light' is trained by gradient steps"):
        fit_head(small_task(), [chip])
    with pytest.raises(ConfigError, match=r"head 'index' is fitted without gradient steps: prithvi.tasks.fit_head"):
        small_task(head="index").configure_optimizers()


@pytest.mark.slow
def test_options_of_the_file_s_head_are_not_another_head_s(prithvi: Cli, squares: Path, tmp_path: Path) -> None:
    """configs/flood.yaml has options of `fcn`, which `light` does not know."""
    settings = of_squares(squares, tmp_path / "runs")
    answer = prithvi("fit", *settings, "--model.head=light")
    assert answer.code == 0, answer.err
    refused = prithvi("fit", *settings, "--model.head", "light", "--model.head_options", '{"width": 3}')
    assert refused.code == 2
    assert "head 'light': " in refused.err
    refused = prithvi("fit", *settings, "--model.head", "index", "--model.head_options", '{"positive": "watr"}')
    assert "there is no class 'watr': did you mean water" in refused.err


@pytest.mark.slow
def test_auto_keeps_the_head_that_validation_says_is_best(prithvi: Cli, squares: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    runs = tmp_path / "runs"
    settings = of_squares(squares, runs)
    answer = prithvi("fit", *settings, "--model.head", "auto")
    assert answer.code == 0, answer.err
    choice = json.loads((runs / "choice.json").read_text())
    assert list(choice["candidates"]) == ["token_trees", "fused", "fcn"]
    values = {head: entry["figure"] for head, entry in choice["candidates"].items()}
    assert choice["chosen"] == max(values, key=values.__getitem__) == "token_trees"  # 2 steps train no network
    assert "Candidates for the head, by val/mIoU on 2 validation chips:" in answer.out
    for head, value in values.items():
        kept = load(runs / "auto" / head / "model")
        assert isinstance(kept, Predictor)
        assert kept.provenance["val/mIoU"] == pytest.approx(value, abs=1e-4)
        assert f"{head}: {value:.4f}" in answer.out
    model = load(runs / "model")
    assert isinstance(model, Predictor)
    assert model.head == "token_trees"
    assert model.temperature != 1
    card = (runs / "model" / "README.md").read_text()
    assert f"| head chosen | {choice['why']} |" in card
    assert f"fused: {values['fused']:.4f}" in card

    # What is done is not fitted again; what is missing or has other options is.
    (runs / "auto" / "fcn" / "validation.json").unlink()
    again = prithvi("fit", *settings, "--model.head", "auto")
    assert again.code == 0, again.err
    assert "Fitting the candidate fcn" in again.out
    assert "Fitting the candidate detail" not in again.out
    assert json.loads((runs / "choice.json").read_text())["candidates"]["fcn"]["figure"] == values["fcn"]
    refused = prithvi("fit", *settings, "--model.head", "auto", "--ckpt_path", "last")
    assert "goes on by itself from those that are done" in refused.err
    monitor = ["--trainer.callbacks.init_args.monitor", "val/ECE"]
    refused = prithvi("fit", *settings, "--model.head", "auto", *monitor)
    assert "val/ECE is none" in refused.err


def measured(hits: list[float]) -> Measured:
    """Chips of 100 pixels of two classes, of which so many are right in each."""
    matrices = torch.tensor([[[hit, 50 - hit], [50 - hit, hit]] for hit in hits], dtype=torch.float64)
    return Measured(matrices, torch.tensor([1 - hit / 50 for hit in hits]), ["a", "b"])


def test_a_validation_part_that_cannot_tell_is_said() -> None:
    clear = choose({"trees": measured([45, 44, 46, 45] * 5), "fcn": measured([30, 31, 29, 30] * 5)}, "mIoU")
    assert clear["chosen"] == "trees"
    assert not clear["candidates"]["fcn"]["within noise"]
    assert "by more than which of the 20 validation chips are drawn" in clear["told"][-1]
    close = choose({"trees": measured([48, 30, 41, 35]), "fcn": measured([30, 47, 36, 42])}, "aAcc")
    assert close["chosen"] == "fcn"
    assert close["candidates"]["trees"]["within noise"]
    assert "4 validation chips are too small a part to tell it from trees" in close["told"][-1]
    one = choose({"trees": measured([45]), "fcn": measured([30])}, "loss", smaller=True)
    assert one["chosen"] == "trees"
    assert "one validation chip is too small a part" in one["told"][-1]
    with pytest.raises(ConfigError, match="val/ECE is none"):
        choose({"trees": measured([45])}, "ECE")
