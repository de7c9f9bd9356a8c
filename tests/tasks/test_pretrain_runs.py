"""Whole runs: killed and resumed, on two devices, on another number of devices than before."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from prithvi.chips import ChipStore, StoreSpec
from prithvi.modelio import save_pretrained
from prithvi.models import build
from tests.chips.conftest import sample_chips
from tests.tasks.pretrain_run import SHAPE

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def store(six_bands: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 chips of two dates, half of a date cloudy."""
    chips = []
    for number, chip in enumerate(sample_chips(six_bands, 120)):
        assert chip.fmask is not None
        fmask = chip.fmask.copy()
        fmask[0, : 8 + number % 8, : 20 + number % 5] = 64 | 2
        chips.append(dataclasses.replace(chip, fmask=fmask, label=None))
    path = tmp_path_factory.mktemp("stores") / "chips.zarr"
    ChipStore.create(path, StoreSpec(32, 32, 2, shard=16), chips)
    return path


def start(store: Path, out: Path, *options: str) -> subprocess.Popen[bytes]:
    out.mkdir(exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "tests.tasks.pretrain_run", str(store), str(out), *options]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
    )


def run(store: Path, out: Path, *options: str) -> None:
    process = start(store, out, *options)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors.decode()[-3000:]


def lines(out: Path, rank: int = 0) -> list[dict]:
    return [json.loads(line) for line in (out / f"losses-{rank}.jsonl").read_text().splitlines()]


def killed(store: Path, out: Path, at: int, *options: str) -> int:
    """Runs until some step and kills it there; the step that its last checkpoint is of."""
    process = start(store, out, *options)
    while len(lines_so_far(out)) < at:
        assert process.poll() is None, process.stderr.read().decode()[-3000:]
        time.sleep(0.005)
    process.kill()
    process.wait()
    process.stderr.close()
    return int(torch.load(out / "last.ckpt", weights_only=True)["global_step"])


def lines_so_far(out: Path) -> list[str]:
    file = out / "losses-0.jsonl"
    return file.read_text().splitlines() if file.exists() else []


def after(out: Path, step: int, count: int = 50) -> list[dict]:
    return [line for line in lines(out) if step < line["step"] <= step + count]


