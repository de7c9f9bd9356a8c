"""Products as people have them: what is no scene is refused as what it is, and what the sentence says to do works."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import xarray as xr
from rasterio.transform import from_origin

from prithvi.bands import PRITHVI_BANDS
from prithvi.errors import BandError, SceneError
from prithvi.scenes import open_scene
from tests.conftest import needs_netcdf

ORIGIN = from_origin(600_000, 4_000_000, 30, 30)
OLI = {f"SR_B{number}": name for number, name in
       enumerate(("coastal", "blue", "green", "red", "nir_narrow", "swir_1", "swir_2"), start=1)}  # fmt: skip
ETM = dict(zip(("SR_B1", "SR_B2", "SR_B3", "SR_B4", "SR_B5", "SR_B7"),
               ("blue", "green", "red", "nir_broad", "swir_1", "swir_2"), strict=True))  # fmt: skip
QUALITY = ("QA_PIXEL", "QA_RADSAT", "SR_QA_AEROSOL", "ST_B10", "ST_QA", "SR_ATMOS_OPACITY", "SR_CLOUD_QA")


def landsat(folder: Path, stem: str, bands: Sequence[str]) -> Path:
    """A product's folder: bands that tell each other apart by their values, quality, and metadata files."""
    folder.mkdir(parents=True)
    for number, band in enumerate(bands):
        values = np.full((6, 8), 8000 + 100 * number, np.uint16)
        values[0, 0] = 0
        with rasterio.open(
            folder / f"{stem}_{band}.TIF", "w", driver="GTiff", height=6, width=8, count=1, dtype="uint16",
            crs="EPSG:32610", transform=ORIGIN, nodata=0,
        ) as raster:  # fmt: skip
            raster.write(values, 1)
    (folder / f"{stem}_MTL.txt").write_text("GROUP = LANDSAT_METADATA_FILE\n")
    (folder / f"{stem}_MTL.json").write_text('{"LANDSAT_METADATA_FILE": {}}')
    (folder / f"{stem}_MTL.xml").write_text("<LANDSAT_METADATA_FILE/>")
    (folder / f"{stem}_ANG.txt").write_text("GROUP = FILE_HEADER\n")
    return folder


@pytest.mark.parametrize(
    ("stem", "bands", "sensor"),
    [("LC08_L2SP_042036_20190910_20200826_02_T1", OLI, "landsat-8-c2-l2"),
     ("LC09_L2SR_042036_20220910_20230826_02_T2", OLI, "landsat-9-c2-l2"),
     ("LE07_L2SR_042036_20190910_20200826_02_T2", ETM, "landsat-457-c2-l2"),
     ("LT05_L2SP_042036_20050910_20200826_02_T1", ETM, "landsat-457-c2-l2")],
)  # fmt: skip
def test_folders_of_landsat_level_2_are_scenes(stem: str, bands: dict[str, str], sensor: str, tmp_path: Path) -> None:
    scene = open_scene(landsat(tmp_path / stem, stem, (*bands, *QUALITY)))
    assert list(scene["band"].values) == list(bands.values())
    assert (scene.attrs["sensor"], scene.attrs["gain"], scene.attrs["bias"]) == (sensor, 2.75e-5, -0.2)
    assert str(scene["time"].values[0])[:10].replace("-", "") == stem.split("_")[3]
    np.testing.assert_array_equal(scene.values[0, :, 3, 3], 8000 + 100 * np.arange(len(bands)))
    assert np.isnan(scene.values[0, :, 0, 0]).all()


@pytest.mark.parametrize("level", ["L1TP", "L1GT", "L1GS"])
def test_landsat_level_1_is_refused_as_what_it_is(level: str, tmp_path: Path) -> None:
    stem = f"LC08_{level}_042036_20190910_20190917_02_T1"
    folder = landsat(tmp_path / stem, stem, [f"B{number}" for number in range(1, 12)] + ["QA_PIXEL"])
    six = [folder / f"{stem}_B{number}.TIF" for number in range(2, 8)]
    said = r"B\d+\.TIF is of Landsat level 1, .* get the level 2 of the same image, LC08_L2SP_042036_20190910_"
    with pytest.raises(SceneError, match=said):
        open_scene(folder)
    with pytest.raises(SceneError, match=said):
        open_scene(six, bands=list(PRITHVI_BANDS))  # naming the bands makes no reflectance of them
    with pytest.raises(SceneError, match=said):
        open_scene(six, sensor="landsat-8-c2-l2")
    scene = open_scene(six, bands=list(PRITHVI_BANDS), scale=10_000)  # who made reflectance of them says so
    assert scene.attrs["gain"] == 1e-4
    np.testing.assert_array_equal(scene.values[0, :, 3, 3], 8100 + 100 * np.arange(6))


