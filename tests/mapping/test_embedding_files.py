"""Files of embeddings: others open them, they say what they hold, and they appear when they are whole."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine
from rio_cogeo.cogeo import cog_validate

from prithvi.errors import OutputError, SceneError
from prithvi.mapping import embed_scene
from prithvi.scenes import open_scene
from tests.mapping.test_embeddings import DAY, ROTATED, UTM, Write, read, tiny


def test_plain_xarray_opens_the_store_with_its_place(six_bands: np.ndarray, write_tif: Write, tmp_path: Path) -> None:
    scene = open_scene(write_tif(six_bands[:, :80, :300]), dates=[DAY])
    path = embed_scene(tiny(), scene, tmp_path / "e.zarr", command="prithvi embed")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["e.zarr", "scene.tif"]
    kept = xr.open_zarr(path, decode_coords="all", consolidated=True)
    assert kept["embedding"].dtype == np.float16
    assert kept["embedding"].chunks == ((1,), (64,), (20,), (64, 11))
    assert kept.rio.crs == scene.rio.crs
    assert kept["embedding"].rio.crs == scene.rio.crs
    assert kept["embedding"].rio.transform() == UTM @ Affine.scale(4)
    assert str(kept["time"].values[0])[:10] == DAY
    assert kept.attrs["PRITHVI_COMMAND"] == "prithvi embed"
    xr.testing.assert_equal(xr.open_dataset(path, engine="zarr", decode_coords="all").load(), kept.load())


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("transform", [UTM, Affine(10, 0, 600_000, 0, 10, 4_200_000), ROTATED])
def test_gdal_opens_the_store_as_the_page_says(
    transform: Affine, six_bands: np.ndarray, write_tif: Write, tmp_path: Path
) -> None:
    """GDAL 3.12 opens it only because its array names no fill value; what a rotated grid lacks is said too."""
    files = [write_tif(six_bands[:, :80, :300], f"{n}.tif", transform=transform) for n in (0, 1)]
    path = embed_scene(tiny(2), open_scene(files, dates=[DAY, "2019-10-01"]), tmp_path / "e.zarr")
    expected = xr.open_zarr(path)["embedding"].values
    with rasterio.open(f'ZARR:"{path}":/embedding') as raster:
        assert (raster.count, raster.shape, raster.crs) == (2 * 64, (20, 75), "EPSG:32630")
        assert raster.transform == (Affine.identity() if transform == ROTATED else transform @ Affine.scale(4))
        np.testing.assert_array_equal(raster.read().astype(np.float16).reshape(expected.shape), expected)


def test_no_chunk_is_left_for_readers_to_make_up(six_bands: np.ndarray, write_tif: Write, tmp_path: Path) -> None:
    """zarr-python 2 gives whatever lies in memory for a chunk that is left out where no fill value is stated; zarr 3
    leaves out chunks of zeros, such as the first date's.
    """
    holes = six_bands[:, :80, :300].copy()
    holes[:, :, :256] = -9999
    path = embed_scene(tiny(), open_scene(write_tif(holes, nodata=-9999), dates=[DAY]), tmp_path / "e.zarr")
    facts = {name: json.loads((path / name / ".zarray").read_text()) for name in ("embedding", "time", "x", "y")}
    assert facts["embedding"]["fill_value"] is None
    for name, fact in facts.items():
        chunks = np.prod([-(-size // step) for size, step in zip(fact["shape"], fact["chunks"], strict=True)])
        assert len([file for file in (path / name).iterdir() if file.name[0] != "."]) == chunks, name
    assert np.isnan(xr.open_zarr(path)["embedding"][..., :64]).all()


@pytest.mark.filterwarnings("ignore:borders of windows show")  # a stride of a whole window, and random weights
def test_the_geotiff_is_cloud_optimized_and_says_what_it_holds(
    six_bands: np.ndarray, write_tif: Write, tmp_path: Path
) -> None:
    scene = open_scene([write_tif(six_bands[:, :64, :64], f"{n}.tif") for n in (0, 1)], dates=[DAY, "2019-10-01"])
    path = embed_scene(tiny(2), scene, tmp_path / "out" / "e.tif", layer=1, stride=32, command="prithvi embed 'a b'")
    assert [entry.name for entry in path.parent.iterdir()] == ["e.tif"]
    assert cog_validate(path)[:2] == (True, [])
    with rasterio.open(path) as made:
        assert made.descriptions == tuple(f"step{step} feature{n}" for step in (0, 1) for n in range(64))
        # GDAL 3.11 and later have a type of half floats.
        assert made.dtypes[0] == "float16" or made.tags(1, ns="IMAGE_STRUCTURE")["NBITS"] == "16"
        assert np.isnan(made.nodata)
        tags = made.tags()
    wanted = {
        "MODEL": "prithvi_hls_tiny", "COMMAND": "prithvi embed 'a b'", "LAYER": "1", "WINDOW": "32", "POOLED": "False",
    }  # fmt: skip
    assert {key: tags[f"PRITHVI_{key}"] for key in wanted} == wanted


@pytest.mark.slow
def test_wide_embeddings_have_blocks_that_fit_the_cache(
    six_bands: np.ndarray, write_tif: Write, tmp_path: Path
) -> None:
    model = tiny(embed_dim=768, depth=1)
    path = embed_scene(model, open_scene(write_tif(six_bands[:, :160, :160]), dates=[DAY]), tmp_path / "e.tif")
    assert cog_validate(path)[:2] == (True, [])
    with rasterio.open(path) as made:
        assert (made.count, set(made.block_shapes)) == (768, {(128, 128)})


def test_a_target_that_cannot_be_written_is_left_alone(six_bands: np.ndarray, write_tif: Write, tmp_path: Path) -> None:
    scene = open_scene(write_tif(six_bands[:, :64, :64]), dates=[DAY])
    (tmp_path / "file").write_text("mine")
    for name in ("e.tif", "e.zarr"):
        with pytest.raises(OutputError, match="cannot be written"):
            embed_scene(tiny(), scene, tmp_path / "file" / name)
    (tmp_path / "notes.zarr").mkdir()
    (tmp_path / "notes.zarr" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"notes\.zarr is there and is no Zarr store"):
        embed_scene(tiny(), scene, tmp_path / "notes.zarr")
    assert (tmp_path / "notes.zarr" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["e.tif", "e.zarr"])
def test_an_older_file_stays_until_the_new_one_is_whole(
    name: str, six_bands: np.ndarray, write_tif: Write, tmp_path: Path
) -> None:
    target = tmp_path / "out" / name

    def kept() -> np.ndarray:
        if name == "e.tif":
            return read(target, (1, 64))
        values: np.ndarray = xr.open_zarr(target)["embedding"].values
        return values

    model, path = tiny(), write_tif(six_bands, compress="deflate")
    embed_scene(model, open_scene(path, dates=[DAY])[..., :64, :64], target)
    before = kept()
    assert before.shape == (1, 64, 16, 16)
    whole = path.read_bytes()
    path.write_bytes(whole[:400_000] + b"\0" * 200_000 + whole[600_000:])
    with pytest.raises(SceneError, match="damaged or cut short"):
        embed_scene(model, open_scene(path, dates=[DAY]), target, pooled=True)
    np.testing.assert_array_equal(kept(), before)
    assert [entry.name for entry in target.parent.iterdir()] == [name]
    path.write_bytes(whole)
    embed_scene(model, open_scene(path, dates=[DAY])[..., :96, :64], target, pooled=True)
    assert kept().shape == (1, 64, 3, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["e.tif", "e.zarr"])
def test_memory_does_not_grow_with_the_height(name: str, tmp_path: Path) -> None:
    model, peaks = tiny(depth=1), []
    for height in (512, 4096):
        pixels = da.random.default_rng(0).uniform(500, 3000, (1, 6, height, 64), chunks=(1, 6, 64, 64)).astype("f4")
        scene = xr.DataArray(
            pixels, dims=("time", "band", "y", "x"), coords={"band": list(model.config.bands)}, attrs={"gain": 1e-4}
        )
        scene = scene.rio.write_crs("EPSG:32630").rio.write_transform(Affine(30, 0, 600_000, 0, -30, 4_200_000))

        def count(done: int, whole: int) -> None:
            if done == 2:  # after a sample of the values was looked at
                tracemalloc.reset_peak()

        tracemalloc.start()
        embed_scene(model, scene, tmp_path / name, stride=32, progress=count)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 1_000_000  # pixels take 5.5 million bytes more, embeddings 3.7
    assert peaks[1] < 2_500_000
