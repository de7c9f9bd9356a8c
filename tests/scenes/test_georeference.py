"""Arrays in the forms that people have: each lies where it should, or one sentence says what to write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
import xarray as xr
from affine import Affine
from pyproj import CRS
from rasterio.transform import from_origin

import prithvi
from prithvi.bands import PRITHVI_BANDS
from prithvi.errors import BandError, SceneError
from prithvi.mapping import composite
from prithvi.mapping.masks import without_clouds
from prithvi.modelio.predictor import FittedModel
from prithvi.scenes import open_scene, transform_of

AT = from_origin(600_000, 4_200_000, 10, 10)
X, Y = 600_005 + 10.0 * np.arange(80), 4_199_995 - 10.0 * np.arange(64)
NAMES = list(PRITHVI_BANDS)


@pytest.fixture
def values(six_bands: np.ndarray) -> np.ndarray:
    """(6, 64, 80) int16."""
    return six_bands[:, 100:164, 330:410].copy()


@pytest.fixture
def placed(values: np.ndarray) -> xr.DataArray:
    """The plain form: coordinates and a CRS."""
    coords = {"band": NAMES, "y": Y, "x": X}
    return xr.DataArray(values, dims=("band", "y", "x"), coords=coords).rio.write_crs("EPSG:32630")


def check(scene: xr.DataArray, values: np.ndarray, at: Affine = AT) -> None:
    """The scene has these values at this place."""
    np.testing.assert_array_equal(scene.sel(band=NAMES).values[0], values)
    assert scene.rio.crs.to_epsg() == 32630
    assert transform_of(scene).almost_equals(at, precision=1e-6)


def test_an_array_without_a_place_is_refused_and_the_remedies_place_it(
    values: np.ndarray, fitted: FittedModel, tmp_path: Path
) -> None:
    array = xr.DataArray(values, dims=("band", "y", "x"), coords={"band": NAMES})
    with pytest.raises(SceneError, match=r"no coordinate reference system: write it with array\.rio\.write_crs"):
        open_scene(array, scale=10_000)
    array = array.rio.write_crs("EPSG:32630")
    with pytest.raises(SceneError, match=r"a coordinate reference system and no place: .*assign_coords.*write_transf"):
        open_scene(array, scale=10_000)
    for start in (0, 0.5):
        counted = array.assign_coords(x=np.arange(80) + start, y=np.arange(64) + start)
        with pytest.raises(SceneError, match="a coordinate reference system and no place"):
            open_scene(counted, scale=10_000)
        check(open_scene(counted.rio.write_transform(AT)), values)
    check(open_scene(array.assign_coords(x=X, y=Y)), values)
    scene = open_scene(array.rio.write_transform(Affine(10, 0, 600_000, 0, -10, 4_200_000)), scale=10_000)
    check(scene, values)
    path = prithvi.map(scene, fitted).prithvi.to_cog(tmp_path / "map.tif")
    with rasterio.open(path) as raster:
        assert raster.transform == AT
    with pytest.raises(SceneError, match=r"1 x 80 pixels and does not say how large they are"):
        open_scene(array.assign_coords(x=X, y=Y)[:, :1])
    with pytest.raises(SceneError, match=r"the x of the array does not go in even steps"):
        open_scene(array.assign_coords(x=X, y=Y).isel(x=[0, 1, 2, 5, 6, 7]))


STATED = {"spatial:transform": list(AT)[:6], "spatial:shape": [64, 80], "spatial:dimensions": ["y", "x"]}


@pytest.mark.parametrize(
    ("crs", "more"),
    [
        ({"proj:code": "EPSG:32630"}, {}),
        ({"proj:wkt2": CRS(32630).to_wkt()}, {}),
        ({"proj:projjson": CRS(32630).to_json_dict()}, {}),
        ({"proj:code": "EPSG:32630"}, {"spatial:registration": "pixel"}),
        (
            {"proj:code": "EPSG:32630"},
            {"spatial:registration": "node", "spatial:transform": [10, 0, X[0], 0, -10, Y[0]]},
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("level", ["array", "dataset", "both"])
def test_the_geozarr_conventions_are_read(values: np.ndarray, crs: dict, more: dict, level: str) -> None:
    attrs = {**STATED, **crs, **more}
    array = xr.DataArray(values, dims=("band", "y", "x"), coords={"band": NAMES})
    if level == "array":
        check(open_scene(array.assign_attrs(attrs)), values)
    else:
        inner = array.assign_attrs(attrs if level == "both" else {})
        check(open_scene(xr.Dataset({"reflectance": inner}, attrs=attrs)), values)


def test_geozarr_attributes_that_cannot_hold_are_refused(values: np.ndarray) -> None:
    array = xr.DataArray(values, dims=("band", "northing", "easting"), coords={"band": NAMES})
    attrs = {**STATED, "proj:code": "EPSG:32630", "spatial:dimensions": ["northing", "easting"]}
    check(open_scene(array.assign_attrs(attrs)), values)
    with pytest.raises(SceneError, match=r"spatial:transform is that of 64 x 80: which part this is cannot be told"):
        open_scene(array.assign_attrs(attrs)[:, 3:20])
    check(open_scene(array.assign_attrs(attrs)[:, 3:20].rename(northing="y", easting="x").rio.write_transform(
        AT @ Affine.translation(0, 3))), values[:, 3:20], AT @ Affine.translation(0, 3))  # fmt: skip
    for lost in ({"spatial:transform": [0.0] * 6}, {"spatial:transform": None}):
        with pytest.raises(SceneError, match="a coordinate reference system and no place"):
            open_scene(array.assign_attrs({**attrs, **lost}))
    for wrong in (["band", "northing", "easting"], ["easting"]):
        with pytest.raises(SceneError, match=rf"spatial:dimensions of the array names {len(wrong)} dimensions"):
            open_scene(array.assign_attrs({**attrs, "spatial:dimensions": wrong}))
    check(open_scene(array.assign_attrs({k: v for k, v in attrs.items() if k != "spatial:dimensions"})), values)
    with pytest.raises(SceneError, match=r"states a coordinate reference system that is none \('EPSG:1'"):
        open_scene(array.assign_attrs({**attrs, "proj:code": "EPSG:1"}))


def test_rows_may_run_north(placed: xr.DataArray, values: np.ndarray) -> None:
    turned = AT @ Affine.translation(0, 64) @ Affine.scale(1, -1)
    check(open_scene(placed[:, ::-1]), values[:, ::-1], turned)
    written = placed.drop_vars(["x", "y"]).rio.write_transform(turned)
    check(open_scene(written), values, turned)


@pytest.mark.parametrize(
    "names",
    [
        {"y": "lat", "x": "lon"}, {"y": "latitude", "x": "longitude", "band": "bands"}, {"band": "channel"},
        {"band": "variable"}, {"y": "northing", "x": "easting"}, {"y": "Y", "x": "X", "band": "channels"},
    ],
)  # fmt: skip
def test_dimensions_under_other_names(placed: xr.DataArray, values: np.ndarray, names: dict[str, str]) -> None:
    check(open_scene(placed.rename(names)), values)
    check(open_scene(placed.rename(names).transpose()), values)


def test_dimensions_that_say_nothing_are_asked_for(placed: xr.DataArray, values: np.ndarray) -> None:
    odd = placed.rename(band="what", y="rows")
    with pytest.raises(SceneError, match=r"has the dimensions \(what, rows, x\); .*rename them \(array\.rename"):
        open_scene(odd)
    check(open_scene(odd.rename({"what": "band", "rows": "y"})), values)
    with pytest.raises(SceneError, match=r"has the dimensions \(y, x\).*array\.expand_dims\('band'\)"):
        open_scene(placed[0].drop_vars("band"))
    one = open_scene(placed[0].drop_vars("band").expand_dims("band"), bands=["blue"])
    np.testing.assert_array_equal(one.values[0], values[:1])
    with pytest.raises(SceneError, match=r"has the dimensions \(ensemble, band, y, x\)"):
        open_scene(placed.expand_dims("ensemble"))


def test_time_may_be_missing_or_in_words_and_is_never_a_number(placed: xr.DataArray, values: np.ndarray) -> None:
    assert "time" not in open_scene(placed).coords
    stamp = open_scene(placed.assign_coords(time=pd.Timestamp("2020-05-01")))
    assert str(stamp["time"].values[0])[:10] == "2020-05-01"
    two = xr.concat([placed, placed + 1], dim="time")
    words = open_scene(two.assign_coords(time=["2020-05-01", "2020-06-01T10:30:00"]))
    assert [str(day)[:16] for day in words["time"].values] == ["2020-05-01T00:00", "2020-06-01T10:30"]
    np.testing.assert_array_equal(words.values[1], values + 1)
    for wrong in ([2019, 2020], [0.5, 1.5], ["May", "June"]):
        with pytest.raises(SceneError, match=r"the time of the array is no date .*: give the dates \(dates="):
            open_scene(two.assign_coords(time=wrong))


def test_arrays_of_other_libraries_are_told_how_to_become_scenes(values: np.ndarray) -> None:
    for plain, kind in ((values, "numpy"), (torch.from_numpy(values), "torch")):
        with pytest.raises(SceneError, match=rf"a {kind} array of the shape \(6, 64, 80\) .*xarray\.DataArray\(array"):
            open_scene(plain)  # type: ignore[arg-type]
    wrapped = xr.DataArray(values, dims=("band", "y", "x")).rio.write_crs("EPSG:32630")
    check(open_scene(wrapped.rio.write_transform(Affine(10, 0, 600_000, 0, -10, 4_200_000)), bands=NAMES), values)


def test_a_dataset_of_bands_is_one_scene(placed: xr.DataArray, values: np.ndarray) -> None:
    """As odc-stac and xarray's engines give them: a variable for each band, others beside them."""
    dataset = xr.Dataset({name: placed.sel(band=name, drop=True) for name in NAMES})
    dataset["scl"] = (("y", "x"), np.zeros((64, 80), np.uint8))
    check(open_scene(dataset), values)
    check(open_scene(dataset[[*reversed(NAMES), "scl"]].rename(y="latitude", x="longitude")), values)
    as_variable = dataset.reset_coords("spatial_ref")  # as xarray opens Zarr
    check(open_scene(as_variable), values)
    two = xr.concat([dataset, dataset], dim=pd.DatetimeIndex(["2020-05-01", "2020-06-01"], name="time"))
    assert open_scene(two[NAMES]).shape == (2, 6, 64, 80)
    nodata = xr.Dataset({name: dataset[name].assign_attrs(nodata=int(values[0, 3, 4])) for name in NAMES})
    assert np.isnan(open_scene(nodata).values[0, 0, 3, 4])
    nodata["red"].attrs["nodata"] = 7
    with pytest.raises(SceneError, match=r"red is stored in another way than blue \(.*'nodata': 7"):
        open_scene(nodata)
    with pytest.raises(BandError, match=r"the Dataset names its bands scl"):
        open_scene(dataset[["scl"]])
    check(open_scene(xr.Dataset({"image": placed, "fmask": dataset["scl"]})), values)
    with pytest.raises(SceneError, match=r"take the array out of it \(dataset\['NAME'\]\)"):
        open_scene(xr.Dataset({"one": placed, "two": placed}))
    check(open_scene(xr.Dataset({"one": placed, "two": placed})["one"]), values)


