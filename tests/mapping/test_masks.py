"""Cloud masks: each lies over its own date, is read as the product that it is, and says what it leaves."""

from __future__ import annotations

import shutil
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401
import xarray as xr
from affine import Affine
from rasterio.transform import from_origin

import prithvi as library
from prithvi.catalog import data_catalog
from prithvi.errors import ConfigError, ModelError, ScaleError, SceneError
from prithvi.mapping import clear_of, fill_series, mask_scene
from prithvi.mapping.mask_sources import masks_beside
from prithvi.mapping.masks import without_clouds
from tests.conftest import Answer
from tests.http_files import serve_folder

Cli = Callable[..., Answer]
SITE = data_catalog() / "samples" / "flanders"
DAYS = ("2018-06-13", "2018-07-08", "2018-08-14")
"""The first and the last are cloudy in part."""
FILES = [SITE / f"{day}.tif" for day in DAYS]
CLOUDS = [SITE / f"{day}_clouds.tif" for day in DAYS]
PLACE = from_origin(500_000, 4_000_000, 10, 10)


def write(path: Path, values: np.ndarray, transform: Affine = PLACE, **more: Any) -> Path:
    values = values if values.ndim == 3 else values[None]
    profile = {"driver": "GTiff", "crs": "EPSG:32631", "transform": transform, "dtype": values.dtype, **more}
    shape = dict(zip(("count", "height", "width"), values.shape, strict=True))
    with rasterio.open(path, "w", **profile, **shape) as raster:
        raster.write(values)
    return path


def made(size: int = 8, dates: int = 2, transform: Affine = PLACE) -> xr.DataArray:
    """A series of one band on a grid."""
    x, y = (np.arange(size) + 0.5) * transform.a + transform.c, (np.arange(size) + 0.5) * transform.e + transform.f
    days = np.array([f"2022-05-{1 + date:02}" for date in range(dates)], "datetime64[ns]")
    values = 1000 + np.arange(dates * size * size, dtype=np.float32).reshape(dates, 1, size, size)
    series = xr.DataArray(
        values, dims=("time", "band", "y", "x"), coords={"time": days, "band": ["red"], "y": y, "x": x}
    )
    return series.assign_attrs(gain=1e-4, bias=0.0).rio.write_crs("EPSG:32631")


@pytest.fixture(scope="module")
def real() -> tuple[xr.DataArray, xr.DataArray, xr.Dataset]:
    """A real series, its masks, and what the nearest date makes of it when all are in the order of time."""
    series = library.open_scene(FILES, dates=DAYS).compute()
    clear = clear_of(CLOUDS, series)
    assert 0.05 < 1 - float(clear.mean()) < 0.9
    for step, path in enumerate(CLOUDS):
        with rasterio.open(path) as raster:
            np.testing.assert_array_equal(clear.values[step], raster.read(1) == 0)
    assert len({row.tobytes() for row in clear.values}) == 3
    return series, clear, library.fill(series, "nearest", clear=clear)


def values_in(folder: Path) -> list[np.ndarray]:
    found = []
    for day in DAYS:
        for name in (f"{day}.tif", f"{day}_filled.tif", f"{day}_uncertainty.tif"):
            with rasterio.open(folder / name) as raster:
                found.append(raster.read())
    return found


