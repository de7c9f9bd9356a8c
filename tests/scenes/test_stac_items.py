"""STAC items become scenes by what they say of their bands, values and dates."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
from affine import Affine

import prithvi
from prithvi.bands import PRITHVI_BANDS
from prithvi.contract import Contract
from prithvi.errors import BandError, SceneError
from prithvi.hls import Granule
from prithvi.scenes import conform, crop, open_scene, read, valid_mask
from tests.conftest import SPAIN
from tests.http_files import Served, serve_folder
from tests.synthetic_hls import Archive, expected_dn, pixel_centres

S2 = {"blue": "B02", "green": "B03", "red": "B04", "nir": "B08", "nir08": "B8A", "swir16": "B11", "swir22": "B12"}
COARSE = ("nir08", "swir16", "swir22")
NUMBERS = {"blue": 2, "green": 3, "red": 4, "nir": 8, "nir08": 9, "swir16": 12, "swir22": 13}
SAID = {"nir": "nir_broad", "nir08": "nir_narrow", "swir16": "swir_1", "swir22": "swir_2"}
ORIGIN = Affine(10, 0, 600_000, 0, -10, 4_200_000)
DN = Contract(PRITHVI_BANDS, (1000.0,) * 6, (500.0,) * 6)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serve_folder(tmp_path) as server:
        yield server


def spain(name: str, add: int = 0) -> np.ndarray:
    """(y, x) uint16 of the sample as an archive stores it: 10 m bands whole, the others at every second pixel."""
    with rasterio.open(SPAIN) as raster:
        values = raster.read(NUMBERS[name]).astype(np.uint16)
    values[:10, :20] = 0
    values = np.where(values > 0, values + add, 0).astype(np.uint16)
    return values[::2, ::2] if name in COARSE else values


def write(path: Path, values: np.ndarray, transform: Affine, crs: str = "EPSG:32630", nodata: float | None = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", height=values.shape[0], width=values.shape[1], count=1, dtype=values.dtype, crs=crs,
        transform=transform, nodata=nodata, tiled=True, blockxsize=256, blockysize=256, compress="deflate",
    ) as raster:  # fmt: skip
        raster.write(values, 1)


def sentinel(
    folder: Path,
    day: str = "2019-09-18",
    add: int = 0,
    properties: dict[str, Any] | None = None,
    form: str = "eo:bands",
    raster: dict[str, Any] | None = None,
    name: str = "S2A_30SUH_{day}_0_L2A",
    **more: Any,
) -> Path:
    """Writes files and an item as Earth Search describes them; gives the item's file."""
    name = name.format(day=day.replace("-", ""))
    bounds = [-1.86, 37.9, -1.80, 37.94]
    corners = [[[-1.86, 37.9], [-1.8, 37.9], [-1.8, 37.94], [-1.86, 37.94], [-1.86, 37.9]]]
    item = pystac.Item(
        name, {"type": "Polygon", "coordinates": corners}, bounds, dt.datetime.fromisoformat(f"{day}T10:50:00+00:00"),
        {"platform": "sentinel-2a", **(properties or {})}, collection=more.pop("collection", "sentinel-2-l2a"),
    )  # fmt: skip
    for key, identifier in S2.items():
        file = folder / name / f"{identifier}.tif"
        step = 2 if key in COARSE else 1
        write(file, spain(key, add), ORIGIN @ Affine.scale(step), **more)
        fields: dict[str, Any] = {"raster:bands": [{"nodata": 0, "scale": 0.0001, "offset": -0.1, **(raster or {})}]}
        if form == "eo:bands":
            fields["eo:bands"] = [{"name": key, "common_name": key}]
        elif form == "bands":
            fields = {"bands": [{"name": identifier, "eo:common_name": key, "raster:scale": 0.0001, "nodata": 0}]}
        item.add_asset(
            key if form != "ids" else identifier,
            pystac.Asset(
                f"{name}/{identifier}.tif", media_type=pystac.MediaType.COG, roles=["data"], extra_fields=fields
            ),
        )
    names = [{"name": band, "common_name": band} for band in ("red", "green", "blue")]
    thumbnail = pystac.Asset(
        f"{name}/missing.tif", media_type=pystac.MediaType.COG, roles=["visual"], extra_fields={"eo:bands": names}
    )
    item.add_asset("visual", thumbnail)
    item.add_asset(
        "granule_metadata", pystac.Asset("metadata.xml", media_type=pystac.MediaType.XML, roles=["metadata"])
    )
    item.add_asset(
        "blue-jp2", pystac.Asset(
            "s3://elsewhere/B02.jp2", media_type=pystac.MediaType.JPEG2000, roles=["data"],
            extra_fields={"eo:bands": [{"name": "blue", "common_name": "blue"}]},
        ),
    )  # fmt: skip
    path = folder / f"{name}.json"
    plain = item.to_dict(include_self_link=False)
    path.write_text(json.dumps(plain))
    return path


