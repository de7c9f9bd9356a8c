"""A student learns the features of a larger encoder, goes on bit for bit, and refuses what does not fit."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from prithvi.chips import ChipStore, StoreSpec
from prithvi.data import PretrainDataModule
from prithvi.errors import BandError, ConfigError, ModelError
from prithvi.modelio import save_pretrained
from prithvi.models import PrithviMAE, build
from prithvi.models.teacher import pooled
from prithvi.tasks import DistilTask
from tests.chips.conftest import sample_chips
from tests.tasks.test_pretrain import trainer_of

SHAPE = {
    "patch_size": (1, 8, 8), "embed_dim": 32, "depth": 2, "num_heads": 2, "decoder_embed_dim": 32, "decoder_depth": 1,
    "decoder_num_heads": 2,
}  # fmt: skip
COARSE = {**SHAPE, "patch_size": (1, 32, 32)}
TEACHER = {**SHAPE, "patch_size": (1, 16, 16), "embed_dim": 48, "depth": 3, "num_heads": 3}


@pytest.fixture(scope="module")
def store(six_bands: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stores") / "chips.zarr"
    chips = [dataclasses.replace(chip, label=None) for chip in sample_chips(six_bands, 160)]
    ChipStore.create(path, StoreSpec(32, 32, 2, shard=16), chips)
    return path


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with random weights, patches of 16, dates and places."""
    return str(save_teacher(tmp_path_factory.mktemp("teachers") / "teacher"))


def save_teacher(folder: Path, **options: Any) -> Path:
    torch.manual_seed(1)
    return save_pretrained(build("prithvi_eo_v2_tiny_tl", img_size=224, **{**TEACHER, **options}), folder, {})


def data_of(store: Path, **options: Any) -> PretrainDataModule:
    return PretrainDataModule([str(store)], batch_size=8, num_workers=0, buffer=16, **options)


def task_of(store: Path | PretrainDataModule, teacher: str, **options: Any) -> DistilTask:
    torch.manual_seed(0)
    data = store if isinstance(store, PretrainDataModule) else data_of(store)
    fields = {"model_options": SHAPE, "crop": 32, "lr": 3e-3, "statistics_batches": 4, **options}
    return DistilTask(teacher, contract=data.contract.to_dict(), **fields)


def by_pixel_means(task: DistilTask, data: PretrainDataModule) -> float:
    """R2 on the validation chips of a linear regression from the mean of each band in a patch to its target."""

    def pairs(batches: Any) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = [], []
        for batch in batches:
            images, valid, _ = task.cropped(batch, torch.Generator())
            target = task.targets(task.features(images, valid, (batch["temporal_coords"], batch["location_coords"])))
            means = pooled(task.standardise(images, valid).permute(0, 2, 3, 4, 1), (target.shape[2], target.shape[3]))
            x.append(torch.nn.functional.pad(means.flatten(0, 3), (0, 1), value=1.0))
            y.append(target.flatten(0, 3))
        return torch.cat(x), torch.cat(y)

    x, y = pairs(data.stream.batch(number) for number in range(12))
    held_x, held_y = pairs(data.val_dataloader()[0])
    solved = torch.linalg.lstsq(x, y).solution
    return 1 - float(((held_x @ solved - held_y) ** 2).sum() / (held_y**2).sum())


@pytest.mark.slow
def test_a_student_learns_what_pixel_means_do_not_tell(store: Path, tmp_path: Path) -> None:
    """The shipped model teaches a narrower one with patches twice as large; held-out chips tell how well."""
    data = data_of(store)
    task = task_of(data, "prithvi_hls_tiny", model_options={**SHAPE, "embed_dim": 64})
    trainer = trainer_of(tmp_path, 150)
    (before,) = trainer.validate(task, datamodule=data, verbose=False)
    frozen = {name: value.clone() for name, value in task.teacher.state_dict().items()}
    trainer.fit(task, datamodule=data)
    after = {name: float(value) for name, value in trainer.callback_metrics.items()}
    simple = by_pixel_means(task, data)
    assert before["val/r2"] < 0.05
    assert after["val/r2"] > max(0.6, simple + 0.05), simple
    assert after["val/cosine"] > 0.8
    assert all(torch.equal(value, frozen[name]) for name, value in task.teacher.state_dict().items())
    assert task.record["teacher_bands"] == "blue, green, red, nir_narrow, swir_1, swir_2"
    assert not any("teacher" in name for name in task.state_dict())


