"""Each band by what its own file says of it: nodata, type, mask, alpha, scale and offset."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rioxarray
from rasterio.enums import ColorInterp

from prithvi.bands import PRITHVI_BANDS
from prithvi.contract import Contract
from prithvi.errors import BandError, ScaleError, SceneError
from prithvi.scenes import conform, open_scene, read

Write = Callable[..., Path]
DN = Contract(PRITHVI_BANDS, (1000.0,) * 6, (500.0,) * 6)
NAMED = {name: number for number, name in enumerate(PRITHVI_BANDS, start=1)}


@pytest.fixture
def six(six_bands: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(six_bands[:, :64, :64])


def seen(source: object, **said: object) -> np.ndarray:
    """(6, y, x) reflectance x 10,000 as a model sees it."""
    return read(conform(open_scene(source, **said), DN), DN)[0]  # type: ignore[arg-type]


def vrt(path: Path, sources: list[tuple[Path, int, str]], size: int = 64) -> Path:
    """A VRT of (file, band, further elements) with the place of the tests' files."""
    bands = "".join(
        f'<VRTRasterBand dataType="{rasterio.open(file).dtypes[0].title().replace("Uint", "UInt")}" band="{number}">'
        f"<Description>{PRITHVI_BANDS[number - 1]}</Description>{more}<SimpleSource><SourceFilename>{file}"
        f"</SourceFilename><SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>"
        for number, (file, band, more) in enumerate(sources, start=1)
    )
    path.write_text(
        f'<VRTDataset rasterXSize="{size}" rasterYSize="{size}"><SRS>EPSG:32630</SRS><GeoTransform>600000,10,0,4200000,'
        f"0,-10</GeoTransform>{bands}</VRTDataset>"
    )
    return path


def test_each_band_has_its_own_nodata_and_type(six: np.ndarray, write_tif: Write, tmp_path: Path) -> None:
    signed, unsigned = six.copy(), six.astype(np.uint16)
    signed[:3, 5, 5], unsigned[3:, 6, 6], unsigned[4, 7, 7] = -9999, 65535, 0
    first = write_tif(signed[:3], "signed.tif", names=None, scale=None)
    second = write_tif(unsigned[3:], "unsigned.tif", names=None, scale=None)
    tags = [f"<NoDataValue>{value}</NoDataValue><Scale>0.0001</Scale>" for value in (-9999, 65535)]
    path = vrt(
        tmp_path / "scene.vrt",
        [(first, band, tags[0]) for band in (1, 2, 3)] + [(second, band, tags[1]) for band in (1, 2, 3)],
    )
    found = open_scene(path).values[0]
    expected = six.astype(np.float32)
    expected[:3, 5, 5], expected[3:, 6, 6], expected[4, 7, 7] = np.nan, np.nan, 0
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(seen(path), expected)


@pytest.mark.parametrize("internal", [True, False])
@pytest.mark.parametrize("nodata", [None, -9999])
def test_a_mask_beside_the_values_is_read(
    internal: bool, nodata: int | None, six: np.ndarray, write_tif: Write
) -> None:
    pixels = six.copy()
    if nodata is not None:
        pixels[:, 40, 40] = nodata
    path = write_tif(pixels, nodata=nodata)
    hidden = np.zeros((64, 64), bool)
    hidden[10:20, 10:30] = True
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal), rasterio.open(path, "r+") as raster:
        raster.write_mask(~hidden)
    assert path.with_suffix(".tif.msk").exists() != internal
    hidden[40, 40] = nodata is not None
    found = seen(path)
    assert np.isnan(found[:, hidden]).all()
    np.testing.assert_array_equal(found[:, ~hidden], six[:, ~hidden])