def expected(key: str) -> np.ndarray:
    """(y, x) on the 10 m grid, NaN where 0."""
    values = spain(key).astype(np.float32)
    values = values.repeat(2, 0).repeat(2, 1) if key in COARSE else values
    return np.where(values > 0, values, np.nan)


def check(scene: Any, shift: float = 0) -> None:
    for key in S2:
        found = scene.sel(band=SAID.get(key, key)).values[0]
        np.testing.assert_array_equal(found, expected(key) + shift)


@pytest.mark.parametrize("form", ["eo:bands", "bands", "ids"])
def test_an_item_s_assets_are_bands_by_what_they_say(form: str, tmp_path: Path) -> None:
    path = sentinel(tmp_path, form=form, properties={"s2:processing_baseline": "02.13"})
    scene = prithvi.open_scene(path)
    assert scene.chunks is not None
    assert list(scene["band"].values) == ["blue", "green", "red", "nir_broad", "nir_narrow", "swir_1", "swir_2"]
    assert dict(scene.sizes) == {"time": 1, "band": 7, "y": 512, "x": 512}
    assert str(scene["time"].values[0])[:10] == "2019-09-18"
    check(scene)
    assert (scene.attrs["gain"], scene.attrs["bias"], scene.attrs["offset"]) == (1e-4, 0, 0)
    assert (scene.attrs["sensor"], scene.attrs["level"]) == ("sentinel-2-l2a", "SR")
    assert scene.rio.transform() == ORIGIN
    assert read(conform(scene, DN), DN).shape == (1, 6, 512, 512)


def test_an_item_is_the_same_from_a_file_a_server_or_in_hand(served: Served, tmp_path: Path) -> None:
    path = sentinel(tmp_path, properties={"s2:processing_baseline": "02.13"})
    address = f"{served.url}/{path.name}"
    plain = json.loads(path.read_text())
    item = pystac.Item.from_file(str(path))
    moved = pystac.Item.from_dict(plain)
    for asset in moved.assets.values():
        if not asset.href.startswith("s3://"):
            asset.href = (tmp_path / asset.href).as_uri()
    collection = tmp_path / "several.json"
    collection.write_text(json.dumps({"type": "FeatureCollection", "features": [plain]}))
    for source in (path, str(path), address, item, [item], [address], moved, collection, pystac.ItemCollection([item])):
        scene = open_scene(source, bands=["red", "swir16"])
        assert list(scene["band"].values) == ["red", "swir_1"]
        np.testing.assert_array_equal(scene.sel(band="red").values[0], expected("red"))
        np.testing.assert_array_equal(scene.sel(band="swir_1").values[0], expected("swir16"))
        assert scene.attrs["source"] == item.id
    assert any(name.endswith("B11.tif") for name, _, _ in served.requests)


def test_a_self_link_to_elsewhere_does_not_move_files(tmp_path: Path) -> None:
    path = sentinel(tmp_path, properties={"s2:processing_baseline": "02.13"})
    plain = json.loads(path.read_text())
    plain["links"] = [{"rel": "self", "href": "https://example.invalid/collections/x/items/y"}]
    path.write_text(json.dumps(plain))
    np.testing.assert_array_equal(open_scene(path, bands=["red"]).values[0, 0], expected("red"))


