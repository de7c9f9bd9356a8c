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
    expected = Requirements(fitted.contract, fitted.frames, fitted.patch, fitted.window, True, fitted.name)
    assert requirements_of(str(model_folder)) == requirements_of(str(program_file)) == expected
    for other in ("prithvi_hls_tiny", str(model_folder / "model.safetensors"), "no such model"):
        assert requirements_of(other) is None


@pytest.mark.parametrize(
    ("verb", "scene", "message"),
    [
        ("map", "bands", "lacks swir_2"),
        pytest.param("map", "small", "fewer than one patch of the model", marks=pytest.mark.slow),
        pytest.param("map", "scale", "reflectance", marks=pytest.mark.slow),
        pytest.param("map a program", "bands", "lacks swir_2", marks=pytest.mark.slow),
        pytest.param("embed", "scale", "reflectance", marks=pytest.mark.slow),
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


SEVERAL = """
import contextlib, io, json, sys
from prithvi.cli import main
answers = []
for command in json.loads(sys.argv[1]):
    sys.argv, said = ["prithvi", *command], io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            main()
    except SystemExit as stop:
        answers.append([stop.code, said.getvalue(), "torch" in sys.modules])
print(json.dumps(answers))
"""


@pytest.mark.slow
def test_an_option_that_cannot_be_met_is_refused_before_torch_is_imported(
    model_folder: Path, six_bands: np.ndarray, write_tif: Write, tmp_path: Path
) -> None:
    """The folder has no weights, so that nothing here could have been told by them."""
    scene = write_tif(six_bands[:, :64, :64], names=PRITHVI_BANDS)
    beside = write_tif(six_bands[:, :64, :64], name="b.tif", names=PRITHVI_BANDS)
    folder = shutil.copytree(model_folder, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    plain = json.loads((folder / "config.json").read_text())
    for name, changed in (
        ("quantity", {"classes": [], "quantity": {"name": "height", "unit": "m", "mean": 1.0, "std": 1.0}}),
        ("chips", {"task": "classification"}),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({**plain, **changed}))
    (tmp_path / "file").write_text("")
    (tmp_path / "points.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    window, out = plain["window"], ["-o", str(tmp_path / "maps")]
    by_model = {"classes": str(folder), "quantity": str(tmp_path / "quantity"), "chips": str(tmp_path / "chips")}
    cases = [
        ("classes", ["--stride", str(window + 1), *out], f"the stride {window + 1} must lie between 1 and the window"),
        ("classes", ["--overlap", "1", *out], "the overlap 1 must be at least 0 and below 1"),
        ("classes", ["--overlap", "0.5", "--stride", "8", *out], "the stride 8 and the overlap 0.5 say the same thing"),
        ("classes", ["--engine", "onnx", *out], "there is no engine 'onnx': say torch, openvino or auto"),
        ("classes", ["--precision", "int8", *out], "there is no precision 'int8'"),
        ("classes", ["--probabilities", "int8", *out], "there is no form 'int8'"),
        ("classes", ["--polygons", "shp", *out], "there is no form 'shp'"),
        ("classes", ["--zones", str(tmp_path / "none.gpkg"), *out], "none.gpkg"),
        ("classes", ["--zones", str(tmp_path / "points.geojson"), *out], "has no features"),
        ("classes", ["--aoi", str(tmp_path / "none.gpkg"), *out], "none.gpkg"),
        ("classes", ["--bbox", "10", "50", "11", "51", *out], "10,50,11,51"),
        ("classes", ["--disagreement", "--stride", str(window), *out], "do not overlap"),
        ("classes", ["-o", str(scene.parent)], "is one of the inputs"),
        ("classes", ["-o", str(tmp_path / "file")], "is a file"),
        ("classes", ["-o", str(tmp_path / "file" / "below")], "is a file"),
        ("quantity", ["--confidence", *out], "predicts a quantity, and confidence are of classes"),
        ("quantity", ["--probabilities", "uint8", *out], "predicts a quantity, and probabilities are of classes"),
        ("quantity", ["--zones", str(tmp_path / "points.geojson"), *out], "predicts a quantity, and zones"),
        ("chips", out, "a map needs an answer for every pixel"),
    ]
    commands = [["map", by_model[model], str(scene), *options] for model, options, _ in cases]
    # Of several scenes what holds for any of them is refused as well.
    cases += cases[:3]
    commands += [[*command[:3], str(beside), *command[3:]] for command in commands[:3]]
    done = subprocess.run(
        [sys.executable, "-c", SEVERAL, json.dumps(commands)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for (_, options, message), (code, said, torch) in zip(cases, json.loads(done.stdout), strict=True):
        assert code == 2, (options, said)
        assert message in said, (options, said)
        assert not torch, options
        assert "Traceback" not in said
    assert not (tmp_path / "maps").exists()


@pytest.fixture
def weights_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: Path) -> None:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr(checkpoint, "read_safetensors", read)


@pytest.mark.parametrize(
    ("bands", "options", "message"),
    [
        (5, ["-o", "{out}/e.tif"], "lacks swir_2"),
        (6, ["-o", "{out}/e.tif", "--pixels", "--pooled"], "leave out layer and pooled"),
        (6, ["-o", "{out}/e.png"], "embeddings are written as .tif or .zarr"),
        (6, ["-o", "{out}/scene.tif/e.tif"], "is a file)"),
    ],
)
def test_embeddings_are_refused_before_pretrained_weights_are_read(
    bands: int, options: list[str], message: str, prithvi: Callable[..., Answer], six_bands: np.ndarray,
    write_tif: Write, tmp_path: Path, weights_unread: None,
) -> None:  # fmt: skip
    scene = write_tif(six_bands[:bands, :64, :64], names=PRITHVI_BANDS[:bands])
    words = [option.format(out=tmp_path) for option in options]
    answer = prithvi("embed", "prithvi_hls_tiny", scene, *words)
    assert answer.code == 2
    assert message in answer.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--only", "2020-01-01", "-o", "{out}/filled"], "2020-01-01"),
        (["--every", "often", "-o", "{out}/filled"], "often"),
        (["-o", "{out}/0.tif/filled"], "is a file)"),
    ],
)
def test_a_series_is_refused_before_the_model_that_fills_it_is_read(
    options: list[str], message: str, prithvi: Callable[..., Answer], six_bands: np.ndarray, write_tif: Write,
    tmp_path: Path, weights_unread: None,
) -> None:  # fmt: skip
    series = [write_tif(six_bands[:, :64, :64], name=f"{number}.tif") for number in range(3)]
    dates = [word for number in range(3) for word in ("--date", f"2022-06-0{number + 1}")]
    words = [option.format(out=tmp_path) for option in options]
    answer = prithvi("fill", "prithvi_hls_tiny", *series, *dates, *words)
    assert answer.code == 2
    assert message in answer.err
    assert not (tmp_path / "filled").exists()


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
