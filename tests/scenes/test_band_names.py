"""What files call their bands: every spelling in use ends in the right band, or in a question. Nothing is guessed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr

from prithvi.bands import PRITHVI_BANDS
from prithvi.errors import BandError
from prithvi.scenes import open_scene
from tests.conftest import SPAIN

Write = Callable[..., Path]

S2 = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
PLACES = (1, 2, 3, 8, 11, 12)
"""Where the six bands are among the thirteen, counted from 0."""
PLAIN = tuple(name.replace("B0", "B") for name in S2)
WAVELENGTHS = ("443", "490", "560", "665", "705", "740", "783", "842", "865", "945", "1375", "1610", "2190")
EARTH_ENGINE = (
    "Aerosols Coastal", "Blue", "Green", "Red", "Red Edge 1", "Red Edge 2", "Red Edge 3", "NIR", "Red Edge 4",
    "Water vapor", "Cirrus", "SWIR 1", "SWIR 2",
)  # fmt: skip
L1C = {"sensor": "sentinel-2-l1c", "offset": 0}


@pytest.fixture(scope="module")
def piece() -> np.ndarray:
    """(13, 24, 24) of the sample."""
    with rasterio.open(SPAIN) as raster:
        pixels: np.ndarray = raster.read(window=((100, 124), (200, 224)))
    return pixels


def six_of(scene: xr.DataArray) -> np.ndarray:
    values: np.ndarray = scene.sel(band=list(PRITHVI_BANDS)).values[0]
    return values


def every(form: str, names: Sequence[str] = S2) -> tuple[str, ...]:
    return tuple(form.format(name) for name in names)


THIRTEEN: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "ids": (S2, {}),
    "ids without zeros": (PLAIN, {}),
    "lower case": (every("{}", [name.lower() for name in S2]), {}),
    "blanks": (every(" {} "), {}),
    "surface reflectance": (every("SR_{}", PLAIN), {}),
    "pixel size": (every("{}_20m"), {}),
    "tile, time and pixel size": (every("T30UYB_20190601T105621_{}_20m"), {}),
    "GDAL's SENTINEL2 driver": (
        tuple(f"{i}, central wavelength {nm} nm" for i, nm in zip(PLAIN, WAVELENGTHS, strict=True)),
        {},
    ),
    "id (name)": (("B01 (coastal)", "B02 (blue)", "B03 (green)", "B04 (red)", *S2[4:8], "B8A (NIR)", *S2[9:]), {}),
    "name - id": (("B01", "blue - B02", "green - B03", "red - B04", *S2[4:]), {}),
    "date_id": (every("20190601_{}"), {}),
    "id date": (every("{} 2019-06-01"), {}),
    "Earth Engine's index": (every("20190601T105621_20190601T105622_T30UYB_{}", PLAIN), {}),
    "median": (every("{}_median", PLAIN), {}),
    "a site before": (every("Ebro delta {}"), {}),
    "an ending": (every("{}_clipped"), {}),
    "wavelengths": (every("{}nm", WAVELENGTHS), {}),
    "wavelengths (micrometres)": (tuple(f"{float(nm) / 1000} um" for nm in WAVELENGTHS), {}),
    "bare wavelengths": (WAVELENGTHS, {}),
    "QGIS with descriptions": (tuple(f"Band {n:02d}: {i}" for n, i in enumerate(S2, start=1)), {}),
    "Band 8A": (every("Band {}", [name.lstrip("B0") for name in S2]), {}),
    "8A": (tuple(name.lstrip("B0") for name in S2), {}),
    "Earth Engine's descriptions": (EARTH_ENGINE, {}),
    "TerraTorch's enum": (
        (
            "COASTAL_AEROSOL", "BLUE", "GREEN", "RED", "RED_EDGE_1", "RED_EDGE_2", "RED_EDGE_3", "NIR_BROAD",
            "NIR_NARROW", "WATER_VAPOR", "CIRRUS", "SWIR_1", "SWIR_2",
        ),
        {},
    ),
    "STAC's common names": (
        (
            "coastal", "blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08", "nir09",
            "cirrus", "swir16", "swir22",
        ),
        {},
    ),
    "R's dots": (("Coastal", "Blue", "Green", "Red", "RE1", "RE2", "RE3", "NIR.broad", "NIR.narrow", "WV", "Cirrus",
                  "SWIR.1", "SWIR.2"), {}),
    "places with the sensor": (tuple(f"Band {n}" for n in range(1, 14)), L1C),
    "places of QGIS": (tuple(f"Band {n:02d}" for n in range(1, 14)), L1C),
    "places of ArcGIS": (tuple(f"Band_{n}" for n in range(1, 14)), L1C),
    "places of ERDAS": (tuple(f"Layer_{n}" for n in range(1, 14)), L1C),
    "places of R": (tuple(f"spain_{n}" for n in range(1, 14)), L1C),
    "places of netCDF": (tuple(f"Band{n}" for n in range(1, 14)), L1C),
    "bare places": (tuple(str(n) for n in range(1, 14)), L1C),
    "places from 0": (tuple(f"band_{n}" for n in range(13)), L1C),
}  # fmt: skip


@pytest.mark.parametrize("case", THIRTEEN)
def test_a_spelling_in_use_names_the_band_it_means(case: str, piece: np.ndarray, write_tif: Write) -> None:
    names, said = THIRTEEN[case]
    scene = open_scene(write_tif(piece, names=names), **said)
    np.testing.assert_array_equal(six_of(scene), piece[list(PLACES)])
    if case in ("date_id", "id date", "tile, time and pixel size", "Earth Engine's index"):
        assert scene["time"].values == np.datetime64("2019-06-01")


LANDSAT_8 = ("Coastal", "Blue", "Green", "Red", "NIR", "SWIR 1", "SWIR 2")


@pytest.mark.parametrize(
    ("names", "sensor"),
    [
        (LANDSAT_8, "landsat-8-espa-sr"),
        (LANDSAT_8, "hls-l30"),
        (tuple(f"SR_B{n}" for n in range(1, 8)), "landsat-8-c2-l2"),
        (tuple(f"sr_band{n}" for n in range(1, 8)), "landsat-8-espa-sr"),
        (tuple(f"Band {n}" for n in range(1, 8)), "landsat-8-espa-sr"),  # here a place and an id are one
        (tuple(f"B{n}" for n in range(1, 8)), "hls-l30"),
        (("Coastal_Aerosol", "Blue", "Green", "Red", "NIR", "SWIR1", "SWIR2"), "hls-l30"),
        (
            ("Ultra Blue (coastal/aerosol)", "Blue (0.45-0.51 um)", "Green", "Red", "Near Infrared (NIR)",
             "Shortwave Infrared (SWIR) 1.6 um", "SWIR 2 (2.11 - 2.29 µm)"),
            "hls-l30",
        ),
    ],
)  # fmt: skip
def test_names_of_landsat_mean_landsat_s_bands(
    names: tuple[str, ...], sensor: str, piece: np.ndarray, write_tif: Write
) -> None:
    seven = piece[[0, *PLACES]]
    np.testing.assert_array_equal(
        six_of(open_scene(write_tif(seven, names=names, scale=None), sensor=sensor)), seven[1:]
    )


def test_nir_is_the_near_infrared_that_the_sensor_has_or_a_question(piece: np.ndarray, write_tif: Write) -> None:
    path = write_tif(piece[list(PLACES)], names=("Blue", "Green", "Red", "NIR", "SWIR1", "SWIR2"))
    assert "nir_narrow" in open_scene(path, sensor="hls-l30")["band"].values
    assert "nir_broad" in open_scene(path, sensor="landsat-457-espa-sr")["band"].values
    for said in ({}, L1C, {"sensor": "hls-s30"}):  # Sentinel-2 has two
        scene = open_scene(path, **said)
        assert list(scene["band"].values) == ["blue", "green", "red", "swir_1", "swir_2"]
        assert scene.attrs["unknown_bands"] == ["NIR"]


ASKED: dict[str, tuple[tuple[str, ...] | None, dict[str, Any], str]] = {
    "places of seven bands are no ids of HLS": (
        tuple(f"Band {n}" for n in range(1, 8)), {"sensor": "hls-l30"}, "7 bands without names; hls-l30 has 10",
    ),
    "places without a sensor": (tuple(f"Band {n}" for n in range(1, 7)), {}, "6 bands without names"),
    "places of another file": (
        ("Band 2", "Band 3", "Band 4", "Band 9", "Band 12", "Band 13"), {"sensor": "sentinel-2-l1c"},
        "'Band 2' is a place or another product's",
    ),
    "twelve bands of thirteen": (None, {"sensor": "sentinel-2-l1c"}, "12 bands without names; sentinel-2-l1c has 13"),
    "id and name of two bands": (
        ("B02 (red)", "B03 (green)", "B04 (blue)", "B8A", "B11", "B12"), {}, r"'B02 \(red\)', and B02 is blue",
    ),
    "id and wavelength of two bands": (
        ("B02 665 nm", "B03", "B04", "B8A", "B11", "B12"), {}, "'B02 665 nm', and B02 is blue",
    ),
    "the same band twice": (("blue", "BLUE", "red", "B8A", "B11", "B12"), {}, "has blue twice"),
    "ids of many products": (("B2", "B3", "B4", "B5", "B6", "B7"), {}, "B05 is another band in each product"),
    "words of no band": (("spam", "ham", "eggs", "a", "b", "c"), {}, "'spam' means no band"),
    "deviations": (every("{}_stdDev", S2[:6]), {}, "means no band|may be|is a place"),
    "MODIS": (tuple(f"sur_refl_b0{n}" for n in range(1, 7)), {"sensor": "hls-l30"}, "which says of none what it is"),
}  # fmt: skip


@pytest.mark.parametrize("case", ASKED)
def test_what_leaves_the_band_open_is_asked(case: str, piece: np.ndarray, write_tif: Write) -> None:
    names, said, message = ASKED[case]
    count = len(names) if names else 12
    with pytest.raises(BandError, match=message):
        open_scene(write_tif(piece[:count], names=names), **said)


def test_ids_that_only_count_name_no_band_they_may_not_be(piece: np.ndarray, write_tif: Write) -> None:
    """B1 to B13 are the thirteen bands counted through, B8A included; B1 to B8 are right either way."""
    counted = write_tif(piece, names=tuple(f"B{n}" for n in range(1, 14)))
    twelve = write_tif(piece[[*range(10), 11, 12]], "l2a.tif", names=tuple(f"B{n}" for n in range(1, 13)))
    for path, said in (
        (counted, L1C),
        (counted, {}),
        (twelve, {"sensor": "sentinel-2-l2a", "offset": 0}),
        (twelve, {}),
    ):
        known = list(open_scene(path, **said)["band"].values)
        assert known[:4] == ["coastal", "blue", "green", "red"]
        assert not {"nir_narrow", "water_vapour"} & set(known)
        assert ("swir_1" in known) == (path == twelve)  # B11 is the eleventh of twelve


def test_planet_s_names_are_not_taken_for_others(piece: np.ndarray, write_tif: Write) -> None:
    names = ("coastal_blue", "blue", "green_i", "green", "yellow", "red", "rededge", "nir")
    scene = open_scene(write_tif(piece[:8], names=names))
    assert list(scene["band"].values) == ["coastal", "blue", "green", "red"]
    assert scene.attrs["unknown_bands"] == ["green_i", "yellow", "rededge", "nir"]


def test_what_is_no_reflectance_is_no_band(piece: np.ndarray, write_tif: Write) -> None:
    more = ("AOT, Aerosol Optical Thickness map (at 550nm)", "WVP, Scene-average Water Vapour map", "SCL", "ST_B10",
            "red_std", "nir-red", "B8-B4")  # fmt: skip
    scene = open_scene(write_tif(piece, names=("B02", "B03", "B04", "B8A", "B11", "B12", *more)))
    assert list(scene["band"].values) == list(PRITHVI_BANDS)
    assert scene.attrs["unknown_bands"] == list(more)


SIX_IDS = ("B02", "B03", "B04", "B8A", "B11", "B12")


@pytest.mark.parametrize(
    "form",
    ["{}.tif", "{}_2021-05-01.tif", "20210501_{}.tif", "S2B_MSIL2A_20210501T094019_66_56_{}.tif", "ebro_{}_10m.tif",
     "T30UYB_20210501T105621_{}_20m.tif", "{}_clip.tif"],
)  # fmt: skip
@pytest.mark.parametrize("names", [SIX_IDS, ("blue", "green", "red", "nir08", "SWIR1", "swir_2")])
def test_a_folder_of_bands_is_read_by_its_file_names(
    form: str, names: tuple[str, ...], piece: np.ndarray, write_tif: Write, tmp_path: Path
) -> None:
    (tmp_path / "bands").mkdir()
    for place, name in zip(PLACES, names, strict=True):
        write_tif(piece[place : place + 1], "bands/" + form.format(name), names=None)
    scene = open_scene(tmp_path / "bands")
    np.testing.assert_array_equal(six_of(scene), piece[list(PLACES)])
    if "2021" in form:
        assert scene["time"].values == np.datetime64("2021-05-01")


def test_masks_in_a_folder_are_left_out_and_contradictions_refused(
    piece: np.ndarray, write_tif: Write, tmp_path: Path
) -> None:
    (tmp_path / "bands").mkdir()
    for place, name in zip(PLACES, SIX_IDS, strict=True):
        write_tif(piece[place : place + 1], f"bands/{name}.tif", names=None)
    write_tif(np.ones((1, 24, 24), np.uint8), "bands/SCL.tif", names=None, scale=None)
    np.testing.assert_array_equal(six_of(open_scene(tmp_path / "bands")), piece[list(PLACES)])
    write_tif(piece[1:2], "bands/B02.tif", names=("red",))
    with pytest.raises(BandError, match=r"B02\.tif is blue by its name and red by its band's description"):
        open_scene(tmp_path / "bands")


def test_bands_may_be_said_by_the_ids_of_the_sensor(piece: np.ndarray, write_tif: Write) -> None:
    six = write_tif(piece[list(PLACES)], names=None)
    for bands, said in ((SIX_IDS, {}), (SIX_IDS, L1C), (("B2", "B3", "B4", "B5", "B6", "B7"), {"sensor": "hls-l30"})):
        np.testing.assert_array_equal(six_of(open_scene(six, bands=bands, **said)), piece[list(PLACES)])
    with pytest.raises(BandError, match="'B2' depends on the product: name the sensor"):
        open_scene(six, bands=("B2", "B3", "B4", "B5", "B6", "B7"))


def test_long_names_follow_the_bands_that_were_chosen() -> None:
    """rioxarray leaves `long_name` as it was when bands are chosen or reordered."""
    opened = rioxarray.open_rasterio(SPAIN)
    assert isinstance(opened, xr.DataArray)
    part = opened.isel(x=slice(0, 24), y=slice(0, 24))
    for chosen in (part.isel(band=slice(None, None, -1)), part.sel(band=[13, 12, 9, 4, 3, 2])):
        np.testing.assert_array_equal(six_of(open_scene(chosen)), part.values[list(PLACES)])