class Losses(L.Callback):
    def __init__(self) -> None:
        self.seen: dict[int, str] = {}

    def on_train_batch_end(self, trainer: L.Trainer, task: Any, outputs: Any, batch: Any, _: int) -> None:
        self.seen[trainer.global_step] = float(outputs["loss"]).hex()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(store: Path, teacher: str, tmp_path: Path) -> None:
    def fit(root: Path, ckpt: Path | None = None) -> tuple[DistilTask, dict[int, str]]:
        task = task_of(store, teacher, model_options={**SHAPE, "drop_path": 0.1}, target_width=40, layers=[1, -1])
        losses = Losses()
        keep = ModelCheckpoint(root, every_n_train_steps=5, save_top_k=-1, filename="{step}")
        trainer = trainer_of(root, 12, enable_checkpointing=True, callbacks=[losses, keep])
        torch.manual_seed(len(root.name))  # nothing depends on what was drawn before
        trainer.fit(task, datamodule=data_of(store, frames=[1, 2]), ckpt_path=ckpt, weights_only=True)
        return task, losses.seen

    whole, expected = fit(tmp_path / "whole")
    resumed, found = fit(tmp_path / "on", tmp_path / "whole" / "step=5.ckpt")
    assert sorted(found) == list(range(6, 13))
    assert found == {step: loss for step, loss in expected.items() if step > 5}
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert whole.samples == resumed.samples == 96
    other = str(save_teacher(tmp_path / "other", depth=2))
    with pytest.raises(ConfigError, match=r"a teacher with the weights \w{12}, and .*other has \w{12}"):
        trainer_of(tmp_path, 14).fit(
            task_of(store, other, target_width=40, layers=[1, -1]), datamodule=data_of(store, frames=[1, 2]),
            ckpt_path=tmp_path / "whole" / "step=5.ckpt", weights_only=True,
        )  # fmt: skip


@pytest.mark.slow
def test_a_published_shape_of_100_million_teaches_from_a_weights_file(store: Path, tmp_path: Path) -> None:
    """Its position codes are of 224 pixels, and the crops have 32."""
    torch.manual_seed(0)
    model = build("prithvi_eo_v2_100_tl")
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    with pytest.raises(ModelError, match=r"say architecture= \(a name of 'prithvi models list'\)"):
        task_of(store, str(tmp_path / "weights.pt"))
    task = task_of(store, str(tmp_path / "weights.pt"), architecture="prithvi_eo_v2_100_tl", statistics_batches=1)
    trainer_of(tmp_path, 2).fit(task, datamodule=data_of(store))
    assert task.predictors["tokens"].out_features == 768
    assert all(torch.isfinite(value).all() for value in task.state_dict().values())
    weights = task.teacher.encoder.state_dict()
    assert torch.equal(weights["blocks.11.mlp.fc2.weight"], model.encoder.blocks[11].mlp.fc2.weight)


@pytest.mark.parametrize(
    "options",
    [
        {"loss_pixels": "clear"},
        *(pytest.param(more, marks=pytest.mark.slow) for more in ({"loss": "cosine"}, {"model_options": COARSE})),
    ],
    ids=str,
)
def test_losses_weights_and_coarser_students_train(store: Path, teacher: str, tmp_path: Path, options: Any) -> None:
    task = task_of(store, teacher, **options)
    trainer = trainer_of(tmp_path, 12)
    (before,) = trainer.validate(task, datamodule=data_of(store), verbose=False)
    trainer.fit(task, datamodule=data_of(store))
    assert float(trainer.callback_metrics["val/cosine"]) > before["val/cosine"] + 0.1
    assert ("val/r2" in trainer.callback_metrics) == (options.get("loss") != "cosine")


@pytest.mark.slow
def test_the_per_pixel_branch_learns_too_where_the_student_has_one(store: Path, teacher: str, tmp_path: Path) -> None:
    task = task_of(store, teacher, model_options={**SHAPE, "pixel_width": 16})
    data = data_of(store)
    trainer = trainer_of(tmp_path, 30)
    (before,) = trainer.validate(task, datamodule=data, verbose=False)
    branch = {name: value.clone() for name, value in task.mae.branch.state_dict().items()}
    trainer.fit(task, datamodule=data)
    assert float(trainer.callback_metrics["val/r2_pixels"]) > before["val/r2_pixels"] + 0.1
    moved = [name for name, value in task.mae.branch.state_dict().items() if not torch.equal(value, branch[name])]
    assert sorted(moved) == sorted(branch)  # the gate too
    assert "Its encoder and its per-pixel branch" in task.card
    without = task_of(store, teacher, model_options={**SHAPE, "pixel_width": 0})
    assert list(without.predictors) == ["tokens"]
    assert "Its encoder learnt" in without.card


