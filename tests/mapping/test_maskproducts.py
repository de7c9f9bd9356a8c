"""Mask products: what the values of each mean, how a file is known for one, and on which grids it may lie."""

from __future__ import annotations

import gc
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

import prithvi as library
from prithvi.errors import ConfigError, SceneError
from prithvi.mapping import clear_of, mask_scene
from prithvi.mapping.maskproducts import MASK_PRODUCTS, product_of
from prithvi.scenes.names import day_in_name
from tests.mapping.test_masks import PLACE, made, write

VALUES = {
    # value: clear, cloudy or not seen
    "fmask": {0: 1, 1: 1, 64: 1, 68: 1, 80: 1, 96: 1, 224: 1, 66: 0, 72: 0, 2: 0, 8: 0, 74: 0, 255: None},
    "scl": {2: 1, 4: 1, 5: 1, 6: 1, 7: 1, 11: 1, 3: 0, 8: 0, 9: 0, 10: 0, 0: None, 1: None},
    # As the guides list them for Landsat 8 (21824 clear, 21952 water, 22280 cloud) and 4 to 7 (5440, 5504, 5896).
    "qa_pixel": {
        21824: 1, 21952: 1, 30048: 1, 5440: 1, 5504: 1, 22280: 0, 23888: 0, 54596: 0, 21762: 0, 5896: 0, 7440: 0,
        1: None, 0: None,
    },
    "pixel_qa": {322: 1, 324: 1, 336: 1, 66: 1, 328: 0, 352: 0, 480: 0, 72: 0, 224: 0, 1: None},
    "cfmask": {0: 1, 1: 1, 3: 1, 2: 0, 4: 0, 255: None},
    "dswx_cloud": {0: 1, 2: 1, 1: 0, 3: 0, 4: 0, 5: 0, 6: 0, 7: 0, 255: None},
    "cloud": {0: 1, 1: 0, 2: 0, 255: 0},
    "clear": {1: 1, 0: 0},
}  # fmt: skip
NAMES = {
    "HLS.S30.T31UDS.2022121T105621.v2.0.Fmask.tif": "fmask",
    "T31UDS_20220501T105031_SCL_20m.jp2": "scl",
    "S2_scl_crop.tif": "scl",
    "SCL.tif": "scl",
    "LC08_L2SP_199024_20220501_20220511_02_T1_QA_PIXEL.TIF": "qa_pixel",
    "LC08_L1TP_199024_20170501_20170511_01_T1_pixel_qa.tif": "pixel_qa",
    "LC80340322016189LGN00_cfmask_crop.tif": "cfmask",
    "LE70230282011250ASN00_fmask.tif": "cfmask",
    "LC08_L1TP_199024_20220501_20220511_02_T1_Fmask4.tif": "cfmask",
    "OPERA_L3_DSWx-HLS_T15SXR_20220501T163901Z_20220502T000000Z_S2A_30_v1.0_B09_CLOUD.tif": "dswx_cloud",
    "a_clouds.tif": "cloud",
}


def test_every_product_has_its_values_and_its_name() -> None:
    assert VALUES.keys() == MASK_PRODUCTS.keys()
    for key, table in VALUES.items():
        product, values = MASK_PRODUCTS[key], np.array(list(table))
        assert product.is_clear(values).tolist() == [state == 1 for state in table.values()], key
        assert product.observed(values).tolist() == [state is not None for state in table.values()], key
        assert product.strange(values) == ([255] if key == "clear" and 255 in table else [])
        assert product.guide
    for name, key in NAMES.items():
        assert product_of(name, np.array([0])) == key, name


@pytest.mark.parametrize(
    "name",
    [
        "LC80340322016189LGN00_cfmask_conf_crop.tif", "LC80340322016189LGN00_bqa_crop.tif", "x_sr_cloud.tif",
        "LC08_L2SP_199024_20220501_20220511_02_T1_QA_RADSAT.TIF", "LC08_L2SP_199024_x_02_T1_SR_QA_AEROSOL.TIF",
        "LT05_L2SP_199024_x_02_T1_SR_CLOUD_QA.TIF", "MSK_CLDPRB_20m.jp2", "MSK_CLASSI_B00.jp2", "x_CLD_20m.jp2",
        "OPERA_L3_DSWx-HLS_T15SXR_x_v1.0_B01_WTR.tif", "cloud_probability.tif",
    ],
)  # fmt: skip
def test_layers_that_lie_beside_masks_are_refused_by_name(name: str, tmp_path: Path) -> None:
    """And are read once it is said what they hold."""
    path = write(tmp_path / "m.tif", np.eye(8, dtype=np.uint8)).rename(tmp_path / name)
    with pytest.raises(SceneError, match="is by its name no cloud mask that is known"):
        clear_of([path, None], made())
    np.testing.assert_array_equal(clear_of([path, None], made(), product="cloud").values[0], np.eye(8) == 0)


