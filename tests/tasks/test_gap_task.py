"""Filling gaps with an autoencoder: what is never touched, what is learnt, and what is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import rasterio
import torch
from torch.utils.data import DataLoader, DistributedSampler, Subset

from prithvi.chips import ChipStore
from prithvi.data import GapDataModule
from prithvi.errors import ConfigError, DatasetError
from prithvi.models import build
from prithvi.models.gapfill import TOUCHED, GapFiller
from prithvi.models.interpolation import fill
from prithvi.tasks import GapFillTask, PretrainTask
from tests.data.conftest import store  # noqa: F401
from tests.tasks.pretrain_run import SHAPE

Make = Callable[..., ChipStore]


def masks(folder: Path, size: int = 32, count: int = 6) -> Path:
    """Cloud masks as the public dataset has them: a disc each."""
    folder.mkdir(parents=True)
    y, x = np.mgrid[:size, :size]
    for number in range(count):
        disc = (y - 4 * number) ** 2 + (x - 12) ** 2 < 90
        with rasterio.open(
            folder / f"chip_00{number}_cmask.tif", "w", driver="GTiff", height=size, width=size, count=1, dtype="uint8",
            crs="EPSG:5070", transform=rasterio.Affine(30, 0, 0, 0, -30, 0),
        ) as raster:  # fmt: skip
            raster.write(disc.astype(np.uint8), 1)
    return folder


def split(chip: object) -> object:
    """Parts train, val and test, in turn."""
    number = int(chip.sample.name[1:])
    return dataclasses.replace(
        chip, sample=dataclasses.replace(chip.sample, split=("train", "train", "val", "test")[number % 4])
    )


def task_of(data: GapDataModule, **options: object) -> GapFillTask:
    torch.manual_seed(0)
    return GapFillTask(
        contract=data.contract.to_dict(),
        **{"model_options": SHAPE, "num_frames": 2, "crop": 32, "lr": 2e-3, "landmarks": 64, **options},
    )


def trained(task: GapFillTask, data: GapDataModule, steps: int) -> L.Trainer:
    trainer = L.Trainer(
        max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, val_check_interval=steps, check_val_every_n_epoch=None, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(task, datamodule=data)
    return trainer


@pytest.fixture
def data(store: Make, tmp_path: Path) -> GapDataModule:  # noqa: F811
    made = store(count=40, edit=split)
    return GapDataModule([str(made.path)], [str(masks(tmp_path / "masks"))], frames=2, batch_size=4, num_workers=0)


@pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not", "ignore:Trying to infer the .batch_size.")
def test_a_series_that_fills_the_last_round_of_several_devices_counts_once(data: GapDataModule) -> None:
    data.setup("validate")
    (loader,), task = data.val_dataloader(), task_of(data)
    count = len(loader.dataset) // 2 * 2 - 1
    series = Subset(loader.dataset, range(count))

    def figures(samples: Any, **options: Any) -> Any:
        part = DataLoader(samples, 1, collate_fn=loader.collate_fn, **options)
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
        return L.Trainer(enable_checkpointing=False, **quiet).validate(task, part, verbose=False)[0]

    second = DistributedSampler(series, num_replicas=2, rank=1, shuffle=False)
    assert list(second)[-1] == 0
    assert figures(series, sampler=second) == pytest.approx(figures(Subset(series, list(second)[:-1])), nan_ok=True)


@pytest.mark.parametrize("touched", TOUCHED)
@pytest.mark.parametrize("blend", [True, False])
def test_observed_pixels_stay_bit_for_bit_and_hidden_values_are_never_looked_at(touched: str, blend: bool) -> None:
    torch.manual_seed(0)
    filler = GapFiller(build("prithvi_hls_tiny", num_frames=3, blend_fill=blend).eval(), touched, landmarks=64)
    torch.nn.init.normal_(filler.mae.decoder.decoder_pred.weight, std=0.02)
    images, known = torch.randn(2, 6, 3, 64, 64), torch.ones(2, 3, 64, 64, dtype=torch.bool)
    known[:, 1, 10:41, 3:50] = False
    known[1, 2] = False  # a date of which nothing is known
    with torch.no_grad():
        found = filler(images, known)
        other = filler(torch.where(known.unsqueeze(1), images, 1e4), known)
    everywhere = known.unsqueeze(1).expand_as(images)
    assert torch.equal(found[everywhere], images[everywhere])
    assert not torch.equal(found[~everywhere], images[~everywhere])
    torch.testing.assert_close(found, other)
    if blend:  # and it is more than filling
        assert not torch.allclose(found, fill(images, known, landmarks=64))


def test_a_touched_patch_is_hidden_whole_or_shows_its_clear_pixels() -> None:
    torch.manual_seed(0)
    mae = build("prithvi_hls_tiny", blend_fill=False).eval()
    torch.nn.init.normal_(mae.decoder.decoder_pred.weight, std=0.02)
    images, known = torch.randn(1, 6, 1, 64, 64), torch.ones(1, 1, 64, 64, dtype=torch.bool)
    known[0, 0, 8, 8] = False  # one pixel of the patch at rows 8 to 11
    seen = {}
    mae.encoder.register_forward_pre_hook(lambda _, args: seen.update(visible=args[3]))
    with torch.no_grad():
        for touched in TOUCHED:
            GapFiller(mae, touched)(images, known)
            assert int((~seen["visible"]).sum()) == (1 if touched == "hidden" else 0)


@pytest.mark.slow
def test_training_lowers_the_error_of_gaps_and_figures_have_names(data: GapDataModule) -> None:
    # Without filling there is something to learn within seconds.
    task = task_of(data, model_options={**SHAPE, "blend_fill": False})
    trainer = trained(task, data, 60)
    after = {name: float(value) for name, value in trainer.callback_metrics.items()}
    fresh = task_of(data, model_options={**SHAPE, "blend_fill": False})
    (before,) = trainer.validate(fresh, datamodule=data, verbose=False)
    assert after["val/mae"] < 0.7 * before["val/mae"]
    (tested,) = trainer.test(task, datamodule=data, verbose=False)
    assert {"test/mae", "test/rmse", "test/ssim", "test/ssim_published", "test/mae_red"} <= set(tested)
    assert any(name.startswith("test/mae_0-20%") for name in tested)


def test_measuring_twice_gives_the_same_clouds_and_figures(data: GapDataModule) -> None:
    task = task_of(data)
    trainer = trained(task, data, 1)
    first, second = (trainer.test(task, datamodule=data, verbose=False)[0] for _ in range(2))
    assert first == second


def test_the_middle_date_or_any_combination_is_hidden(data: GapDataModule) -> None:
    data.setup("fit")
    batch = data.stream.batch(0)
    _, known, counts = task_of(data, hide="middle").covered(batch, torch.Generator().manual_seed(0), training=True)
    assert not counts[:, 0].any()
    assert counts[:, 1].any()
    assert not (known & counts).any()
    drawn = task_of(data)._dates(60, 2, torch.Generator().manual_seed(0))
    seen = {tuple(row) for row in drawn.tolist()}
    assert seen == {(True, False), (False, True), (True, True)}


def test_what_cannot_be_is_refused_in_a_sentence(store: Make, tmp_path: Path) -> None:  # noqa: F811
    made = store(count=40, edit=split)
    with pytest.raises(DatasetError, match="needs the shapes of clouds"):
        GapDataModule([str(made.path)])
    with pytest.raises(DatasetError, match="chips of 2 dates; a series has 3"):
        GapDataModule([str(made.path)], [str(masks(tmp_path / "masks"))])
    wrong = GapDataModule([str(made.path)], [str(masks(tmp_path / "small", 16))], frames=2)
    with pytest.raises(DatasetError, match=r"has \(16, 16\) pixels; the chips have \(32, 32\)"):
        wrong.setup("fit")
    (tmp_path / "none").mkdir()
    with pytest.raises(DatasetError, match="holds no cloud mask"):
        GapDataModule([str(made.path)], [str(tmp_path / "none")], frames=2).setup("fit")
    good = GapDataModule([str(made.path)], [str(tmp_path / "masks")], frames=2, test_split="tset")
    with pytest.raises(DatasetError, match="no store has a part 'tset': they have test, train, val"):
        good.test_dataloader()
    for option, words in ((("hide", "last"), "hide has no 'last'"), (("touched", "seen"), "touched has no 'seen'")):
        with pytest.raises((ConfigError, ValueError), match=words):
            task_of(good, **dict([option]))
    with pytest.raises(ConfigError, match="statistics are those of init"):
        task_of(good, statistics="init")


def test_stores_of_another_unit_are_refused_before_weights_are_saved_for_the_usual_one() -> None:
    """A saved autoencoder says reflectance x 10,000 of its input."""
    contract = build("prithvi_hls_tiny").contract.to_dict() | {"scale": 1000.0}
    for task in (PretrainTask, GapFillTask):
        with pytest.raises(ConfigError, match=r"hold reflectance x 1000, .*x 10000: build the stores again"):
            task(contract=contract)
