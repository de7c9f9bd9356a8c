"""Features of a frozen encoder, kept: the same run as without, within a limit, resumed after a kill, never stale."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from prithvi.catalog import dataset
from prithvi.data import ChipDataModule
from prithvi.errors import ConfigError
from prithvi.tasks import SegmentationTask
from tests.conftest import small_task

pytestmark = pytest.mark.filterwarnings("ignore:The number of training batches")
CHIPS = 6


@pytest.fixture
def root(six_bands: np.ndarray, tmp_path: Path, write_tif) -> Path:  # type: ignore[no-untyped-def]
    """Six squares of the flood sample with nodata and unlabelled pixels, in the published layout."""
    for kind in ("S2Hand", "LabelHand"):
        (tmp_path / kind).mkdir()
    for number in range(CHIPS):
        part = np.zeros((13, 40, 40), np.int16)
        part[[1, 2, 3, 8, 11, 12]] = six_bands[:, 40 * number : 40 * number + 40, 340:380]
        part[:, 3, 5] = dataset("sen1floods11").nodata[0]
        label = (part[2] > part[11]).astype(np.int16)
        label[:2] = -1
        write_tif(part, f"S2Hand/c{number}_S2Hand.tif", names=None)
        write_tif(label[None], f"LabelHand/c{number}_LabelHand.tif", names=None)
    (tmp_path / "train_split.txt").write_text("c0\nc1\nc2\nc3\n")
    for split, chips in (("train", "c0\nc1\nc2\nc3\n"), ("val", "c4\n"), ("test", "c5\n")):
        name = dataset("sen1floods11").splits[split].list
        assert name is not None
        (tmp_path / name.name).write_text(chips)
    return tmp_path


class Encoded(Callback):
    """Counts the windows that the encoder sees."""

    def __init__(self, task: SegmentationTask) -> None:
        self.windows = 0
        task.model.encoder.register_forward_hook(self._count)

    def _count(self, module: Any, inputs: Any, output: Any) -> None:
        self.windows += len(inputs[0])


def run(
    root: Path, features: Path | None, workers: int = 0, **options: Any
) -> tuple[dict[str, float], int, ChipDataModule]:
    L.seed_everything(0, verbose=False)
    task = small_task(finetune="frozen", augment=False, lr=1e-2, coordinates=True, model="prithvi_hls_tiny")
    data = ChipDataModule(
        str(root), dataset="sen1floods11", splits=str(root), crop=None, batch_size=2, num_workers=workers,
        features=str(features) if features is not None else None, **options,
    )  # fmt: skip
    seen = Encoded(task)
    trainer = L.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=root, callbacks=[seen],
    )  # fmt: skip
    trainer.fit(task, data)
    windows = seen.windows
    figures = trainer.test(task, data, verbose=False)[0] | {"loss": float(trainer.callback_metrics["test/loss"])}
    return figures, windows, data


def test_kept_features_change_no_figure_and_the_encoder_sees_each_window_once(root: Path, tmp_path: Path) -> None:
    plain, windows, _ = run(root, None)
    kept, once, _ = run(root, tmp_path / "features")
    assert set(plain) == set(kept)
    for name, value in plain.items():
        assert kept[name] == pytest.approx(value, abs=1e-6, nan_ok=True), name
    assert windows > 3 * once
    assert once == 5 * 4  # five chips of four windows
    assert len(list((tmp_path / "features").iterdir())) == 2
    again, none, _ = run(root, tmp_path / "features", workers=2)
    assert none == 0
    plain, _, _ = run(root, None, workers=2)  # which has another order
    for name, value in plain.items():
        assert again[name] == pytest.approx(value, abs=1e-6, nan_ok=True), name


def test_what_does_not_fit_into_the_limit_is_encoded_each_time(root: Path, tmp_path: Path) -> None:
    plain, windows, _ = run(root, None)
    some, partly, data = run(root, tmp_path / "features", features_gb=1e-4)
    assert data.features is not None
    kept = next(ready for name, ready in data.features._ready.items() if name.startswith("train")).forms
    assert 0 < len(kept) < 4
    assert data.features.used <= 100_000
    assert partly < windows
    for name, value in plain.items():
        assert some[name] == pytest.approx(value, abs=1e-6, nan_ok=True), name


def test_a_killed_computation_goes_on_where_it_was(root: Path, tmp_path: Path) -> None:
    expected, _, _ = run(root, tmp_path / "features")
    for folder in (tmp_path / "features").iterdir():
        journal = (folder / "journal.txt").read_text()
        (folder / "journal.txt").write_text(journal[: len(journal) - 30])  # cut within its last line
    figures, windows, _ = run(root, tmp_path / "features")
    assert windows == 2 * 4  # one chip of each part
    assert figures == pytest.approx(expected, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("line", [b"\xff\xfe x", b"0 features:float32"])
def test_a_damaged_line_is_computed_again(root: Path, tmp_path: Path, line: bytes) -> None:
    expected, _, _ = run(root, tmp_path / "features")
    for folder in (tmp_path / "features").iterdir():
        lines = (folder / "journal.txt").read_bytes().splitlines(keepends=True)
        (folder / "journal.txt").write_bytes(b"".join([line + b"\n", *lines[1:]]))
    figures, windows, _ = run(root, tmp_path / "features")
    assert windows == 2 * 4  # one chip of each part
    assert figures == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_other_images_and_other_weights_have_other_features(root: Path, tmp_path: Path) -> None:
    run(root, tmp_path / "features")
    os.utime(root / "S2Hand" / "c1_S2Hand.tif", (1, 1))
    _, windows, _ = run(root, tmp_path / "features")
    assert windows == 4 * 4  # the training part alone
    _, windows, _ = run(root, tmp_path / "features", fraction=0.5)
    assert windows == 2 * 4


def test_other_shapes_have_other_names_and_a_module_serves_two_encoders(root: Path, tmp_path: Path) -> None:
    frozen = {"finetune": "frozen", "augment": False}
    shape = {"embed_dim": 64, "depth": 2, "num_heads": 2}
    names = {
        small_task(**frozen).features_name(), small_task(**frozen, head="detail").features_name(),
        small_task(**frozen, model_options={**shape, "num_heads": 4}).features_name(),
    }  # fmt: skip
    assert len(names) == 3
    data = ChipDataModule(
        str(root), dataset="sen1floods11", splits=str(root), crop=None, features=str(tmp_path / "f"), num_workers=0
    )
    for head in ("light", "detail"):
        task = small_task(**frozen, head=head)
        seen = Encoded(task)
        L.Trainer(
            max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, default_root_dir=root, callbacks=[seen], num_sanity_val_steps=0,
        ).fit(task, data)  # fmt: skip
        assert seen.windows == 5 * 4


def test_kept_and_fresh_samples_meet_before_a_head_that_looks_at_the_batch() -> None:
    task = small_task(finetune="frozen", augment=False, head="fcn", head_options={"dropout": 0.0})
    torch.manual_seed(0)
    image = torch.randint(200, 4000, (4, 6, 1, 40, 40), dtype=torch.int16)
    valid = torch.ones(4, 1, 40, 40, dtype=torch.bool)
    cached = torch.tensor([True, False, True, False])
    features = torch.stack(task.encode({"image": image[cached], "valid": valid[cached]}), dim=1)
    mixed = {
        "image": image[~cached], "valid": valid, "cached": cached, "features": features,
        "size": torch.tensor([[40, 40]] * 2),
    }  # fmt: skip
    torch.testing.assert_close(task(mixed), task({"image": image, "valid": valid}), rtol=0, atol=1e-5)


def test_features_that_would_move_are_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"random crops are not: data\.crop: null"):
        ChipDataModule(str(root), dataset="sen1floods11", crop=32, features=str(tmp_path / "f"))
    data = ChipDataModule(
        str(root), dataset="sen1floods11", splits=str(root), crop=None, features=str(tmp_path / "f"), num_workers=0
    )
    trainer = L.Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=root, num_sanity_val_steps=0,
    )  # fmt: skip
    for options in ({"augment": False}, {"finetune": "frozen"}):
        with pytest.raises(ConfigError, match=r"finetune: frozen and model\.augment: false"):
            trainer.fit(small_task(**options), data)
    assert not (tmp_path / "f").exists()
