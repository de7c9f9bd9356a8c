"""Engines and precisions of a map: what each gives, what is kept, and who decides."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from torch import nn

import prithvi as package
from prithvi.contract import Contract
from prithvi.errors import ConfigError, ModelError
from prithvi.mapping import engine_choice, map_scene, mappable_module
from prithvi.mapping.engine import Target
from prithvi.mapping.engine_choice import Asked, Choice, has_bfloat16, share_changed
from prithvi.modelio import load
from prithvi.modelio.compiled import Compiled, openvino_version
from prithvi.modelio.predictor import FittedModel
from prithvi.modelio.program import example_inputs
from prithvi.scenes import Area, conform, open_scene
from tests.conftest import Answer, needs_openvino
from tests.kill_runs import content

Write = Callable[..., Path]
needs_bfloat16 = pytest.mark.skipif(not has_bfloat16("cpu"), reason="needs a processor with AMX or AVX512_BF16")


@pytest.fixture
def scene_file(write_tif: Write, six_bands: np.ndarray) -> Path:
    return write_tif(six_bands[:, :100, :150])


def classes_of(path: Path) -> np.ndarray:
    with rasterio.open(path) as made:
        classes: np.ndarray = made.read(1)
    return classes


def tags_of(path: Path) -> dict[str, str]:
    with rasterio.open(path) as made:
        return {key: text for key, text in made.tags().items() if key in ("PRITHVI_ENGINE", "PRITHVI_PRECISION")}


def interrupted(model: Any, scene: Path, path: Path, **options: Any) -> None:
    """A map that is stopped after some rows of windows, whose rows are kept."""

    class StopError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if 2 * done > total:
            raise StopError

    with pytest.raises(StopError):
        map_scene(model, open_scene(scene), path, progress=stop, **options)
    assert json.loads((path.parent / f".{path.name}.partial" / "journal.json").read_text())["rows"] > 0


# --- what is computed


@pytest.mark.slow
@needs_openvino
def test_a_map_of_openvino_has_the_same_bytes_in_every_run(folder: Path, scene_file: Path, tmp_path: Path) -> None:
    for number in range(3):
        if number == 2:  # compiled anew
            shutil.rmtree(folder / ".compiled")
        map_scene(load(folder), open_scene(scene_file), tmp_path / str(number) / "map.tif", engine="openvino", stride=8)
    maps = [content(tmp_path / str(number)) for number in range(3)]
    assert maps[0] == maps[1] == maps[2]
    plain = map_scene(load(folder), open_scene(scene_file), tmp_path / "torch" / "map.tif", stride=8)
    assert (classes_of(plain.path) == classes_of(tmp_path / "0" / "map.tif")).mean() > 0.999
    assert tags_of(tmp_path / "0" / "map.tif") == {
        "PRITHVI_ENGINE": f"openvino {openvino_version()}", "PRITHVI_PRECISION": "float32",
    }  # fmt: skip
    assert tags_of(plain.path) == {}


def test_saying_the_default_changes_no_byte(fitted: FittedModel, scene_file: Path, tmp_path: Path) -> None:
    map_scene(fitted, open_scene(scene_file), tmp_path / "a" / "map.tif")
    map_scene(fitted, open_scene(scene_file), tmp_path / "b" / "map.tif", engine="torch", precision="float32")
    assert content(tmp_path / "a") == content(tmp_path / "b")


@needs_bfloat16
def test_bfloat16_of_torch_has_fewer_digits_and_nearly_the_same_classes(
    fitted: FittedModel, scene_file: Path, tmp_path: Path
) -> None:
    scene = open_scene(scene_file)
    exact, rough = (package.map(scene.compute(), fitted, precision=name) for name in ("float32", "bfloat16"))
    assert rough["confidence"].dtype == np.float32
    difference = float(np.nanmax(np.abs(rough["confidence"] - exact["confidence"])))
    assert 1e-5 < difference < 0.05
    assert float((rough["class"] == exact["class"]).mean()) > 0.98
    assert (rough.attrs["PRITHVI_ENGINE"], rough.attrs["PRITHVI_PRECISION"]) == ("torch", "bfloat16")
    assert not torch.is_autocast_enabled("cpu")


@needs_openvino
def test_a_lazy_map_by_openvino_is_that_of_memory(folder: Path, scene_file: Path) -> None:
    scene = open_scene(scene_file)
    lazy = package.map(scene, str(folder), engine="openvino")
    assert lazy["class"].chunks is not None
    at_once = package.map(scene.compute(), str(folder), engine="openvino")
    np.testing.assert_array_equal(lazy["class"].values, at_once["class"].values)
    np.testing.assert_array_equal(lazy["confidence"].values, at_once["confidence"].values)


@pytest.mark.slow
@needs_openvino
def test_a_program_and_a_module_of_somebody_else_run_by_openvino(
    program_file: Path, write_tif: Write, six_bands: np.ndarray, tmp_path: Path
) -> None:
    scene = open_scene(write_tif(six_bands[:, :64, :96]))
    one, other = (
        map_scene(load(program_file), scene, tmp_path / f"{name}.tif", engine=name) for name in ("torch", "openvino")
    )
    assert (classes_of(one.path) == classes_of(other.path)).mean() > 0.999

    class Index(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            green, nir = images[:, 0, 0], images[:, 1, 0]
            water = 10 * (green - nir) / (green + nir).clamp(min=1)
            return torch.stack([-water, water], dim=1)

    contract = Contract(("green", "nir_narrow"), (0.0, 0.0), (1.0, 1.0))
    how: dict[str, Any] = {"contract": contract, "classes": ["land", "water"], "window": 48}
    maps = [package.map(scene, Index(), engine=name, **how)["class"].values for name in ("torch", "openvino")]
    assert 0 < (maps[0] == 1).mean() < 1
    assert (maps[0] == maps[1]).mean() > 0.999


# --- what cannot be


class Sorts(nn.Module):
    """Depends on values in a way that no graph holds."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if float(images.nan_to_num().mean()) > 0:
            return images[:, :2, 0].nan_to_num()
        return -images[:, :2, 0].nan_to_num()


