"""The same grid in other words is the same; another grid never is, however alike the words."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import CRS
from rasterio.control import GroundControlPoint
from rasterio.rpc import RPC
from rasterio.transform import from_origin

from prithvi.bands import PRITHVI_BANDS
from prithvi.errors import SceneError
from prithvi.scenes import crop, open_scene, transform_of
from prithvi.scenes.grids import difference, grid_of

Write = Callable[..., Path]
HLS = (
    'PROJCS["UTM Zone 15, Northern Hemisphere",GEOGCS["Unknown datum based upon the WGS 84 ellipsoid",DATUM["Not_'
    'specified_based_on_WGS_84_spheroid",SPHEROID["WGS 84",6378137,298.257223563]],PRIMEM["Greenwich",0],UNIT["degree",'
    '0.0174532925199433]],PROJECTION["Transverse_Mercator"],PARAMETER["latitude_of_origin",0],PARAMETER["central_'
    'meridian",-93],PARAMETER["scale_factor",0.9996],PARAMETER["false_easting",500000],PARAMETER["false_northing",0],'
    'UNIT["metre",1],AXIS["Easting",EAST],AXIS["Northing",NORTH]]'
)
"""What granules of HLS 2.0 state for EPSG:32615."""


def wkt(code: int, version: str) -> str:
    return str(CRS(code).to_wkt(version=version))


def grid(crs: object, at: Affine | None = None, size: tuple[int, int] = (3660, 3660)) -> GeoBox:
    crs = CRS.from_user_input(crs)
    usual = Affine(0.0003, 0, -3, 0, -0.0003, 40) if crs.is_geographic else Affine(30, 0, 6e5, 0, -30, 4.4e6)
    return GeoBox(size, at or usual, crs.to_wkt())


SAME = {
    "WKT 1": (32615, wkt(32615, "WKT1_GDAL")),
    "WKT 1 without codes": (32615, re.sub(r',AUTHORITY\["EPSG","\d+"\]', "", wkt(32615, "WKT1_GDAL"))),
    "WKT 2 of 2015": (32615, wkt(32615, "WKT2_2015")),
    "WKT 2 of 2019": (32615, wkt(32615, "WKT2_2019")),
    "Esri's WKT": (32615, wkt(32615, "WKT1_ESRI")),
    "PROJJSON": (32615, CRS(32615).to_json()),
    "PROJ string": (32615, "+proj=utm +zone=15 +datum=WGS84 +units=m"),
    "PROJ string with an ellipsoid only": (32615, "+proj=utm +zone=15 +ellps=WGS84 +units=m"),
    "transverse Mercator by its numbers": (32615, "+proj=tmerc +lon_0=-93 +k=0.9996 +x_0=500000 +datum=WGS84"),
    "HLS 2.0": (32615, HLS),
    "HLS 2.0 in Esri's WKT": (HLS, wkt(32615, "WKT1_ESRI")),
    "TOWGS84 of zeros": (32615, "+proj=utm +zone=15 +ellps=WGS84 +towgs84=0,0,0,0,0,0,0 +units=m"),
    "with heights": (32615, "EPSG:32615+5773"),
    "degrees, longitude first": (4326, "OGC:CRS84"),
    "degrees, Esri's WKT": (4326, wkt(4326, "WKT1_ESRI")),
    "degrees, with heights": (4326, 4979),
    "a realization of WGS 84": (4326, 9057),
    "a realization, and WKT 1 that knows none": (9057, wkt(4326, "WKT1_GDAL")),
    "an ensemble, and WKT 1 that knows none": (3035, wkt(3035, "WKT1_GDAL")),
    "an ensemble, and Esri's WKT": (3035, wkt(3035, "WKT1_ESRI")),
    "northing first": (31467, wkt(31467, "WKT1_GDAL")),
    "US feet": (2263, wkt(2263, "WKT1_ESRI")),
    "Albers": (5070, wkt(5070, "WKT1_ESRI")),
    "polar": (3413, wkt(3413, "WKT1_ESRI")),
    "web Mercator": (3857, "ESRI:102100"),
    "Paris meridian": (27572, wkt(27572, "WKT1_ESRI")),
    "MODIS sphere": (
        "+proj=sinu +R=6371007.181 +units=m",
        'PROJCS["Sinusoidal",GEOGCS["GCS_unnamed ellipse",DATUM["D_unknown",SPHEROID["Unknown",6371007.181,0]],PRIMEM["'
        'Greenwich",0],UNIT["Degree",0.0174532925199433]],PROJECTION["Sinusoidal"],UNIT["Meter",1]]',
    ),
    "not stated": (32615, None),
}


@pytest.mark.parametrize("words", SAME)
def test_one_reference_system_in_other_words_is_the_same(words: str) -> None:
    one, other = SAME[words]
    first = grid(one)
    second = grid(other, first.affine) if other is not None else GeoBox(first.shape, first.affine, None)
    assert difference(first, second) is None
    assert difference(second, first) is None


OTHERS = {
    "zone 15 S": (32615, 32715), "zone 16": (32615, 32616), "HLS 2.0 and zone 16": (HLS, 32616),
    "NAD83": (32615, 26915), "NAD27": (32615, 26715), "NAD83 and NAD27": (26915, 26715), "NAD83(2011)": (26915, 6344),
    "HLS 2.0 and NAD83": (HLS, 26915), "WGS 72": (32615, 32215), "ETRS89": (32631, 25831), "GDA94": (28355, 7855),
    "degrees of NAD83": (4326, 4269), "degrees of NAD27": (4326, 4267), "degrees of ETRS89": (4326, 4258),
    "feet and metres": (2263, 32118), "a sphere and an ellipsoid": ("+proj=sinu +R=6371007.181 +units=m", "ESRI:54008"),
    "the name of another zone": (32615, wkt(32616, "WKT2_2019").replace("zone 16N", "zone 15N")),
    "no place on Earth": (32615, 'LOCAL_CS["UTM zone 15N",UNIT["metre",1]]'),
    "another shift of an unknown datum": (32615, "+proj=utm +zone=15 +ellps=WGS84 +towgs84=100,0,0 +units=m"),
}  # fmt: skip


@pytest.mark.parametrize("words", OTHERS)
def test_another_reference_system_is_never_taken_for_the_same(words: str) -> None:
    one, other = OTHERS[words]
    first = grid(one)
    for pair in ((first, grid(other, first.affine)), (grid(other, first.affine), first)):
        assert str(difference(*pair)).startswith("their coordinate reference systems are ")


@pytest.mark.parametrize("size", [(3660, 3660), (10980, 10980), (3, 7)])
@pytest.mark.parametrize(
    "at",
    [
        from_origin(6e5, 4.4e6, 30, 30), from_origin(-3, 40, 0.0003, 0.0002), from_origin(1.9e6, 6e5, 98.425, 98.425),
        from_origin(6e5, 4.4e6, 30, -30), Affine.translation(6e5, 4.4e6) @ Affine.rotation(20) @ Affine.scale(30, -30),
    ],
)  # fmt: skip
def test_corners_count_in_pixels(at: Affine, size: tuple[int, int]) -> None:
    one, far = GeoBox(size, at, "EPSG:32615"), max(size)
    for factor, shift, same in (
        (1 + 0.5e-3 / far, 0, True), (1 + 5 / far, 0, False), (1 + 1e-2 / far, 0, False), (1, 0.9e-3, True),
        (1, 0.002, False), (1, 0.5, False), (1, -1, False), (1 - 1e-12, 1e-9, True),
    ):  # fmt: skip
        other = GeoBox(size, at @ Affine.translation(shift, 0) @ Affine.scale(factor), "EPSG:32615")
        found = difference(one, other)
        assert (found is None) == same, (factor, shift, found)
    assert difference(one, GeoBox(size, at @ Affine.translation(0.5, 0), "EPSG:32615")) == (
        "their corners lie up to 0.5 pixels apart"
    )
    more = GeoBox((size[0] + 1, size[1]), at, "EPSG:32616")
    assert f"they have {size[0]} x {size[1]} and {size[0] + 1} x {size[1]} pixels" in str(difference(one, more))
    assert "their pixels measure" in str(difference(one, GeoBox(size, at @ Affine.scale(2), "EPSG:32615")))


def six_files(write: Write, six_bands: np.ndarray, *last: dict[str, object]) -> list[Path]:
    """Six files of a band, the last of them placed as said."""
    common = {"crs": "EPSG:32615", "transform": from_origin(6e5, 3.6e6, 30, 30)}
    places = [common] * 5 + list(last)
    return [
        write(six_bands[number : number + 1, :64, :64], f"{band}.tif", names=(band,), **place)
        for number, (band, place) in enumerate(zip(PRITHVI_BANDS, places, strict=True))
    ]


def test_bands_in_other_words_are_one_scene(write_tif: Write, six_bands: np.ndarray) -> None:
    for other in (
        {"crs": HLS, "transform": from_origin(6e5, 3.6e6, 30, 30)},
        {"crs": wkt(32615, "WKT1_ESRI"), "transform": from_origin(6e5 + 1e-7, 3.6e6, 30, 30 + 1e-9)},
    ):
        scene = open_scene(six_files(write_tif, six_bands, other))
        np.testing.assert_array_equal(scene.values[0], six_bands[:, :64, :64])
        assert transform_of(scene) == from_origin(6e5, 3.6e6, 30, 30)
    for other, told in (
        ({"crs": "EPSG:26915", "transform": from_origin(6e5, 3.6e6, 30, 30)}, r"26915 \(NAD83 .* and EPSG:32615"),
        ({"crs": "EPSG:32615", "transform": from_origin(6e5 + 15, 3.6e6, 30, 30)}, r"up to 0\.5 pixels apart"),
    ):
        with pytest.raises(SceneError, match=rf"swir_2\.tif and blue\.tif do not lie on one grid: .*{told}"):
            open_scene(six_files(write_tif, six_bands, other))


def test_a_true_granule_of_hls_2_lies_where_its_zone_does(shared: Path) -> None:
    folder = shared / "proteus_hls_s30_dswx"
    scene = open_scene(sorted(folder.rglob("HLS.S30*.B*.tif")))
    place = GeoBox((1000, 1000), from_origin(600_000, 3_600_000, 30, 30), "EPSG:32615")
    assert difference(GeoBox(scene.shape[2:], transform_of(scene), scene.rio.crs.to_wkt()), place) is None
    with rasterio.open(next(folder.rglob("*WTR.tif"))) as water:
        assert difference(grid_of(water), place) is None


def test_files_placed_by_points_or_models_are_refused_with_the_way_out(tmp_path: Path, six_bands: np.ndarray) -> None:
    corners = [(0, 0, 6e5, 3.6e6), (0, 64, 6e5 + 1920, 3.6e6), (64, 0, 6e5, 3.6e6 - 1920), (64, 64, 601_920, 3_598_080)]
    points = [GroundControlPoint(row, column, x, y, 0) for row, column, x, y in corners]
    ones = [1.0] + [0.0] * 19
    model = RPC(0, 1, 30, 0.1, ones, ones, 32, 32, -93, 0.1, ones, ones, 32, 32)
    for name, place, told in (
        ("gcps", {"gcps": points, "crs": "EPSG:32615"}, "ground control points"),
        ("rpcs", {"rpcs": model}, r"a sensor model \(RPCs\)"),
    ):
        path = tmp_path / f"{name}.tif"
        profile = {"driver": "GTiff", "height": 64, "width": 64, "count": 6, "dtype": "int16"}
        with rasterio.open(path, "w", **profile, **place) as raster:
            raster.write(six_bands[:, :64, :64])
        with pytest.raises(SceneError, match=rf"placed by {told}.*gdalwarp"):
            open_scene(path, bands=list(PRITHVI_BANDS))
    from rasterio.shutil import copy
    from rasterio.vrt import WarpedVRT

    with rasterio.open(tmp_path / "gcps.tif") as raster, WarpedVRT(raster) as warped:  # what the message advises
        copy(warped, tmp_path / "warped.tif", driver="GTiff")
    scene = open_scene(tmp_path / "warped.tif", bands=list(PRITHVI_BANDS), sensor="hls-s30")
    assert transform_of(scene).almost_equals(from_origin(6e5, 3.6e6, 30, 30), precision=0.5)


def test_pixels_that_are_points_lie_where_gdal_says(tmp_path: Path, six_bands: np.ndarray) -> None:
    places = []
    for kind in ("Area", "Point"):
        path = tmp_path / f"{kind}.tif"
        profile = {"driver": "GTiff", "height": 64, "width": 64, "count": 6, "dtype": "int16", "crs": "EPSG:32615"}
        with rasterio.open(path, "w", transform=from_origin(6e5, 3.6e6, 30, 30), **profile) as raster:
            raster.update_tags(AREA_OR_POINT=kind)
            raster.write(six_bands[:, :64, :64])
        with rasterio.open(path) as raster:
            places.append(grid_of(raster))
            assert raster.tags()["AREA_OR_POINT"] == kind
    assert difference(*places) is None


@pytest.mark.parametrize("south_up", [False, True])
def test_slices_know_their_place(south_up: bool, write_tif: Write, six_bands: np.ndarray) -> None:
    at = from_origin(6e5, 3.6e6, 30, -30 if south_up else 30)
    scene = open_scene(write_tif(six_bands[:, :64, :80], transform=at))
    thinned = at @ Affine.translation(-1.5, -1.5) @ Affine.scale(4)
    for part, place in (
        (scene[..., 8:40, 4:70], at @ Affine.translation(4, 8)),
        (scene[..., 5:6, :], at @ Affine.translation(0, 5)),
        (scene[..., 5:6, 7:8], at @ Affine.translation(7, 5)),
        (scene[..., ::4, ::4], thinned),
        (scene[..., ::-1, :], at @ Affine.translation(0, 64) @ Affine.scale(1, -1)),
    ):
        assert transform_of(part).almost_equals(place, precision=1e-6)
    with pytest.raises(SceneError, match=r"the x of .*scene\.tif does not go in even steps"):
        transform_of(scene.isel(x=[0, 1, 2, 4, 5, 6, 7, 8]))


def test_slices_of_rotated_grids_know_their_place(write_tif: Write, six_bands: np.ndarray) -> None:
    from odc.geo.xr import wrap_xr

    at = Affine.translation(6e5, 3.6e6) @ Affine.rotation(20) @ Affine.scale(30, -30)
    theirs = wrap_xr(np.zeros((64, 80)), GeoBox((64, 80), at, "EPSG:32615"))
    scene = open_scene(write_tif(six_bands[:, :64, :80], transform=at))
    again = open_scene(scene.isel(y=slice(2, None)).drop_vars("band"), bands=list(PRITHVI_BANDS))
    for array, start in ((theirs, at), (scene, at), (again, at @ Affine.translation(0, 2))):
        for part, place in (
            (array[..., 8:40, 4:70], start @ Affine.translation(4, 8)),
            (array[..., 5:6, 3:9], start @ Affine.translation(3, 5)),
            (array[..., ::4, ::4], start @ Affine.translation(-1.5, -1.5) @ Affine.scale(4)),
            (
                array[..., ::-1, :][..., 3:, :],
                start @ Affine.translation(0, array.sizes["y"] - 3) @ Affine.scale(1, -1),
            ),
        ):
            assert transform_of(part).almost_equals(place, precision=1e-6)
            if 1 not in part.shape[-2:]:  # of one row odc-geo 0.5 takes the size of a pixel twice
                assert part.odc.geobox.affine.almost_equals(place, precision=1e-6)
        part = crop(array.isel(y=slice(1, None)), slice(5, 20), slice(0, 80))
        assert transform_of(part[..., 2:, :]).almost_equals(start @ Affine.translation(0, 8), precision=1e-6)


def test_a_grid_turned_by_a_right_angle_or_a_little_keeps_its_place(write_tif: Write, six_bands: np.ndarray) -> None:
    for angle in (90, 0.01):
        at = Affine.translation(102, 14) @ Affine.rotation(angle) @ Affine.scale(3e-4, -3e-4)
        scene = open_scene(write_tif(six_bands[:, :64, :80], f"{angle}.tif", crs="EPSG:4326", transform=at))
        for part, place in ((scene, at), (scene[..., 4:9, 3:4], at @ Affine.translation(3, 4))):
            assert transform_of(part).almost_equals(place, precision=1e-10)


@pytest.mark.parametrize("pixel", [30.0, 0.0003])
def test_coordinates_may_have_noise_and_no_gaps(pixel: float) -> None:
    start = 6e5 if pixel == 30.0 else 102.0
    x, y = start + pixel * (np.arange(80) + 0.5), start - pixel * (np.arange(64) + 0.5)
    array = xr.DataArray(np.zeros((64, 80)), dims=("y", "x"), coords={"y": y, "x": x})
    true = from_origin(start, start, pixel, pixel)
    noisy = array.assign_coords(x=x + pixel * 1e-6 * np.sin(np.arange(80)), y=y.astype(np.float32))
    for found in (array, noisy, noisy.rio.write_transform(true)):
        assert np.abs(np.array(~true @ transform_of(found) @ (0, 0))).max() < 0.1
    assert transform_of(noisy.rio.write_transform(true)) == true
    with pytest.raises(SceneError, match="the y of the scene does not go in even steps"):
        transform_of(array.assign_coords(y=y + pixel * 0.2 * np.sin(np.arange(64))))
