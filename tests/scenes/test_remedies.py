"""What a refusal or a note tells the user to do is done here, as it stands in the sentence, and ends in the truth.

It may end in another refusal where the sentence said "if" and the if does not hold. No advice ends in a wrong scene.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
import rioxarray  # noqa: F401  (the .rio accessor)
import xarray as xr
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning

from prithvi.bands import PRITHVI_BANDS
from prithvi.catalog import SENSORS, dataset
from prithvi.cli.options import band_numbers
from prithvi.errors import BandError, ConfigError, PrithviError, ScaleError, SceneError
from prithvi.scenes import open_scene
from prithvi.scenes.conform import conform, read
from tests.conftest import SPAIN
from tests.scenes.test_stac_items import sentinel, spain

Write = Callable[..., Path]
CONTRACT = dataclasses.replace(dataset("sen1floods11").contract, level=None)
S2 = SENSORS["sentinel-2-l1c"].stack
PLACES = (1, 2, 3, 8, 11, 12)
THREE = ["2019-01-05", "2019-02-05", "2019-03-05"]

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not state its scale:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*no names and were taken in the order of:UserWarning"),
]


@pytest.fixture(scope="module")
def piece() -> np.ndarray:
    """(13, 192, 192) of the sample: what is true."""
    with rasterio.open(SPAIN) as raster:
        pixels: np.ndarray = raster.read(window=((160, 352), (160, 352)))
    return pixels


@pytest.fixture(scope="module")
def truth(piece: np.ndarray) -> np.ndarray:
    """(6, 192, 192) in the model's units."""
    return piece[list(PLACES)].astype(np.float64)


def seen(source: Any, accept: Sequence[str] = (), **said: Any) -> np.ndarray:
    """(6, y, x) as a model sees the first date."""
    return read(conform(open_scene(source, **said), CONTRACT, accept), CONTRACT)[0]


def refusal(kind: type[PrithviError], source: Any, **said: Any) -> str:
    with pytest.raises(kind) as failure:
        seen(source, **said)
    return str(failure.value)


def options(message: str) -> list[tuple[str, Any]]:
    """The options with values that a sentence names: [("scale", 1.0)]."""
    found: list[tuple[str, Any]] = []
    for name, values in re.findall(
        r"--(sensor|scale|offset|nodata|accept) ([\w.-]+(?:(?:,| or) [\w-]+\d[\w-]*)*)", message
    ):
        for value in re.split(r",? or |, ", values):
            numeric = name in ("scale", "offset", "nodata")
            found.append((name, float(value.rstrip(".")) if numeric else value.rstrip(".")))
    return found


def command(message: str, *words: str, **replace: str) -> None:
    """Runs the command that stands in quotes in a sentence, with its capital words replaced."""
    found = next(part for part in re.findall(r"'([^']+)'", message) if part.split()[0] in words)
    arguments = [replace.get(word, word) for word in shlex.split(found)]
    beside = Path(sys.executable).with_name(arguments[0])
    program = str(beside) if beside.exists() else shutil.which(arguments[0])
    if program is None:
        pytest.skip(f"{arguments[0]} is not installed here")
    subprocess.run([program, *arguments[1:]], check=True, capture_output=True)


def test_unnamed_bands_can_be_said_in_each_way_that_is_printed(
    piece: np.ndarray, truth: np.ndarray, write_tif: Write
) -> None:
    path = write_tif(piece, names=None)
    message = refusal(BandError, path)
    assert options(message) == [("sensor", "hls-s30"), ("sensor", "sentinel-2-l1c")]
    for name, value in options(message):
        np.testing.assert_array_equal(seen(path, **{name: value}, offset=0), truth)
    assert "--bands with the number" in message
    np.testing.assert_array_equal(seen(path, bands=[place + 1 for place in PLACES]), truth)
    assert "name them in the file" in message
    with rasterio.open(path, "r+") as raster:
        raster.descriptions = S2
    np.testing.assert_array_equal(seen(path), truth)