@needs_openvino
def test_what_cannot_be_converted_is_named_and_torch_still_maps_it(scene_file: Path, tmp_path: Path) -> None:
    scene = open_scene(scene_file)
    contract = Contract(tuple(map(str, scene["band"].values)), (0.0,) * 6, (1.0,) * 6)
    model = mappable_module(Sorts(), contract, classes=["a", "b"], window=32)
    with pytest.raises(ModelError, match=r"'Sorts'.* map with --engine torch\.$"):
        map_scene(model, scene, tmp_path / "map.tif", engine="openvino")
    assert not list(tmp_path.glob("*map*"))
    told = map_scene(model, scene, tmp_path / "map.tif", engine="auto").notes
    assert len(told) == 1
    assert told[0].startswith("torch runs the model: ")
    assert "'Sorts'" in told[0]
    plain = map_scene(model, scene, tmp_path / "plain.tif", engine="torch")
    np.testing.assert_array_equal(classes_of(tmp_path / "map.tif"), classes_of(plain.path))
    assert tags_of(tmp_path / "map.tif") == {}


def test_what_is_not_there_is_refused_in_a_sentence(
    model_folder: Path, scene_file: Path, tmp_path: Path, prithvi: Callable[..., Answer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def refused(*options: str) -> str:
        answer = prithvi("map", model_folder, scene_file, "-o", tmp_path / "out", "--polygons", "none", *options)
        assert answer.code == 2
        assert not list((tmp_path / "out").glob("*"))
        return answer.err

    assert "there is no engine 'onnx': say torch, openvino or auto" in refused("--engine", "onnx")
    assert "there is no precision 'int8': say float32, bfloat16 or auto" in refused("--precision", "int8")
    # This machine's processor and packages cannot be changed; what is found of them can.
    monkeypatch.setattr(engine_choice, "has_bfloat16", lambda kind: False)
    told = refused("--precision", "bfloat16")
    assert "AVX512_BF16" in told
    assert "say --precision float32" in told
    monkeypatch.setattr("prithvi.modelio.compiled.openvino_version", lambda: "")
    told = refused("--engine", "openvino")
    assert "pip install 'prithvi[openvino]'" in told
    assert "--engine torch" in told
    # What they say to do ends in a map, and `auto` goes on by itself and says how.
    answer = prithvi(
        "map", model_folder, scene_file, "-o", tmp_path / "out", "--engine", "torch", "--precision", "float32"
    )
    assert answer.code == 0
    answer = prithvi(
        "map", model_folder, scene_file, "-o", tmp_path / "auto", "--engine", "auto", "--precision", "auto"
    )
    assert answer.code == 0
    assert "torch runs the model: OpenVINO is not installed" in answer.err
    assert "this processor does not compute in bfloat16" in answer.err
    np.testing.assert_array_equal(
        classes_of(tmp_path / "out" / "scene.tif"), classes_of(tmp_path / "auto" / "scene.tif")
    )


@needs_openvino
def test_compiling_by_torch_and_by_openvino_are_two_things(folder: Path, scene_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--compile is of torch"):
        map_scene(load(folder), open_scene(scene_file), tmp_path / "map.tif", engine="openvino", compile=True)


# --- what is kept, and by whom it is decided


@pytest.mark.slow
@needs_openvino
def test_nothing_is_reported_over_the_network(folder: Path, scene_file: Path, tmp_path: Path) -> None:
    """By itself OpenVINO reports its import and each conversion, and numbers the user in a folder `intel` at home."""
    home = tmp_path / "home"
    home.mkdir()
    code = f"""
import logging, sys
from prithvi.mapping import map_scene
from prithvi.modelio import load
from prithvi.scenes import open_scene
map_scene(load({str(folder)!r}), open_scene({str(scene_file)!r}), {str(tmp_path / "map.tif")!r}, engine="openvino")
print("openvino" in sys.modules, "openvino_telemetry" in sys.modules, logging.getLogger().handlers)
"""
    environment = {key: value for key, value in os.environ.items() if key not in ("CI", "GITHUB_ACTIONS", "TF_BUILD")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**environment, "HOME": str(home)}
    )
    assert done.stdout.strip() == "True False []"
    assert not (home / "intel").exists()
    assert len(list((folder / ".compiled").iterdir())) == 1


def test_windows_that_are_compared_are_valid_pixels_of_the_area(
    fitted: FittedModel, write_tif: Write, six_bands: np.ndarray
) -> None:
    pixels = six_bands[:, :200, :200].copy()
    pixels[:, :, 100:] = -9999
    scene = open_scene(write_tif(pixels, nodata=-9999))
    target = Target.of(conform(scene, fitted.contract, ()), fitted.window, None)
    found = share_changed(fitted.mappable(), Choice(precision="float32"), target, 8, "cpu")
    assert (found.windows, found.changed) == (8, 0.0)
    assert 0 < found.pixels <= 8 * 32 * 32
    pixels = np.full_like(pixels[:, :100, :100], -9999)
    pixels[:, 50:53, 60:64] = six_bands[:, 50:53, 60:64]
    hardly = open_scene(write_tif(pixels, "hardly.tif", nodata=-9999))
    target = Target.of(conform(hardly, fitted.contract, ()), fitted.window, None)
    found = share_changed(fitted.mappable(), Choice(precision="float32"), target, 8, "cpu")
    assert found.pixels == 12 * found.windows  # each of the windows over the only valid pixels
    assert found.windows >= 1
    whole = Area.box(*_bounds(scene, slice(0, 40), slice(0, 40)))
    target = Target.of(conform(scene, fitted.contract, ()), fitted.window, None, whole)
    found = share_changed(fitted.mappable(), Choice(precision="float32"), target, 8, "cpu")
    assert 0 < found.pixels <= found.windows * 32 * 32


def _bounds(scene: Any, rows: slice, columns: slice) -> tuple[float, float, float, float]:
    part = scene.isel(y=rows, x=columns)
    west, south, east, north = part.rio.transform_bounds("EPSG:4326")
    return west, south, east, north


class Near(nn.Module):
    """Two classes by the blue band, whose scores bfloat16 cannot or can tell apart."""

    def __init__(self, step: float) -> None:
        super().__init__()
        self.weight = nn.Conv2d(1, 2, 1)
        with torch.no_grad():
            self.weight.weight[:, 0, 0, 0] = torch.tensor([1.0, 1.0 + step])
            self.weight.bias[:] = torch.tensor([0.0, -step * 900])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.weight(images[:, :1, 0].nan_to_num())
        return scores


@needs_bfloat16
@pytest.mark.parametrize(("step", "precision"), [(1e-3, "float32"), (4.0, "bfloat16")])
def test_auto_takes_bfloat16_only_where_it_changes_hardly_a_class(
    step: float, precision: str, write_tif: Write, six_bands: np.ndarray, tmp_path: Path
) -> None:
    pixels = six_bands[:, :100, :150].copy()
    pixels[0] = np.where(pixels[0] > np.median(pixels[0]), 1200, 600)
    scene = open_scene(write_tif(pixels))
    contract = Contract(tuple(map(str, scene["band"].values)), (0.0,) * 6, (1.0,) * 6)
    model = mappable_module(Near(step), contract, classes=["a", "b"], window=32)
    result = map_scene(model, scene, tmp_path / "map.tif", precision="auto")
    (note,) = result.notes
    assert note.startswith(f"{precision}: ")
    assert "8 windows" in note
    assert tags_of(result.path).get("PRITHVI_PRECISION", "float32") == precision
    with pytest.warns(UserWarning, match=f"{precision}: "):
        package.map(scene, model, precision="auto")


@needs_bfloat16
def test_a_resumed_map_goes_on_as_its_run_has_decided(
    fitted: FittedModel, scene_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # bfloat16 changes too much in this model of random weights: how much `auto` lets pass is not what is tried here.
    monkeypatch.setattr(engine_choice, "CHANGED", 1.0)
    whole = map_scene(fitted, open_scene(scene_file), tmp_path / "whole" / "map.tif", precision="auto")
    path = tmp_path / "cut" / "map.tif"
    interrupted(fitted, scene_file, path, precision="auto")
    journal = json.loads((path.parent / ".map.tif.partial" / "journal.json").read_text())
    assert journal["added"] == {"engine": "torch", "precision": "bfloat16"}
    monkeypatch.setattr(engine_choice, "CHANGED", -1.0)  # it would decide otherwise now
    again = map_scene(fitted, open_scene(scene_file), path, precision="auto", resume=True)
    assert content(tmp_path / "cut") == content(tmp_path / "whole")
    assert tags_of(again.path) == tags_of(whole.path) == {"PRITHVI_ENGINE": "torch", "PRITHVI_PRECISION": "bfloat16"}
    written = path.stat().st_mtime_ns  # a whole one is left as it is
    map_scene(fitted, open_scene(scene_file), path, precision="auto", resume=True)
    assert path.stat().st_mtime_ns == written
    assert map_scene(fitted, open_scene(scene_file), path, precision="auto").path == path
    assert tags_of(path) == {}


@needs_bfloat16
@pytest.mark.parametrize("remedy", ["say", "remove"])
def test_a_resume_in_another_precision_refuses_and_says_what_to_do(
    remedy: str, fitted: FittedModel, scene_file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "cut" / "map.tif"
    interrupted(fitted, scene_file, path, precision="bfloat16")
    with pytest.raises(ConfigError, match="--engine torch --precision bfloat16") as told:
        map_scene(fitted, open_scene(scene_file), path, resume=True)
    if remedy == "say":
        map_scene(fitted, open_scene(scene_file), path, engine="torch", precision="bfloat16", resume=True)
        assert tags_of(path)["PRITHVI_PRECISION"] == "bfloat16"
    else:
        partial = path.parent / ".map.tif.partial"
        assert f"remove {partial} to begin anew" in str(told.value)
        shutil.rmtree(partial)
        map_scene(fitted, open_scene(scene_file), path, resume=True)
        assert tags_of(path) == {}
        # Of a whole map nothing is lost: as with any other option, another precision makes it anew.
        map_scene(fitted, open_scene(scene_file), path, precision="bfloat16", resume=True)
        assert tags_of(path)["PRITHVI_PRECISION"] == "bfloat16"


@needs_openvino
@needs_bfloat16
def test_openvino_in_bfloat16_is_near_and_decided_by_auto(folder: Path, tmp_path: Path, scene_file: Path) -> None:
    model = load(folder).mappable()
    inputs = example_inputs(model, 4, seed=1)
    with torch.inference_mode():
        expected, found = model.module(*inputs), Compiled(model, "bfloat16", 2)(*inputs)
    assert 1e-4 < float((found - expected).square().mean().sqrt() / expected.square().mean().sqrt()) < 0.05
    asked = Asked("auto", "auto")
    target = Target.of(conform(open_scene(scene_file), model.contract, ()), model.window, None)
    choice = asked.decide(model, target, 8)
    assert choice.engine == "openvino"
    assert len(choice.notes) == 1
    assert choice.notes[0].startswith(choice.precision)