@pytest.mark.parametrize("nodata", [None, 7])
def test_an_alpha_band_is_a_mask_and_no_band(nodata: int | None, six: np.ndarray, write_tif: Write) -> None:
    hidden = np.zeros((64, 64), bool)
    hidden[:8] = True
    pixels = np.concatenate([six, np.where(hidden, 0, 32767)[None]]).astype(np.int16)
    for names, said in (
        (PRITHVI_BANDS, {}),
        (None, {"bands": NAMED}),
        (None, {"bands": list(PRITHVI_BANDS)}),
        (None, {"sensor": "landsat-457-espa-sr", "bands": list(PRITHVI_BANDS)}),
    ):
        path = write_tif(pixels, names=names, nodata=nodata)
        with rasterio.open(path, "r+") as raster:
            raster.colorinterp = [*raster.colorinterp[:6], ColorInterp.alpha]
        scene = open_scene(path, **said)  # type: ignore[arg-type]
        assert list(scene["band"].values) == list(PRITHVI_BANDS)
        np.testing.assert_array_equal(np.isnan(seen(path, **said)).all(axis=0), hidden)
        np.testing.assert_array_equal(seen(path, **said)[:, ~hidden], six[:, ~hidden])


def test_a_near_infrared_that_is_tagged_alpha_is_a_near_infrared(six: np.ndarray, write_tif: Write) -> None:
    """GDAL tags the fourth of four 8-bit bands by itself, and with ALPHA=YES the second of six."""
    four = ("blue", "green", "red", "nir_narrow")
    pixels = six[:4].astype(np.uint16)
    pixels[3, :5] = 0  # water that reflects nothing
    contract = Contract(four, (1000.0,) * 4, (500.0,) * 4)
    for names, said in (
        (four, {}),
        (None, {"bands": {name: number for number, name in enumerate(four, 1)}}),
        (None, {"bands": list(four)}),
        (("B2", "B3", "B4", "B8A"), {"sensor": "hls-s30"}),
    ):
        path = write_tif(pixels, names=names, scale=1e-4)
        with rasterio.open(path, "r+") as raster:
            raster.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
        found = read(conform(open_scene(path, **said), contract), contract)[0]  # type: ignore[arg-type]
        np.testing.assert_array_equal(found, pixels)
    unnamed = write_tif(pixels, names=None)
    with rasterio.open(unnamed, "r+") as raster:
        raster.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    with pytest.raises(BandError, match="4 bands without names"):
        open_scene(unnamed)
    wrong = write_tif(six, "wrong.tif", names=None, alpha="YES")
    assert rasterio.open(wrong).colorinterp[1] == ColorInterp.alpha
    np.testing.assert_array_equal(seen(wrong, bands=NAMED), six)
    np.testing.assert_array_equal(seen(wrong, bands=list(PRITHVI_BANDS)), six)


def test_single_band_files_with_alpha_are_single_bands(six: np.ndarray, write_tif: Write) -> None:
    paths = []
    for name, band in zip(PRITHVI_BANDS, six, strict=True):
        alpha = np.full_like(band, 255)
        alpha[:4] = 0
        path = write_tif(np.stack([band, alpha]), f"{name}.tif", names=(name,))
        with rasterio.open(path, "r+") as raster:
            raster.colorinterp = [ColorInterp.gray, ColorInterp.alpha]
        paths.append(path)
    for said in ({}, {"bands": list(PRITHVI_BANDS)}, {"bands": NAMED}):
        found = seen(paths, **said)
        assert np.isnan(found[:, :4]).all()
        np.testing.assert_array_equal(found[:, 4:], six[:, 4:])


def tagged(path: Path, scales: list[float], offsets: list[float]) -> Path:
    with rasterio.open(path, "r+") as raster:
        raster.scales, raster.offsets = scales, offsets
    return path


SCALES = [1e-4, 2e-4, 1e-4, 5e-5, 1e-4, 2.75e-5]
OFFSETS = [0.0, -0.1, -0.1, 0.0, 0.05, -0.2]


