"""Pretraining as it is typed: from a store to a model folder, gone on with, and fine-tuned from."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from prithvi.catalog import config_path
from prithvi.chips import ChipStore, StoreSpec
from prithvi.contract import Contract
from prithvi.models import PrithviMAE
from tests.chips.conftest import sample_chips
from tests.conftest import Answer

Cli = Callable[..., Answer]
SMALL = (
    '{"embed_dim": 32, "depth": 2, "num_heads": 2, "decoder_embed_dim": 32, "decoder_depth": 1, "decoder_num_heads": 2}'
)


@pytest.fixture
def store(six_bands: np.ndarray, tmp_path: Path) -> Path:
    chips = sample_chips(six_bands, 60)
    for chip in chips:
        chip.fmask[0, :10, :20] = 64 | 2
    path = tmp_path / "chips.zarr"
    ChipStore.create(path, StoreSpec(32, 32, 2, shard=16), [type(c)(c.image, c.sample, c.fmask) for c in chips])
    return path


def settings(store: Path, root: Path, steps: int) -> list[Any]:
    return [
        "-c", config_path("pretrain_tiny"), "--data.stores", f"[{store}]",
        "--data.batch_size", 8, "--data.num_workers", 0, "--model.crop", 32, "--model.model_options", SMALL,
        "--trainer.max_steps", steps, "--trainer.val_check_interval", 5, "--trainer.log_every_n_steps", 5,
        "--trainer.default_root_dir", root, "--trainer.logger.init_args.save_dir", root,
        "--trainer.enable_progress_bar", "false",
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_pretraining_is_typed_gone_on_with_and_fine_tuned_from(
    prithvi: Cli, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prithvi.modelio import load

    monkeypatch.chdir(tmp_path)  # the shipped config keeps its checkpoints in runs/
    root = tmp_path / "run"
    answer = prithvi("fit", *settings(store, root, 10))
    assert answer.code == 0, answer.err
    assert "Model folder" in answer.out
    model = load(root / "model")
    assert isinstance(model, PrithviMAE)
    record = json.loads((root / "model" / "config.json").read_text())["training"]
    assert record["steps"] == 10
    assert record["samples"] == 80
    assert record["data"][0]["store"] == "chips.zarr"
    assert "val/loss" in record
    assert (root / "loss.png").is_file()
    assert (root / "pictures" / "step-0000010.png").is_file()

    kept = tmp_path / "runs" / "pretrain_tiny" / "last.ckpt"
    on = prithvi("fit", *settings(store, root, 14), "--ckpt_path", kept)
    assert on.code == 0, on.err
    record = json.loads((root / "model" / "config.json").read_text())["training"]
    assert (record["steps"], record["samples"]) == (14, 112)
    other = load(root / "model").state_dict()
    assert any(not torch.equal(value, other[name]) for name, value in model.state_dict().items())

    refused = prithvi("fit", *settings(store, root, 20), "--ckpt_path", kept, "--data.seed", 5)
    assert refused.code == 2
    assert "trained with seed 0 and this configuration streams seed 5" in refused.err
    assert "Traceback" not in refused.err


@pytest.mark.parametrize("name", ["tiny", "tiny_labels", "small", "100m", "300m", "600m"])
def test_every_pretraining_config_builds_its_model_and_its_schedule(name: str) -> None:
    from lightning.pytorch.cli import instantiate_class

    from prithvi.tasks import PretrainTask

    plain = yaml.safe_load(Path(config_path(f"pretrain_{name}")).read_text())
    contract = Contract(("blue", "green", "red", "nir_narrow", "swir_1", "swir_2"), (1000.0,) * 6, (900.0,) * 6)
    given = {"contract": contract.to_dict()}
    if "label_groups" in plain["model"]["init_args"]:  # the classes of the stores
        given["classes"] = ["water", "land", *plain["model"]["init_args"]["label_groups"]["land"]]
    with torch.device("meta"):
        task = PretrainTask(**plain["model"]["init_args"], **given)
    millions = sum(parameter.numel() for parameter in task.mae.parameters()) / 1e6
    published = {"tiny": 0.635, "tiny_labels": 0.635, "small": 7.32, "100m": 113, "300m": 330, "600m": 657}
    assert millions == pytest.approx(published[name], rel=0.03)
    overlay = yaml.safe_load(Path(config_path("pretrain_published")).read_text())
    with torch.device("meta"):
        task = PretrainTask(**{**plain["model"]["init_args"], **overlay["model"]["init_args"]}, **given)
    assert task.views.loss_pixels == "all"
    assert task.contract.mean == task.mae.config.mean
    for callback in plain["trainer"]["callbacks"]:
        instantiate_class((), {"init_args": {}, **callback})
    assert plain["trainer"]["gradient_clip_val"] == 20.0


@pytest.mark.slow
def test_the_losses_are_in_the_logged_file(prithvi: Cli, store: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "run"
    answer = prithvi("fit", *settings(store, root, 10), "--model.decode_fraction", 0.5)
    assert answer.code == 0, answer.err
    (metrics,) = root.rglob("metrics.csv")
    with metrics.open() as file:
        rows = list(csv.DictReader(file))
    losses = [float(row["train/loss"]) for row in rows if row["train/loss"]]
    assert len(losses) == 2
    assert all(np.isfinite(losses))


def test_a_patch_that_does_not_divide_the_crop_is_one_sentence(prithvi: Cli, store: Path, tmp_path: Path) -> None:
    answer = prithvi("fit", *settings(store, tmp_path / "run", 5), "--model.crop", 30)
    assert answer.code == 2
    assert "does not divide into patches of 1 x 8 x 8" in answer.err
    assert "Traceback" not in answer.err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_masks_of_clouds_without_clouds_are_refused_at_once_and_both_remedies_work(
    prithvi: Cli, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [*settings(store, tmp_path / "run", 2), "--model.masks", "{cloud: 1}"]
    refused = prithvi("fit", *words)
    assert refused.code == 2
    assert "name stores with partly cloudy dates (--data.clouds '[chips.zarr]'), or leave such masks out" in refused.err
    assert not list(tmp_path.rglob("*.ckpt"))
    for remedy in (("--data.clouds", "[chips.zarr]"), ("--model.masks", "{random: 1}")):
        answer = prithvi("fit", *words, *remedy)
        assert answer.code == 0, answer.err


def test_a_store_that_is_not_there_is_one_sentence(prithvi: Cli, tmp_path: Path) -> None:
    answer = prithvi("fit", "-c", config_path("pretrain_tiny"), "--data.stores", f"[{tmp_path / 'none.zarr'}]")
    assert answer.code == 2
    assert "there is no chip store at" in answer.err
    assert "Traceback" not in answer.err
