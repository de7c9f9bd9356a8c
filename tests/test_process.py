"""What belongs to the whole process stays as the caller has it, whatever is imported or called."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest
import torch
from threadpoolctl import threadpool_info

from prithvi.modelio.predictor import FittedModel
from prithvi.process import one_blas_thread, settings_kept
from tests.conftest import SPAIN, small_task

needs_terratorch = pytest.mark.skipif(
    importlib.util.find_spec("terratorch") is None, reason="needs the terratorch extra"
)
STATE = """
import os, sys, warnings, torch

def state():
    parts = [getattr(getattr(torch.backends, name), part) for name, part in (
        ("mkldnn", "matmul"), ("mkldnn", "conv"), ("cuda", "matmul"), ("cudnn", "conv"))
        if hasattr(getattr(torch.backends, name), part)]
    return (seen(torch.get_float32_matmul_precision), [getattr(part, "fp32_precision", None) for part in parts],
            seen(lambda: torch.backends.cuda.matmul.allow_tf32), torch.get_num_threads(), torch.get_default_dtype(),
            {**os.environ}, list(warnings.filters))

def seen(setting):
    try:
        return setting()
    except RuntimeError:  # backends were set apart
        return "mixed"
"""


def python(code: str) -> str:
    command = [sys.executable, "-W", "ignore", "-c", STATE + textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def medium() -> Iterator[None]:
    """The caller has chosen "medium"."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.slow
@needs_terratorch
def test_what_we_import_of_terratorch_leaves_the_callers_settings() -> None:
    """And the numbers: on processors with AMX, "medium" would move these by 1e-3."""
    python(
        """
        import lightning
        from prithvi.models import build
        from prithvi.models.heads import build_head

        torch.manual_seed(0)
        model, images = build("prithvi_hls_tiny", img_size=64).eval(), torch.randn(1, 6, 1, 64, 64)
        torch.set_float32_matmul_precision("high")
        with torch.no_grad():
            features, before = model.encoder.forward_features(images)[-1], state()
            build_head("FCNDecoder", 8, 1, 16, 2, channels=8)
            import prithvi.terratorch
            assert "terratorch" in sys.modules
            assert state() == before, (before, state())
            assert state()[0] == "high"
            assert torch.equal(model.encoder.forward_features(images)[-1], features)
        """
    )


@pytest.mark.slow
@needs_terratorch
def test_what_a_users_own_import_sets_stays_his() -> None:
    """Also what docs/terratorch.md says of TerraTorch: it sets "medium"."""
    python(
        """
        import terratorch
        assert torch.get_float32_matmul_precision() == "medium"
        import prithvi.terratorch
        assert torch.get_float32_matmul_precision() == "medium"
        """
    )


@pytest.mark.skipif(not hasattr(torch.backends.mkldnn, "matmul"), reason="this torch has one setting for all backends")
def test_backends_that_the_caller_set_apart_stay_so() -> None:
    python(
        """
        from prithvi.process import settings_kept
        for overall in ("highest", "high"):
            torch.set_float32_matmul_precision(overall)
            torch.backends.mkldnn.matmul.fp32_precision = "bf16"
            before = state()
            assert before[0] == "mixed"  # torch then refuses to name one precision
            with settings_kept():
                torch.set_float32_matmul_precision("medium")
            assert state() == before, (before, state())
            torch.backends.mkldnn.matmul.fp32_precision = "none"
            assert torch.get_float32_matmul_precision() == overall
        """
    )


@pytest.mark.usefixtures("medium")
def test_calls_leave_the_callers_precision(fitted: FittedModel, tmp_path: Path) -> None:
    import prithvi
    from prithvi.mapping import map_scene
    from prithvi.scenes import crop

    scene = prithvi.open_scene(SPAIN, sensor="sentinel-2-l1c", dates=["2019-09-18"])
    small = crop(scene, slice(0, 64), slice(0, 64))
    map_scene(fitted, small, tmp_path / "map.tif")
    prithvi.map(small, fitted).compute()
    small_task().fitted(seed=0)
    assert torch.get_float32_matmul_precision() == "medium"


