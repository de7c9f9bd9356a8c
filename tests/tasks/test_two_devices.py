"""Fine-tuning on two devices: it trains, and each chip counts once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler, Subset

from tests.conftest import ROOT, small_task
from tests.tasks.two_devices_run import loader, trainer


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not", "ignore:Trying to infer the .batch_size.")
def test_a_chip_that_fills_the_last_round_is_counted_by_none_but_the_first_device(size: int) -> None:
    chips, task = loader(5).dataset, small_task()
    second = DataLoader(chips, size, sampler=DistributedSampler(chips, num_replicas=2, rank=1, shuffle=False))
    assert list(second.sampler) == [1, 3, 0]
    its = DataLoader(Subset(chips, [1, 3]), min(size, 2))
    for verb in ("validate", "test"):
        (found,), (once,) = (getattr(trainer(), verb)(task, part, verbose=False) for part in (second, its))
        assert found == pytest.approx(once, abs=1e-6)


@pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not", "ignore:Trying to infer the .batch_size.")
def test_labels_may_be_bytes_and_loaders_named() -> None:
    class Bytes(torch.utils.data.Dataset[dict[str, Any]]):
        def __len__(self) -> int:
            return 5

        def __getitem__(self, number: int) -> dict[str, Any]:
            sample = dict(loader(5).dataset[number])
            return {**sample, "label": sample["label"].clamp(min=0).to(torch.uint8)}

    task, chips = small_task(), Bytes()
    second = DataLoader(chips, 1, sampler=DistributedSampler(chips, num_replicas=2, rank=1, shuffle=False))
    (found,), (once,) = (
        trainer().validate(task, part, verbose=False) for part in (second, DataLoader(Subset(chips, [1, 3]), 1))
    )
    assert found == pytest.approx(once, abs=1e-6)
    named = trainer().validate(task, {"a": DataLoader(chips, 1), "b": DataLoader(chips, 1)}, verbose=False)
    assert len(named) in (1, 2)


def test_a_step_needs_no_trainer() -> None:
    task = small_task()
    batch = next(iter(loader(1)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert torch.isfinite(task.training_step(batch, 0))
        task.validation_step(batch, 0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The 'val_dataloader' does not")
def test_two_devices_train_and_count_each_of_an_odd_number_of_chips_once(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.tasks.two_devices_run", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    task = small_task()
    task.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    (alone,) = trainer(devices=1).validate(task, loader(5), verbose=False)
    figures = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert figures == pytest.approx(alone, abs=1e-5)