@pytest.mark.parametrize("count", [6, 7, 10, 12])
def test_a_sensor_that_is_named_for_its_number_of_bands_fits_or_refuses(
    count: int, piece: np.ndarray, truth: np.ndarray, write_tif: Write
) -> None:
    """Files of these counts in the order of Landsat 8 (6: without the coastal band), HLS L30 and Sentinel-2 L2A."""
    places = {6: PLACES, 7: (0, *PLACES), 10: (0, *PLACES, 10, 9, 7), 12: (*range(10), 11, 12)}[count]
    path = write_tif(piece[list(places)], names=None, scale=None)
    ways = options(refusal(BandError, path))
    assert ways
    right = 0
    for name, value in ways:
        if "c2" in value or count == 6:  # another scale; the near infrared of Landsat 7 is broad
            refusal(PrithviError, path, **{name: value})
        else:
            np.testing.assert_array_equal(seen(path, **{name: value}, offset=0), truth)
            right += 1
    assert right == (0 if count == 6 else 1)
    numbers = [places.index(place) + 1 for place in PLACES]
    np.testing.assert_array_equal(seen(path, bands=numbers), truth)


def test_a_sensor_of_another_number_of_bands_asks_for_numbers(
    piece: np.ndarray, truth: np.ndarray, write_tif: Write
) -> None:
    path = write_tif(piece[1:], names=None)
    assert "--bands with the numbers" in refusal(BandError, path, sensor="sentinel-2-l1c")
    numbers = list(PLACES)
    np.testing.assert_array_equal(seen(path, sensor="sentinel-2-l1c", offset=0, bands=numbers), truth)


def test_ids_of_many_products_are_read_once_the_sensor_is_said(
    truth: np.ndarray, piece: np.ndarray, write_tif: Write
) -> None:
    path = write_tif(piece[list(PLACES)], names=("B02", "B03", "B04", "B05", "B06", "B07"))
    ways = options(refusal(BandError, path))
    assert [value for _, value in ways] == ["hls-l30", "hls-s30", "sentinel-2-l2a"]
    np.testing.assert_array_equal(seen(path, sensor="hls-l30"), truth)
    for sensor in ("hls-s30", "sentinel-2-l2a"):
        assert "lacks nir_narrow" in refusal(BandError, path, sensor=sensor, offset=0)
    np.testing.assert_array_equal(seen(path, bands=list(range(1, 7))), truth)
    np.testing.assert_array_equal(seen(path, bands=list(PRITHVI_BANDS)), truth)
    assert "name the sensor, or use common names" in refusal(
        BandError, path, bands=["B2", "B3", "B4", "B5", "B6", "B7"]
    )
    np.testing.assert_array_equal(
        seen(path, bands=["B2", "B3", "B4", "B5", "B6", "B7"], sensor="hls-l30"), truth
    )  # fmt: skip


@pytest.mark.parametrize(
    "names",
    [
        ("blue", "green", "red", "NIR", "swir_1", "swir_2"),
        ("B02", "B03", "B04", "Band 8", "B11", "B12"),
        ("B02 (red)", "B03", "B04", "B8A", "B11", "B12"),
        ("Band 2", "Band 3", "Band 4", "Band 9", "Band 12", "Band 13"),
        ("x", "y", "z", "u", "v", "w"),
        ("blue", "blue", "red", "B8A", "B11", "B12"),
    ],
)
def test_names_that_say_too_little_are_made_good_by_numbers(
    names: tuple[str, ...], piece: np.ndarray, truth: np.ndarray, write_tif: Write
) -> None:
    path = write_tif(piece[list(PLACES)], names=names)
    message = refusal(BandError, path)
    assert "--bands" in message or "give bands" in message
    np.testing.assert_array_equal(seen(path, bands=list(range(1, 7))), truth)


@pytest.mark.parametrize("wrong", ["hls-130", "HLS-L30", "sentinel2-l1c", "landsat-8"])
def test_the_sensor_that_is_meant_exists(wrong: str, piece: np.ndarray, truth: np.ndarray, write_tif: Write) -> None:
    path = write_tif(piece[list(PLACES)], names=PRITHVI_BANDS)
    message = refusal(ConfigError, path, sensor=wrong)
    meant = [name for name in SENSORS if name in message]
    assert meant
    if not wrong.startswith("landsat"):  # which have two scales
        np.testing.assert_array_equal(seen(path, sensor=meant[0], offset=0), truth)


def test_numbers_and_names_of_another_count_say_what_is_wanted(
    piece: np.ndarray, truth: np.ndarray, write_tif: Write
) -> None:
    path = write_tif(piece, names=None)
    with pytest.raises(BandError, match=r"--bands has 3 numbers; this model wants 6, one each for blue, green"):
        band_numbers("2,3,4", CONTRACT)
    np.testing.assert_array_equal(seen(path, bands=band_numbers("2,3,4,9,12,13", CONTRACT)), truth)
    assert "for others give a mapping from name to number" in refusal(BandError, path, bands=[2, 3, 4])
    mapping = dict(zip(PRITHVI_BANDS, (2, 3, 4, 9, 12, 13), strict=True))
    np.testing.assert_array_equal(seen(path, bands=mapping), truth)
    assert "name each of them" in refusal(BandError, path, bands=["blue", "green", "red"])
    np.testing.assert_array_equal(seen(path, bands=S2), truth)
    assert "did you mean blue" in refusal(BandError, path, bands=["BLEU", *S2[1:]])