def test_each_mask_is_read_as_its_product_and_says_so(tmp_path: Path) -> None:
    """A file of every value of each product, by its name and by what is said."""
    for key, table in VALUES.items():
        values = np.resize(np.array(list(table)), (8, 8)).astype(np.uint16 if max(table) > 255 else np.uint8)
        name = next((name for name, its in NAMES.items() if its == key and name.endswith(("tif", "TIF"))), "mask.tif")
        folder = tmp_path / key
        folder.mkdir()
        for path, product in ((folder / name, None), (folder / "mask_of_2022.tif", key)):
            if product is None and key == "clear":
                continue
            write(path, values)
            day = day_in_name(path) or "2022-05-01"
            days = made().assign_coords(time=np.array([day, "2000-01-01"], "datetime64[ns]"))
            found = clear_of([path, None], days, product=product)
            expected = np.vectorize(lambda value, table=table: table[value] == 1)(values)
            np.testing.assert_array_equal(found.values[0], expected)
            assert found.values[1].all()
            told = found.attrs["masks"][0]
            assert f"read as {MASK_PRODUCTS[key].title}" in told
            assert f"{expected.mean():.1%} clear" in told
            assert ("not seen" in told) == (None in table.values())


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are listed by Linux")
def test_masks_that_are_read_again_and_again_do_not_stay_open_each_time(tmp_path: Path) -> None:
    """A process that fills for hours, such as a service's, collects garbage rarely."""
    path = write(tmp_path / "m.tif", np.eye(8, dtype=np.uint8))
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            clear_of([path, None], made()).compute(scheduler="sync")
        links = [Path(os.readlink(link)) for link in Path("/proc/self/fd").iterdir() if link.exists()]
    finally:
        gc.enable()
    assert links.count(path) <= 1


def test_a_mask_within_an_archive_is_read_and_one_that_was_written_anew_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = np.eye(8, dtype=np.uint8)
    path = write(tmp_path / "m.tif", first)
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        archive.write(path, "m.tif")
    np.testing.assert_array_equal(clear_of(["/vsizip/m.zip/m.tif", None], made()).values[0], first == 0)
    np.testing.assert_array_equal(clear_of([path, None], made()).values[0], first == 0)
    path.unlink()
    write(path, first[::-1])
    np.testing.assert_array_equal(clear_of([path, None], made()).values[0], first[::-1] == 0)


@pytest.mark.parametrize("internal", [True, False])
def test_what_a_mask_of_the_mask_covers_was_not_seen(internal: bool, tmp_path: Path) -> None:
    """Inside the file or beside it (.msk), as gdal_translate -mask writes them."""
    path = write(tmp_path / "clouds.tif", np.eye(8, dtype=np.uint8))
    there = np.full((8, 8), 255, np.uint8)
    there[5:] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal), rasterio.open(path, "r+") as raster:
        raster.write_mask(there)
    assert (tmp_path / "clouds.tif.msk").exists() != internal
    found = clear_of([path, None], made())
    np.testing.assert_array_equal(found.values[0], (np.eye(8) == 0) & (there > 0))
    assert "54.7% clear, 7.8% cloud or shadow, 37.5% not seen" in found.attrs["masks"][0]
    result = mask_scene(made(dates=1), tmp_path / "out" / "made.tif", mask=path)
    assert result.without_data == 24


def test_a_note_has_no_share_below_nothing(tmp_path: Path) -> None:
    values = np.zeros((30, 30), np.uint8)
    for lost in (1, 7, 49, 93, 301):  # of some 1 - clear - lost is below 0
        values.flat[:lost] = 255
        path = write(tmp_path / f"{lost}_fmask.tif", values)
        told = clear_of([path], made(30, 1), product="fmask").attrs["masks"][0]
        assert ", 0.0% cloud or shadow" in told


def test_an_fmask_without_a_product_in_its_name_is_told_by_its_values(tmp_path: Path) -> None:
    """Bits with those of aerosol, or classes; where 3 and 4 may be either it is asked, and the answer is obeyed."""
    bits = np.resize(np.array([64, 66, 68, 4], np.uint8), (8, 8))
    found = clear_of([write(tmp_path / "a_Fmask.tif", bits), None], made())
    np.testing.assert_array_equal(found.values[0], bits != 66)
    either = np.resize(np.array([0, 2, 255], np.uint8), (8, 8))
    found = clear_of([write(tmp_path / "b_Fmask.tif", either), None], made())
    np.testing.assert_array_equal(found.values[0], either == 0)
    classes = write(tmp_path / "c_Fmask.tif", np.resize(np.array([0, 1, 2, 3, 4], np.uint8), (8, 8)))
    with pytest.raises(SceneError, match="say --clouds-are fmask or --clouds-are cfmask"):
        clear_of([classes, None], made())
    with rasterio.open(classes) as raster:
        values = raster.read(1)
    for product, clear in (("fmask", (0, 1, 4)), ("cfmask", (0, 1, 3))):
        found = clear_of([classes, None], made(), product=product)
        np.testing.assert_array_equal(found.values[0], np.isin(values, clear))


