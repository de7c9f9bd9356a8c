"""What a raster or some features are really read from: if any of it changes, they are others."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401  (the .rio accessor)
import shapely
import xarray as xr

from prithvi.bands import PRITHVI_BANDS
from prithvi.modelio.predictor import FittedModel
from prithvi.products.products import Products
from prithvi.products.provenance import identity
from prithvi.scenes import open_scene
from prithvi.scenes.file_states import archive_of, states_of_rasters, states_of_vectors
from tests.conftest import needs_netcdf

Write = Callable[..., Path]


def vrt_of(path: Path, source: str | Path) -> Path:
    """Six bands of 40 x 40 pixels out of another raster's."""
    band = (
        '<VRTRasterBand dataType="Int16" band="{0}"><SimpleSource><SourceFilename>{1}</SourceFilename>'
        "<SourceBand>{0}</SourceBand></SimpleSource></VRTRasterBand>"
    )
    bands = "".join(band.format(number, source) for number in range(1, 7))
    place = "<SRS>EPSG:32630</SRS><GeoTransform>600000,10,0,4200000,0,-10</GeoTransform>"
    path.write_text(f'<VRTDataset rasterXSize="40" rasterYSize="40">{place}{bands}</VRTDataset>')
    return path


def later(path: Path) -> None:
    """Makes a file one that was written a second later."""
    state = path.stat()
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 10**9))


@pytest.mark.parametrize("kind", ["file", "mask", "vrt", "vrt of a vrt", "archive", "vrt of an archive"])
def test_what_lies_behind_a_scene_tells_it_from_another(
    kind: str, write_tif: Write, six_bands: np.ndarray, tmp_path: Path
) -> None:
    file = write_tif(six_bands[:, :40, :40])
    scene: str | Path = file
    changed = file
    if kind == "mask":
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(file, "r+") as raster:
            raster.write_mask(np.full((40, 40), 255, np.uint8))
        changed = tmp_path / "scene.tif.msk"
    if "archive" in kind:
        changed = tmp_path / "a.zip"
        with zipfile.ZipFile(changed, "w") as archive:
            archive.write(file, "in/scene.tif")
        scene = f"/vsizip/{changed}/in/scene.tif"
    if "vrt" in kind:
        scene = vrt_of(tmp_path / "inner.vrt", scene)
    if kind == "vrt of a vrt":
        scene = vrt_of(tmp_path / "outer.vrt", scene)

    def key() -> object:
        return identity(open_scene(scene, bands=list(PRITHVI_BANDS), scale=10_000, offset=0))

    before = key()
    (tmp_path / "scene.tif.aux.xml").write_text("<PAMDataset/>")  # statistics, as QGIS leaves them
    assert key() == before
    later(changed)
    assert key() != before


def test_a_plain_file_is_told_as_before(write_tif: Write, six_bands: np.ndarray) -> None:
    """So that runs which an earlier version began are gone on with."""
    file = write_tif(six_bands[:, :40, :40])
    state = file.stat()
    assert states_of_rasters([str(file)]) == {str(file): [state.st_size, state.st_mtime_ns]}
    address = "https://127.0.0.1:9/nothing.tif"
    assert states_of_rasters([address, "/nowhere.vrt"]) == {address: [], "/nowhere.vrt": []}


@needs_netcdf
def test_a_subdataset_is_told_by_its_file(tmp_path: Path) -> None:
    array = xr.DataArray(np.ones((3, 3)), {"y": [2.0, 1.0, 0.0], "x": [0.0, 1.0, 2.0]}, ["y", "x"])
    array.rio.write_crs("EPSG:32630").rio.write_transform().to_dataset(name="red").to_netcdf(
        tmp_path / "s.nc", engine="h5netcdf"
    )
    name = f"netcdf:{tmp_path / 's.nc'}:red"
    before = states_of_rasters([name])
    later(tmp_path / "s.nc")
    assert states_of_rasters([name]) != before


@pytest.mark.parametrize("path", ["/vsizip/{}/b.tif", "/vsizip/{{{}}}/b.tif", "zip://{}!b.tif", "zip://{}!in/b.tif"])
def test_the_archive_of_a_path(path: str, tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    archive.write_bytes(b"")
    assert archive_of(path.format(archive)) == str(archive)
    assert archive_of("/vsizip/nowhere.zip/b.tif") == "/vsizip/nowhere.zip/b.tif"


def test_features_are_told_by_their_tables_too(tmp_path: Path) -> None:
    zones = gpd.GeoDataFrame({"n": ["a"]}, geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:32630")
    for name, driver in (("z.shp", None), ("Z.GDB", "OpenFileGDB"), ("z.gpkg", None)):
        zones.to_file(tmp_path / name, driver=driver)
    changing = tmp_path / "z.dbf", next((tmp_path / "Z.GDB").glob("*.gdbtable")), tmp_path / "z.gpkg"
    for name, file in zip(("z.shp", "Z.GDB", "z.gpkg"), changing, strict=True):
        before = states_of_vectors(tmp_path / name)
        assert states_of_vectors(tmp_path / name) == before
        later(file)
        assert states_of_vectors(tmp_path / name) != before
    assert states_of_vectors("") == states_of_vectors(tmp_path / "none.shp") == []


def test_a_map_is_made_anew_where_a_tile_or_a_table_has_changed(
    fitted: FittedModel, write_tif: Write, six_bands: np.ndarray, tmp_path: Path
) -> None:
    from prithvi.mapping import map_scene

    tile = write_tif(six_bands[:, :40, :40])
    scene = open_scene(vrt_of(tmp_path / "m.vrt", tile), bands=list(PRITHVI_BANDS), scale=10_000, offset=0)
    zone = gpd.GeoDataFrame({"n": ["a"]}, geometry=[shapely.box(600_010, 4_199_700, 600_300, 4_199_900)], crs=32630)
    zone.to_file(tmp_path / "z.shp")
    done: list[int] = []

    def windows_done() -> int:
        done.clear()
        products = Products(zones=tmp_path / "z.shp")
        map_scene(
            fitted, scene, tmp_path / "m.tif", products=products, resume=True, progress=lambda at, _: done.append(at)
        )
        return len(done)

    assert windows_done()
    assert not windows_done(), "nothing has changed"
    later(tile)
    assert windows_done()
    later(tmp_path / "z.dbf")
    assert windows_done()