def test_coarser_bands_are_repeated_onto_the_finest_of_those_asked_for(tmp_path: Path) -> None:
    path = sentinel(tmp_path, properties={"s2:processing_baseline": "02.13"})
    scene = open_scene(path, bands=["swir_1", "swir_2"])
    assert scene.shape == (1, 2, 256, 256)
    assert scene.rio.transform() == ORIGIN @ Affine.scale(2)
    fine = open_scene(path)
    part = crop(fine, slice(101, 102), slice(33, 90))
    np.testing.assert_array_equal(part.sel(band="swir_1").values[0], expected("swir16")[101:102, 33:90])
    assert not valid_mask(fine).values[0, :10, :20].any()


@pytest.mark.parametrize(
    ("properties", "day", "bias", "offset"),
    [
        ({"earthsearch:boa_offset_applied": True, "s2:processing_baseline": "04.00"}, "2022-06-01", 0, 0),
        ({"earthsearch:boa_offset_applied": False, "s2:processing_baseline": "05.09"}, "2022-06-01", -0.1, -1000),
        ({"sentinel:boa_offset_applied": False, "sentinel:processing_baseline": "04.00"}, "2022-06-01", -0.1, -1000),
        ({"earthsearch:boa_offset_applied": False, "s2:processing_baseline": "03.01"}, "2021-06-01", 0, 0),
        ({"s2:processing_baseline": "05.09"}, "2022-06-01", -0.1, -1000),  # by raster:bands
    ],
)  # fmt: skip
def test_what_is_left_of_the_sentinel_2_offset(
    properties: dict[str, Any], day: str, bias: float, offset: float, tmp_path: Path
) -> None:
    scene = open_scene(sentinel(tmp_path, day, properties=properties, add=-int(offset)))
    assert scene.attrs["gain"] == 1e-4
    assert scene.attrs["bias"] == pytest.approx(bias)
    assert scene.attrs["offset"] == offset
    check(scene, shift=-offset)  # 0 stays without data
    found = read(conform(scene, DN), DN)[0, 0]
    np.testing.assert_allclose(found, expected("blue"), atol=0.01)


def test_an_offset_that_the_item_does_not_say_is_asked_for(tmp_path: Path) -> None:
    raster = {"offset": 0}
    later = sentinel(tmp_path, "2022-06-01", properties={"s2:processing_baseline": "05.09"}, raster=raster)
    with pytest.raises(
        SceneError, match=r"S2A_30SUH_20220601_0_L2A is of processing baseline 05\.09.*say --offset -1000"
    ):
        open_scene(later)
    assert open_scene(later, offset=-1000).attrs["bias"] == pytest.approx(-0.1)
    assert open_scene(later, offset=0).attrs["bias"] == 0
    silent = sentinel(tmp_path / "silent", "2022-06-01", raster=raster)
    with pytest.raises(SceneError, match=r"image after 2022-01-25.*say --offset"):
        open_scene(silent)
    assert open_scene(sentinel(tmp_path / "old", "2021-06-01", raster=raster)).attrs["bias"] == 0


def test_dates_of_a_series_mean_the_same_across_the_change_of_2022(tmp_path: Path) -> None:
    before = sentinel(tmp_path, "2021-09-18", properties={"s2:processing_baseline": "03.01"})
    raster = {"offset": 0}
    after = sentinel(tmp_path, "2022-09-18", add=1000, properties={"s2:processing_baseline": "04.00"}, raster=raster)
    for said in ({"offset": -1000}, {"offset": -1000, "scale": 10_000}):
        scene = open_scene([after, before], **said)
        assert [str(day)[:10] for day in scene["time"].values] == ["2021-09-18", "2022-09-18"]
        found = read(conform(scene, DN), DN)
        np.testing.assert_allclose(found[0], found[1], atol=0.01)
        np.testing.assert_allclose(found[0, 2], expected("red"), atol=0.01)
    stated = pystac.Item.from_file(str(after))
    stated.properties["earthsearch:boa_offset_applied"] = False
    found = read(conform(open_scene([pystac.Item.from_file(str(before)), stated]), DN), DN)
    np.testing.assert_allclose(found[0], found[1], atol=0.01)