@pytest.mark.slow
def test_masks_follow_their_dates_whatever_the_order(prithvi: Cli, real: Any, tmp_path: Path) -> None:
    """Files, one stack and masks out of order, masks by name and by place: the values are those of the sorted call."""
    series, clear, expected = real
    fill_series(series, tmp_path / "sorted", "nearest", clear=clear)
    wanted = values_in(tmp_path / "sorted")
    np.testing.assert_array_equal(wanted[1][0] == 1, expected["filled"].values[0])
    plain = [shutil.copy(path, tmp_path / f"m{number}.tif") for number, path in enumerate(CLOUDS)]  # without a day
    order = (2, 0, 1)
    with rasterio.open(FILES[0]) as raster:
        profile = {**raster.profile, "count": 18, "driver": "GTiff"}
    stack = tmp_path / "stack.tif"
    with rasterio.open(stack, "w", **profile) as raster:
        raster.write(np.concatenate([rasterio.open(FILES[step]).read() for step in order]))
    days = [word for step in order for word in ("--date", DAYS[step])]
    of_stack = [
        stack,
        "--bands",
        "blue,green,red,nir_narrow,swir_1,swir_2",
        "--order",
        "time-major",
        "--scale",
        "10000",
    ]
    files = [FILES[step] for step in order]
    for number, (source, masks) in enumerate(
        [
            (of_stack, [plain[step] for step in order]),
            (of_stack, CLOUDS),  # their names say which is whose
            (files, [plain[step] for step in order]),
            (files, CLOUDS[::-1]),
        ]
    ):
        words = [word for mask in masks for word in ("--clouds", mask)]
        answer = prithvi("fill", "--method", "nearest", *source, *days, *words, "-o", tmp_path / str(number))
        assert answer.code == 0, answer.err
        for found, value in zip(values_in(tmp_path / str(number)), wanted, strict=True):
            np.testing.assert_array_equal(found, value)
    for given in (order, (0, 1, 2)):
        same = clear_of([plain[step] for step in given], series, dates=[DAYS[step] for step in given])
        xr.testing.assert_equal(same.compute(), clear.compute())


def test_masks_are_given_by_date_from_python(real: Any, tmp_path: Path) -> None:
    """Paired with their dates, whatever the order; a date that is not named has none, and one too many is refused."""
    series, _, expected = real
    by_date = {DAYS[step]: CLOUDS[step] for step in (2, 0, 1)}
    found = library.fill(series, "nearest", masks=by_date)
    xr.testing.assert_equal(found, expected)
    fill_series(series, tmp_path / "files", "nearest", masks=list(CLOUDS))
    wanted = fill_series(series, tmp_path / "clear", "nearest", clear=clear_of(CLOUDS, series))
    for path in wanted.paths:
        np.testing.assert_array_equal(rasterio.open(tmp_path / "files" / path.name).read(), rasterio.open(path).read())
    some = clear_of({DAYS[0]: CLOUDS[0]}, series)
    np.testing.assert_array_equal(some[0], clear_of(CLOUDS, series)[0])
    assert some[1:].all()
    with pytest.raises(SceneError, match="a cloud mask is given for 2001-01-01, and the series has 2"):
        library.fill(series, "nearest", masks={"2001-01-01": CLOUDS[0]})
    with pytest.raises(ConfigError, match="clear= and masks= both say where a series is clear: give one"):
        library.fill(series, "nearest", masks=by_date, clear=some)
    with pytest.raises(ConfigError, match="there is no kind of cloud mask 'fmsk': did you mean fmask"):
        library.fill(series, "nearest", masks=by_date, masks_are="fmsk")


@pytest.mark.slow
def test_an_array_of_masks_follows_its_own_dates(real: Any) -> None:
    series, clear, expected = real
    turned = clear[[2, 0, 1]].transpose("x", "y", "time")
    words = turned.assign_coords(time=[str(day)[:10] for day in turned["time"].values])
    noon = turned.assign_coords(time=turned["time"] + np.timedelta64(10, "h"))
    more = xr.concat([turned, turned[..., :1].assign_coords(time=np.array(["2019-01-01"], "datetime64[ns]"))], "time")
    ones = turned.astype(np.uint8)
    holes = ones.astype(np.float32).where(ones == 1)  # NaN where it is not clear
    for each in (turned, turned.compute(), words, noon, more, ones, holes, ones.astype(bool).drop_vars(["x", "y"])):
        xr.testing.assert_identical(library.fill(series, "nearest", clear=each), expected)
    in_order = clear.drop_vars("time")
    xr.testing.assert_identical(library.fill(series, "nearest", clear=in_order), expected)
    shuffled = series[[1, 2, 0]].assign_attrs(series.attrs)
    found = library.fill(shuffled, "nearest", clear=clear)
    xr.testing.assert_identical(found.sortby("time"), expected.transpose(*found.dims))