@pytest.mark.parametrize("form", ["coordinate", "variable", "attribute"])
def test_a_crs_of_another_name_stays_through_calculations(
    form: str, placed: xr.DataArray, values: np.ndarray, fitted: FittedModel, tmp_path: Path
) -> None:
    """As openEO and CF write it (decoded and not), and stackstac."""
    source: xr.DataArray | xr.Dataset = placed.drop_vars("spatial_ref").rio.write_crs(32630, grid_mapping_name="crs")
    if form == "variable":
        stated = {"grid_mapping": "crs"}
        source = xr.Dataset({name: (("y", "x"), values[place], stated) for place, name in enumerate(NAMES)})
        source = source.assign_coords(y=Y, x=X).assign(crs=((), 0, {"crs_wkt": CRS(32630).to_wkt()}))
    elif form == "attribute":
        source = placed.drop_vars("spatial_ref").assign_attrs(crs="epsg:32630")
    scene = open_scene(source, scale=10_000)
    check(scene, values)
    assert (scene * 2).rio.crs.to_epsg() == 32630
    assert "crs" not in scene.coords
    with rasterio.open(prithvi.map(scene, fitted).prithvi.to_cog(tmp_path / "map.tif")) as raster:
        assert (raster.crs.to_epsg(), raster.transform) == (32630, AT)


