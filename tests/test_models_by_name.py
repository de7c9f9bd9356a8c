"""A folder in prithvi/weights is a model by its name, wherever a model is asked for."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr

import prithvi as package
from prithvi.errors import ConfigError, ModelError
from prithvi.modelio import model_files, save
from prithvi.modelio.card import with_evaluation
from prithvi.modelio.loader import names_model
from prithvi.modelio.predictor import Predictor
from prithvi.scenes import open_scene
from tests.conftest import SPAIN, Answer, small_task

Write = Callable[..., Path]
Cli = Callable[..., Answer]


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that ships `pond`; the working directory is an empty one."""
    weights, here = tmp_path / "weights", tmp_path / "here"
    here.mkdir()
    shutil.copytree(model_files.SHIPPED, weights)
    folder = save(small_task().fitted(seed=0, summary="land and water of a pond"), weights / "pond")
    monkeypatch.setattr(model_files, "SHIPPED", weights)
    monkeypatch.chdir(here)
    return folder


@pytest.fixture
def scene_file(six_bands: np.ndarray, write_tif: Write) -> Path:
    return write_tif(six_bands[:, :64, :64])


def test_a_model_of_the_package_is_known_by_its_name_everywhere(shipped: Path, scene_file: Path, prithvi: Cli) -> None:
    by_name, by_folder = package.load("pond"), package.load(shipped)
    assert isinstance(by_name, Predictor)
    assert (by_name.sha256, by_name.folder) == (by_folder.sha256, str(shipped))
    needs = model_files.requirements_of("pond")
    assert needs is not None
    assert (needs.contract, needs.frames) == (by_name.contract, 1)
    scene = open_scene(scene_file, sensor="sentinel-2-l1c", dates=["2019-09-18"])
    again = package.map(scene, "pond")["class"].values
    np.testing.assert_array_equal(again, package.map(scene, shipped)["class"].values)
    options = "--sensor", "sentinel-2-l1c", "--date", "2019-09-18"
    answer = prithvi("map", "pond", scene_file, "-o", "pond", *options)
    assert (answer.code, answer.err.count("Note")) == (0, 0), answer.err
    # The maps are in a folder of that name, which is no model.
    answer = prithvi("map", "pond", scene_file, "-o", "pond", *options)
    assert (answer.code, answer.err.count("Note")) == (0, 0), answer.err
    with rasterio.open(Path("pond") / scene_file.name) as raster:
        np.testing.assert_array_equal(raster.read(1), again)
    assert prithvi("export", "pond", "-o", "pond.pt2").code == 0
    assert Path("pond.pt2").is_file()


def test_models_list_and_show_tell_of_it(shipped: Path, prithvi: Cli) -> None:
    lines = {line.split()[0]: line for line in prithvi("models", "list").out.splitlines()}
    assert lines["pond"].endswith("land and water of a pond; weights: in the package")
    row = json.loads(prithvi("models", "list", "--json").out)["pond"]
    assert (row["summary"], row["hub_id"], row["task"]) == ("land and water of a pond", None, "segmentation")
    shown = prithvi("models", "show", "pond").out
    assert "0 land E8E4D0, 1 water 2B6CB0" in shown
    plain = json.loads((shipped / "config.json").read_text(encoding="utf-8"))
    del plain["provenance"]["summary"]
    (shipped / "config.json").write_text(json.dumps(plain), encoding="utf-8")
    assert "segmentation: land, water; weights" in prithvi("models", "list").out
    with pytest.raises(ModelError, match="did you mean pond"):
        package.load("pontd")


def test_a_folder_of_that_name_that_holds_a_model_is_taken_and_said(
    shipped: Path, scene_file: Path, prithvi: Cli
) -> None:
    own = save(small_task(head="fcn").fitted(seed=1), Path("pond"))
    with pytest.warns(UserWarning, match="is taken to be the folder here"):
        assert package.load("pond").head == "fcn"
    for path in ("./pond", own):
        assert package.load(path).head == "fcn"  # a path is a path, and says nothing
    assert package.load(shipped).head == "light"
    options = "--sensor", "sentinel-2-l1c", "--date", "2019-09-18"
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # the tests make errors of them
        answer = prithvi("map", "pond", scene_file, "-o", "maps", *options)
    assert (answer.code, answer.err.count("is taken to be")) == (0, 1), answer.err
    assert f"not the model of that name that comes with prithvi: that is {shipped}" in answer.err
    answer = prithvi("map", "./pond", scene_file, "-o", "maps", *options)
    assert (answer.code, answer.err.count("Note")) == (0, 0), answer.err
    # The note's remedy: the folder that it names is the package's model.
    assert prithvi("map", shipped, scene_file, "-o", "maps", *options).err.count("Note") == 0
    with rasterio.open(Path("maps") / scene_file.name) as raster:
        assert raster.tags()["PRITHVI_WEIGHTS_SHA256"] == package.load(shipped).sha256