@pytest.fixture(scope="module")
def undisturbed(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    run(store, out, "--steps", "110")
    return out


@pytest.mark.slow
def test_a_killed_run_goes_on_bit_for_bit(store: Path, undisturbed: Path, tmp_path: Path) -> None:
    """Weights, optimizer, order, masks, crops, flips, stochastic depth: the next 50 losses are the same numbers."""
    at = random.Random(os.getpid()).randrange(15, 55)
    step = killed(store, tmp_path, at, "--steps", "110")
    (tmp_path / "losses-0.jsonl").unlink()
    # It goes on with a worker that it did not have before.
    run(store, tmp_path, "--steps", "110", "--ckpt", str(tmp_path / "last.ckpt"), "--workers", "1")
    again, expected = after(tmp_path, step), after(undisturbed, step)
    assert len(expected) == 50
    assert again == expected, f"killed after step {at}, resumed from {step}"


@pytest.mark.slow
def test_a_killed_run_that_accumulates_goes_on_bit_for_bit(store: Path, tmp_path: Path) -> None:
    options = ["--steps", "40", "--accumulate", "2"]
    run(store, tmp_path / "whole", *options)
    step = killed(store, tmp_path / "killed", 30, *options)
    (tmp_path / "killed" / "losses-0.jsonl").unlink()
    run(store, tmp_path / "killed", *options, "--ckpt", str(tmp_path / "killed" / "last.ckpt"))
    again = lines(tmp_path / "killed")
    assert step >= 7
    assert again == lines(tmp_path / "whole")[-len(again) :]
    assert len(again) == 2 * (40 - step)


@pytest.mark.slow
def test_runs_killed_at_many_moments_go_on_bit_for_bit(store: Path, undisturbed: Path, tmp_path: Path) -> None:
    for at in random.Random(1).sample(range(8, 58), 12):
        out = tmp_path / str(at)
        step = killed(store, out, at, "--steps", "110", "--workers", str(at % 3 % 2))
        (out / "losses-0.jsonl").unlink()
        run(store, out, "--steps", "110", "--ckpt", str(out / "last.ckpt"), "--workers", str(at % 2))
        assert after(out, step) == after(undisturbed, step), f"killed after step {at}, resumed from {step}"


@pytest.fixture(scope="module")
def single(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One device with the batch of two."""
    out = tmp_path_factory.mktemp("single")
    run(store, out, "--steps", "20", "--batch", "16")
    return out


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fully_shard"])
def test_two_devices_do_what_one_does_with_the_same_global_batch(
    strategy: str, store: Path, single: Path, tmp_path: Path
) -> None:
    run(store, tmp_path, "--steps", "20", "--strategy", strategy, "--devices", "2")
    whole, parts = lines(single), [lines(tmp_path, rank) for rank in (0, 1)]
    assert [line["ids"] for line in whole] == [a["ids"] + b["ids"] for a, b in zip(*parts, strict=True)]
    losses = np.array([float.fromhex(line["loss"]) for line in whole])
    # Each device's loss is its part of the sum over the mean number of pixels, so that their mean is the whole's.
    both = np.array([[float.fromhex(line["loss"]) for line in part] for part in parts]).mean(axis=0)
    np.testing.assert_allclose(both, losses, rtol=2e-4)
    expected = torch.load(single / "weights.pt", weights_only=True)
    for name, value in torch.load(tmp_path / "weights.pt", weights_only=True).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-2, atol=2e-4, msg=name)


@pytest.mark.slow
def test_two_devices_learn_from_a_teacher_what_one_learns(store: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    options = ["--steps", "8", "--teacher", str(save_pretrained(build("prithvi_eo_tiny", **SHAPE), tmp_path / "t", {}))]
    run(store, tmp_path / "one", *options, "--batch", "16")
    run(store, tmp_path / "two", *options, "--strategy", "ddp", "--devices", "2")
    losses = [float.fromhex(line["loss"]) for line in lines(tmp_path / "one")]
    both = [[float.fromhex(line["loss"]) for line in lines(tmp_path / "two", rank)] for rank in (0, 1)]
    np.testing.assert_allclose(np.mean(both, axis=0), losses, rtol=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fully_shard"])
def test_a_checkpoint_of_two_devices_goes_on_with_one_and_back(
    strategy: str, store: Path, single: Path, tmp_path: Path
) -> None:
    two = ["--steps", "20", "--every", "5", "--strategy", strategy, "--devices", "2"]
    one = ["--steps", "20", "--every", "5", "--batch", "16"]
    run(store, tmp_path / "a", *two, "--stop", "10")
    run(store, tmp_path / "b", *one, "--stop", "15", "--ckpt", str(tmp_path / "a" / "last.ckpt"))
    run(store, tmp_path / "c", *two, "--ckpt", str(tmp_path / "b" / "last.ckpt"))
    whole = lines(single)
    assert [line["ids"] for line in lines(tmp_path / "b")] == [line["ids"] for line in whole[10:15]]
    halves = [lines(tmp_path / "c", rank) for rank in (0, 1)]
    assert [line["ids"] for line in whole[15:]] == [a["ids"] + b["ids"] for a, b in zip(*halves, strict=True)]
    both = np.array([[float.fromhex(line["loss"]) for line in part] for part in halves]).mean(axis=0)
    np.testing.assert_allclose(both, [float.fromhex(line["loss"]) for line in whole[15:]], rtol=2e-4)


@pytest.mark.slow
def test_two_devices_that_were_killed_go_on_with_the_same_samples(store: Path, single: Path, tmp_path: Path) -> None:
    two = ["--strategy", "ddp", "--devices", "2", "--every", "4"]
    process = start(store, tmp_path, "--steps", "20", *two)
    while len(lines_so_far(tmp_path)) < 9:
        assert process.poll() is None, process.stderr.read().decode()[-3000:]
        time.sleep(0.005)
    os.killpg(process.pid, 9)
    process.wait()
    process.stderr.close()
    step = int(torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"])
    for rank in (0, 1):
        (tmp_path / f"losses-{rank}.jsonl").unlink()
    run(store, tmp_path, "--steps", "20", *two, "--ckpt", str(tmp_path / "last.ckpt"))
    halves = [lines(tmp_path, rank) for rank in (0, 1)]
    found = [sorted(a["ids"] + b["ids"]) for a, b in zip(*halves, strict=True)]
    assert found == [sorted(line["ids"]) for line in lines(single)[step:]]