def in_other_units(six: np.ndarray) -> np.ndarray:
    """Stored values that mean `six` by SCALES and OFFSETS."""
    meant = (six / 1e4 - np.array(OFFSETS)[:, None, None]) / np.array(SCALES)[:, None, None]
    return meant.round().astype(np.int32)


def test_each_band_is_read_by_its_own_scale_and_offset(six: np.ndarray, write_tif: Write) -> None:
    path = tagged(write_tif(in_other_units(six), names=PRITHVI_BANDS, scale=None), SCALES, OFFSETS)
    np.testing.assert_allclose(seen(path), six, atol=1.01)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rioxarray says that scales differ
        for options in ({}, {"masked": True}, {"mask_and_scale": True}, {"chunks": True}):
            array = rioxarray.open_rasterio(path, **options)
            np.testing.assert_allclose(seen(array), seen(path), atol=0.01)


@pytest.mark.filterwarnings("ignore:(Scales|Offsets) differ across bands:UserWarning")
def test_scales_follow_their_bands_where_an_array_s_are_reordered_or_chosen(six: np.ndarray, write_tif: Write) -> None:
    path = write_tif(six)
    with rasterio.open(path, "r+") as raster:
        raster.scales = (1e-4, 2e-4, 1e-4, 3e-4, 1e-4, 1e-4)
        raster.offsets = (0, -0.05, 0, 0.02, 0, 0)
    whole, array = seen(path), rioxarray.open_rasterio(path)
    some = Contract(("swir_1", "red", "green"), (0.0,) * 3, (1.0,) * 3)
    named = array.assign_coords(band=list(array.attrs["long_name"]))
    for chosen in (array[::-1], array.sel(band=[6, 3, 5, 2]), named[::-1], named.sel(band=["red", "swir_1", "green"])):
        given = read(conform(open_scene(chosen), some), some)[0]
        np.testing.assert_allclose(given, whole[[4, 2, 1]], atol=1e-3)
    # Names that are none of the file's descriptions say nothing of the scales, and the remedy that is told works.
    lost = array.assign_coords(band=[*"abcdef"]).sel(band=["b", "c", "e"])
    with pytest.raises(
        BandError, match=r"has 3 bands and 6 scales, .*: whose they are cannot be told\. Name the bands l"
    ):
        open_scene(lost, bands=["green", "red", "swir_1"])
    remedied = open_scene(array.sel(band=[2, 3, 5]), bands=["green", "red", "swir_1"])
    np.testing.assert_allclose(read(conform(remedied, some), some)[0], whole[[4, 2, 1]], atol=1e-3)


def test_each_date_is_read_by_its_own_scale_and_offset(six: np.ndarray, write_tif: Write) -> None:
    """Sentinel-2 before and after the 1,000, each file with its tag."""
    before = write_tif(six, "a.tif", names=tuple(f"{name} 2021-05-01" for name in PRITHVI_BANDS))
    after = write_tif(six + 1000, "b.tif", names=tuple(f"{name} 2022-05-01" for name in PRITHVI_BANDS))
    tagged(after, [1e-4] * 6, [-0.1] * 6)
    scene = open_scene([after, before])
    assert scene.attrs["gain"] == 1e-4
    found = read(conform(scene, DN), DN)
    np.testing.assert_allclose(found, np.stack([six, six]), atol=0.01)
    scene = open_scene([tagged(before, [1e-4] * 6, [0.1] * 6), after], sensor="sentinel-2-l2a")
    np.testing.assert_allclose(read(conform(scene, DN), DN), np.stack([six + 1000, six]), atol=0.01)