def test_what_it_needs_is_refused_by_name_before_torch_is_there(
    shipped: Path, write_tif: Write, six_bands: np.ndarray, tmp_path: Path
) -> None:
    few = write_tif(six_bands[:3, :64, :64], names=("blue", "green", "red"))
    code = (
        "import sys\nfrom pathlib import Path\nfrom prithvi.modelio import model_files\n"
        f"model_files.SHIPPED = Path({str(shipped.parent)!r})\n"
        "from prithvi.cli import main\nsys.argv = ['prithvi', *sys.argv[1:]]\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert 'torch' not in sys.modules\n    sys.exit(stop.code)\n"
    )
    words = "map", "pond", few, "-o", "maps", "--sensor", "sentinel-2-l1c"
    found = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True)
    assert found.returncode == 2, found.stderr
    assert "nir_narrow" in found.stderr
    assert "Traceback" not in found.stderr


def test_a_name_leads_out_of_the_package_by_no_path(shipped: Path) -> None:
    for name in ("..", ".", "", "../weights/pond", "pond/", "prithvi_hls_tiny/../pond"):
        assert model_files.shipped(name) is None


def test_the_card_says_how_good_it_is_where_and_what_it_confuses(shipped: Path, tmp_path: Path) -> None:
    table, card = tmp_path / "places.csv", (shipped / "README.md").read_text(encoding="utf-8")
    table.write_text("place,chips,water IoU\nSpain,4,0.9\nIndia,2,0.7\n", encoding="utf-8")
    confusion = [{"true": "land", "land": 90, "water": 10}, {"true": "water", "land": 30, "water": 70}]
    made = with_evaluation(card, table, "Fmask chose the chips.", confusion)
    assert "| place | chips | water IoU |" in made
    assert "| India | 2 | 0.7 |\n| mean of 2 places | 3 | 0.8 |" in made
    assert "## How the truth was chosen\n\nFmask chose the chips.\n" in made
    assert "| water | 30.0% | 70.0% | 100 |" in made
    assert "Most of all: 30.0% of water is called land; 10.0% of land is called water." in made
    titles = [line.removeprefix("## ") for line in made.splitlines() if line.startswith("## ")]
    assert titles[2:5] == ["How good it is by place", "How the truth was chosen", "What it confuses"]
    assert titles[5] == "Limits"
    assert with_evaluation(made, table, "Fmask chose the chips.", confusion) == made
    for places, wrong in (([], confusion), (table, [{"true": "land", "land": "many"}]), (tmp_path / "none.csv", [])):
        with pytest.raises(ConfigError):
            with_evaluation(card, places, "", wrong)


def test_the_water_model_that_comes_along_finds_the_flood(six_bands: np.ndarray) -> None:
    """It never saw this chip, nor any label of water that a person drew."""
    with rasterio.open(str(SPAIN).replace("S2Hand", "LabelHand")) as raster:
        flood_label = raster.read(1)
    fitted = package.load("water")
    assert isinstance(fitted, Predictor)
    assert fitted.model.encoder is None
    assert [entry.name for entry in fitted.classes] == ["land", "water", "snow", "cloud", "shadow"]
    scene = xr.DataArray(
        six_bands[None].astype(np.float32), dims=("time", "band", "y", "x"),
        coords={"band": list(fitted.contract.bands)}, attrs={"gain": 1e-4, "bias": 0.0},
    )  # fmt: skip
    found = package.map(scene, fitted)["class"].values
    known = flood_label >= 0
    water, truth = (found == 1)[known], (flood_label == 1)[known]
    assert (water & truth).sum() / (water | truth).sum() > 0.65
    assert np.isin(found[known], (2, 3, 4)).mean() < 0.03
    card = (model_files.SHIPPED / "water" / "README.md").read_text(encoding="utf-8")
    for title in ("How good it is by place", "How the truth was chosen", "What it confuses"):
        assert f"## {title}" in card
    assert "license: apache-2.0" in card


@pytest.mark.parametrize(
    ("word", "model"),
    [
        ("prithvi_hls_tiny", True), ("prithvi_hls_tyny", True), ("owner/name", True), ("owner/name@v1.0", True),
        ("owner/Model-2.0-300M", True), ("weights.safetensors", True), ("model", True), ("weights/a.ckpt", True),
        ("a.tif", False), ("scenes/a.tif", False), ("granules", False), ("HLS.L30.T31TDF.2022123T104029.v2.0", False),
        ("https://host.example/a.tif", False), ("s3://bucket/item.json", False), ("cube.zarr", False),
    ],
)  # fmt: skip
def test_a_model_is_told_from_a_scene_by_its_name(
    word: str, model: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, file in (("model", "config.json"), ("granules", "B02.tif"), ("weights", "a.ckpt")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).write_bytes(b"")
    assert names_model(word) is model
