"""Labels that pretraining learns beside the reconstruction: classes, kinds of classes, and stores without any."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from prithvi.chips import ChipStore, StoreSpec
from prithvi.chips.spec import UNLABELLED, Chip
from prithvi.contract import IGNORE, Category
from prithvi.data import PretrainDataModule
from prithvi.errors import ConfigError, DatasetError
from prithvi.tasks import PretrainTask
from prithvi.tasks.pseudo_labels import label_loss, label_names
from tests.chips.conftest import sample_chips
from tests.tasks.pretrain_run import SHAPE

LEGEND = tuple(Category(value, name, "808080") for value, name in enumerate(("water", "land", "trees", "grass")))
GROUPS = {"land": ["trees", "grass"]}
NAMES = ("water", "land", "land/trees", "land/grass")


def chips_of(six_bands: np.ndarray, count: int, frames: int) -> list[Chip]:
    """Chips of one or two dates."""
    made = []
    for chip in sample_chips(six_bands, count):
        one = chip.sample
        sample = dataclasses.replace(
            one, times=one.times[:frames], granules=one.granules[:frames], good=one.good[:frames],
            filled=one.filled[:frames],
        )  # fmt: skip
        assert chip.fmask is not None
        made.append(Chip(chip.image[:frames], sample, chip.fmask[:frames], chip.label))
    return made


def labelled(six_bands: np.ndarray, folder: Path, frames: int = 1) -> ChipStore:
    """Chips whose water is what MNDWI says, some land by kind by NDVI, some land alone, some unlabelled."""
    chips = []
    for chip in chips_of(six_bands, 40, frames):
        _, green, red, nir, swir, _ = chip.image[0].astype(float)
        wet, dense = green > swir, (nir - red) > 0.4 * (nir + red)
        label = np.select([wet, dense], [0, 2], 3).astype(np.uint8)
        label[:8] = np.where(wet[:8], 0, 1)
        label[8:10] = UNLABELLED
        assert chip.label is not None
        chip.label[:] = label
        chips.append(chip)
    return ChipStore.create(folder, StoreSpec(32, 32, frames, classes=LEGEND, shard=16), chips)


def task_of(data: PretrainDataModule, **options: object) -> PretrainTask:
    torch.manual_seed(0)
    fields = {"model_options": SHAPE | {"pixel_width": 8}, "crop": 32, "lr": 3e-3, "label_weight": 1.0} | options
    fields = {"label_groups": GROUPS, "classes": data.classes} | fields
    return PretrainTask("prithvi_hls_tiny", data.contract.to_dict(), **fields)


def test_kinds_are_named_behind_their_class() -> None:
    assert label_names(["water", "land", "trees", "grass"], GROUPS) == NAMES
    assert label_names(["a", "b"], {}) == ("a", "b")


@pytest.mark.parametrize(
    ("groups", "sentence"),
    [
        ({"lnad": ["trees"]}, "label_groups has no class 'lnad'.*land"),
        ({"land": ["tree"]}, "label_groups of land has no class 'tree'.*trees"),
        ({"land": ["trees"], "water": ["trees"]}, "label_groups has trees twice"),
        ({"land": ["water"], "water": ["trees"]}, "label_groups has water twice"),
    ],
)
def test_groups_that_do_not_fit_the_classes_are_refused(groups: dict[str, list[str]], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        label_names(["water", "land", "trees", "grass"], groups)


def test_the_loss_is_the_cross_entropy_of_classes_plus_that_of_kinds() -> None:
    torch.manual_seed(0)
    scores = torch.randn(1, 4, 1, 4)
    label = torch.tensor([[[0, 1, 3, IGNORE]]])
    classes, kinds = scores[0, :2, 0].T, scores[0, 2:, 0].T
    expected = F.cross_entropy(classes[:3], torch.tensor([0, 1, 1]), reduction="sum")
    expected = expected + F.cross_entropy(kinds[2:3], torch.tensor([1]), reduction="sum")
    torch.testing.assert_close(label_loss(scores, label, NAMES), expected / 3)


def test_land_of_unknown_kind_teaches_nothing_of_kinds() -> None:
    scores = torch.zeros(1, 4, 2, 2, requires_grad=True)
    label_loss(scores, torch.ones(1, 2, 2, dtype=torch.int64), NAMES).backward()
    assert scores.grad is not None
    assert scores.grad[:, :2].abs().sum() > 0
    assert not scores.grad[:, 2:].any()


def test_a_batch_without_labels_has_a_loss_of_zero_with_a_gradient() -> None:
    scores = torch.randn(1, 4, 2, 2, requires_grad=True)
    loss = label_loss(scores, torch.full((1, 2, 2), IGNORE), NAMES)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert scores.grad is not None
    assert not scores.grad.any()


@pytest.mark.slow
def test_training_learns_the_labels_beside_the_reconstruction(six_bands: np.ndarray, tmp_path: Path) -> None:
    stores = [labelled(six_bands, tmp_path / "one.zarr"), labelled(six_bands, tmp_path / "two.zarr", frames=2)]
    data = PretrainDataModule([str(store.path) for store in stores], batch_size=8, num_workers=0, labels=True)
    assert data.classes == ["water", "land", "trees", "grass"]
    task = task_of(data)
    trainer = L.Trainer(
        max_steps=80, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, val_check_interval=80, check_val_every_n_epoch=None,
        default_root_dir=tmp_path, gradient_clip_val=20.0,
    )  # fmt: skip
    (first, _) = trainer.validate(task, datamodule=data, verbose=False)
    trainer.fit(task, datamodule=data)
    (after, _) = trainer.validate(task, datamodule=data, verbose=False)
    before, now = (found["val/label_loss"] for found in (first, after))
    assert now < 0.6 * before
    batch = next(iter(data.val_dataloader()[0]))
    images = task.standardise(batch["image"], batch["valid"])
    task.eval()
    with torch.no_grad():
        found = task.mae.label_scores(images)[:, :2].argmax(dim=1)
    known = batch["label"] != IGNORE
    right = (found == (batch["label"] > 0))[known].float().mean()
    assert right > 0.9


def test_labels_of_a_share_of_the_samples_are_learned_by_the_branch_alone(
    six_bands: np.ndarray, tmp_path: Path
) -> None:
    """All, none, and half of them: the token part of the model gets a gradient from the rest alone."""
    store = labelled(six_bands, tmp_path / "one.zarr")
    data = PretrainDataModule([str(store.path)], batch_size=16, num_workers=0, labels=True)
    data.setup("fit")
    found = {}
    for share in (0.0, 0.5, 1.0):
        task = task_of(data, label_drop_tokens=share, label_jitter=0.0)
        assert task.mae.branch is not None
        torch.nn.init.ones_(task.mae.branch.fusion.gate)  # shut, nothing of the tokens would be seen in any case
        view = task.prepare(data.stream.batch(0), torch.Generator().manual_seed(0), training=True)
        torch.manual_seed(0)
        loss = task.label_loss(view, training=True)
        loss.backward()
        tokens, pixels = (
            sum(float(p.grad.abs().sum()) for p in part.parameters() if p.grad is not None)
            for part in (task.mae.encoder, task.mae.branch.pixels)
        )
        assert pixels > 0
        found[share] = (loss.detach(), tokens, task.label_loss(view).detach())
    assert found[0.0][1] > 0
    assert found[0.5][1] > 0
    assert found[1.0][1] == 0
    # Without training nothing is dropped.
    torch.testing.assert_close(found[0.0][0], found[0.0][2])
    torch.testing.assert_close(found[1.0][2], found[0.0][2])
    assert not torch.equal(found[1.0][0], found[1.0][2])
    with pytest.raises(ConfigError, match=r"label_drop_tokens is 1\.5; it is a share of the samples"):
        task_of(data, label_drop_tokens=1.5)


def test_samples_of_stores_without_labels_stand_in_the_same_batch(six_bands: np.ndarray, tmp_path: Path) -> None:
    with_labels = labelled(six_bands, tmp_path / "one.zarr")
    without = ChipStore.create(tmp_path / "two.zarr", StoreSpec(32, 32, 1, shard=16), [
        Chip(chip.image, chip.sample, chip.fmask) for chip in chips_of(six_bands, 40, 1)
    ])  # fmt: skip
    data = PretrainDataModule(
        [str(with_labels.path), str(without.path)], batch_size=16, num_workers=0, labels=True, seed=3
    )
    data.setup("fit")
    batch = data.stream.batch(0)
    empty = (batch["label"] == IGNORE).flatten(1).all(dim=1)
    assert empty.any()
    assert not empty.all()
    task = task_of(data)
    view = task.prepare(batch, torch.Generator().manual_seed(0), training=True)
    loss = task.label_loss(view, training=False)
    kept = ~empty
    assert view.label is not None
    alone = label_loss(
        task.mae.label_scores(view.images[kept], view.coordinates[0][kept], view.coordinates[1][kept]),
        view.label[kept], NAMES,
    )  # fmt: skip
    torch.testing.assert_close(loss, alone)
    unused = PretrainDataModule([str(with_labels.path)], batch_size=16, num_workers=0)
    unused.setup("fit")
    assert "label" not in unused.stream.batch(0)


def test_labels_move_with_the_pixels_of_their_crop(six_bands: np.ndarray, tmp_path: Path) -> None:
    """In every drawn view water is where MNDWI of the standardised image says so."""
    data = PretrainDataModule(
        [str(labelled(six_bands, tmp_path / "one.zarr").path)], batch_size=16, num_workers=0, labels=True
    )
    data.setup("fit")
    task = task_of(data, crop=16, flips="all", model_options=SHAPE | {"pixel_width": 8})
    for number in range(3):
        view = task.prepare(data.stream.batch(number), torch.Generator().manual_seed(number), training=True)
        image = task.standardise.undo(view.images)[:, :, 0]
        assert view.label is not None
        known = view.label != IGNORE
        assert torch.equal((image[:, 1] > image[:, 4])[known], (view.label == 0)[known])


def test_stores_of_different_classes_or_none_are_not_learned_from(six_bands: np.ndarray, tmp_path: Path) -> None:
    one = labelled(six_bands, tmp_path / "one.zarr")
    other = StoreSpec(32, 32, 1, classes=(Category(0, "snow", "FFFFFF"), Category(1, "ice", "DDDDFF")), shard=16)
    two = ChipStore.create(tmp_path / "two.zarr", other, chips_of(six_bands, 20, 1))
    with pytest.raises(DatasetError, match=r"if they have the same classes: snow, ice; water, land, trees, grass"):
        PretrainDataModule([str(one.path), str(two.path)], labels=True)
    data = PretrainDataModule([str(one.path)], num_workers=0)
    assert data.classes is None
    with pytest.raises(ConfigError, match=r"label_weight learns the labels of the stores: say data\.labels: true"):
        task_of(data)
    data = PretrainDataModule([str(one.path)], num_workers=0, labels=True)
    with pytest.raises(ConfigError, match=r"learned by the per-pixel branch.*model_options\.pixel_width: 32"):
        task_of(data, model_options=SHAPE | {"pixel_width": 0})
