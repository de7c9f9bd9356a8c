"""Models compiled by OpenVINO: torch's scores, and files that are kept and not trusted blindly."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import prithvi as package
from prithvi.modelio import load
from prithvi.modelio.compiled import Compiled, openvino_version
from prithvi.modelio.program import example_inputs
from tests.conftest import needs_openvino, small_task


def compiled_files(folder: Path) -> list[Path]:
    return sorted((folder / ".compiled").glob("*"))


@needs_openvino
def test_openvino_gives_torch_s_scores_in_float32(folder: Path) -> None:
    model = load(folder).mappable()
    inputs = example_inputs(model, 5, seed=7)
    inputs[0][1, :, :, :9] = float("nan")
    with torch.inference_mode():
        expected = model.module(*inputs)
        found = Compiled(model, "float32", 2)(*inputs)
    assert found.shape == expected.shape
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-5


@needs_openvino
@pytest.mark.parametrize(
    "head", ["light", *(pytest.param(head, marks=pytest.mark.slow) for head in ("detail", "fcn", "unet"))]
)
def test_each_head_of_ours_is_converted(head: str) -> None:
    model = small_task(head=head).fitted(seed=0).mappable()
    inputs = example_inputs(model, 2, seed=3)
    with torch.inference_mode():
        expected, found = model.module(*inputs), Compiled(model, "float32", 2)(*inputs)
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-5


@pytest.mark.slow
@needs_openvino
def test_dates_and_places_stay_inputs_of_a_compiled_model() -> None:
    task = small_task(coordinates=True)
    with torch.no_grad():
        for name, parameter in task.named_parameters():
            if name.endswith("scale"):
                parameter.fill_(5.0)
    model = task.fitted().mappable()
    images, dates, places = example_inputs(model, 2, seed=3)
    compiled = Compiled(model, "float32", 2)
    found = []
    with torch.inference_mode():
        for given in ((dates, places), (dates + 90, places), (dates, places + 20), (None, places), (None, None)):
            expected = model.module(images, *given)
            found.append(compiled(images, *given))
            assert float((found[-1] - expected).abs().max() / expected.abs().max()) < 1e-5
    assert all(not torch.equal(found[0], other) for other in found[1:])


@needs_openvino
def test_a_model_is_compiled_once_and_its_file_names_what_it_depends_on(folder: Path) -> None:
    model = load(folder).mappable()
    Compiled(model, "float32", 2).ready()
    (file,) = compiled_files(folder)
    for part in ("-2x6x1x32x32-", "-float32-", f"-openvino{openvino_version()}-", f"-prithvi{package.__version__}-"):
        assert part in file.name
    written = file.stat().st_mtime_ns
    Compiled(load(folder).mappable(), "float32", 2).ready()
    assert [path.stat().st_mtime_ns for path in compiled_files(folder)] == [written]
    with torch.no_grad():  # other weights, other file
        next(model.module.parameters()).add_(1)
    Compiled(model, "float32", 2).ready()
    assert len(compiled_files(folder)) == 2


@pytest.mark.slow
@needs_openvino
@pytest.mark.parametrize(
    "damage", ["changed", *(pytest.param(how, marks=pytest.mark.slow) for how in ("cut", "another's"))]
)
def test_a_compiled_file_that_is_not_this_user_s_own_is_made_again(damage: str, folder: Path) -> None:
    model = load(folder).mappable()
    inputs = example_inputs(model, 2)
    with torch.inference_mode():
        expected = Compiled(model, "float32", 2)(*inputs)
        (file,) = compiled_files(folder)
        whole = file.read_bytes()
        half = len(whole) // 2
        if damage == "another's":  # whole, and of this user, but of another model
            with torch.no_grad():
                other = load(folder).mappable()
                next(other.module.parameters()).add_(1)
            Compiled(other, "float32", 2).ready()
            (foreign,) = set(compiled_files(folder)) - {file}
            shutil.copy(foreign, file)
        else:
            changed = whole[: half - 500] + b"\xff" * 1000 + whole[half + 500 :]
            file.write_bytes({"cut": whole[:half], "changed": changed}[damage])
        assert torch.equal(Compiled(load(folder).mappable(), "float32", 2)(*inputs), expected)
    assert len(file.read_bytes()) == pytest.approx(len(whole), rel=0.01)
    assert not list(folder.glob(".compiled/.*"))


@pytest.mark.slow
@needs_openvino
def test_a_folder_that_cannot_be_written_keeps_its_compiled_model_in_the_cache(
    folder: Path, assets_cache: Path
) -> None:
    (folder / ".compiled").touch()  # a file where the folder would be: nobody can write there, not even root
    before = set(assets_cache.rglob("*.blob"))
    for _ in range(2):
        Compiled(load(folder).mappable(), "float32", 1).ready()
    assert len(set(assets_cache.rglob("*.blob")) - before) == 1


FIRST_CALLS = """
import sys, threading
from prithvi.modelio.compiled import _openvino

openvino, go, done = _openvino(), False, []
sys.setswitchinterval(1e-7)

def work():
    while not go:
        pass
    done.append(openvino.Type.f32.to_dtype())

threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
go = True
for thread in threads:
    thread.join()
print(len(done))
"""


@needs_openvino
@pytest.mark.slow
def test_the_first_inferences_of_a_process_may_come_from_many_threads() -> None:
    """Without the call in `_openvino` one process in six waits for ever, as a map did of a model compiled before."""
    for _ in range(20):
        ended = subprocess.run([sys.executable, "-c", FIRST_CALLS], capture_output=True, text=True, timeout=100)
        assert ended.stdout.split() == ["8"], ended.stderr