def test_values_that_a_product_has_not_and_fractions_are_refused(tmp_path: Path) -> None:
    fmask = np.resize(np.array([64, 66, 96], np.uint8), (8, 8))
    renamed = write(tmp_path / "x_SCL.tif", fmask)
    with pytest.raises(SceneError, match="read as Sentinel-2 SCL, which has no value 64, 66, 96: say what it is"):
        clear_of([renamed, None], made())
    np.testing.assert_array_equal(clear_of([renamed, None], made(), product="fmask").values[0], fmask != 66)
    with pytest.raises(SceneError, match=r"has fractions \(0, 0.25\), such as probabilities: set a limit"):
        clear_of([write(tmp_path / "p.tif", np.float32(0.25) * np.eye(8, dtype=np.float32)), None], made())
    classes = np.resize(np.array([0, 4, np.nan, -1.7e308, 2]), (8, 8))
    read = clear_of([write(tmp_path / "x_cfmask.tif", classes, nodata=-1.7e308), None], made())
    np.testing.assert_array_equal(read.values[0], classes == 0)
    assert f"{np.mean(~np.isin(classes, (0, 2, 4))):.1%} not seen" in read.attrs["masks"][0]
    with pytest.raises(SceneError, match="has 3 bands, and which is the mask is not known"):
        clear_of([write(tmp_path / "rgb.tif", np.zeros((3, 8, 8), np.uint8)), None], made())
    with pytest.raises(ConfigError, match="there is no kind of cloud mask 'sxl': did you mean scl"):
        clear_of([renamed, None], made(), product="sxl")


def test_a_mask_a_hair_off_the_grid_is_taken_whole_and_a_coarser_one_repeated(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    values = (random.random((8, 8)) < 0.5).astype(np.uint8)
    series, hair = made(), Affine.translation(1e-4, -2e-4) @ PLACE
    found = clear_of([write(tmp_path / "a.tif", values, hair), write(tmp_path / "b.tif", values)], series)
    assert found.shape == (2, 8, 8)
    assert found.dtype == bool
    np.testing.assert_array_equal(found.values, np.stack([values == 0] * 2))
    np.testing.assert_array_equal(found["x"], series["x"])
    coarse = (random.random((4, 4)) < 0.5).astype(np.uint8)
    path = write(tmp_path / "c.tif", coarse, PLACE @ Affine.scale(2))
    wide = np.kron(coarse == 0, np.ones((2, 2), bool))
    np.testing.assert_array_equal(clear_of([path, None], series).values[0], wide)
    seven = made(7)  # SCL of 20 m covers one row and column more than bands of 10 m that end in the middle of it
    np.testing.assert_array_equal(clear_of([path, None], seven).values[0], wide[:7, :7])
    for transform, size in (
        (Affine.translation(5, 0) @ PLACE, 8), (PLACE @ Affine.scale(1.001), 8), (PLACE, 7), (PLACE, 9),
        (Affine.translation(10, 0) @ PLACE @ Affine.scale(2), 4), (PLACE @ Affine.scale(2), 5),
        (PLACE @ Affine.scale(0.5), 16),
    ):  # fmt: skip
        off = write(tmp_path / "off.tif", np.zeros((size, size), np.uint8), transform)
        with pytest.raises(SceneError, match="do not lie on one grid"):
            clear_of([off, None], series)


def test_true_masks_of_one_granule_say_the_same(shared: Path) -> None:
    """DSWx's cloud layer was made of the Fmask beside it: its bit 2 is that one's cloud, bit 0 more than shadow."""
    folder = shared / "proteus_hls_s30_dswx"
    series = library.open_scene(sorted(folder.glob("HLS*.B*.tif")))
    read = {}
    for name in ("HLS.S30.T15SXR.2021250T163901.v2.0.Fmask.tif", "dswx_hls_v0.1_B09_CLOUD.tif"):
        found = clear_of([folder / name], series)
        with rasterio.open(folder / name) as raster:
            read[name] = found.values[0], raster.read(1)
        assert found.attrs["masks"][0].count("read as") == 1
    (fmask, bits), (dswx, layer) = read.values()
    seen = (bits != 255) & (layer != 255)
    np.testing.assert_array_equal((bits & 2 > 0)[seen], (layer & 4 > 0)[seen])
    assert not (dswx & ~fmask)[seen].any()
    assert fmask.mean() == pytest.approx(((bits & 0b1010) == 0)[bits != 255].sum() / bits.size)
    assert 0.85 < dswx.mean() < fmask.mean() < 1
    fire = shared / "cold_springs_fire"
    scene = library.open_scene(sorted(fire.glob("LC80340322016189*sr_band[2-7]_crop.tif")))
    found = clear_of([fire / "LC80340322016189LGN00_cfmask_crop.tif"], scene)
    assert "read as Fmask or CFmask by classes: 81.6% clear, 18.4% cloud or shadow." in found.attrs["masks"][0]
    with pytest.raises(SceneError, match="by its name no cloud mask"):
        clear_of([fire / "LC80340322016189LGN00_cfmask_conf_crop.tif"], scene)
