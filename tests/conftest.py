"""Fixtures: the shipped sample, small files made from it, and a command line that answers with status and text."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import rasterio
import torch
import typer.main
from rasterio.transform import from_origin

from prithvi.bands import PRITHVI_BANDS
from prithvi.catalog import data_catalog, dataset
from prithvi.modelio import save
from prithvi.modelio.predictor import FittedModel
from prithvi.tasks import SegmentationTask
from tests.synthetic_hls import Archive, make_archive

SPAIN = data_catalog() / "sen1floods11" / "samples" / "S2Hand" / "Spain_7370579_S2Hand.tif"
SPAIN_LABEL = data_catalog() / "sen1floods11" / "samples" / "LabelHand" / "Spain_7370579_LabelHand.tif"
ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
SIX = (2, 3, 4, 9, 12, 13)


def needs(remedy: str, *packages: str) -> pytest.MarkDecorator:
    """Leaves a test out where packages that it is about, or looks at results with, are not installed."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}: pip install {remedy}")


needs_openvino = needs("'prithvi[openvino]'", "openvino")
needs_clouds = needs("'prithvi[clouds]'", "ukis_csmask", "onnxruntime")
needs_search = needs("'prithvi[search]' rustac", "pystac_client", "stac_geoparquet", "requests", "rustac")
needs_baselines = needs("'prithvi[baselines]'", "sklearn")
needs_lora = needs("'prithvi[lora]'", "peft")
needs_netcdf = needs("h5netcdf", "h5netcdf")


def benchmark(name: str) -> Any:
    """benchmarks/NAME.py as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pytest_runtest_setup() -> None:
    """Numbers are compared at full float32 precision on both sides, whatever an import of TerraTorch's has set."""
    torch.set_float32_matmul_precision("highest")


@pytest.fixture(scope="session", autouse=True)
def assets_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where exported programs are remembered, apart from the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("assets")
        patch.setenv("HF_ASSETS_CACHE", str(folder))
        patch.setattr(huggingface_hub.constants, "HF_ASSETS_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real imagery beside the project, which a user's clone does not have."""
    if not SHARED.is_dir():
        pytest.skip("needs the imagery in ../shared/data, which is not shipped")
    return SHARED


@pytest.fixture(scope="session")
def six_bands() -> np.ndarray:
    """(6, 512, 512) int16: the sample's six bands."""
    with rasterio.open(SPAIN) as raster:
        pixels: np.ndarray = raster.read(SIX)
    return pixels


@pytest.fixture
def write_tif(tmp_path: Path) -> Callable[..., Path]:
    """Writes (band, y, x) pixels as a GeoTIFF in UTM, its scale declared (None: not), all else on request."""

    def write(
        pixels: np.ndarray,
        name: str = "scene.tif",
        names: tuple[str, ...] | None = PRITHVI_BANDS,
        scale: float | None = 1e-4,
        **more: Any,
    ) -> Path:
        profile = {
            "driver": "GTiff",
            "height": pixels.shape[1],
            "width": pixels.shape[2],
            "count": pixels.shape[0],
            "dtype": pixels.dtype,
            "crs": "EPSG:32630",
            "transform": from_origin(600_000, 4_200_000, 10, 10),
            **more,
        }
        path = tmp_path / name
        with rasterio.open(path, "w", **profile) as raster:
            raster.write(pixels)
            if scale is not None:
                raster.scales = [scale] * raster.count
            for index, band in enumerate(names or (), start=1):
                raster.set_band_description(index, band)
        return path

    return write


@pytest.fixture
def squares(six_bands: np.ndarray, tmp_path: Path, write_tif) -> Path:  # type: ignore[no-untyped-def]
    """Eight squares in the layout of Sen1Floods11: four to train on, two to choose by, two to test."""
    for kind in ("S2Hand", "LabelHand"):
        (tmp_path / kind).mkdir()
    names = []
    for number in range(8):
        part = np.zeros((13, 32, 32), np.int16)
        part[[1, 2, 3, 8, 11, 12]] = six_bands[:, 48 * number : 48 * number + 32, 350:382]
        label = (part[2].astype(float) > part[11]).astype(np.int16)
        write_tif(part, f"S2Hand/c{number}_S2Hand.tif", names=None)
        write_tif(label[None], f"LabelHand/c{number}_LabelHand.tif", names=None)
        names.append(f"c{number}")
    for split, chips in (("train", names[:4]), ("val", names[4:6]), ("test", names[6:])):
        path = dataset("sen1floods11").splits[split].list
        assert path is not None
        (tmp_path / path.name).write_text("\n".join(chips))
    return tmp_path


def small_task(**options: Any) -> SegmentationTask:
    """A flood task small enough for every test."""
    layout = dataset("sen1floods11")
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "contract": layout.contract.to_dict(),
        "classes": ["land", "water"],
        "colors": ["E8E4D0", "2B6CB0"],
        "head": "light",
        "window": 32,
        "model_options": {"embed_dim": 64, "depth": 2, "num_heads": 2, "coords_encoding": ["time", "location"]},
    }
    return SegmentationTask(**{**settings, **options})


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with random weights."""
    return save(small_task().fitted(seed=0), tmp_path_factory.mktemp("models") / "model")


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the model folder of a test's own, which files may come to."""
    return Path(shutil.copytree(model_folder, tmp_path / "model", ignore=shutil.ignore_patterns(".compiled")))


@pytest.fixture(scope="session")
def fitted(model_folder: Path) -> FittedModel:
    from prithvi.modelio import open_folder

    return open_folder(model_folder)


@pytest.fixture(scope="session")
def program_file(fitted: FittedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model as an exported program."""
    from prithvi.modelio.program import export

    return export(fitted, tmp_path_factory.mktemp("programs") / "flood.pt2")


@dataclass(frozen=True)
class Answer:
    """What a command line run gave."""

    code: int
    out: str
    err: str


_made_once = cache(typer.main.get_command)


@pytest.fixture
def prithvi(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Runs the command line in this process."""

    def run(*arguments: str | Path) -> Answer:
        from prithvi.cli import main

        monkeypatch.setattr(sys, "argv", ["prithvi", *map(str, arguments)])
        # Typer makes all verbs anew for each call, a tenth of a second that a process of its own pays once.
        monkeypatch.setattr(typer.main, "get_command", _made_once)
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capfd.readouterr()
        return Answer(int(stop.value.code or 0), out, err)

    return run


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """A small synthetic HLS archive: two MGRS zones, four dates of each, 320 x 320 pixels."""
    return make_archive(
        tmp_path_factory.mktemp("hls") / "archive", ["31UDS", "32ULC"], dates=4, every_days=15, size=320
    )
