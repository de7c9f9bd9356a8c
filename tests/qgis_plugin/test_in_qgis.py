"""The plugin in QGIS itself (3.22 here): by qgis_process from a clean profile, and in PyQGIS as its window runs it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from PIL import Image

from tests.conftest import ROOT, SPAIN, Answer
from tests.pages import printed_for

SAMPLES = ROOT / "data_catalog" / "samples" / "flanders"
PYTHON = "/usr/bin/python3" if sys.platform == "linux" else None
# Debian's qgis_process (3.22.16) passes on an option of the window's, which the program refuses.
PROGRAM = shutil.which("qgis_process.bin") or shutil.which("qgis_process")

WATER = (0x21, 0x66, 0xAC)
OF_SPAIN = {"MODEL": "water", "SENSOR": "sentinel-2-l1c", "DATES": "2019-09-13"}


def clean(folder: Path) -> dict[str, str]:
    """The variables of a QGIS that has never run: a home of its own, no window."""
    (folder / "home").mkdir(exist_ok=True)
    drop = ("PYTHON", "QGIS", "PRITHVI")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(drop)}
    of_qgis = {"QT_QPA_PLATFORM": "offscreen", "QGIS_CUSTOM_CONFIG_PATH": str(folder / "profile")}
    return {**kept, **of_qgis, "HOME": str(folder / "home"), "XDG_RUNTIME_DIR": str(folder / "home")}


@pytest.fixture(scope="session")
def needs_qgis() -> None:
    """Skips without a QGIS of the system that Python can import."""
    asked = [str(PYTHON), "-c", "import qgis.core"]
    if PROGRAM is None or PYTHON is None or subprocess.run(asked, capture_output=True, check=False).returncode:
        pytest.skip("needs QGIS with its Python (Debian: qgis, python3-qgis)")


@pytest.fixture
def in_qgis(needs_qgis: None, environment: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs an algorithm in PyQGIS; gives what tests/qgis_plugin/in_qgis.py prints."""

    def run(algorithm: str, parameters: dict[str, Any], **more: Any) -> dict[str, Any]:
        request = tmp_path / "request.json"
        parameters = {"ENVIRONMENT": str(environment), **parameters}
        request.write_text(json.dumps({"algorithm": algorithm, "parameters": parameters, **more}), encoding="utf-8")
        script = Path(__file__).with_name("in_qgis.py")
        done = subprocess.run(
            [str(PYTHON), str(script), str(request)], env=clean(tmp_path), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.stdout, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return answer

    return run


def layers_of(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    assert "error" not in answer, answer["error"]
    return {Path(layer["source"]).name: layer for layer in answer["layers"]}


@pytest.mark.slow
def test_qgis_process_maps_from_a_clean_profile_as_the_page_prints(
    needs_qgis: None, environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    write_tif: Callable[..., Path], six_bands: np.ndarray, prithvi: Callable[..., Answer],
) -> None:  # fmt: skip
    scene = write_tif(six_bands[:, :128, :160])
    monkeypatch.chdir(tmp_path)
    subprocess.run([sys.executable, str(ROOT / "qgis" / "zip_plugin.py"), "dist"], check=True)
    with zipfile.ZipFile("dist/prithvi_qgis.zip") as archive:
        archive.extractall("profile/profiles/default/python/plugins")
    variables = clean(tmp_path) | {"PRITHVI_ENVIRONMENT": str(environment)}
    told = []
    (block,) = printed_for("tests/qgis_plugin/test_in_qgis.py", "gis.md")
    for program, *words in block.commands:
        assert program == "qgis_process"
        done = subprocess.run([str(PROGRAM), *words], env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        told.append(done.stdout)
    assert "0...10...20" in told[-1]
    assert "100 - done." in told[-1]
    assert "MAP:\tmaps/scene.tif" in told[-1]
    assert prithvi("map", "water", scene, "-o", "here", "--date", "2022-05-31").code == 0
    with rasterio.open("maps/scene.tif") as ours, rasterio.open("here/scene.tif") as expected:
        np.testing.assert_array_equal(ours.read(), expected.read())
        assert (ours.crs, ours.transform) == (expected.crs, expected.transform)
    wrong = subprocess.run(
        [str(PROGRAM), *words], env=variables | {"PRITHVI_ENVIRONMENT": str(tmp_path / "none")}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert wrong.returncode != 0
    assert f"There is no {tmp_path / 'none'}: name the folder of the environment" in wrong.stderr + wrong.stdout
    assert "Traceback" not in wrong.stderr + wrong.stdout


@pytest.mark.slow
def test_a_map_is_shown_in_the_colours_of_its_classes(in_qgis: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    scene = shutil.copy(SPAIN, tmp_path / "scene.tif")
    maps, picture = tmp_path / "maps", tmp_path / "map.png"
    with rasterio.open(scene) as raster:
        left, bottom, right, top = raster.bounds
    middle = f"{left},{(left + right) / 2},{bottom},{top} [EPSG:4326]"
    answer = in_qgis(
        "prithvi:map", {**OF_SPAIN, "INPUT": ["flood"], "EXTENT": middle, "OUTPUT": str(maps)},
        layers={"flood": str(scene)}, picture=str(picture), drawn=["scene"],
    )  # fmt: skip
    layers = layers_of(answer)
    assert answer["results"]["MAPS"] == [str(maps / "scene.tif")]
    classes = {"land": "a9a27d", "water": "2166ac", "snow": "f7f7f7", "cloud": "bdbdbd", "shadow": "525252"}
    assert layers["scene.tif"]["renderer"] == "paletted"
    assert layers["scene.tif"]["legend"] == {name: f"#ff{colour}" for name, colour in classes.items()}
    assert layers["scene.gpkg"]["name"] == "scene polygons"
    assert layers["scene.gpkg"]["legend"] == {name: f"#{colour}" for name, colour in classes.items()}
    shares = answer["shares"][: answer["shares"].index(100.0)]
    assert shares == sorted(shares)
    assert len(shares) > 3
    with rasterio.open(maps / "scene.tif") as raster:
        values = raster.read(1)
        assert raster.width in (256, 257)
    # The map's pixels have the colours on the picture: the same share of water, but for its edges.
    drawn = np.asarray(Image.open(picture).convert("RGB")).reshape(-1, 3)
    known = (drawn != 255).any(axis=1)
    water = (drawn[known] == WATER).all(axis=1).mean()
    assert water == pytest.approx((values == 1).sum() / (values != 255).sum(), abs=0.01)
    # The page's picture is drawn like this.
    drawing = [str(PYTHON), str(ROOT / "qgis" / "picture.py"), str(scene), str(maps / "scene.tif"), str(picture)]
    subprocess.run(drawing, env=clean(tmp_path), capture_output=True, check=True)
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    assert (pixels == WATER).all(axis=2).mean() > 0.05


@pytest.mark.slow
def test_a_cancelled_map_ends_at_once_and_leaves_nothing_under_a_final_name(
    in_qgis: Callable[..., dict[str, Any]], tmp_path: Path, write_tif: Callable[..., Path], six_bands: np.ndarray
) -> None:
    scene, maps = write_tif(np.tile(six_bands, (1, 4, 4)), "big.tif"), tmp_path / "maps"
    parameters = {"MODEL": "water", "INPUT": [str(scene)], "OUTPUT": str(maps)}
    answer = in_qgis("prithvi:map", parameters, cancel_at=3)
    assert answer["results"] == {}
    assert answer["layers"] == []
    assert "Stopped: nothing half done stands in the results." in answer["told"]
    assert not maps.is_dir() or all(file.name.startswith(".") for file in maps.iterdir())
    assert str(maps) not in subprocess.run(["ps", "-ewwo", "args"], capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_a_series_is_filled_and_shown_in_natural_colours(
    in_qgis: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    days, picture = ["2018-05-09", "2018-06-03", "2018-06-13"], tmp_path / "filled.png"
    for day in days:
        for file in SAMPLES.glob(f"{day}*.tif"):
            shutil.copy(file, tmp_path)
    parameters = {
        "INPUT": [str(tmp_path / f"{day}.tif") for day in days],
        "CLOUDS": [str(tmp_path / f"{day}_clouds.tif") for day in days],
        "CLOUDS_ARE": "cloud", "DATES": ", ".join(days), "OUTPUT": str(tmp_path / "filled"),
    }  # fmt: skip
    answer = in_qgis("prithvi:fill", parameters, picture=str(picture), drawn=["2018-06-03_filled", "2018-06-03"])
    layers = layers_of(answer)
    assert not list(tmp_path.glob("*.aux.xml"))  # nothing is left beside the inputs
    assert {f"{day}{end}.tif" for day in days for end in ("", "_filled", "_uncertainty")} == set(layers)
    assert layers["2018-06-03.tif"]["bands"] == [3, 2, 1]
    assert layers["2018-06-03_filled.tif"]["legend"] == {"observed": "#00000000", "filled": "#ffd95f02"}
    with rasterio.open(tmp_path / "filled" / "2018-06-03_filled.tif") as raster:
        share = (raster.read(1) == 1).mean()
    drawn = np.asarray(Image.open(picture).convert("RGB")).reshape(-1, 3)
    filled = (drawn == (0xD9, 0x5F, 0x02)).all(axis=1)
    assert share > 0.1
    assert filled.mean() == pytest.approx(share, abs=0.01)
    assert 20 < drawn[~filled].mean() < 200  # neither black nor white: the file's own scale is accounted for


@pytest.mark.slow
def test_an_embedding_is_shown_by_its_first_three_features(
    in_qgis: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    scene = shutil.copy(SAMPLES / "2018-05-09.tif", tmp_path)
    out = tmp_path / "vectors.tif"
    answer = in_qgis("prithvi:embed", {"MODEL": "prithvi_hls_tiny", "INPUT": str(scene), "OUTPUT": str(out)})
    assert layers_of(answer)["vectors.tif"]["bands"] == [1, 2, 3]
    with rasterio.open(out) as raster:
        assert (raster.count, raster.shape) == (96, (8, 8))


@pytest.mark.slow
def test_areas_come_from_the_points_that_are_shown(
    in_qgis: Callable[..., dict[str, Any]], tmp_path: Path, write_tif: Callable[..., Path], six_bands: np.ndarray,
    prithvi: Callable[..., Answer], model_folder: Path,
) -> None:  # fmt: skip
    scene = write_tif(six_bands[:, :128, :160])
    assert prithvi("map", model_folder, scene, "-o", tmp_path / "maps", "--polygons", "none").code == 0
    made = tmp_path / "maps" / "scene.tif"
    with rasterio.open(made) as raster:
        classes = raster.read(1)
        places = [(row, column) for row in range(3, 128, 8) for column in range(3, 160, 8)]
        points = gpd.points_from_xy(*zip(*(raster.xy(*place) for place in places), strict=True), crs=raster.crs)
    truth = ["water" if classes[place] == 1 else "land" for place in places]
    frame = gpd.GeoDataFrame({"truth": truth, "used": 1}, geometry=points)
    # A second layer in the file, a point that the layer's filter hides: what QGIS shows is what counts.
    wrong = gpd.GeoDataFrame({"truth": ["water"], "used": 0}, geometry=[shapely.Point(0, 0)], crs=frame.crs)
    frame.iloc[:5].to_file(tmp_path / "points.gpkg", layer="others")
    gpd.pd.concat([frame, wrong]).to_file(tmp_path / "points.gpkg", layer="used")
    layer = f'{tmp_path / "points.gpkg"}|layername=used|subset="used" = 1'
    table = tmp_path / "areas.csv"
    answer = in_qgis(
        "prithvi:area", {"MAP": str(made), "REFERENCE": "points", "COLUMN": "truth", "OUTPUT": str(table)},
        layers={"points": layer},
    )  # fmt: skip
    assert "error" not in answer, answer["error"]
    frame.to_file(tmp_path / "same.gpkg")
    expected = prithvi("area", made, "--reference", tmp_path / "same.gpkg", "--column", "truth", "--json")
    assert answer["results"]["OVERALL_ACCURACY"] == json.loads(expected.out)["overall_accuracy"] == 1.0
    assert table.read_text().startswith("name")


@pytest.mark.slow
def test_a_model_tells_what_it_expects(in_qgis: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    page = tmp_path / "model.html"
    folder = ROOT / "prithvi" / "weights" / "water"
    answer = in_qgis("prithvi:model", {"MODEL": str(folder), "PAGE": str(page)})
    assert answer["results"]["BANDS"] == "blue, green, red, nir_narrow, swir_1, swir_2"
    assert answer["results"]["TASK"] == "segmentation"
    assert answer["results"]["MODEL"] == str(folder)
    assert "1 water 2166ac" in page.read_text(encoding="utf-8")


@pytest.mark.slow
def test_what_does_not_fit_is_one_sentence(
    in_qgis: Callable[..., dict[str, Any]], tmp_path: Path, write_tif: Callable[..., Path], six_bands: np.ndarray
) -> None:
    unnamed = str(write_tif(six_bands[:, :64, :64], names=None))
    out = {"OUTPUT": str(tmp_path / "maps")}
    for algorithm, parameters, sentence in (
        ("prithvi:map", {"MODEL": "water", "INPUT": unnamed, **out}, "(Here --bands is 'Bands', --sensor is 'Sensor'"),
        (
            "prithvi:map",
            {"MODEL": "water", "INPUT": ["/n.tif"], **out},
            "there is neither a file nor a raster layer /n.tif",
        ),
        ("prithvi:area", {"MAP": "/n.tif", "REFERENCE": unnamed, "COLUMN": "class", "OUTPUT": "a.csv"}, "for MAP"),
        ("prithvi:map", {"MODEL": "water", **out}, "No scene was given: choose layers in INPUT"),
        ("prithvi:map", {"MODEL": "water", "INPUT": unnamed, "EXTRA": "--title 'a", **out}, "EXTRA cannot be read"),
        ("prithvi:map", {"MODEL": "water", "INPUT": unnamed, "ENVIRONMENT": "/none", **out}, "There is no /none: name"),
        ("prithvi:fill", {"INPUT": unnamed, "MODEL": "water", "METHOD": "linear", **out}, "two ways of filling"),
    ):
        answer = in_qgis(algorithm, parameters)
        assert sentence in answer["error"]
        assert "\n" not in answer["error"].removeprefix("Unable to execute algorithm\n")  # QGIS's own heading
        assert "Traceback" not in str(answer)
    assert not (tmp_path / "maps").exists()
