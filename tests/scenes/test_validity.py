"""What cannot be reflectance gets no class, whatever value it has and whoever reads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr

import prithvi
from prithvi.bands import PRITHVI_BANDS
from prithvi.chips import ChipStore
from prithvi.contract import Contract
from prithvi.errors import ScaleError, SceneError
from prithvi.mapping import embed_scene, fill_series, map_scene
from prithvi.mapping.sliding_window import rows_of
from prithvi.modelio.predictor import FittedModel
from prithvi.scenes import Area, conform, crop, open_scene, read
from prithvi.scenes.conform import units_of
from prithvi.scenes.validity import Range, Tally, mask_impossible
from tests.conftest import Answer

Write = Callable[..., Path]
Cli = Callable[..., Answer]
DN = Contract(PRITHVI_BANDS, (1000.0,) * 6, (500.0,) * 6)


def holed(six: np.ndarray, fill: float, dtype: str, how: str) -> tuple[np.ndarray, np.ndarray]:
    """The pixels with fill in a block, scattered, or scattered over single bands, and where."""
    pixels = six[:, :96, :96].astype(dtype)
    holes = np.zeros(pixels.shape[1:], bool)
    if how == "block":
        holes[20:50, 30:60] = True
        pixels[:, holes] = fill
    else:
        generator = np.random.default_rng(0)
        holes.ravel()[generator.choice(holes.size, 40, replace=False)] = True
        if how == "scattered":
            pixels[:, holes] = fill
        else:
            rows, columns = np.nonzero(holes)
            pixels[generator.integers(0, 6, len(rows)), rows, columns] = fill
    return pixels, holes


FILLS = [
    (-32768, "int16"), (32767, "int16"), (-9999, "int16"), (-1000, "int16"), (-1, "int16"), (0, "int16"),
    (65535, "uint16"), (55537, "uint16"), (0, "uint16"), (-3.4028234663852886e38, "float32"), (-99999, "float32"),
    (1e20, "float32"), (float("inf"), "float32"), (float("-inf"), "float32"), (-1, "float32"), (-9999, "float64"),
]  # fmt: skip
"""Values that products write where they have nothing, and types that hold them."""


@pytest.mark.parametrize(("fill", "dtype"), FILLS)
@pytest.mark.parametrize("how", ["block", "scattered", "single bands"])
def test_fill_that_nobody_declares_maps_as_if_it_were_declared(
    fill: float, dtype: str, how: str, fitted: FittedModel, write_tif: Write, six_bands: np.ndarray, tmp_path: Path
) -> None:
    possible = -0.2 <= fill * 1e-4 <= 2.0
    if how == "single bands" and possible:
        pytest.skip("one band of -1 may be a measurement")
    pixels, holes = holed(six_bands, fill, dtype, how)
    there = six_bands[:, :96, :96]
    result = map_scene(fitted, open_scene(write_tif(pixels)), tmp_path / "map.tif")
    truth = np.where((pixels == pixels.dtype.type(fill)).any(axis=0), np.nan, there).astype(np.float32)
    expected = map_scene(fitted, open_scene(write_tif(truth, "truth.tif", nodata=np.nan)), tmp_path / "truth_map.tif")
    if how != "single bands" and possible:  # where the scene itself has that value in one band, it keeps it
        truth = np.where(holes, np.nan, there).astype(np.float32)
        expected = map_scene(fitted, open_scene(write_tif(truth, "t.tif", nodata=np.nan)), tmp_path / "truth_map.tif")
    with rasterio.open(result.path) as one, rasterio.open(expected.path) as other:
        np.testing.assert_array_equal(one.read(1), other.read(1))
        told = one.tags()["PRITHVI_LEFT_OUT"]
    assert result.without_data == holes.sum()
    assert result.notes[0] == told
    assert told.startswith(f"{holes.sum():,} pixels hold {fill:.7g}")
    assert ("in every band" in told) == possible
    assert expected.notes == ()


def test_values_that_could_be_reflectance_stay(fitted: FittedModel, write_tif: Write, six_bands: np.ndarray) -> None:
    """-1 and -32 over dark water in single bands, and a band of zeros."""
    pixels = six_bands[:, :64, :64].copy()
    pixels[3, :10], pixels[4, 10:20], pixels[5, 20:30] = -1, -32, 0
    found = read(conform(open_scene(write_tif(pixels)), DN), DN)
    np.testing.assert_array_equal(found[0], pixels)


def test_the_limits_themselves_are_reflectance(write_tif: Write, six_bands: np.ndarray) -> None:
    """0 in Landsat Collection 2 is -0.2, and 80,000 would be 2.0: rounding decides nothing."""
    pixels = np.full((6, 64, 64), 20_000, np.uint16)
    pixels[2, 5, 5], pixels[1, 6, 6] = 0, 65_535
    scene = conform(open_scene(write_tif(pixels, scale=None), scale=1 / 2.75e-5, offset=-0.2 / 2.75e-5), DN)
    assert np.isfinite(read(scene, DN)).all()
    for scale, low, high in ((1e-4, -2000, 20_000), (1.0, np.float32(-0.2), 2.0)):
        values = np.array([low, high], np.float32)
        assert Range.of(scale, 0).outside(values) is None
        assert Range.of(scale, 0).outside(values + np.array([-0.001, 0.001], np.float32) / scale) is not None


@pytest.mark.parametrize(("fill", "count"), [(65_535, 100), (0, 100)])
def test_the_last_number_of_a_type_in_every_band_is_fill(
    fill: int, count: int, fitted: FittedModel, write_tif: Write, six_bands: np.ndarray
) -> None:
    """65,535 in Landsat Collection 2 would be 1.602."""
    pixels = ((six_bands[:, :64, :64] * 1e-4 + 0.2) / 2.75e-5).astype(np.uint16)
    pixels[:, :10, :10] = fill
    pixels[2, 30, 30] = fill
    tally = Tally(1, 64)
    scene = conform(open_scene(write_tif(pixels, scale=None), scale=1 / 2.75e-5, offset=-0.2 / 2.75e-5), DN)
    rows = rows_of(scene, DN, tally)
    missing = np.isnan(rows(0, 40)).any(axis=(0, 1))
    rows(20, 64)
    assert missing.sum() == count
    assert missing[:10, :10].all()
    assert tally.sentence(*units_of(scene, DN)).startswith(f"{count} pixels hold {fill} in every band")


def test_the_wrong_scale_is_said_and_not_taken_for_fill(write_tif: Write, six_bands: np.ndarray) -> None:
    path = write_tif(six_bands, scale=None)
    with pytest.raises(ScaleError, match=r"too large for .* --scale 10000"):
        conform(open_scene(path, scale=100), DN)
    with pytest.raises(ScaleError, match="below any reflectance"):
        conform(open_scene(path, scale=10_000, offset=-9000), DN)
    mostly = six_bands.copy()
    mostly[:, :400] = -32768  # a swath that only touches the tile
    conform(open_scene(write_tif(mostly, "swath.tif")), DN)
    corner = np.full((6, 700, 700), 32767, np.int16)
    with pytest.raises(SceneError, match="no pixel with data in every band"):
        conform(open_scene(write_tif(corner, "nothing.tif")), DN)
    corner[:, 690:, 690:] = 1200
    conform(open_scene(write_tif(corner, "corner.tif")), DN)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("fill", [-32768, -1])
def test_arrays_are_held_to_the_same_rule(
    fill: int, lazy: bool, fitted: FittedModel, write_tif: Write, six_bands: np.ndarray, tmp_path: Path
) -> None:
    pixels, holes = holed(six_bands, fill, "int16", "block")
    path = write_tif(pixels)
    array = open_scene(path).load()
    before = array.values.copy()
    if lazy:
        array = array.chunk(y=40, band=1)
        found = prithvi.map(array, fitted)
    else:
        with pytest.warns(UserWarning, match=f"900 pixels hold {fill}"):
            found = prithvi.map(array, fitted)
        assert found.attrs["PRITHVI_LEFT_OUT"].startswith("900 pixels hold")
        np.testing.assert_array_equal(array.values, before)
    result = map_scene(fitted, open_scene(path), tmp_path / "map.tif")
    np.testing.assert_array_equal(found["class"].values == 255, holes)
    with rasterio.open(result.path) as raster:
        np.testing.assert_array_equal(found["class"].values, raster.read(1))


def test_an_area_and_a_resumed_map_count_their_own_pixels(
    fitted: FittedModel, write_tif: Write, six_bands: np.ndarray, tmp_path: Path
) -> None:
    pixels, _ = holed(six_bands, -32768, "int16", "block")
    scene = open_scene(write_tif(pixels))
    box = scene.isel(y=slice(40, 80), x=slice(0, 96)).rio.transform_bounds("EPSG:4326")
    part = map_scene(fitted, scene, tmp_path / "part.tif", area=Area.box(*box))
    number = int(part.notes[0].split()[0])
    assert number == part.without_data - _outside(tmp_path / "part.tif", Area.box(*box))

    class StopError(Exception):
        pass

    def stop(done: int, whole: int) -> None:
        if done > whole * 0.7:
            raise StopError

    with pytest.raises(StopError):
        map_scene(fitted, scene, tmp_path / "map.tif", progress=stop, batch_size=1)
    resumed = map_scene(fitted, scene, tmp_path / "map.tif", resume=True, batch_size=1)
    again = map_scene(fitted, scene, tmp_path / "map.tif", resume=True, batch_size=1)
    assert resumed.notes == again.notes
    assert resumed.notes[0].startswith("900 pixels hold -32768")


def _outside(path: Path, area: Area) -> int:
    scene = xr.open_dataarray(path, engine="rasterio").expand_dims("time")
    return int((~area.mask(scene, slice(None), slice(None))).sum())


def test_series_and_embeddings_leave_out_and_say_the_same(
    write_tif: Write, six_bands: np.ndarray, tmp_path: Path
) -> None:
    names = [f"{band} {day}" for day in ("2020-05-01", "2020-05-11", "2020-05-21") for band in PRITHVI_BANDS]
    pixels = np.concatenate([six_bands[:, :64, :64]] * 3)
    pixels[6:12, 10:20, 10:30] = -32768
    pixels[13, 40, 40] = 32767
    series = open_scene(write_tif(pixels, names=tuple(names)))

    def nearest(image: np.ndarray, known: np.ndarray, times: np.ndarray, where: tuple[float, float]) -> np.ndarray:
        return np.where(known, image, 777.0)

    result = fill_series(series, tmp_path / "filled", nearest, uncertainty=False)
    assert [note[:35] for note in result.notes] == [
        "2020-05-11: 200 pixels hold -32768,",
        "2020-05-21: 1 pixel holds 32767, wh",
    ]
    assert result.filled == 201
    with rasterio.open(tmp_path / "filled" / "2020-05-11.tif") as raster:
        values = raster.read()
        assert "200 pixels" in raster.tags()["PRITHVI_LEFT_OUT"]
    assert (values[:, 10:20, 10:30] == 777).all()
    with pytest.warns(UserWarning, match=r"201 pixels hold -32768, 32767, which cannot"):
        filled = prithvi.fill(series.load(), nearest, uncertainty=False)
    assert filled["filled"].sum() == 201
    single = open_scene(write_tif(pixels[6:12], "one.tif"))
    for name in ("vectors.tif", "vectors.zarr"):
        with pytest.warns(UserWarning, match="200 pixels hold -32768"):
            path = embed_scene("prithvi_hls_tiny", single, tmp_path / name)
    assert "200 pixels" in xr.open_zarr(path).attrs["PRITHVI_LEFT_OUT"]
    with rasterio.open(tmp_path / "vectors.tif") as raster:
        assert "200 pixels" in raster.tags()["PRITHVI_LEFT_OUT"]


def test_the_command_line_says_what_was_left_out(
    prithvi: Cli, model_folder: Path, write_tif: Write, six_bands: np.ndarray, tmp_path: Path
) -> None:
    pixels, _ = holed(six_bands, -32768, "int16", "block")
    path = write_tif(pixels)
    answer = prithvi("map", model_folder, path, "-o", tmp_path / "maps", "--report", tmp_path / "page.html")
    sentence = "900 pixels hold -32768, which cannot be reflectance at scale 10,000: taken as no data."
    assert f"Note: {sentence}" in answer.err
    assert sentence in (tmp_path / "page.html").read_text()
    answer = prithvi("map", model_folder, path, "-o", tmp_path / "again", "--json")
    assert sentence in json.loads(answer.out)[0]["notes"]


def test_a_pixel_is_counted_once_by_its_reason() -> None:
    stored = np.full((2, 3, 3), 500, np.int16)
    stored[0, 0, 0], stored[1, 0, 0], stored[1, 1, 1], stored[:, 2, 2] = -32768, 32767, 30000, 0
    into = stored.astype(np.float32)
    found = mask_impossible(list(stored), into, [Range.of(1e-4, 0)] * 2)
    tally = Tally(1, 3)
    for _ in range(2):
        tally.add(0, 0, found, 3)
    assert tally.sentence(1e-4) == (
        "2 pixels hold -32768, 30000, which cannot be reflectance at scale 10,000: taken as no data. 1 pixel holds 0 "
        "in every band, which nobody declares to be no data: taken as that."
    )
    assert np.isnan(into).any(axis=0).sum() == 3


GRANULE = "HLS.S30.T15SXR.2021250T163901.v2.0"


def test_a_true_granule_of_version_2_maps_and_builds_beside_its_water_product(
    shared: Path, fitted: FittedModel, prithvi: Cli, tmp_path: Path
) -> None:
    """No nodata tag, -32768 in a few pixels, a CRS in words, and DSWx layers in the same folder."""
    folder = shared / "proteus_hls_s30_dswx"
    bands = [rasterio.open(folder / f"{GRANULE}.{name}.tif").read(1) for name in ("B02", "B03", "B04", "B8A")]
    scene = open_scene(folder)
    assert scene.attrs["sensor"] == "hls-s30"
    lost = (np.stack(bands) == -32768).any(axis=0)
    assert lost.sum() == 8
    rows, columns = np.nonzero(lost)
    window = slice(max(rows.min() - 40, 0), rows.min() + 40), slice(max(columns.min() - 40, 0), columns.min() + 40)
    with pytest.warns(UserWarning, match="the model was trained on"):
        result = map_scene(fitted, crop(scene, *window), tmp_path / "map.tif")
    inside = int(lost[window].sum())
    assert result.without_data == inside > 0
    assert result.notes[0].startswith(f"{inside} pixel")
    assert "-32768, which cannot be reflectance at scale 10,000" in result.notes[0]
    answer = prithvi(
        "data", "build", folder, "-o", tmp_path / "chips.zarr", "--frames", "1", "--size", "200", "--good", "0.3",
        "--max-cloud", "60",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    store = ChipStore(tmp_path / "chips.zarr")
    assert store.read(range(len(store)), ["image"])["image"].min() >= -2000
    assert 0 < sum(sum(filled) for filled in store.samples["filled"]) <= 8
