"""The main job, whole: the demo, and a training run from the shipped configuration."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import geopandas as gpd
import pytest
import rasterio
import torch
from rio_cogeo.cogeo import cog_validate

from prithvi.catalog import config_path, data_catalog
from prithvi.cli.demo import _fit
from prithvi.modelio import load
from prithvi.modelio.card import read_figures
from prithvi.modelio.predictor import FittedModel
from tests.conftest import SPAIN, Answer
from tests.pages import PAGES, blocks_of

Cli = Callable[..., Answer]


def test_the_demo_writes_what_it_says(prithvi: Cli, tmp_path: Path) -> None:
    out, threads = tmp_path / "demo", torch.get_num_threads()
    answer = prithvi("demo", "-o", out, "--steps", 24)
    assert answer.code == 0, answer.err
    assert torch.get_num_threads() == threads
    for text in (
        "MNDWI threshold",
        "from random weights",
        "from pretrained weights",
        "water IoU",
        "not a Sen1Floods11 score",
    ):
        assert text in answer.out
    assert sorted(path.name for path in out.iterdir()) == [
        "flood.parquet", "flood.png", "flood.qml", "flood.tif", "flood.tif.aux.xml", "metrics.json", "model",
        "report.html",
    ]  # fmt: skip
    report = json.loads((out / "metrics.json").read_text())
    assert report["results"]["MNDWI threshold"]["water_iou"] == pytest.approx(0.783, abs=0.002)
    # Even 24 steps learn what water is.
    assert 0.5 < report["results"]["from random weights"]["water_iou"] < 1
    assert 0.2 < report["results"]["from pretrained weights"]["water_iou"] < 1
    assert cog_validate(out / "flood.tif")[:2] == (True, [])
    polygons = gpd.read_parquet(out / "flood.parquet")
    with rasterio.open(out / "flood.tif") as made, rasterio.open(SPAIN) as source:
        assert made.transform == source.transform
        water = int((made.read(1) == 1).sum())
        size = abs(made.transform.a * made.transform.e)
        left, _, _, top = made.bounds
    assert polygons.to_crs("EPSG:4326").total_bounds[0] >= left - 1e-9
    assert polygons.to_crs("EPSG:4326").total_bounds[3] <= top + 1e-9
    assert sum(polygon.area for polygon in polygons.geometry) == pytest.approx(water * size)
    assert (out / "flood.png").read_bytes().startswith(b"\x89PNG")
    again = prithvi("map", out / "model", SPAIN, "-o", tmp_path / "maps", "--sensor", "sentinel-2-l1c", "--offset", "0")
    assert again.code == 0
    with rasterio.open(tmp_path / "maps" / SPAIN.name) as other, rasterio.open(out / "flood.tif") as made:
        assert (other.read(1) == made.read(1)).all()


@pytest.mark.slow
def test_a_run_of_the_demo_is_the_same_beside_another_and_on_any_number_of_threads(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    with ProcessPoolExecutor(1, get_context("spawn")) as beside:
        other = beside.submit(_fit, tmp_path / "beside", 2, 0, None)
        try:
            torch.set_num_threads(3)
            _fit(tmp_path / "here", 2, 0, None)
            assert torch.get_num_threads() == 3
        finally:
            torch.set_num_threads(threads)
        other.result()
    here, there = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("here", "beside"))
    assert here == there


def of_one_chip(folder: Path) -> list[object]:
    """Options for the shipped configuration on the shipped chip, with a small model and two epochs."""
    for split in ("train", "val", "test"):
        (folder / f"{split}_split.txt").write_text("Spain_7370579\n")
    return [
        "-c", config_path("flood"),
        "--data.root", data_catalog() / "sen1floods11" / "samples",
        "--data.splits", folder, "--data.crop", 64, "--data.batch_size", 1, "--data.num_workers", 0,
        "--model.window", 64, "--model.model_options", '{"embed_dim": 64, "depth": 2, "num_heads": 2}',
        "--trainer.max_epochs", 2, "--trainer.default_root_dir", folder / "runs", "--trainer.accelerator", "cpu",
        "--trainer.logger.init_args.save_dir", folder / "runs", "--trainer.enable_progress_bar", "false",
        "--trainer.log_every_n_steps", 1,
    ]  # fmt: skip


# Lightning tells that a checkpoint was made by another run, which is what 'prithvi test' is for.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_fit_and_test_from_the_shipped_configuration(prithvi: Cli, tmp_path: Path) -> None:
    settings = of_one_chip(tmp_path)
    answer = prithvi("fit", *settings)
    assert answer.code == 0, answer.err
    fitted = load(tmp_path / "runs" / "model")
    assert isinstance(fitted, FittedModel)
    assert [entry.name for entry in fitted.classes] == ["land", "water"]
    assert fitted.contract.level == "TOA"
    assert fitted.provenance["steps"] in (1, 2)
    card = (tmp_path / "runs" / "model" / "README.md").read_text()
    for told in ("library_name: prithvi", "| data | sen1floods11, 1 chip to train on |", "| minutes | ", "| val/"):
        assert told in card
    (checkpoint,) = (tmp_path / "runs").rglob("best*.ckpt")
    tested = prithvi("test", *settings, "--ckpt_path", checkpoint)
    assert tested.code == 0, tested.err
    assert "test/IoU_water" in tested.out
    figures = read_figures([tmp_path / "runs" / "metrics.json"])
    assert "test/IoU_water" in figures
    for option in (["--ckpt_path", tmp_path / "runs" / "model"], [f"--ckpt_path={tmp_path / 'runs' / 'model'}"]):
        (tmp_path / "runs" / "metrics.json").unlink()
        answer = prithvi("test", *settings, *option, "--model.lr", 1e-3)  # whatever is said of training
        assert answer.code == 0, answer.err
        assert read_figures([tmp_path / "runs" / "metrics.json"]) == figures
    refused = prithvi("test", *settings, "--ckpt_path", "prithvi_hls_tiny/")
    assert refused.code == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Precision bf16-mixed is not supported by the model summary")
def test_training_in_bfloat16_on_a_cpu_ends_in_a_float32_model(prithvi: Cli, tmp_path: Path) -> None:
    answer = prithvi("fit", *of_one_chip(tmp_path), "--trainer.max_epochs", 1, "--trainer.precision", "bf16-mixed")
    assert answer.code == 0, answer.err
    fitted = load(tmp_path / "runs" / "model")
    assert isinstance(fitted, FittedModel)
    assert all(value.dtype == torch.float32 and value.isfinite().all() for value in fitted.model.parameters())


@pytest.mark.slow
def test_the_features_of_a_frozen_encoder_are_kept_as_the_page_prints(
    prithvi: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = next(page for page in PAGES if page.name == "finetuning.md")
    (words,) = [words for block in blocks_of(page) for words in block.commands if "--data.features" in words]
    answer = prithvi("fit", *of_one_chip(tmp_path), *words[words.index("--model.finetune") :])
    assert answer.code == 0, answer.err
    assert list((tmp_path / "features").rglob("zarr.json"))