def test_masks_of_other_dates_grids_and_values_are_refused(real: Any) -> None:
    series, clear, _ = real
    clear = clear.compute()

    def refused(mask: Any, told: str) -> None:
        with pytest.raises(SceneError, match=told):
            library.fill(series, "nearest", clear=mask)

    other = clear.assign_coords(time=np.array([*DAYS[:2], "2018-09-01"], "datetime64[ns]"))
    refused(other, "the masks have none of 2018-08-14; they are of 2018-06-13, 2018-07-08, 2018-09-01")
    refused(clear[[0, 1, 2, 0]], "have a date twice")
    refused(clear[:2], "the masks have none of 2018-08-14")
    refused(clear[:2].drop_vars("time"), r"have the shape \(2, 64, 64\)")
    refused(clear.assign_coords(x=clear["x"] + 5), "do not lie on one grid")
    refused(clear[:, ::-1], "do not lie on one grid")
    library.fill(series, "nearest", clear=clear.assign_coords(x=clear["x"] + 1e-3))
    refused(clear.values, "are a ndarray")
    refused(clear.astype(np.uint8) * 64, "the masks hold 64: clear is True or 1 where a pixel is clear")
    refused(clear.astype(np.float32) * 0.5, "the masks hold 0.5")
    refused(clear.astype(str), "of the type <U")
    refused(clear & False, "leave not one pixel of any date")
    with pytest.raises(SceneError, match="the masks hold 64"):
        library.fill(series, "nearest", clear=(clear.astype(np.uint8) * 64).chunk()).compute()


def test_a_mask_that_leaves_nothing_is_said_and_refused_where_all_do(prithvi: Cli, tmp_path: Path) -> None:
    """As a mask of 1 where it is clear does; what the message advises ends in the right values."""
    one = write(tmp_path / "one.tif", np.ones((8, 8), np.uint8))
    told = clear_of([one, None], made()).attrs["masks"]
    assert "(so that 1 is cloud): 0.0% clear, 100.0% cloud or shadow." in told[0]
    assert told[1] == "2022-05-02: no mask, so that all that was observed counts as clear."
    with pytest.raises(SceneError, match=r"not one pixel of any date is clear by these masks .* --clouds-are"):
        clear_of([one, one], made())
    assert clear_of([one, one], made(), product="clear").values.all()
    for number, path in enumerate(CLOUDS):
        with rasterio.open(path) as raster:
            write(tmp_path / f"all{number}.tif", np.ones_like(raster.read(1)), raster.transform, crs=raster.crs)
            write(tmp_path / f"c{number}.tif", (raster.read(1) == 0).astype(np.uint8), raster.transform, crs=raster.crs)
    words = ["fill", "--method", "nearest", *FILES, *(word for day in DAYS for word in ("--date", day))]
    masks = [word for number in range(3) for word in ("--clouds", tmp_path / f"all{number}.tif")]
    answer = prithvi(*words, *masks, "-o", tmp_path / "out")
    assert (answer.code, "not one pixel of any date is clear" in answer.err) == (2, True), answer
    assert not (tmp_path / "out").exists()
    right = [word for mask in CLOUDS for word in ("--clouds", mask)]
    turned = [word for number in range(3) for word in ("--clouds", tmp_path / f"c{number}.tif")]
    assert prithvi(*words, *right, "-o", tmp_path / "right").code == 0
    answer = prithvi(*words, *turned, "--clouds-are", "clear", "-o", tmp_path / "turned")
    assert answer.code == 0, answer.err
    for found, value in zip(values_in(tmp_path / "turned"), values_in(tmp_path / "right"), strict=True):
        np.testing.assert_array_equal(found, value)


def test_a_date_without_a_mask_is_said(prithvi: Cli, real: Any, tmp_path: Path) -> None:
    series, clear, _ = real
    words = ["fill", "--method", "nearest", *FILES, *(word for day in DAYS for word in ("--date", day))]
    answer = prithvi(*words, "--clouds", CLOUDS[0], "--clouds", "none", "--clouds", CLOUDS[2], "-o", tmp_path / "a")
    assert answer.code == 0, answer.err
    assert "2018-07-08: no mask, so that all that was observed counts as clear." in answer.err
    known = clear.compute().copy()
    known[1] = True
    fill_series(series, tmp_path / "b", "nearest", clear=known)
    for found, value in zip(values_in(tmp_path / "a"), values_in(tmp_path / "b"), strict=True):
        np.testing.assert_array_equal(found, value)
    answer = prithvi(*words, "--clouds", CLOUDS[0], "--clouds", CLOUDS[2], "-o", tmp_path / "c")
    assert (answer.code, "2 cloud masks for 3 dates" in answer.err) == (2, True)
    answer = prithvi(*words, "-o", tmp_path / "d")
    assert answer.code == 0
    assert "No cloud mask: all that has data counts as clear (--clouds FILE for each date" in answer.err


