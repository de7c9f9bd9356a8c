"""Embeddings as a product: whole numbers that decode themselves, a row a patch, and faults that are said."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import xarray as xr
from rio_cogeo.cogeo import cog_validate

import prithvi
from prithvi.errors import ConfigError
from prithvi.mapping import embed_scene
from prithvi.mapping.embedding_checks import Checks
from prithvi.mapping.embedding_files import whole_numbers
from prithvi.scenes import open_scene
from prithvi.windows import plan
from tests.mapping.test_embeddings import DAY, ROTATED, UTM, Write, tiny

# A model with random weights sees next to nothing of its pixels.
pytestmark = pytest.mark.filterwarnings("ignore:.* features vary little", "ignore:borders of windows show")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_whole_numbers_decode_themselves_in_both_files(
    zarr_format: int, six_bands: np.ndarray, write_tif: Write, tmp_path: Path
) -> None:
    holes = six_bands[:, :80, :300].copy()
    holes[:, :, :64] = -9999
    scene = open_scene(write_tif(holes, nodata=-9999), dates=[DAY])
    wanted = prithvi.embed(scene, tiny())["embedding"].values
    store = embed_scene(tiny(), scene, tmp_path / "e.zarr", dtype="int8", zarr_format=zarr_format)
    cog = embed_scene(tiny(), scene, tmp_path / "e.tif", dtype="int8")
    decoded = xr.open_zarr(store)["embedding"]
    step = float(np.nanmax(np.abs(wanted.astype("f4")))) / 127
    assert decoded.dtype.kind == "f"
    assert decoded.encoding["scale_factor"] == pytest.approx(step)
    assert xr.open_zarr(store, mask_and_scale=False)["embedding"].dtype == np.int8
    np.testing.assert_array_equal(np.isnan(decoded.values), np.isnan(wanted))
    known = np.isfinite(wanted)
    np.testing.assert_allclose(decoded.values[known], wanted[known].astype("f4"), atol=step * 0.5001)
    assert cog_validate(cog)[:2] == (True, [])
    with rasterio.open(cog) as raster:
        assert (set(raster.dtypes), raster.nodata, set(raster.scales)) == (
            {"int8"},
            -128,
            {decoded.encoding["scale_factor"]},
        )
        stored = raster.read(masked=True)
        np.testing.assert_array_equal(
            stored.data.reshape(wanted.shape), xr.open_zarr(store, mask_and_scale=False)["embedding"]
        )
        assert raster.tags()["PRITHVI_CHECKED"] == xr.open_zarr(store).attrs["PRITHVI_CHECKED"]
        assert "A step of the whole numbers is at most" in raster.tags()["PRITHVI_CHECKED"]
    opened = xr.open_dataset(cog, engine="rasterio", mask_and_scale=True)["band_data"]
    np.testing.assert_allclose(opened.values.reshape(wanted.shape), decoded.values, rtol=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e.tif", "e.zarr", "scene.tif"]


@pytest.mark.parametrize("transform", [UTM, ROTATED])
@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_a_row_a_patch_has_its_place_date_and_vector(
    dtype: str, transform, six_bands: np.ndarray, write_tif: Write, tmp_path: Path
) -> None:
    holes = six_bands[:, :80, :96].copy()
    holes[:, :, :64] = -9999
    files = [write_tif(holes, f"{n}.tif", transform=transform, nodata=-9999) for n in (0, 1)]
    scene = open_scene(files, dates=[DAY, "2019-10-01"])
    path = embed_scene(tiny(2), scene, tmp_path / "out" / "e.zarr", dtype=dtype, patches=True)
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["e.parquet", "e.zarr"]
    rows = gpd.read_parquet(path.with_suffix(".parquet"))
    stored = xr.open_zarr(path, mask_and_scale=False)["embedding"].values
    known = ~np.isnan(stored[:, 0]) if dtype == "float16" else stored[:, 0] != -128
    assert len(rows) == known.sum() == 2 * 20 * 8
    assert rows.crs.to_epsg() == 32630
    assert rows["time"].dt.strftime("%Y-%m-%d").unique().tolist() == [DAY, "2019-10-01"]
    for each in (rows.iloc[0], rows.iloc[-1], rows.iloc[77]):
        np.testing.assert_array_equal(each["embedding"], stored[each["step"], :, each["row"], each["column"]])
        x, y = transform @ (4 * each["column"] + 2, 4 * each["row"] + 2)
        assert each.geometry.centroid.distance(gpd.points_from_xy([x], [y])[0]) < 1e-6
        assert each.geometry.area == pytest.approx(16 * abs(transform.determinant))
    with pytest.warns(UserWarning, match=r"e\.parquet is not of these embeddings: remove it if an earlier run left it"):
        embed_scene(tiny(2), scene, path, dtype=dtype)


def test_what_cannot_be_made_is_refused_before_anything_is_computed(
    six_bands: np.ndarray, write_tif: Write, tmp_path: Path
) -> None:
    scene = open_scene(write_tif(six_bands[:, :64, :64]), dates=[DAY])
    with pytest.raises(ConfigError, match="float16 or int8, and not as uint8"):
        embed_scene(tiny(), scene, tmp_path / "e.tif", dtype="uint8")
    with pytest.raises(ConfigError, match="leave out patches, or pixels"):
        embed_scene("prithvi_hls_tiny", scene, tmp_path / "e.tif", patches=True, pixels=True)
    with pytest.raises(ConfigError, match=r"written as \.tif or \.zarr"):
        embed_scene(tiny(), scene, tmp_path / "e.png")
    assert [entry.name for entry in tmp_path.iterdir()] == ["scene.tif"]


def noise(height: int = 40, width: int = 48) -> np.ndarray:
    found: np.ndarray = np.random.default_rng(0).normal(size=(1, 4, height, width)).astype(np.float16)
    return found


def checked(values: np.ndarray, split: int = 7) -> Checks:
    """Windows of 8 cells side by side, a cell a pixel; rows come a few at a time."""
    checks = Checks(plan(values.shape[-2], values.shape[-1], 8, 8), 1, values.shape[1])
    for first in range(0, values.shape[-2], split):
        checks.add(values[..., first : first + split, :])
    return checks


def test_sound_vectors_have_no_fault_however_rows_come() -> None:
    ones = checked(noise(), 1), checked(noise(), 40)
    assert [each.faults() for each in ones] == [[], []]
    assert ones[0].sentence() == ones[1].sentence()
    assert ones[0].sentence().startswith("1,920 vectors, all of numbers; the largest value is ")
    assert ones[0].seam == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("axis", [2, 3])
def test_borders_of_windows_that_show_are_found(axis: int) -> None:
    values = noise() * np.float16(0.2)
    blocks = np.arange(values.shape[axis]) // 8 % 2
    values += (blocks[:, None] if axis == 2 else blocks[None]).astype(np.float16)
    assert any("borders of windows show" in fault for fault in checked(values).faults())
    shifted = np.roll(values, 4, axis)  # edges of the same size that are none of windows
    assert not any("borders" in fault for fault in checked(shifted).faults())


def test_absurd_values_and_those_that_are_no_numbers_are_counted() -> None:
    values = noise()
    values[:, :, 0, :5] = np.nan  # no data
    values[0, 1, 9, 9], values[0, 2, 10, 10] = np.inf, np.nan
    checks = checked(values)
    assert (checks.vectors, checks.broken) == (1920 - 5 - 2, 2)
    assert "2 vectors have values that are no numbers" in checks.faults()[0]
    many = noise(160, 192)
    many[0, 3, 20, 20] = 400
    assert ["times the root mean square of all" in fault for fault in checked(many).faults()] == [True]
    assert checked(np.ones_like(values)).faults() == [
        "all vectors are the same: the scene is uniform, or the model has no trained weights."
    ]
    assert checked(np.full_like(values, np.nan)).faults() == []


def test_no_number_becomes_nodata_and_none_is_made_up() -> None:
    values = np.array([np.nan, np.inf, -12.7, 12.7, 0.04, 0.06], np.float32)
    np.testing.assert_array_equal(whole_numbers(values, 0.1), [-128, -128, -127, 127, 0, 1])


def test_features_that_whole_numbers_say_too_little_of_are_told(
    six_bands: np.ndarray, write_tif: Write, tmp_path: Path
) -> None:
    model = tiny()
    weight = dict(model.encoder.named_parameters())["norm.weight"]
    weight.data[3] = 300.0
    scene = open_scene(write_tif(six_bands[:, :64, :64]), dates=[DAY])
    with pytest.warns(UserWarning, match=r"63 of 64 features vary little .*--dtype float16"):
        path = embed_scene(model, scene, tmp_path / "e.zarr", dtype="int8")
    assert "63 Of 64" not in xr.open_zarr(path).attrs["PRITHVI_CHECKED"]
    assert "take float16" in xr.open_zarr(path).attrs["PRITHVI_CHECKED"]