def test_a_series_that_was_not_opened_keeps_a_crs_of_another_name(placed: xr.DataArray) -> None:
    days = pd.to_datetime(["2022-05-01", "2022-05-17"])
    series = xr.concat([placed.astype("float32")] * 2, pd.Index(days, name="time")).drop_vars("spatial_ref")
    series = series.assign_attrs(gain=1e-4, bias=0.0).rio.write_crs(32630, grid_mapping_name="crs")
    for result in (prithvi.fill(series, "nearest"), composite(series)):
        assert result["image"].rio.crs.to_epsg() == 32630


def test_corners_of_pixels_in_x_and_y_are_told_by_the_transform_beside_them(
    placed: xr.DataArray, values: np.ndarray
) -> None:
    """As stackstac writes them by default (xy_coords="topleft")."""
    corners = placed.assign_coords(x=X - 5, y=Y + 5).assign_attrs(transform=AT)
    for array in (corners, corners.assign_attrs(transform=list(AT)), placed.assign_attrs(transform=AT)):
        check(open_scene(array, scale=10_000), values)
        check(open_scene(array[:, ::-1], scale=10_000)[..., ::-1, :], values)
        part = open_scene(array[:, 10:, 7:], scale=10_000)
        check(part, values[:, 10:, 7:], AT @ Affine.translation(7, 10))
    # Means of four, whose middles lie at corners of the first pixels.
    coarse = placed.assign_attrs(transform=AT).coarsen(x=2, y=2).mean()
    assert transform_of(open_scene(coarse, scale=10_000)) == AT @ Affine.scale(2)


