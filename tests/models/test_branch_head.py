"""The head `branch`: the per-pixel branch alone, without an encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import prithvi
from prithvi.errors import CheckpointError, ConfigError, ModelError
from prithvi.modelio import open_folder, save
from prithvi.models import Segmenter, build
from prithvi.models.zoo import configure
from prithvi.tasks import SegmentationTask
from tests.models.test_branch import SMALL, pretrained


def task_of(init: str | None, classes: list[str], **options: object) -> SegmentationTask:
    contract = configure("prithvi_hls_tiny").contract.to_dict()
    settings: dict[str, object] = {"model_options": SMALL, "window": 32, "head": "branch"} | options
    return SegmentationTask(classes, contract=contract, init=init, **settings)  # type: ignore[arg-type]


def test_each_pixel_is_told_from_the_five_by_five_around_it_and_its_date() -> None:
    torch.manual_seed(0)
    model = Segmenter(configure("prithvi_hls_tiny", num_frames=2), 3, "branch").eval()
    assert model.encoder is None
    images, days = torch.randn(1, 6, 2, 40, 52), torch.tensor([[[2020.0, 10.0], [2020.0, 200.0]]])
    moved = images.clone()
    moved[:, :, 1, 20, 30] += 3.0
    with torch.no_grad():
        scores = model(images, days)
        assert scores.shape == (1, 3, 40, 52)
        changed = (model(moved, days) != scores).any(dim=1)[0].nonzero()
        assert not torch.equal(model(images, days + 90), scores)
        assert not torch.equal(model(images.flip(2), days), scores)
    assert (changed - torch.tensor([20, 30])).abs().max() == 2


def test_it_begins_as_the_pretrained_branch_with_the_gate_shut(tmp_path: Path) -> None:
    folder = pretrained(tmp_path / "model")
    task = task_of(str(folder), ["water", "land"], statistics="init").eval()
    mae = prithvi.load(folder)
    images = torch.randn(2, 6, 1, 32, 32)
    with torch.no_grad():
        alone = mae.label_scores(images, shut=torch.tensor([True, True]))  # type: ignore[union-attr]
        torch.testing.assert_close(task.model(images), alone[:, :2])
        assert not torch.allclose(mae.label_scores(images), alone)  # type: ignore[union-attr]
        half = mae.label_scores(images, shut=torch.tensor([True, False]))  # type: ignore[union-attr]
    torch.testing.assert_close(half[0], alone[0])
    torch.testing.assert_close(half[1], mae.label_scores(images)[1])  # type: ignore[union-attr]


def test_its_model_folder_maps_as_the_task_does(tmp_path: Path) -> None:
    task = task_of(None, ["water", "land"]).eval()
    fitted = open_folder(save(task.fitted(), tmp_path / "model"))
    images = torch.randn(1, 6, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(fitted.model(images), task.model(images))
    weights = tmp_path / "model" / "model.safetensors"
    assert weights.stat().st_size < 100_000
    with pytest.raises(ModelError, match="has no encoder to embed with"):
        prithvi.embed(scene(), fitted)


def test_a_fine_tuned_model_s_branch_is_gone_on_with(tmp_path: Path) -> None:
    """From a model of the branch alone, and from a fused one into either head; nothing of it begins at random."""
    alone = save(task_of(None, ["water", "land"]).fitted(), tmp_path / "alone")
    fused = save(task_of(None, ["water", "land"], head="fused").fitted(), tmp_path / "fused")
    for source, head in ((alone, "branch"), (fused, "branch"), (fused, "fused")):
        task = task_of(str(source), ["burnt", "not burnt"], head=head)
        assert task.init_report is not None
        assert not task.init_report.fresh, (source.name, head)
        its = open_folder(source).model.head.branch.state_dict()  # type: ignore[union-attr]
        for name, values in task.model.head.branch.state_dict().items():  # type: ignore[union-attr]
            torch.testing.assert_close(values, its[name])
    with pytest.raises(CheckpointError, match=r"does not fit .*, and nothing was loaded: .*encoder\."):
        task_of(str(alone), ["water", "land"], head="fused")


def scene() -> object:
    import xarray as xr

    values = np.full((6, 64, 64), 0.1, np.float32)
    bands = list(configure("prithvi_hls_tiny").bands)
    return xr.DataArray(
        values, dims=("band", "y", "x"),
        coords={"band": bands, "y": 3e6 - 30.0 * np.arange(64), "x": 5e5 + 30.0 * np.arange(64)},
    )  # fmt: skip


def test_an_init_without_a_branch_and_a_frozen_encoder_are_refused(tmp_path: Path) -> None:
    published = build("prithvi_eo_v2_tiny_tl", embed_dim=32, depth=1, num_heads=2, decoder_depth=1)
    save_file({k: v.contiguous() for k, v in published.state_dict().items()}, tmp_path / "weights.safetensors")
    with pytest.raises(ConfigError, match=r"weights.safetensors has no per-pixel branch.*leave out init"):
        task_of(str(tmp_path / "weights.safetensors"), ["water", "land"])
    assert task_of(None, ["water", "land"]).init_report is None
    with pytest.raises(ConfigError, match="head 'branch' works on pixels: with finetune: full"):
        task_of(None, ["water", "land"], finetune="frozen")