@pytest.mark.parametrize("masked", [False, True, None])
def test_an_array_s_own_scale_counts_as_the_file_s(masked: bool | None, six: np.ndarray, write_tif: Write) -> None:
    """`scale_factor` and `add_offset` in its attributes; in its encoding the values are reflectance already."""
    pixels = ((six / 1e4 + 0.2) / 2.75e-5).round().astype(np.uint16)
    pixels[:, :3] = 0
    path = tagged(write_tif(pixels, scale=None, nodata=0), [2.75e-5] * 6, [-0.2] * 6)
    options = {"mask_and_scale": True} if masked is None else {"masked": masked}
    array = rioxarray.open_rasterio(path, **options)
    np.testing.assert_allclose(seen(array), seen(path), atol=0.01)
    np.testing.assert_allclose(seen(array)[:, 3:], six[:, 3:], atol=0.2)
    assert np.isnan(seen(array)[:, :3]).all()


def test_values_that_were_scaled_with_their_attributes_kept_are_refused_with_what_to_say(
    six: np.ndarray, write_tif: Write
) -> None:
    """xarray keeps `scale_factor` in arithmetic since 2025.11."""
    array = rioxarray.open_rasterio(tagged(write_tif(six + 1000, scale=None), [1e-4] * 6, [-0.1] * 6))
    again = (array * 1e-4 - 0.1).assign_attrs(array.attrs)
    with pytest.raises(ScaleError, match=r"too small .*--scale 1 --offset 0\."):
        seen(again)
    with pytest.warns(UserWarning, match=r"is taken for value x 1, and it states value x 0\.0001 - 0\.1"):
        np.testing.assert_allclose(seen(again, scale=1, offset=0), six, atol=0.01)


def test_the_user_counts_more_than_the_file_and_the_file_more_than_the_product(
    six: np.ndarray, write_tif: Write
) -> None:
    path = tagged(write_tif(six + 1000, scale=None), [1e-4] * 6, [-0.1] * 6)
    np.testing.assert_allclose(seen(path, scale=10_000), six, atol=0.01)  # the file's offset stays
    np.testing.assert_allclose(seen(path, sensor="sentinel-2-l2a", dates=["2023-05-01"]), six, atol=0.01)
    with pytest.warns(UserWarning, match=r"taken for value x 0\.0001, and it states value x 0\.0001 - 0\.1"):
        np.testing.assert_allclose(seen(path, offset=0), six + 1000, atol=0.01)
    with pytest.warns(UserWarning, match=r"taken for value x 0\.0002 - 0\.2, and it states value x 0\.0001 - 0\.1"):
        np.testing.assert_allclose(seen(path, scale=5000), six * 2, atol=0.01)
    said = r"blue is taken for value x 0\.0001 - 0\.1, and landsat-8-c2-l2 usually has value x 2\.75e-05 - 0\.2"
    with pytest.warns(UserWarning, match=said):
        np.testing.assert_allclose(seen(path, sensor="landsat-8-c2-l2"), six, atol=0.01)
    plain = write_tif(six, "plain.tif", scale=None)
    with pytest.warns(UserWarning, match="does not state its scale"):
        np.testing.assert_array_equal(seen(plain), six)
    np.testing.assert_array_equal(seen(plain, sensor="hls-s30"), six)


def test_bands_of_which_some_state_a_scale_are_asked_about(six: np.ndarray, write_tif: Write) -> None:
    scales = [1e-4, 1e-4, 1e-4, 1.0, 1e-4, 1e-4]
    path = tagged(write_tif(six, scale=None), scales, [0.0] * 6)
    with pytest.raises(ScaleError, match=r"some bands or dates state their scale and nir_narrow does not: say --scale"):
        seen(path)
    np.testing.assert_allclose(seen(path, scale=10_000), six, atol=0.01)
    np.testing.assert_allclose(seen(path, sensor="hls-s30"), six, atol=0.01)
    fewer = DN.select(["blue", "red"])
    np.testing.assert_array_equal(read(conform(open_scene(path), fewer), fewer)[0], six[[0, 2]])
    zero = tagged(write_tif(six, "zero.tif", scale=None), [0.0] * 6, [0.0] * 6)
    with pytest.raises(SceneError, match="states the scale 0 of blue: say --scale"):
        open_scene(zero)
