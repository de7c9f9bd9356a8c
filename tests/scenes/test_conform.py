"""A scene is held against the contract before anything is computed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from prithvi.bands import PRITHVI_BANDS
from prithvi.catalog import dataset
from prithvi.contract import Contract
from prithvi.errors import BandError, ScaleError, SceneError
from prithvi.scenes import conform, open_scene, read, transform_of
from prithvi.scenes.conform import ground_resolution
from tests.conftest import SPAIN

Write = Callable[..., Path]
DN = Contract(PRITHVI_BANDS, (1000.0,) * 6, (500.0,) * 6)
REFLECTANCE = Contract(PRITHVI_BANDS, (0.1,) * 6, (0.05,) * 6, scale=1.0)


def test_bands_come_in_the_contract_s_order_and_units(six_bands: np.ndarray) -> None:
    scene = open_scene(SPAIN, sensor="sentinel-2-l1c", offset=0)
    swapped = DN.select(["swir_2", "blue"])
    np.testing.assert_array_equal(read(conform(scene, swapped), swapped)[0], six_bands[[5, 0]])
    np.testing.assert_allclose(read(conform(scene, REFLECTANCE), REFLECTANCE)[0], six_bands / 1e4, rtol=1e-6)


def test_a_missing_band_is_named_with_those_there_are(write_tif: Write, six_bands: np.ndarray) -> None:
    scene = open_scene(write_tif(six_bands[:3], names=("blue", "green", "red")))
    with pytest.raises(BandError, match="lacks nir_narrow, swir_1, swir_2; it has blue, green, red"):
        conform(scene, DN)


def test_a_broad_near_infrared_needs_leave_and_is_recorded(write_tif: Write, six_bands: np.ndarray) -> None:
    scene = open_scene(write_tif(six_bands, names=("blue", "green", "red", "nir_broad", "swir_1", "swir_2")))
    with pytest.raises(BandError, match="--accept nir_broad"):
        conform(scene, DN)
    accepted = conform(scene, DN, accept=["nir_broad"])
    assert accepted.attrs["accepted"] == ["nir_broad"]
    assert list(accepted["band"].values) == list(PRITHVI_BANDS)


def test_reflectance_for_digital_numbers_and_the_reverse_stop(write_tif: Write, six_bands: np.ndarray) -> None:
    small = write_tif((six_bands / 1e4).astype(np.float32), "small.tif", scale=None)
    with pytest.raises(ScaleError, match=r"too small for reflectance x 10000.*say --scale 1\."):
        conform(open_scene(small), DN)
    np.testing.assert_allclose(
        read(conform(open_scene(small, scale=1), DN), DN)[0], six_bands, rtol=1e-5
    )  # fmt: skip
    large = write_tif(six_bands, "large.tif", scale=None)
    with pytest.raises(ScaleError, match=r"too large for reflectance x 1,.*say --scale 10000"):
        conform(open_scene(large), REFLECTANCE)
    conform(open_scene(large, scale=10_000), REFLECTANCE)


def test_a_scale_that_nobody_states_is_said_to_be_assumed(write_tif: Write, six_bands: np.ndarray) -> None:
    with pytest.warns(UserWarning, match="does not state its scale; its values are taken for reflectance x 10000"):
        conform(open_scene(write_tif(six_bands, scale=None)), DN)


def test_a_file_s_own_scale_is_taken(write_tif: Write, six_bands: np.ndarray) -> None:
    scene = open_scene(write_tif(six_bands, scale=1e-4))
    assert scene.attrs["gain"] == 1e-4
    np.testing.assert_allclose(read(conform(scene, REFLECTANCE), REFLECTANCE)[0], six_bands / 1e4, rtol=1e-6)
    with pytest.warns(UserWarning, match=r"is taken for value x 0\.0002, and it states value x 0\.0001"):
        assert open_scene(scene.attrs["source"], scale=5_000).attrs["gain"] == 1 / 5_000  # what is said counts more


def test_pictures_and_landsat_collection_2_are_not_taken_for_reflectance(
    write_tif: Write, six_bands: np.ndarray
) -> None:
    picture = write_tif((six_bands / 20).clip(0, 255).astype(np.uint8), "picture.tif", scale=None)
    with pytest.raises(ScaleError, match="8-bit picture"):
        conform(open_scene(picture), DN)
    landsat = write_tif((six_bands / 1e4 / 2.75e-5 + 0.2 / 2.75e-5).astype(np.uint16), "landsat.tif", scale=None)
    with pytest.raises(ScaleError, match="Landsat Collection 2"):
        conform(open_scene(landsat), DN)
    scene = open_scene(landsat, sensor="landsat-8-c2-l2")
    np.testing.assert_allclose(read(conform(scene, DN), DN)[0], six_bands, atol=0.6)


def test_a_scene_without_data_is_refused_however_large(write_tif: Write) -> None:
    empty = np.full((6, 600, 300), -9999, np.int16)
    with pytest.raises(SceneError, match="no pixel with data in every band"):
        conform(open_scene(write_tif(empty, "empty.tif", nodata=-9999)), DN)
    empty[:, 590:, 290:] = 1200  # a corner is enough
    conform(open_scene(write_tif(empty, "corner.tif", nodata=-9999)), DN)


@pytest.mark.filterwarnings("ignore:.*do not tell whether that is right")
def test_a_sentinel_2_offset_shows_in_the_values(shared: Path) -> None:
    """The L1C image of 282D still carries +1,000, the one of 637U does not."""
    folder = shared / "terramind_examples" / "S2L1C"
    carries = next(folder.glob("*282D*.tif"))
    with pytest.warns(UserWarning, match="has no date"):
        scene = open_scene(carries, sensor="sentinel-2-l1c")
    with (
        pytest.raises(ScaleError, match="no value under 1,000 in any band"),
        pytest.warns(UserWarning, match="taken in the order of sentinel-2-l1c"),
    ):
        conform(scene, DN)
    with pytest.warns(UserWarning, match="taken in the order of sentinel-2-l1c"):
        conform(open_scene(carries, sensor="sentinel-2-l1c", offset=-1000), DN)
    with pytest.warns(UserWarning, match="has no date|taken in the order of sentinel-2-l1c"):
        conform(open_scene(next(folder.glob("*637U*.tif")), sensor="sentinel-2-l1c"), DN)


def test_the_1000_shows_where_no_scale_is_stated_either(write_tif: Write, six_bands: np.ndarray) -> None:
    path = write_tif(six_bands + np.int16(1000), scale=None)
    with pytest.raises(ScaleError, match=r"no value under 1,000 .*say --scale 10000 --offset -1000 if .*--offset 0 if"):
        conform(open_scene(path), DN)
    mended = read(conform(open_scene(path, scale=10_000, offset=-1000), DN), DN)
    np.testing.assert_array_equal(mended[0], six_bands)
    conform(open_scene(path, scale=10_000, offset=0), DN)


def test_a_name_that_means_no_band_is_in_the_message(write_tif: Write, six_bands: np.ndarray) -> None:
    scene = open_scene(write_tif(six_bands, names=("BLEU", "green", "red", "nir", "swir_1", "swir_2")))
    with pytest.raises(
        BandError,
        match=r"lacks blue, nir_narrow; .*'BLEU' means no band: did you mean blue.*'nir' may be nir_broad or nir_",
    ):
        conform(scene, DN)


def test_a_part_of_a_scene_knows_its_place(write_tif: Write, six_bands: np.ndarray) -> None:
    from affine import Affine

    scene = open_scene(write_tif(six_bands))
    part = scene.isel(y=slice(100, 200), x=slice(50, 90))
    assert transform_of(part) == Affine(10, 0, 600_500, 0, -10, 4_199_000)
    assert transform_of(scene.isel(y=slice(None, None, 2), x=slice(None, None, 2))).a == 20
    rotated = Affine.translation(600_000, 4_200_000) @ Affine.rotation(30) @ Affine.scale(10, -10)
    turned = open_scene(write_tif(six_bands, "turned.tif", transform=rotated))
    assert transform_of(turned) == rotated
    assert ground_resolution(turned) == pytest.approx(10)
    moved = rotated @ Affine.translation(0, 20)
    assert transform_of(turned.isel(y=slice(20, 60))).almost_equals(moved, precision=1e-6)


def test_feet_are_not_metres(write_tif: Write, six_bands: np.ndarray) -> None:
    assert ground_resolution(open_scene(write_tif(six_bands, crs="EPSG:2263"))) == pytest.approx(3.048, abs=0.01)


def test_another_resolution_or_level_warns(write_tif: Write, six_bands: np.ndarray) -> None:
    contract = Contract(PRITHVI_BANDS, DN.mean, DN.std, resolution=30, level="SR")
    scene = open_scene(SPAIN, sensor="sentinel-2-l1c", offset=0)
    with (
        pytest.warns(UserWarning, match="is TOA, and the model was trained on SR"),
        pytest.warns(UserWarning, match="pixels of 8.* m, and the model was trained on 30 m"),
    ):
        conform(scene, contract)
    assert ground_resolution(scene) == pytest.approx(8.9, abs=0.1)  # 10 m east to west at the equator
    assert ground_resolution(open_scene(write_tif(six_bands))) == 10
    conform(scene, dataset("sen1floods11").contract)


def test_a_file_cut_short_is_said_so(write_tif: Write, six_bands: np.ndarray) -> None:
    path = write_tif(six_bands)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SceneError, match=r"scene\.tif (is damaged or cut short|cannot be opened)"):
        conform(open_scene(path), DN)
