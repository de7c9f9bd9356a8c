"""What refusals advise can be typed after the verb that refused: `fill`, `composite`, `mask` and `map` share many."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio

from prithvi.bands import PRITHVI_BANDS
from prithvi.mapping.maskproducts import MASK_PRODUCTS
from tests.conftest import SPAIN, Answer, needs_clouds
from tests.pages import ROOT
from tests.test_docs import whole_command

Cli = Callable[..., Answer]
PLACES = (1, 2, 3, 8, 11, 12)


@pytest.fixture
def words(write_tif: Callable[..., Path]) -> tuple[np.ndarray, list[object]]:
    """Two dates of 13 bands without names, of which the six are (date, band, y, x), and what is said of them."""
    with rasterio.open(SPAIN) as raster:
        pixels = raster.read(window=((160, 224), (160, 224)))
    pixels = np.stack([pixels, np.roll(pixels, 7, axis=2)])
    files = [write_tif(date, f"{number}.tif", names=None) for number, date in enumerate(pixels)]
    said = ["--date", "2019-09-18", "--date", "2019-09-28", "--scale", 10000, "--offset", 0, "--level", "TOA"]
    return pixels[:, list(PLACES)], [*files, *said]


@pytest.mark.filterwarnings("ignore:.*no names and were taken in the order of:UserWarning")
@pytest.mark.parametrize("verb", ["fill", "composite", pytest.param("mask", marks=needs_clouds)])
def test_numbers_are_of_the_usual_six(
    verb: str, words: tuple[np.ndarray, list[object]], prithvi: Cli, tmp_path: Path
) -> None:
    pixels, said = words
    line = [verb, *said, "-o", tmp_path / "out", *(["--together"] if verb == "mask" else [])]
    refused = prithvi(*line)
    assert refused.code == 2
    assert f"say which are {', '.join(PRITHVI_BANDS)}: --bands with the number in the file of each" in refused.err
    few = prithvi(*line, "--bands", "2,3,4,9")
    assert "--bands has 4 numbers; wanted are 6, one each for blue, green, red," in few.err
    assert few.err.rstrip().endswith("or the names of all bands.")
    answer = prithvi(*line, "--bands", "2,3,4,9,12,13")
    assert answer.code == 0, answer.err
    made = sorted((tmp_path / "out").glob("2019-09-??*.tif"))
    assert made
    if verb == "mask":
        named = prithvi("mask", *said, "--together", "--sensor", "sentinel-2-l1c", "-o", tmp_path / "named")
        assert named.code == 0, named.err
        for path in made:
            with rasterio.open(path) as raster, rasterio.open(tmp_path / "named" / path.name) as other:
                np.testing.assert_array_equal(raster.read(), other.read())
        return
    with rasterio.open(made[0]) as raster:
        assert raster.descriptions == PRITHVI_BANDS
        np.testing.assert_array_equal(raster.read(), pixels[0])


def test_a_band_that_a_model_lacks_is_filled_without_it(
    six_bands: np.ndarray, write_tif: Callable[..., Path], prithvi: Cli, tmp_path: Path
) -> None:
    names = ("blue", "green", "red", "nir_broad", "swir_1", "swir_2")
    files = [write_tif(six_bands[:, :64, n : n + 64], f"{n}.tif", names=names) for n in range(3)]
    dates = [word for day in ("01", "11", "21") for word in ("--date", f"2022-05-{day}")]
    refused = prithvi("fill", "prithvi_hls_tiny", *files, *dates, "-o", tmp_path / "out")
    assert refused.code == 2
    assert "the series lacks nir_narrow; it has blue, green, red, nir_broad," in refused.err
    assert "fill without a model (local_regression), which takes any bands" in refused.err
    assert prithvi("fill", *files, *dates, "-o", tmp_path / "out").code == 0
    with rasterio.open(tmp_path / "out" / "2022-05-01.tif") as raster:
        assert raster.descriptions == names


def test_masks_of_ones_own_in_the_classes_of_all(
    six_bands: np.ndarray, write_tif: Callable[..., Path], prithvi: Cli, tmp_path: Path
) -> None:
    files = [write_tif(six_bands[:, :40, n : n + 50], f"{n}.tif") for n in range(2)]
    given = np.random.default_rng(0).integers(0, 12, (2, 1, 40, 50)).astype(np.uint8)
    masks = [write_tif(mask, f"cover_{n}.tif", names=None, scale=None) for n, mask in enumerate(given)]
    words = ["--date", "2022-05-01", "--date", "2022-05-11", "-o", tmp_path / "out"]
    clouds = [word for mask in masks for word in ("--clouds", mask)]
    answer = prithvi("mask", *files, "--together", *words, *clouds, "--clouds-are", "scl")
    assert answer.code == 0, answer.err
    assert "read as Sentinel-2 SCL" in answer.err
    made = sorted((tmp_path / "out").glob("*_clouds.tif"))
    assert len(made) == 2
    for path, mask in zip(made, given, strict=True):
        with rasterio.open(path) as raster:
            np.testing.assert_array_equal(raster.read(1), MASK_PRODUCTS["scl"].classes(mask[0]))
    for wrong, told in (
        ([*files, *words[4:], *clouds], "--clouds are the masks of one scene, and there are 2: mask each by itself"),
        ([files[0], *words[4:], *clouds], "2 cloud masks for 1 date: give one for each"),
        ([files[0], *words[4:], *clouds[:2], "--network"], "leave it out, or --clouds and --clouds-are"),
        ([files[0], *words[4:], "--network", "--clouds-are", "scl"], "leave it out, or --clouds and --clouds-are"),
        ([files[0], *words[4:], "--clouds-are", "scl"], "and there are none: give them by --clouds"),
        ([files[0], *words[4:], "--clouds", "auto", "--clouds-are", "scl"], "knows it: leave one out"),
    ):
        refused = prithvi("mask", *wrong)
        assert (refused.code, told in refused.err) == (2, True), refused.err


def test_every_option_that_a_message_names_exists() -> None:
    """Of some verb, of Lightning's configurations, or of rio, gdal_edit and pip.

    Where scenes and masks are read, of each verb that does: `--together` is told with the verbs that have it, and
    `--accept` is of what a model wants.
    """
    others = {"--help", "--data", "--model", "--trainer", "--ckpt_path", "--print_config"}
    others |= {"--crs", "--transform", "--unset-nodata", "--force-reinstall"}
    verbs: dict[str, set[str]] = {}
    commands = [whole_command()]
    others |= {name for each in commands[0].params for name in each.opts}
    while commands:
        command = commands.pop()
        verbs[str(command.name)] = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
        commands += getattr(command, "commands", {}).values()
    everywhere = set.intersection(*(verbs[name] for name in ("map", "fill", "mask", "composite")))
    masks = ("cloud_masks.py", "mask_sources.py", "maskproducts.py", "masks.py")
    for file in sorted((ROOT / "prithvi").rglob("*.py")):
        shared = file.parent.name == "scenes" or file.name in masks
        known = others | (everywhere | {"--together", "--accept"} if shared else set.union(*verbs.values()))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named = set(re.findall(r"(?<![\w-])--[a-z][a-z_-]+[a-z]", node.value))
                assert named <= known, f"{file}: {named - known}"


def test_what_an_earlier_fill_left_of_a_date_is_named(
    six_bands: np.ndarray, write_tif: Callable[..., Path], prithvi: Cli, tmp_path: Path
) -> None:
    files = [write_tif(six_bands[:, :40, n : n + 50], f"{n}.tif") for n in range(3)]
    dates = [word for day in ("01", "11", "21") for word in ("--date", f"2022-05-{day}")]
    words = ["fill", *files, *dates, "--method", "linear", "-o", tmp_path / "out", "--json"]
    assert json.loads(prithvi(*words).out)["notes"] == []
    (note,) = json.loads(prithvi(*words, "--no-uncertainty", "--only", "2022-05-11").out)["notes"]
    assert note == "2022-05-11_uncertainty.tif is not of this run: remove it if an earlier run left it."
