"""A scene that does not fit is refused before a model is opened, and weights are hashed once a process."""

from __future__ import annotations

import collections
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from prithvi import files, load
from prithvi.bands import PRITHVI_BANDS
from prithvi.modelio import contract_of, open_folder
from prithvi.modelio.model_files import Requirements, requirements_of
from prithvi.modelio.predictor import FittedModel
from prithvi.models import checkpoint
from tests.conftest import Answer, small_task

REFUSED = """
import sys
from prithvi.cli import main
sys.argv = ["prithvi", *sys.argv[1:]]
try:
    main()
except SystemExit as stop:
    assert "torch" not in sys.modules, "torch was imported"
    sys.exit(stop.code)
"""

Write = Callable[..., Path]


def test_what_the_files_state_is_what_the_model_takes(
    fitted: FittedModel, model_folder: Path, program_file: Path
) -> None:
    expected = Requirements(fitted.contract, fitted.frames, fitted.patch)
    assert requirements_of(str(model_folder)) == requirements_of(str(program_file)) == expected
    for other in ("prithvi_hls_tiny", str(model_folder / "model.safetensors"), "no such model"):
        assert requirements_of(other) is None


@pytest.mark.parametrize(
    ("verb", "scene", "message"),
    [
        ("map", "bands", "lacks swir_2"),
        ("map", "small", "fewer than one patch of the model"),
        ("map", "scale", "reflectance"),
        ("map a program", "bands", "lacks swir_2"),
        ("embed", "scale", "reflectance"),
        ("embed", "absent", "absent.tif"),
    ],
)
def test_a_scene_that_does_not_fit_is_refused_before_torch_is_imported(
    verb: str, scene: str, message: str, model_folder: Path, program_file: Path, six_bands: np.ndarray,
    write_tif: Write, tmp_path: Path,
) -> None:  # fmt: skip
    pixels = {"bands": six_bands[:5, :64, :64], "small": six_bands[:, :2, :64], "scale": six_bands[:, :64, :64] / 1e9}
    path = tmp_path / "absent.tif"
    if scene in pixels:
        path = write_tif(pixels[scene], names=PRITHVI_BANDS[: len(pixels[scene])])
    # Without its weights the folder states what it takes all the same.
    folder = shutil.copytree(model_folder, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    model = program_file if verb == "map a program" else folder
    command = [verb.split()[0], model, path, "-o", tmp_path / ("e.tif" if verb == "embed" else "maps")]
    done = subprocess.run(
        [sys.executable, "-c", REFUSED, *map(str, command)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "maps").exists()


def test_a_scene_is_refused_before_pretrained_weights_are_read(
    prithvi: Callable[..., Answer], six_bands: np.ndarray, write_tif: Write, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def read(path: Path) -> None:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr(checkpoint, "read_safetensors", read)
    answer = prithvi(
        "embed",
        "prithvi_hls_tiny",
        write_tif(six_bands[:5, :64, :64], names=PRITHVI_BANDS[:5]),
        "-o",
        tmp_path / "e.tif",
    )
    assert answer.code == 2
    assert "lacks swir_2" in answer.err


@pytest.mark.filterwarnings("default:.*does not state its scale")
def test_what_is_unusual_about_a_scene_is_said_once(
    prithvi: Callable[..., Answer], model_folder: Path, six_bands: np.ndarray, write_tif: Write, tmp_path: Path
) -> None:
    path = write_tif(six_bands[:, :64, :64], scale=None)
    for verb, output in (("map", tmp_path / "maps"), ("embed", tmp_path / "e.tif")):
        answer = prithvi(verb, model_folder, path, "-o", output)
        assert answer.code == 0, answer.err
        assert answer.err.count("does not state its scale") == 1


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> collections.Counter[str]:
    """How often each file is read for its hash."""
    counts: collections.Counter[str] = collections.Counter()
    whole = files.sha256

    def counted(path: str | Path) -> str:
        counts[str(path)] += 1
        return whole(path)

    monkeypatch.setattr(files, "sha256", counted)
    files._sha256_once.cache_clear()
    return counts


def test_a_file_that_is_not_there_has_no_hash(tmp_path: Path) -> None:
    for hash_of in (files.sha256, files.sha256_once):
        with pytest.raises(FileNotFoundError, match=r"gone\.bin"):
            hash_of(tmp_path / "gone.bin")


def test_weights_are_hashed_once_a_process(
    hashed: collections.Counter[str], prithvi: Callable[..., Answer], model_folder: Path, program_file: Path,
    six_bands: np.ndarray, write_tif: Write, tmp_path: Path,
) -> None:  # fmt: skip
    shipped = str(Path(sys.modules["prithvi"].__file__ or "").parent / "weights" / "prithvi_hls_tiny")
    scene = write_tif(six_bands[:, :64, :64])
    holes = six_bands[:, :64, :64].copy()
    holes[:, 10:20, 10:20] = -9999
    series = [write_tif(holes, "a.tif", nodata=-9999), write_tif(six_bands[:, :64, :64], "b.tif", nodata=-9999)]
    dates = ("--date", "2022-05-01", "--date", "2022-05-11")
    for command in (
        ("map", model_folder, scene, "-o", tmp_path / "maps"),
        ("map", program_file, scene, "-o", tmp_path / "more"),
        ("embed", model_folder, scene, "-o", tmp_path / "e.tif"),
        ("fill", shipped, *series, *dates, "-o", tmp_path / "filled"),
    ):
        answer = prithvi(*command)
        assert answer.code == 0, answer.err
    small_task(init=shipped, model="prithvi_hls_tiny", model_options={}, statistics="init")
    open_folder(model_folder)
    load(model_folder)
    contract_of(str(model_folder))
    weights = {path: count for path, count in hashed.items() if path.endswith((".safetensors", ".pt2"))}
    assert weights == dict.fromkeys(weights, 1)
    assert {Path(path).parent.name for path in weights} >= {model_folder.name, program_file.parent.name}


def test_a_config_that_is_damaged_is_left_to_the_loader(model_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model_folder, tmp_path / "model")
    plain = json.loads((folder / "config.json").read_text())
    for change in ({"contract": None}, {"contract": {}}, {"pretrained_cfg": {}}, {"format": "prithvi-model/9"}):
        (folder / "config.json").write_text(json.dumps({**plain, **change}))
        assert requirements_of(str(folder)) is None
    (folder / "config.json").write_text("{")
    assert requirements_of(str(folder)) is None