def test_load_map_fill_and_embed_leave_the_process_as_it_was(model_folder: Path, tmp_path: Path) -> None:
    """Settings of torch, Python and GDAL; and malloc is tuned by commands alone."""
    python(
        f"""
        import numpy as np
        import prithvi
        from prithvi.catalog import data_catalog
        from prithvi.contract import Contract
        from prithvi.mapping import embed_scene, fill_series, map_scene, mappable_module
        from prithvi.models import build
        from prithvi.scenes import crop
        from rasterio._env import get_gdal_config

        def all_of_it():
            return state(), sys.argv, get_gdal_config("GDAL_CACHEMAX")

        torch.set_num_threads(2)
        torch.set_float32_matmul_precision("high")
        scene = prithvi.open_scene({str(SPAIN)!r}, sensor="sentinel-2-l1c", dates=["2019-09-18"])
        scene = crop(scene, slice(0, 64), slice(0, 64))
        folder = data_catalog() / "samples" / "flanders"
        days = ["2018-05-09", "2018-06-03"]
        series = prithvi.open_scene([str(folder / f"{{day}}.tif") for day in days], dates=days)
        contract = Contract(("green", "nir_narrow"), (0.0, 0.0), (1.0, 1.0))
        module = torch.nn.Flatten(1, 2)  # the bands as scores
        model = mappable_module(module, contract, classes=["land", "water"], window=32)
        encoder = build("prithvi_hls_tiny", img_size=64, num_frames=1)
        before = all_of_it()
        calls = [
            lambda: prithvi.load("prithvi_hls_tiny"),
            lambda: prithvi.load({str(model_folder)!r}),
            lambda: prithvi.map(scene, {str(model_folder)!r}).compute(),
            lambda: prithvi.map(scene, model).compute(),
            lambda: map_scene(model, scene, {str(tmp_path / "map.tif")!r}),
            lambda: prithvi.embed(scene, encoder).compute(),
            lambda: embed_scene(encoder, scene, {str(tmp_path / "embedding.tif")!r}),
            lambda: embed_scene(encoder, scene, {str(tmp_path / "embedding.zarr")!r}),
            lambda: prithvi.fill(series, "linear", masks=[folder / f"{{day}}_clouds.tif" for day in days]).compute(),
            lambda: fill_series(series, {str(tmp_path / "filled")!r}, "linear"),
            lambda: prithvi.fill(series.isel(y=slice(0, 64), x=slice(0, 64))).compute(),
        ]
        for number, call in enumerate(calls):
            call()
            assert all_of_it() == before, (number, before, all_of_it())
        assert "prithvi.cli" not in sys.modules  # and its allocator settings with it
        """
    )


def test_settings_come_back_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setenv("KEPT", "1")
    before = torch.get_float32_matmul_precision()

    @settings_kept()
    def fails() -> None:
        torch.set_float32_matmul_precision("medium")
        os.environ["ADDED"], os.environ["KEPT"] = "1", "2"
        raise ImportError("inside")

    with pytest.raises(ImportError, match="inside"):
        fails()
    assert torch.get_float32_matmul_precision() == before
    assert "ADDED" not in os.environ
    assert os.environ["KEPT"] == "1"


def test_blas_has_its_threads_again_when_the_last_of_overlapping_blocks_ends() -> None:
    """Two threads are in such a block at once, and the one that entered first leaves first."""

    def threads() -> list[int]:
        return [part["num_threads"] for part in threadpool_info() if part["user_api"] == "blas"]

    before, first_left, second_in = threads(), Event(), Event()

    def second() -> None:
        with one_blas_thread():
            second_in.set()
            assert first_left.wait(10)
            assert set(threads()) == {1}

    with ThreadPoolExecutor(1) as pool:
        with one_blas_thread():
            later = pool.submit(second)
            assert second_in.wait(10)
            assert set(threads()) == {1}
        first_left.set()
        later.result()
    assert threads() == before