def test_a_mask_of_another_date_is_refused(tmp_path: Path) -> None:
    clear, day = np.eye(8, dtype=np.uint8), "T31UDS_202205{}T105031_SCL_20m.tif"
    paths = [write(tmp_path / day.format(number), 4 + clear) for number in ("01", "02", "09")]
    plain = write(tmp_path / "plain.tif", clear)
    series = made()
    for masks, told in (
        ([paths[0], paths[2]], "are of 2022-05-01, 2022-05-09, and the series of 2022-05-01, 2022-05-02"),
        ([paths[0], paths[0]], "are of 2022-05-01, 2022-05-01, and the series"),
        ([plain, paths[0]], "is of 2022-05-01 by its name, and stands at the place of 2022-05-02"),
        ([paths[0]], "1 cloud mask for 2 dates"),
    ):
        with pytest.raises(SceneError, match=told):
            clear_of(masks, series)
    with pytest.raises(SceneError, match="the cloud masks are of 2022-05-01, 2022-06-01, and the series of"):
        clear_of([plain, plain], series, dates=["2022-05-01", "2022-06-01"])
    swapped = clear_of([paths[1], None], series)
    assert [told[:10] for told in swapped.attrs["masks"]] == ["2022-05-01", "2022-05-02"]
    assert "no mask" in swapped.attrs["masks"][0]
    exported = [write(tmp_path / f"{letter}_made_2024-01-05.tif", clear) for letter in "ab"]
    np.testing.assert_array_equal(clear_of(exported, series).values, np.stack([clear == 0] * 2))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("number", [float("nan"), 0.0, 1e9])
def test_a_mask_whose_place_was_lost_lies_on_another_grid(tmp_path: Path, number: float) -> None:
    path = write(tmp_path / "mask.tif", np.eye(8, dtype=np.uint8), Affine(number, 0, 0, 0, 1, 0))
    with pytest.raises(SceneError, match=r"the cloud mask .*mask\.tif and the series do not lie on one grid"):
        clear_of([path], made(dates=1))


def test_masks_are_files_of_this_machine(tmp_path: Path) -> None:
    clear, series = np.eye(8, dtype=np.uint8), made(dates=1)
    path = write(tmp_path / "mask_2022-05-01.tif", clear)
    with serve_folder(tmp_path) as server:
        address = f"{server.url}/{path.name}"
        with pytest.raises(SceneError, match=rf"{address} lies on a server.*download it and give the copy") as refused:
            clear_of([f"{address}?sig=secret"], series)
        assert "secret" not in str(refused.value)
        with pytest.raises(SceneError, match="lies on a server"):
            mask_scene(series, tmp_path / "out.tif", mask=address)
        copy, _ = urllib.request.urlretrieve(address, tmp_path / "copy_2022-05-01.tif")
    for each in (copy, path.as_uri()):
        np.testing.assert_array_equal(clear_of([each], series).values, clear[None] == 0)


