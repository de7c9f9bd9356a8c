"""Distillation as it is typed: from a teacher on the hub or here to a model folder that is used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rasterio.transform import from_origin

from prithvi.bands import PRITHVI_BANDS
from prithvi.catalog import config_path
from prithvi.contract import Contract
from prithvi.files import read_yaml, sha256
from prithvi.modelio import load
from prithvi.models import PrithviMAE
from prithvi.tasks import DistilTask
from tests.conftest import Answer, small_task
from tests.hub_client import Client, forking
from tests.hub_server import serve_hub
from tests.tasks.test_distil import SHAPE, save_teacher, store  # noqa: F401 - a fixture

Cli = Callable[..., Answer]


def options(store: Path, root: Path, steps: int) -> list[Any]:  # noqa: F811
    return [
        "--data.stores", f"[{store}]", "--data.batch_size", 8, "--data.num_workers", 0, "--model.crop", 32,
        "--model.model_options", json.dumps(SHAPE), "--model.statistics_batches", 2, "--trainer.max_steps", steps,
        "--trainer.val_check_interval", 2, "--trainer.log_every_n_steps", 2, "--trainer.default_root_dir", root,
        "--trainer.logger.init_args.save_dir", root, "--trainer.enable_progress_bar", "false",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_distillation_is_typed_gone_on_with_and_its_model_is_used(
    prithvi: Cli,
    store: Path,  # noqa: F811
    six_bands: np.ndarray,
    write_tif: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # the shipped config keeps its checkpoints in runs/
    teacher, root = save_teacher(tmp_path / "teacher"), tmp_path / "run"
    answer = prithvi("distil", teacher, *options(store, root, 4))
    assert answer.code == 0, answer.err
    assert "Model folder" in answer.out
    on = prithvi("distil", teacher, *options(store, root, 6), "--ckpt_path", "runs/distil_tiny/last.ckpt")
    assert on.code == 0, on.err
    record = json.loads((root / "model" / "config.json").read_text())["training"]
    assert (record["steps"], record["samples"], record["teacher"]) == (6, 48, str(teacher))
    assert record["teacher_sha256"] == sha256(teacher / "model.safetensors")
    assert {"val/loss", "val/r2", "val/cosine"} <= set(record)
    assert record["decoder"] == "not trained"
    card = (root / "model" / "README.md").read_text()
    assert f"features of {teacher}" in card
    assert "**The decoder was not trained**" in card
    assert (root / "loss.png").is_file()

    student = load(root / "model")
    assert isinstance(student, PrithviMAE)
    assert student.config.patch_size == (1, 8, 8)
    at = from_origin(600_000, 4_200_000, 30, 30)
    scene, later = (write_tif(six_bands[:, row:, :64][:, :64], f"{row}.tif", transform=at) for row in (0, 64))
    embedded = prithvi("embed", root / "model", scene, "-o", "vectors.tif", "--date", "2022-05-31")
    assert embedded.code == 0, embedded.err
    task = small_task(init=str(root / "model"), model_options=SHAPE)
    expected = student.encoder.blocks[0].mlp.fc1.weight
    assert torch.equal(task.model.encoder.blocks[0].mlp.fc1.weight, expected)

    dates = ["--date", "2022-05-31", "--date", "2022-06-30"]
    filled = prithvi("fill", root / "model", scene, later, "-o", "filled", *dates)
    assert filled.code == 2
    assert "its decoder is not trained" in filled.err
    begun = filled.err.index("prithvi fit ")
    words = filled.err[begun : filled.err.index(", with its", begun)].split()[1:]
    trained = prithvi(
        *words, "--model.model_options", json.dumps(SHAPE), "--model.crop", 32, "--data.stores", f"[{store}]",
        "--data.batch_size", 8, "--data.num_workers", 0, "--trainer.max_steps", 2, "--model.masks", '{"random": 1}',
        "--trainer.default_root_dir", tmp_path / "decoder", "--trainer.enable_progress_bar", "false",
    )  # fmt: skip
    assert trained.code == 0, trained.err
    whole = load(tmp_path / "decoder" / "model")
    assert torch.equal(whole.encoder.blocks[0].mlp.fc1.weight, expected)
    again = prithvi("fill", tmp_path / "decoder" / "model", scene, later, "-o", "filled", *dates)
    assert "not trained" not in again.err


@pytest.mark.slow
def test_a_teacher_comes_from_the_hub_by_its_id(store: Path, tmp_path: Path) -> None:  # noqa: F811
    folder = save_teacher(tmp_path / "teacher")
    with serve_hub() as hub, forking() as process:
        files = {file.name: file.read_bytes() for file in folder.iterdir()}
        commit = hub.add("me/teacher", files)
        client = Client(process, hub.url, tmp_path / "home")
        named = f"me/teacher@{commit}"
        kept = ["--trainer.callbacks", "[]"]  # checkpoints would lie where the tests run
        answer = client.run("distil", named, *options(store, tmp_path / "run", 2), *kept)
        assert answer.code == 0, answer.err
        record = json.loads((tmp_path / "run" / "model" / "config.json").read_text())["training"]
        assert record["teacher"] == named
        assert record["teacher_sha256"] == sha256(folder / "model.safetensors")


def test_what_was_mistyped_is_one_sentence(prithvi: Cli, store: Path) -> None:  # noqa: F811
    for words, sentence in (
        (["prithvi_eo_v9"], "there is no model, file, folder or hub id 'prithvi_eo_v9': did you mean"),
        (["prithvi_hls_tiny", "--model.layer", "1"], "there is no setting 'layer'; did you mean layers?"),
        (["prithvi_hls_tiny", "--model.crop", "36"], "does not divide into patches of 1 x 8 x 8"),
        (["prithvi_hls_tiny", "-c", config_path("pretrain_tiny")], "there is no setting 'teacher'"),
    ):
        answer = prithvi("distil", *words, "--data.stores", f"[{store}]", "--model.model_options", json.dumps(SHAPE))
        assert answer.code == 2, answer
        assert sentence in answer.err
        assert "Traceback" not in answer.err


def test_the_config_builds_and_the_help_says_where_the_options_are(prithvi: Cli) -> None:
    plain = read_yaml(config_path("distil_tiny"))
    contract = Contract(PRITHVI_BANDS, (1e3,) * 6, (9e2,) * 6)
    task = DistilTask("prithvi_hls_tiny", contract=contract.to_dict(), **plain["model"]["init_args"])
    assert task.crop % 16 == task.crop % 14 == task.crop % 8 == 0
    answer = prithvi("distil", "--help")
    assert answer.code == 0
    assert "prithvi fit" in answer.out