def test_the_broad_near_infrared_is_taken_where_it_is_accepted(piece: np.ndarray, write_tif: Write) -> None:
    broad = [1, 2, 3, 7, 11, 12]
    path = write_tif(piece[broad], names=tuple(S2[place] for place in broad))
    ((name, value),) = options(refusal(BandError, path))
    assert name == "accept"
    scene = conform(open_scene(path), CONTRACT, [value])
    np.testing.assert_array_equal(read(scene, CONTRACT)[0], piece[broad])
    assert scene.attrs["accepted"] == ["nir_broad"]


@pytest.mark.parametrize("case", ["reflectance", "Landsat Collection 2", "plus 1000", "8 bits"])
def test_a_scale_or_offset_that_is_printed_gives_the_values(
    case: str, piece: np.ndarray, truth: np.ndarray, write_tif: Write
) -> None:
    """One of the printed ways is right for the file; another ends in a refusal, or was an if that does not hold."""
    six = piece[list(PLACES)]
    stored, tags, more, tolerance = {
        "reflectance": ((six / 1e4).astype(np.float32), None, {}, 0.01),
        "Landsat Collection 2": (np.round((six / 1e4 + 0.2) / 2.75e-5).astype(np.uint16), None, {}, 0.2),
        "plus 1000": (six + 1000, None, {"sensor": "sentinel-2-l1c"}, 0),
        "8 bits": (np.round(six / 1e4 * 255).astype(np.uint8), None, {}, 20),
    }[case]
    path = write_tif(stored, scale=tags)
    if case == "plus 1000":
        with pytest.warns(UserWarning, match="has no date"):
            message = refusal(ScaleError, path, **more)
    else:
        message = refusal(ScaleError, path, **more)
    ways = options(message)
    if case == "8 bits":
        assert "say --scale" in message
        ways = [("scale", 255.0)]  # only the user knows it
    right = []
    for name, value in ways:
        try:
            found = seen(path, **{**more, name: value})
        except PrithviError:
            continue
        right.append(np.abs(found - truth).max() <= tolerance)
    assert ways[0][0] == {"plus 1000": "offset", "Landsat Collection 2": "sensor"}.get(case, "scale")
    assert right[0]  # what is printed first is what the numbers look like


def test_digital_numbers_for_a_model_of_reflectance(truth: np.ndarray, piece: np.ndarray, write_tif: Write) -> None:
    small = dataclasses.replace(
        CONTRACT, scale=1.0, mean=tuple(m / 1e4 for m in CONTRACT.mean), std=tuple(s / 1e4 for s in CONTRACT.std)
    )  # fmt: skip
    path = write_tif(piece[list(PLACES)], scale=None)
    with pytest.raises(ScaleError) as failure:
        conform(open_scene(path), small)
    ((name, value),) = options(str(failure.value))
    found = read(conform(open_scene(path, **{name: value}), small), small)[0]
    np.testing.assert_allclose(found, truth / 1e4, rtol=1e-6)


@pytest.mark.parametrize("fill", [-9999, -1000, 0])
def test_the_nodata_that_is_printed_is_missing(
    fill: int, piece: np.ndarray, truth: np.ndarray, write_tif: Write
) -> None:
    six = piece[list(PLACES)].copy()
    six[:, :, :20] = fill
    path = write_tif(six)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it was seen and left out, where it was
        try:
            found = seen(path)
        except SceneError as error:
            ((name, value),) = options(str(error))
            found = seen(path, **{name: value})
    assert np.isnan(found[:, :, :20]).all()
    np.testing.assert_array_equal(found[:, :, 20:], truth[:, :, 20:])


def test_an_offset_is_read_once_a_scale_stands_beside_it(
    piece: np.ndarray, truth: np.ndarray, write_tif: Write
) -> None:
    path = write_tif(piece[list(PLACES)] + 1000, scale=None)
    assert "needs a scale or a sensor beside it" in refusal(SceneError, path, offset=-1000)
    np.testing.assert_allclose(seen(path, offset=-1000, scale=10_000), truth, atol=0.01)
    np.testing.assert_allclose(seen(path, offset=-1000, sensor="sentinel-2-l1c"), truth, atol=0.01)