def test_masks_of_one_day_lie_over_their_own_times(tmp_path: Path) -> None:
    """By the granule's time where the name states it, else by the place; a date without a mask takes what is left."""
    early, late = "HLS.L30.T31UDS.2022121T103021.v2.0", "HLS.S30.T31UDS.2022121T105031.v2.0"
    values = np.zeros((8, 8), np.uint8)
    values[:, :4] = 2  # cloud
    masks = {name: write(tmp_path / f"{name}.Fmask.tif", values) for name in (early, late)}
    times = np.array(["2022-05-01T10:30:21", "2022-05-01T10:50:31"], "datetime64[ns]")
    series = made().assign_coords(time=times)
    for given, cloudy in (
        ([masks[late], None], [1]),
        ([None, masks[late]], [1]),
        ([masks[early], None], [0]),
        ([None, masks[early]], [0]),
        ([masks[late], masks[early]], [0, 1]),
    ):
        clear = clear_of(given, series)
        assert [date for date in range(2) if not clear.values[date].all()] == cloudy
        for date in cloudy:
            assert (early, late)[date] in clear.attrs["masks"][date]
    plain = write(tmp_path / "plain.tif", (values > 0).astype(np.uint8))
    for place in (0, 1):
        clear = clear_of([plain if date == place else None for date in (0, 1)], series)
        assert [date for date in range(2) if not clear.values[date].all()] == [place]
    several = made(dates=3).assign_coords(time=np.array(["2022-04-30", *times.astype(str)], "datetime64[ns]"))
    first = write(tmp_path / "2022-04-30_clouds.tif", (values > 0).astype(np.uint8))
    for given, cloudy in (([first, masks[early], None], [0, 1]), ([None, first, masks[late]], [0, 2])):
        clear = clear_of(given, several, product=None)
        assert [date for date in range(3) if not clear.values[date].all()] == cloudy


def test_masks_are_found_in_granule_folders(tmp_path: Path) -> None:
    """By the products' names; in an archive's folder of Sentinel-2 the scene classification of 20 m."""
    for name in ("T31UDS_20220501T105031_B04_10m.jp2", "T31UDS_20220501T105031_SCL_20m.jp2", "x_SCL_60m.jp2"):
        path = tmp_path / "S2A.SAFE" / "GRANULE" / "L2A" / "IMG_DATA" / f"R{name[-7:-4]}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for name in ("SR_B4", "QA_PIXEL", "QA_RADSAT"):
        path = tmp_path / "landsat" / f"LC08_L2SP_199024_20220502_20220511_02_T1_{name}.TIF"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "none").mkdir()
    folders = [str(tmp_path / name) for name in ("landsat", "S2A.SAFE", "none")]
    found = masks_beside(folders, 3)
    assert [mask and Path(mask).name[-12:] for mask in found] == ["QA_PIXEL.TIF", "_SCL_20m.jp2", None]
    assert masks_beside(folders[2:], 1) == []
    assert [mask and Path(mask).name[-12:] for mask in masks_beside(folders[:1], 2)] == ["QA_PIXEL.TIF", None]


@pytest.mark.parametrize("method", ["nearest", "linear", "regression", "filling", "local_regression"])
def test_a_method_is_called_by_its_name(method: str, real: Any, tmp_path: Path) -> None:
    """In Python as in the files; nearest and linear see all dates."""
    series, clear, _ = real
    found = library.fill(series, method, clear=clear, uncertainty=False)
    assert found.attrs["PRITHVI_MODEL"] == method
    fill_series(series, tmp_path, method, clear=clear, uncertainty=False)
    for step, day in enumerate(DAYS):
        with rasterio.open(tmp_path / f"{day}.tif") as raster:
            values = raster.read().astype(np.float32)
        np.testing.assert_array_equal(np.where(values == -9999, np.nan, values), np.round(found["image"].values[step]))
    bare = xr.DataArray(series.values, dims=series.dims, coords={"time": series["time"]}, attrs={"gain": 1e-4})
    again = library.fill(bare, method, clear=clear.drop_vars(["x", "y"]), uncertainty=False)
    np.testing.assert_array_equal(again["image"], found["image"])
    with pytest.raises(ModelError, match=r"there is no model.*Of the methods without weights, did you mean linear\?"):
        library.fill(series, "linaer")


def test_a_misspelt_method_is_named_on_the_command_line(prithvi: Cli, tmp_path: Path) -> None:
    words = [*FILES, *(word for day in DAYS for word in ("--date", day)), "-o"]
    answer = prithvi("fill", "linaer", *words, tmp_path / "out")
    assert answer.code != 0
    assert "Of the methods without weights, did you mean linear?" in answer.err
    assert prithvi("fill", "linear", *words, tmp_path / "out").code == 0
    assert prithvi("fill", "--method", "linear", *words, tmp_path / "same").code == 0
    for found, value in zip(values_in(tmp_path / "out"), values_in(tmp_path / "same"), strict=True):
        np.testing.assert_array_equal(found, value)