def test_a_fine_tuned_model_teaches(store: Path, model_folder: Path, tmp_path: Path) -> None:
    """The flood model's was trained on reflectance at the top of the atmosphere, with pixels of 10 m."""
    with pytest.warns(UserWarning, match=r"the stores have pixels of 30 m, and .* was trained on 10 m"):
        task = task_of(store, str(model_folder), accept=["level"])
    trainer_of(tmp_path, 2).fit(task, datamodule=data_of(store))
    assert task.record["teacher"] == str(model_folder)


def test_a_patch_without_data_does_not_count(store: Path, teacher: str) -> None:
    data = data_of(store)
    data.setup("fit")
    batch, task = data.stream.batch(0), task_of(store, teacher)
    batch["valid"][:, :, :16, :8] = False
    cut = task.cropped(batch, torch.Generator())
    _, _, weight = task.compared(batch, cut, (batch["temporal_coords"], batch["location_coords"]))
    assert weight.shape == (8, 2, 2, 2)
    torch.testing.assert_close(weight, pooled(batch["valid"].float().unsqueeze(-1), (2, 2)).squeeze(-1))
    assert float(weight[:, :, 0, 0].max()) <= 0.5


def test_bands_that_the_stores_lack_are_named_and_the_remedy_works(store: Path, teacher: str, tmp_path: Path) -> None:
    contract = data_of(store).contract.select(["red", "nir_narrow"])
    images = torch.randint(0, 4000, (2, 2, 1, 32, 32), dtype=torch.int16)
    fields: dict[str, Any] = {"contract": contract.to_dict(), "crop": 32}
    fields["model_options"] = {**SHAPE, "bands": ["red", "nir_narrow"], "in_chans": 2}
    with pytest.raises(BandError, match=r"the stores lack blue, green, swir_1, swir_2: .*teacher_bands: \[red, nir_"):
        DistilTask(teacher, **fields)
    task = DistilTask(teacher, teacher_bands=["red", "nir_narrow"], **fields)
    assert task.features(images, torch.ones(2, 1, 32, 32, dtype=torch.bool), (None, None)).shape == (2, 1, 2, 2, 48)
    assert task.record["teacher_bands"] == "red, nir_narrow"


def test_stores_of_another_level_or_scale_are_refused_and_the_remedies_work(
    six_bands: np.ndarray, teacher: str, tmp_path: Path
) -> None:
    chips = [dataclasses.replace(chip, label=None) for chip in sample_chips(six_bands, 40)]
    ChipStore.create(tmp_path / "toa.zarr", StoreSpec(32, 32, 2, shard=16, level="TOA"), chips)
    with pytest.raises(ConfigError, match=r"the stores hold TOA, and .*teacher was trained on SR.*accept: \[level\]"):
        task_of(tmp_path / "toa.zarr", teacher)
    task = task_of(tmp_path / "toa.zarr", teacher, accept=["level"])
    assert task.record["accepted"] == ["level"]
    assert task.contract.level == "TOA"
    with pytest.raises(ConfigError, match=r"accept has no 'levels': did you mean level"):
        task_of(tmp_path / "toa.zarr", teacher, accept=["levels"])

    ChipStore.create(tmp_path / "coarse.zarr", StoreSpec(32, 32, 2, shard=16, gain=1e-3), chips)
    with pytest.raises(ConfigError, match=r"hold reflectance x 1000, .*x 10000: build the stores again"):
        task_of(tmp_path / "coarse.zarr", teacher)


def test_what_does_not_fit_is_one_sentence(store: Path, teacher: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no model, file, folder or hub id 'prithvi_eo_v3': did you mean"):
        task_of(store, "prithvi_eo_v3")
    with pytest.raises(ConfigError, match=r"crops of 24 pixels .* \(16 x 16\): set model.crop to 16, or another"):
        task_of(store, teacher, crop=24)
    task_of(store, teacher, crop=16)
    with pytest.raises(ConfigError, match=r"span 1 date and the student's 2: .*patch_size: \[1, 8, 8\]"):
        task_of(store, teacher, num_frames=2, model_options={**SHAPE, "patch_size": (2, 8, 8), "coords_encoding": []})
    with pytest.raises(ConfigError, match=r"loss has no 'l1'"):
        task_of(store, teacher, loss="l1")
    with pytest.raises(ConfigError, match=r"statistics_batches is 0"):
        task_of(store, teacher, statistics_batches=0)
    with pytest.raises(ModelError, match=r"no weights of prithvi_eo_tiny are published"):
        task_of(store, "prithvi_eo_tiny")
    plain = task_of(store, teacher)
    assert isinstance(plain.mae, PrithviMAE)
    assert not any(parameter.requires_grad for parameter in plain.teacher.parameters())