def test_the_offset_of_sentinel_2_is_said_either_way(piece: np.ndarray, truth: np.ndarray, write_tif: Write) -> None:
    stored = {-1000.0: piece + 1000, 0.0: piece}
    for offset, values in stored.items():
        path = write_tif(values, names=S2)
        message = refusal(SceneError, path, sensor="sentinel-2-l1c", dates=["2022-06-01"])
        assert options(message) == [("offset", -1000.0), ("offset", 0.0)]
        found = seen(path, sensor="sentinel-2-l1c", dates=["2022-06-01"], offset=offset)
        np.testing.assert_allclose(found, truth, atol=0.01)
    with pytest.warns(UserWarning, match="say --date, or --offset -1000 or 0"):
        open_scene(path, sensor="sentinel-2-l1c")
    np.testing.assert_array_equal(seen(path, sensor="sentinel-2-l1c", dates=["2019-09-18"]), truth)
    np.testing.assert_array_equal(seen(path, sensor="sentinel-2-l1c", offset=0), truth)


def test_stacks_of_dates_are_said_by_names_or_by_order(piece: np.ndarray, truth: np.ndarray, write_tif: Write) -> None:
    six = piece[list(PLACES)]
    stack = np.concatenate([six, six // 2, six // 3])
    named = write_tif(stack, names=PRITHVI_BANDS * 3)
    message = refusal(BandError, named)
    assert "'blue 2022-05-01'" in message
    assert "or give bands, dates and order" in message
    said = {"bands": list(PRITHVI_BANDS), "dates": THREE, "order": "time-major"}
    scene = conform(open_scene(named, **said), CONTRACT)
    np.testing.assert_array_equal(read(scene, CONTRACT), stack.reshape(3, 6, 192, 192))
    with rasterio.open(named, "r+") as raster:
        raster.descriptions = tuple(f"{band} {day}" for day in THREE for band in PRITHVI_BANDS)
    np.testing.assert_array_equal(
        read(conform(open_scene(named), CONTRACT), CONTRACT), stack.reshape(3, 6, 192, 192)
    )  # fmt: skip
    nameless = write_tif(stack, "nameless.tif", names=None)
    message = refusal(SceneError, nameless, bands=list(PRITHVI_BANDS))
    assert "order= time-major" in message
    assert "the 3 dates" in message
    np.testing.assert_array_equal(seen(nameless, **said), truth)


def test_files_of_one_date_are_dated_or_opened_one_by_one(
    piece: np.ndarray, truth: np.ndarray, write_tif: Write
) -> None:
    six = piece[list(PLACES)]
    files = [write_tif(values, name) for name, values in (("a.tif", six), ("b.tif", six // 2))]
    assert "give the date of each (--date)" in refusal(SceneError, files)
    np.testing.assert_array_equal(seen(files, dates=THREE[:2]), truth)
    stem = "HLS.L30.T31TDF.2022100T105000.v2.0"
    twins = [write_tif(six, f"{stem}.tif"), write_tif(six // 2, f"{stem}.vrt.tif")]
    assert "open them one by one" in refusal(SceneError, twins)
    np.testing.assert_array_equal(seen(twins[0]), truth)


def test_products_of_other_scales_are_opened_one_by_one(piece: np.ndarray, truth: np.ndarray, write_tif: Write) -> None:
    six = piece[list(PLACES)]
    hls = write_tif(six, "HLS.L30.T31TDF.2022100T105000.v2.0.tif", scale=None)
    c2 = np.round((six / 1e4 + 0.2) / 2.75e-5).astype(np.uint16)
    landsat = write_tif(c2, "LC08_L2SP_034032_20160723_20200906_02_T1_SR_B.tif", scale=None)
    named = landsat.with_name("LC08_L2SP_034032_20160723_20200906_02_T1_SR_B0.tif")
    landsat.rename(named)
    assert "open them one by one" in refusal(SceneError, [hls, named])
    np.testing.assert_array_equal(seen(hls), truth)
    np.testing.assert_allclose(seen(named), truth, atol=0.2)


@pytest.mark.parametrize("lacking", ["crs", "transform"])
def test_a_place_is_written_with_the_command_that_is_printed(
    lacking: str, piece: np.ndarray, truth: np.ndarray, write_tif: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Affine(10, 0, 600_000, 0, -10, 4_200_000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        path = write_tif(piece[list(PLACES)], **{lacking: None if lacking == "crs" else Affine.identity()})
    message = refusal(SceneError, path)
    monkeypatch.chdir(path.parent)
    command(
        message, "rio", **{"EPSG:...": "EPSG:32630", "[WIDTH,0,WEST,0,-HEIGHT,NORTH]": "[10,0,600000,0,-10,4200000]"}
    )  # fmt: skip
    scene = open_scene(path)
    assert scene.rio.transform() == place
    assert scene.rio.crs.to_epsg() == 32630
    np.testing.assert_array_equal(seen(path), truth)


def test_files_on_other_grids_are_brought_onto_one_with_the_command_that_is_printed(
    piece: np.ndarray, write_tif: Write, tmp_path: Path
) -> None:
    """Names, scales and nodata of the bands come along."""
    (tmp_path / "bands").mkdir()
    files = {}
    for place in PLACES:
        coarse = place in (8, 11, 12)
        values, size = (piece[place, ::2, ::2], 20) if coarse else (piece[place], 10)
        transform = Affine(size, 0, 600_000, 0, -size, 4_200_000)
        files[place] = write_tif(
            values[None], f"bands/{S2[place]}.tif", (S2[place],), transform=transform, nodata=-9999
        )
    try:
        found = seen(list(files.values()))
    except SceneError as error:
        for place in (8, 11, 12):
            new = tmp_path / f"{S2[place]}.tif"
            command(str(error), "gdalwarp", OLD=str(files[place]), NEW=str(new))
            files[place] = new
        found = seen(list(files.values()))
    coarse_truth = piece[[8, 11, 12], ::2, ::2].repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_array_equal(found, np.concatenate([piece[[1, 2, 3]], coarse_truth]))


def test_an_array_is_placed_as_is_printed(piece: np.ndarray, truth: np.ndarray) -> None:
    array = xr.DataArray(
        piece[list(PLACES)], dims=("band", "y", "x"),
        coords={
            "band": list(PRITHVI_BANDS),
            "x": 600_005.0 + 10 * np.arange(192),
            "y": 4_199_995.0 - 10 * np.arange(192),
        },
    )  # fmt: skip
    message = refusal(SceneError, array, scale=10_000)
    assert "array.rio.write_crs('EPSG:...')" in message
    np.testing.assert_array_equal(seen(array.rio.write_crs("EPSG:32630"), scale=10_000), truth)


def test_what_items_do_not_say_is_said_beside_them(tmp_path: Path) -> None:
    bands = list(PRITHVI_BANDS)
    blue = spain("blue").astype(np.float32)
    late = sentinel(tmp_path, "2022-06-01", add=1000, properties={"s2:processing_baseline": "05.09"},
                    raster={"offset": 0})  # fmt: skip
    message = refusal(SceneError, late)
    assert options(message) == [("offset", -1000.0), ("offset", 0.0)]
    scene = open_scene(late, bands=bands, offset=-1000)
    found = read(scene, CONTRACT)[0, 0]
    np.testing.assert_allclose(found[20:], blue[20:], atol=0.01)
    undated = pystac.Item.from_file(str(sentinel(tmp_path / "undated", raster={"offset": 0})))
    undated.set_self_href(str(tmp_path / "undated" / "x.json"))
    undated.datetime = None
    undated.properties.pop("datetime", None)
    assert "has no date: say --date (dates=[...])" in refusal(SceneError, undated)
    np.testing.assert_allclose(read(open_scene(undated, bands=bands, dates=["2019-09-18"]), CONTRACT)[0, 0, 20:],
                               blue[20:], atol=0.01)  # fmt: skip
    with pytest.raises(BandError, match="name the bands"):
        open_scene(late, bands=[1, 2, 3, 4, 5, 6], offset=-1000)


def test_every_option_that_is_printed_exists(prithvi: Callable[..., Any]) -> None:
    """In `prithvi map`, `prithvi fill` or before the verb."""
    package = Path(open_scene.__code__.co_filename).parents[1]
    files = [*(package / "scenes").glob("*.py"), package / "bands.py", package / "contract.py"]
    texts = [path.read_text(encoding="utf-8") for path in files]
    printed = {option for text in texts for option in re.findall(r"[\s(](--[a-z]+)", text)} - {"--crs", "--transform"}
    known = "".join(prithvi(*verb, "--help").out for verb in (["map"], ["fill"], []))
    assert printed
    assert [option for option in sorted(printed) if option not in known] == []
