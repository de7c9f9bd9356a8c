"""A program gives the model's scores without what training needs, and a file that could run code is not opened."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from prithvi import load
from prithvi.contract import Quantity
from prithvi.errors import ModelError, OutputError
from prithvi.modelio.predictor import FittedModel, Mappable
from prithvi.modelio.program import Program, export, largest_difference, open_program
from prithvi.models import Segmenter
from prithvi.models.heads import HEADS
from prithvi.tasks import RegressionTask
from tests.conftest import Answer, small_task

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def dated() -> FittedModel:
    """A model of three dates, trained with dates and places."""
    fitted = small_task(num_frames=3, coordinates=True).fitted(seed=1)
    for name, weight in fitted.model.named_parameters():
        if name.endswith("scale"):
            weight.data.fill_(0.7)
    return fitted


@pytest.mark.parametrize(
    "head", ["light", *(pytest.param(head, marks=pytest.mark.slow) for head in ("fused", "unet", "fcn", "detail"))]
)
@pytest.mark.parametrize("frames", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_scores_are_the_models(head: str, frames: int, tmp_path: Path) -> None:
    if head == "unet":
        pytest.importorskip("segmentation_models_pytorch")
    fitted = small_task(head=head, num_frames=frames).fitted(seed=2)
    program = open_program(export(fitted, tmp_path / "model.pt2"))
    for windows in (1, 3, 8):
        assert largest_difference(fitted.mappable(), program, windows) <= 1e-5


def test_dates_and_places_may_be_missing(dated: FittedModel, tmp_path: Path) -> None:
    ours, program = dated.mappable(), open_program(export(dated, tmp_path / "dated.pt2"))
    images = 3000 * torch.rand(2, 6, 3, 32, 32)
    images[0, :, 1, :9] = torch.nan
    dates = torch.tensor([[2020.0, 10.0], [2020.0, 60.0], [2021.0, 300.0]]).expand(2, 3, 2)
    places = torch.tensor([[51.0, 4.0], [-3.0, 37.5]])
    found = []
    for coordinates in ((dates, places), (None, places), (dates, None), (None, None)):
        with torch.inference_mode():
            found.append(program.module(images, *coordinates))
            assert (found[-1] - ours.module(images, *coordinates)).abs().max() <= 1e-5
    assert all((found[0] - other).abs().max() > 1e-3 for other in found[1:])
    with pytest.raises(ModelError, match=r"dates have shape \(2, 2, 2\); this exported program takes \(batch, 3, 2\)"):
        program.module(images, dates[:, :2])


def test_the_facts_come_with_it(fitted: FittedModel, program_file: Path) -> None:
    opened = load(program_file)
    assert isinstance(opened, Mappable)
    assert opened.facts() == fitted.mappable().facts()
    assert opened.sha256 == fitted.sha256 != ""
    assert fitted.model.encoder is not None  # exporting changed nothing
    assert all(weight.requires_grad for weight in fitted.model.parameters())


@pytest.mark.slow
def test_a_quantity_and_low_rank_additions(tmp_path: Path) -> None:
    options = {key: small_task().hparams[key] for key in ("contract", "head", "window", "model_options")}
    quantity = Quantity("biomass", 100.0, 50.0, "t/ha").to_dict()
    fitted = RegressionTask(quantity=quantity, **options).fitted()
    program = open_program(export(fitted, tmp_path / "biomass.pt2"))
    assert program.quantity == fitted.quantity
    assert largest_difference(fitted.mappable(), program) <= 1e-5
    pytest.importorskip("peft")
    fitted = small_task(finetune="lora", lora_rank=2).fitted()
    program = open_program(export(fitted, tmp_path / "lora.pt2"))
    assert largest_difference(fitted.mappable(), program) <= 1e-5


@pytest.mark.slow
def test_it_is_used_as_any_module(program_file: Path, dated: FittedModel, tmp_path: Path) -> None:
    module = open_program(program_file).module.eval()
    images = 3000 * torch.rand(2, 6, 1, 32, 32)
    assert isinstance(module, Program)
    assert not module(images).requires_grad
    assert module(images).shape == (2, 2, 32, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (module(images).float() - module(images)).abs().max() < 0.1
    for given in (images[:, :5], images[..., :16], images[0], images[:0]):
        with pytest.raises(ModelError, match=r"this exported program takes \(batch, 6, 1, 32, 32\)"):
            module(given)
    with pytest.raises(ModelError, match="takes neither dates nor places"):
        module(images, None, torch.zeros(2, 2))
    with pytest.raises(ModelError, match="is an exported program already"):
        export(open_program(program_file), tmp_path / "again.pt2")
    # Another device: all that the graph holds and names goes along.
    moved = open_program(export(dated, tmp_path / "dated.pt2")).module.to("meta")
    assert moved(torch.zeros(2, 6, 3, 32, 32, device="meta")).device.type == "meta"


@pytest.mark.slow
def test_it_opens_where_nothing_of_training_is_installed(dated: FittedModel, tmp_path: Path) -> None:
    path = export(dated, tmp_path / "dated.pt2")
    images, places = 3000 * torch.rand(2, 6, 3, 32, 32), torch.tensor([[51.0, 4.0], [-3.0, 37.5]])
    with torch.inference_mode():
        torch.save((images, places, dated.mappable().module(images, None, places)), tmp_path / "expected.pt")
    script = f"""
        import sys
        import warnings
        warnings.simplefilter("error")
        absent = "lightning", "jsonargparse", "terratorch", "peft", "torchmetrics", "rasterio"
        class Absent:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in absent:
                    raise ModuleNotFoundError(name)
        sys.meta_path.insert(0, Absent())
        import prithvi, torch
        images, places, expected = torch.load({str(tmp_path / "expected.pt")!r}, weights_only=True)
        model = prithvi.load({str(path)!r})
        with torch.inference_mode():
            assert (model.module(images, None, places) - expected).abs().max() <= 1e-5
        assert [entry.name for entry in model.classes] == ["land", "water"]
        """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_what_cannot_be_exported_is_said(
    fitted: FittedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Looks(torch.nn.Module):
        def __init__(self, *shape: Any) -> None:
            super().__init__()
            self.linear = torch.nn.Conv2d(shape[0], shape[3], 1)

        def forward(self, features: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
            scores: torch.Tensor = torch.nn.functional.interpolate(self.linear(features), size=size)
            return scores * 2 if float(scores.sum().item()) > 0 else scores

    monkeypatch.setitem(HEADS, "looks", Looks)
    model = Segmenter(fitted.model.config, 2, "looks")
    odd = FittedModel.fine_tuned(model, fitted.contract, classes=fitted.classes, head="looks", window=32)
    with pytest.raises(ModelError, match=r"torch .* cannot export the head 'looks': ") as refused:
        export(odd, tmp_path / "odd.pt2")
    assert "\n" not in str(refused.value)
    assert capfd.readouterr().err == ""

    class Casts(Looks):
        def forward(self, features: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
            with torch.autocast("cpu", enabled=False):
                scores: torch.Tensor = torch.nn.functional.interpolate(self.linear(features), size=size)
            return scores

    monkeypatch.setitem(HEADS, "casts", Casts)
    model = Segmenter(fitted.model.config, 2, "casts")
    odd = FittedModel.fine_tuned(model, fitted.contract, classes=fitted.classes, head="casts", window=32)
    program = open_program(export(odd, tmp_path / "casts" / "odd.pt2"))
    assert largest_difference(odd, program) <= 1e-5
    with pytest.raises(OutputError, match="torch opens only NAME"):
        export(fitted, tmp_path / "flood.pt")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        export(fitted, tmp_path / "file" / "flood.pt2")
    (tmp_path / "taken.pt2").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        export(fitted, tmp_path / "taken.pt2")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["casts", "file", "taken.pt2"]


def test_the_file_names_no_folder_of_the_computer_that_made_it(program_file: Path) -> None:
    content = program_file.read_bytes()
    assert str(ROOT).encode() not in content
    assert str(program_file.parent).encode() not in content
    assert b"forward" not in content.replace(b"forward_arg_names", b"")


def test_the_command_exports_compares_and_says_so(
    prithvi: Callable[..., Answer], model_folder: Path, tmp_path: Path
) -> None:
    answer = prithvi("export", model_folder, "-o", tmp_path / "new" / "flood.pt2")
    assert answer.code == 0, answer.err
    assert re.search(r"flood\.pt2: 0\.[67] MB, windows of 32 pixels, torch .*; scores differ by 0\.0e\+00", answer.out)
    answer = prithvi("export", model_folder, "-o", tmp_path / "flood.pt2", "--no-check")
    assert "differ" not in answer.out
    assert answer.code == 0
    answer = prithvi("export", "prithvi_hls_tiny", "-o", tmp_path / "flood.pt2")
    assert answer.code == 2
    assert "only those are exported" in answer.err


@pytest.mark.slow
def test_the_page_on_programs_runs_as_printed(program_file: Path, tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "export.md").read_text(), flags=re.S)
    assert blocks
    (tmp_path / "flood.pt2").write_bytes(program_file.read_bytes())
    blocked = "import sys; sys.modules['prithvi'] = None\n"
    done = subprocess.run(
        [sys.executable, "-c", blocked + "\n".join(blocks)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "land" in done.stdout


def test_plain_torch_moves_a_program_as_the_page_says(program_file: Path) -> None:
    """To the CPU, where it was: it runs, and the scores stay. No GPU has been at hand."""
    from torch.export.passes import move_to_device_pass

    bands, side = len(open_program(program_file).contract.bands), open_program(program_file).window
    images = torch.rand(1, bands, 1, side, side) * 1000
    before = torch.export.load(str(program_file)).module()(images)
    moved = move_to_device_pass(torch.export.load(str(program_file)), "cpu").module()(images)
    assert torch.equal(moved, before)