def test_a_crs_attribute_that_is_none_is_named(placed: xr.DataArray) -> None:
    with pytest.raises(SceneError, match=r"states a coordinate reference system that is none \('EPSG:none'\)"):
        open_scene(placed.drop_vars("spatial_ref").assign_attrs(crs="EPSG:none"), scale=10_000)


@pytest.mark.parametrize("said", [{"_FillValue": np.float32("nan")}, {"valid_range": np.array([0, 10_000], "int16")}])
def test_bands_that_say_the_same_of_their_values_are_one_scene(
    said: dict, placed: xr.DataArray, values: np.ndarray
) -> None:
    """NaN, and a range: xarray and CF write them, and neither equals itself in one word."""
    dataset = xr.Dataset({name: placed.sel(band=name, drop=True).astype("float32") for name in NAMES})
    for variable in dataset.values():
        variable.encoding = dict(said)
    check(open_scene(dataset), values)
    dataset["red"].encoding = {key: np.array([0, 1]) for key in said}
    with pytest.raises(SceneError, match="red is stored in another way than blue"):
        open_scene(dataset)


def test_dates_of_an_array_are_put_in_the_order_of_time(placed: xr.DataArray, values: np.ndarray) -> None:
    """As of files, with all that belongs to them, so that a model of several dates sees the earliest first."""
    days = pd.to_datetime(["2022-06-02", "2022-05-01", "2022-05-17"])
    array = xr.concat([placed * factor for factor in (3, 1, 2)], pd.Index(days, name="time"))
    array = array.assign_coords(cloud=("time", [30, 10, 20]))
    undated = array.drop_vars(["time", "cloud"])
    for scene in (open_scene(array), open_scene(undated, dates=days.strftime("%Y-%m-%d"))):
        assert scene.indexes["time"].is_monotonic_increasing
        np.testing.assert_array_equal(scene.values, np.stack([values * factor for factor in (1, 2, 3)]))
    assert open_scene(array)["cloud"].values.tolist() == [10, 20, 30]
    # Masks belong to the dates that they state, whatever their order.
    clear = xr.ones_like(array[:, 0], bool).drop_vars("band")
    clear[0] = False  # of June
    assert np.isnan(without_clouds(open_scene(array), clear).values).all(axis=(1, 2, 3)).tolist() == [0, 0, 1]