def test_landsat_items_by_platform(tmp_path: Path) -> None:
    keys = {"blue": "OLI_B2", "red": "OLI_B4", "nir08": "OLI_B5", "lwir11": "TIRS_B10"}
    old = {"blue": "TM_B1", "red": "TM_B3", "nir08": "TM_B4"}
    values = np.random.default_rng(0).integers(7300, 20_000, (40, 50)).astype(np.uint16)

    def item(name: str, platform: str, bands: dict[str, str]) -> pystac.Item:
        one = pystac.Item(name, None, None, dt.datetime(2020, 6, 1, tzinfo=dt.UTC), {"platform": platform})
        one.collection_id = "landsat-c2-l2"
        for key, band in bands.items():
            file = tmp_path / f"{name}_{band}.tif"
            write(file, values, Affine(30, 0, 6e5, 0, -30, 4.2e6))
            said = {
                "eo:bands": [{"name": band, "common_name": key}],
                "raster:bands": [{"scale": 2.75e-5, "offset": -0.2}],
            }
            one.add_asset(key, pystac.Asset(str(file), media_type=pystac.MediaType.COG, extra_fields=said))
        return one

    new = open_scene(item("LC08_L2SP_034032_20200601_02_T1", "landsat-8", keys))
    assert list(new["band"].values) == ["blue", "red", "nir_narrow"]  # thermal bands come along only when named
    assert (new.attrs["sensor"], new.attrs["gain"]) == ("landsat-8-c2-l2", 2.75e-5)
    assert new.attrs["bias"] == pytest.approx(-0.2)
    assert new.attrs["missing"] == [0]
    thematic = open_scene(item("LT05_L2SP_034032_20200601_02_T1", "landsat-5", old))
    assert list(thematic["band"].values) == ["blue", "red", "nir_broad"]
    assert thematic.attrs["sensor"] == "landsat-457-c2-l2"


def test_items_of_unknown_products_go_by_common_names_and_what_they_state(tmp_path: Path) -> None:
    values = np.full((2, 20, 30), 5000, np.int16)
    values[:, 0, 0] = -1
    profile = {"driver": "GTiff", "height": 20, "width": 30, "count": 2, "dtype": "int16", "crs": "EPSG:32630"}
    with rasterio.open(tmp_path / "stack.tif", "w", transform=ORIGIN, **profile) as raster:
        raster.write(values * np.array([[[1]], [[2]]], np.int16))
    item = pystac.Item("a-drone", None, None, dt.datetime(2020, 6, 1, tzinfo=dt.UTC), {})
    bands = [
        {"eo:common_name": "red", "raster:scale": 2e-4, "nodata": -1},
        {"eo:common_name": "nir", "raster:scale": 1e-4, "nodata": -2},
    ]
    item.add_asset("image", pystac.Asset(str(tmp_path / "stack.tif"), extra_fields={"bands": bands}))
    scene = open_scene(item)
    assert list(scene["band"].values) == ["red", "nir_broad"]
    assert scene.attrs["gain"] == 2e-4
    assert "sensor" not in scene.attrs
    np.testing.assert_allclose(scene.values[0, :, 5, 5] * 2e-4, [1, 1], rtol=1e-6)  # each band by its own scale
    assert np.isnan(scene.values[0, :, 0, 0]).all()


def test_hls_items_and_folders_of_granules_are_scenes(archive: Archive) -> None:
    items = [item for item in archive.items if ".T31UDS." in item.id]
    scene = open_scene(items)
    assert scene.sizes["time"] == len(items)
    assert scene.attrs["sensor"] == "hls-l30"
    assert set(PRITHVI_BANDS) <= set(scene["band"].values)
    x, y = pixel_centres(scene.rio.transform(), 320, 320)
    for step, item in enumerate(sorted(items, key=lambda one: Granule.parse(one.id).time)):
        date = Granule.parse(item.id).time.date()
        assert str(scene["time"].values[step])[:10] == str(date)
        found = scene.sel(band="nir_narrow").values[step]
        same = found == expected_dn(x, y, date, "nir_narrow")
        assert same.mean() > 0.2  # the rest is under clouds and shadows
    folders = [archive.root / item.id for item in items]
    by_folder = open_scene(folders)
    np.testing.assert_array_equal(by_folder.sel(band=list(scene["band"].values)).values, scene.values)
    np.testing.assert_array_equal(open_scene(folders[0]).values[0], by_folder.values[0])
    other = [item for item in archive.items if ".T32ULC." in item.id and item.datetime != items[0].datetime]
    with pytest.raises(SceneError, match=r"lie in two coordinate reference systems, EPSG:32632 .* and EPSG:32631"):
        open_scene([items[0], other[-1]])