def test_metadata_and_archives_say_what_to_give(tmp_path: Path) -> None:
    stem = "LC08_L2SP_042036_20190910_20200826_02_T1"
    folder = landsat(tmp_path / stem, stem, OLI)
    for end in ("MTL.txt", "MTL.json", "MTL.xml", "ANG.txt"):
        with pytest.raises(SceneError, match="is the metadata of a Landsat product: give its folder") as failure:
            open_scene(folder / f"{stem}_{end}")
        named = str(failure.value).removesuffix(".").rpartition(", ")[2]
        assert list(open_scene(named)["band"].values) == list(OLI.values())
    with tarfile.open(tmp_path / f"{stem}.tar", "w") as archive:
        archive.add(folder, arcname=stem)
    with pytest.raises(SceneError, match=r"\.tar is an archive: unpack it, and give the folder"):
        open_scene(tmp_path / f"{stem}.tar")
    with tarfile.open(tmp_path / f"{stem}.tar") as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    assert open_scene(tmp_path / "unpacked" / stem).sizes["band"] == 7


def container(path: Path, variables: dict[str, tuple[tuple[str, ...], np.ndarray]]) -> Path:
    coordinates = {"x": 600_015 + 30 * np.arange(8), "y": 3_999_985 - 30 * np.arange(6)}
    dataset = xr.Dataset(variables, coordinates).rio.write_crs(32610).rio.write_transform(ORIGIN)
    dataset.to_netcdf(path, engine="h5netcdf")
    return path


@needs_netcdf
def test_a_container_names_its_rasters_as_they_can_be_typed(tmp_path: Path) -> None:
    values = np.arange(6 * 48, dtype=np.int16).reshape(6, 6, 8)
    path = container(
        tmp_path / "stack.nc", {"reflectance": (("band", "y", "x"), values), "cloud": (("y", "x"), values[0])}
    )
    with pytest.raises(SceneError, match=r"stack\.nc holds 2 rasters and is none itself: give one of them") as failure:
        open_scene(path)
    names = re.findall(r"netcdf:\S+", str(failure.value))
    assert [name.rpartition(":")[2] for name in names] == ["reflectance", "cloud"]
    scene = open_scene(names[0], bands=list(PRITHVI_BANDS))
    np.testing.assert_array_equal(scene.values[0], values)
    assert (scene.rio.crs.to_epsg(), scene.rio.transform()) == (32610, ORIGIN)


@needs_netcdf
def test_variables_named_after_bands_are_these_bands(tmp_path: Path) -> None:
    values = np.arange(6 * 48, dtype=np.int16).reshape(6, 6, 8)
    order = PRITHVI_BANDS[::-1]
    path = container(tmp_path / "bands.nc", {name: (("y", "x"), values[PRITHVI_BANDS.index(name)]) for name in order})
    with pytest.raises(SceneError, match=r"holds 6 rasters .* or several bands as one scene \(of map") as failure:
        open_scene(path)
    scene = open_scene(re.findall(r"netcdf:\S+", str(failure.value)))
    np.testing.assert_array_equal(scene.sel(band=list(PRITHVI_BANDS)).values[0], values)


def test_numbers_that_gdal_gives_variables_are_no_band_ids(tmp_path: Path) -> None:
    profile = {"driver": "GTiff", "height": 6, "width": 8, "count": 6, "dtype": "int16", "crs": "EPSG:32610"}
    with rasterio.open(tmp_path / "plain.tif", "w", transform=ORIGIN, **profile) as raster:
        raster.write(np.arange(6 * 48, dtype=np.int16).reshape(6, 6, 8))
    rasterio.shutil.copy(tmp_path / "plain.tif", tmp_path / "plain.nc", driver="netCDF")
    names = [f"netcdf:{tmp_path}/plain.nc:Band{number}" for number in range(1, 7)]
    with pytest.raises(BandError, match="6 bands without names"):
        open_scene(names, sensor="hls-l30")
    assert list(open_scene(names, bands=list(PRITHVI_BANDS))["band"].values) == list(PRITHVI_BANDS)