@pytest.mark.parametrize("model", ["linear", "prithvi_hls_tiny"])
@pytest.mark.parametrize("lazy", [False, True])
def test_values_in_other_units_are_refused_or_converted(model: str, lazy: bool, real: Any) -> None:
    """0 to 1 gave an error of 1.0 without a word; what is stated is converted, lazy or not."""
    series, clear, _ = real
    clear = clear.compute()
    bare = series.drop_attrs(deep=False)

    def fill(array: xr.DataArray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            array = array.chunk() if lazy else array
        found: np.ndarray = library.fill(array, model, clear=clear, uncertainty=False)["image"].values
        return found

    for wrong, told in (
        (bare / 1e4, "too small for reflectance x 10000"),
        ((bare / 1e4 + 0.2) / 2.75e-5, "none under 6,500, as Landsat Collection 2 stores them"),
        (bare * 100, "too large for reflectance x 10000"),
        ((bare / 1e4).assign_attrs(gain=1e-4), "too small"),
    ):
        with pytest.raises(ScaleError, match=told):
            fill(wrong)
    expected = fill(series)
    with pytest.warns(UserWarning, match="does not state its scale; its values are taken for reflectance x 10000"):
        np.testing.assert_array_equal(fill(bare), expected)
    for stated in (
        (bare / 1e4).assign_attrs(gain=1.0, bias=0.0),
        ((bare / 1e4 + 0.2) / 2.75e-5).assign_attrs(gain=2.75e-5, bias=-0.2),
    ):
        np.testing.assert_allclose(fill(stated), expected, rtol=2e-3, atol=1)


def test_a_series_that_is_no_array_is_refused() -> None:
    with pytest.raises(SceneError, match="the series is a ndarray; it is to be a DataArray"):
        library.fill(np.zeros((2, 6, 8, 8)), "linear")  # type: ignore[arg-type]
    untimed = made()[:, 0].rename(time="step")
    with pytest.raises(SceneError, match=r"the dimensions \(step, y, x\); a series has"):
        library.fill(untimed, "linear")


def test_dates_in_words_order_a_series_as_dates_do() -> None:
    series = made(8, 3)[[1, 2, 0]]
    series[0, 0, :4] = np.nan
    series = series.assign_attrs(gain=1e-4)
    words = series.assign_coords(time=[str(day)[:10] for day in series["time"].values])
    np.testing.assert_array_equal(library.fill(words, "linear")["image"], library.fill(series, "linear")["image"])
    np.testing.assert_allclose(library.fill(words, "linear")["image"][0], made(8, 3)[1], rtol=1e-6)


def test_clouds_are_laid_over_without_reading(tmp_path: Path) -> None:
    """`clear` is lazy, and so is what it hides."""
    path = write(tmp_path / "m.tif", np.eye(8, dtype=np.uint8))
    hidden = without_clouds(made(), clear_of([path, path], made()))
    assert hidden.chunks is not None
    np.testing.assert_array_equal(np.isnan(hidden.values[:, 0]), np.stack([np.eye(8, dtype=bool)] * 2))


def test_an_answer_is_in_memory_where_the_series_is_and_float32_of_integers(write_tif, six_bands: np.ndarray) -> None:  # type: ignore[no-untyped-def]
    """Masks of files are read at once then; of a lazy series the answer is lazy."""
    days, clear = ["2022-05-01", "2022-05-17", "2022-06-02"], np.ones((3, 32, 32), bool)
    files, masks = [], []
    for number, day in enumerate(days):
        clear[number, 8 * number : 8 * number + 8, 4:20] = False
        files.append(write_tif(six_bands[:, :32, :32] + number, f"{day}.tif"))
        masks.append(write_tif((~clear[number, None]).astype(np.uint8), f"{day}_clouds.tif", names=None, scale=None))
    lazy = library.open_scene(files, sensor="hls-s30", dates=days)
    integers = lazy.compute().round().astype(np.int16)
    found = library.fill(integers, masks=masks)
    assert found["image"].chunks is None
    assert found["image"].dtype == np.float32
    observed = np.broadcast_to(clear[:, None], found["image"].shape)
    np.testing.assert_array_equal(found["image"].values[observed], integers.values[observed])
    assert library.fill(lazy, masks=masks)["image"].chunks is not None