def test_the_synthetic_archive_over_http(archive: Archive) -> None:
    with serve_folder(archive.root) as server:
        item = archive.items[0].clone()
        for asset in item.assets.values():
            asset.href = f"{server.url}/{item.id}/{Path(asset.href).name}"
        far = open_scene(item)
        assert all(name.endswith(".tif") for name, _, _ in server.requests)
        np.testing.assert_array_equal(far.values, open_scene(archive.items[0]).values)


def test_items_that_are_no_scene_say_why(tmp_path: Path, served: Served) -> None:
    path = sentinel(tmp_path, properties={"s2:processing_baseline": "02.13"})
    item = pystac.Item.from_file(str(path))
    with pytest.raises(BandError, match=r"20190918_0_L2A has no coastal; it has blue, green, red"):
        open_scene(item, bands=["coastal"])
    with pytest.raises(BandError, match="assets of STAC items and of products have names and no numbers"):
        open_scene(item, bands=[1, 2, 3, 4, 5, 6])
    with pytest.raises(SceneError, match=r"are of the same date \(2019-09-18\): a scene has one item a date"):
        open_scene([item, item.clone()])
    with pytest.raises(SceneError, match="items and files were given together"):
        open_scene([path, SPAIN])
    with pytest.raises(SceneError, match="a STAC Catalog is no scene: give one of its items"):
        open_scene(pystac.Catalog("c", "d"))  # type: ignore[arg-type]
    with pytest.raises(SceneError, match=r"there is no file .*none\.json"):
        open_scene(tmp_path / "none.json")
    with pytest.raises(SceneError, match=r"no http\S+none\.json \(status 404\)"):
        open_scene(f"{served.url}/none.json")
    item.assets["red"].href = str(tmp_path / "no.tif")
    with pytest.raises(SceneError, match=r"no\.tif cannot be opened as a raster"):
        open_scene(item)
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "catalog.json").write_text('{"type": "Catalog"}')
    (tmp_path / "half.json").write_text('{"type": "Feature"}')
    for name, message in (("broken", "cannot be read"), ("half", "cannot be read"), ("catalog", "is no STAC item")):
        with pytest.raises(SceneError, match=message):
            open_scene(tmp_path / f"{name}.json")
    bare = pystac.Item("bare", None, None, dt.datetime(2020, 6, 1, tzinfo=dt.UTC), {})
    bare.add_asset("data", pystac.Asset("x.tif", media_type=pystac.MediaType.COG))
    with pytest.raises(BandError, match="no band was recognised that all items have: bare has none"):
        open_scene(bare)


def test_bands_that_begin_at_other_corners_are_refused(tmp_path: Path) -> None:
    path = sentinel(tmp_path, properties={"s2:processing_baseline": "02.13"})
    file = next(tmp_path.glob("*/B11.tif"))
    write(file, spain("swir16"), ORIGIN @ Affine.translation(0.5, 0) @ Affine.scale(2))
    with pytest.raises(SceneError, match=r"B11\.tif and .* do not begin at the same corner"):
        open_scene(path)


def test_an_item_s_address_without_a_suffix(tmp_path: Path, served: Served) -> None:
    path = sentinel(tmp_path, properties={"s2:processing_baseline": "02.13"})
    plain = json.loads(path.read_text())
    for asset in plain["assets"].values():
        asset["href"] = f"{served.url}/{asset['href']}" if "://" not in asset["href"] else asset["href"]
    target = tmp_path / "collections" / "s2" / "items"
    target.mkdir(parents=True)
    (target / path.stem).write_text(json.dumps(plain))
    scene = open_scene(f"{served.url}/collections/s2/items/{path.stem}", bands=["green"])
    np.testing.assert_array_equal(scene.values[0, 0], expected("green"))
