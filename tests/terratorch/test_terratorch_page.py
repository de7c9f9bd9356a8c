"""What docs/terratorch.md prints: a decoder as a head here, an encoder as a backbone there, a fine-tune opened here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import yaml
from rasterio.windows import Window

import prithvi as package
from prithvi.catalog import config_path
from prithvi.modelio.predictor import FittedModel
from tests.conftest import SIX, SPAIN, Answer
from tests.pages import Block, printed_for
from tests.terratorch.conftest import BANDS, configuration, fit, their_warnings


def printed() -> list[Block]:
    found = printed_for("tests/terratorch/test_terratorch_page.py", "terratorch.md")
    assert [block.kind for block in found] == ["yaml", "yaml", "python"]
    return found


def test_a_decoder_becomes_a_head_as_printed(floods: Path, prithvi: Callable[..., Answer], tmp_path: Path) -> None:
    (tmp_path / "unet.yaml").write_text(printed()[0].code)
    hand = floods / "v1.1/data/flood_events/HandLabeled"
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}_split.txt").write_text("Spain_0\n")
    with their_warnings():
        answer = prithvi(
            "fit", "-c", config_path("flood"), "-c", tmp_path / "unet.yaml", "--data.root", hand,
            "--data.splits", tmp_path, "--data.crop", 64, "--data.batch_size", 1, "--data.num_workers", 0,
            "--model.window", 64,
            "--model.model_options", '{"embed_dim": 32, "depth": 12, "num_heads": 2, "patch_size": [1, 16, 16]}',
            "--trainer.max_steps", 1,
            "--trainer.default_root_dir", tmp_path / "runs", "--trainer.accelerator", "cpu",
            "--trainer.logger.init_args.save_dir", tmp_path / "runs", "--trainer.enable_progress_bar", "false",
            "--trainer.log_every_n_steps", 1,
        )  # fmt: skip
    assert answer.code == 0, answer.err
    fitted = package.load(tmp_path / "runs" / "model")
    assert isinstance(fitted, FittedModel)
    assert type(fitted.model.head).__name__ == "TerraTorchHead"


def test_an_encoder_becomes_a_backbone_and_its_fine_tune_opens_as_printed(
    floods: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _, theirs, code = printed()
    path = configuration(floods, tmp_path, {})
    settings = yaml.safe_load(path.read_text())
    settings["trainer"] |= {**yaml.safe_load(theirs.code)["trainer"], "limit_val_batches": 0}
    settings["model"] = yaml.safe_load(theirs.code)["model"]
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    fit(path)
    (made,) = Path("run/version_0/checkpoints").glob("*.ckpt")
    made.rename(made.with_name("best.ckpt"))

    with rasterio.open(SPAIN) as raster:
        profile = {**raster.profile, "width": 64, "height": 64, "count": 6}
        with rasterio.open("scene.tif", "w", **profile) as cut:
            cut.write(raster.read(SIX, window=Window(200, 200, 64, 64)))
            cut.descriptions = BANDS
    scene = package.open_scene("scene.tif", sensor="sentinel-2-l1c", offset=0)
    names: dict[str, Any] = {"prithvi": package, "scene": scene}
    with their_warnings():
        exec(code.code, names)
    assert [entry.name for entry in names["model"].classes] == ["land", "water"]
    with rasterio.open("map.tif") as made_map:
        assert set(np.unique(made_map.read(1))) <= {0, 1}
