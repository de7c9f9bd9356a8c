"""Real scenes with a cloud mask that somebody else made, in one form: (1, band, y, x) scenes and classes of each pixel.

None of these masks was drawn by a person but that of the networks' own authors: Fmask, CFmask, pixel_qa and SCL are
algorithms, and what differs from them may be right.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import xarray as xr
from rasterio.transform import from_origin

import prithvi
from prithvi.bands import PRITHVI_BANDS
from prithvi.mapping.maskproducts import CLEAR, CLOUDY, MASK_PRODUCTS, SHADOWED

Classes = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Case:
    """A scene and its mask."""

    sensor: str
    """What it is counted with."""
    truth: str
    """Who made the mask."""
    scene: xr.DataArray
    classes: Classes
    """(y, x), see `prithvi.mapping.maskproducts.MaskProduct.classes`."""


def of_array(
    pixels: npt.NDArray[Any], level: str, scale: float, resolution: float, nodata: float | None = None
) -> xr.DataArray:
    """(band, y, x) pixels of the six bands as a scene in an invented place."""
    place = from_origin(500_000, 4_000_000, resolution, resolution)
    x, y = (np.arange(size) + 0.5 for size in pixels.shape[:0:-1])
    coords = {"band": list(PRITHVI_BANDS), "x": place.c + x * place.a, "y": place.f + y * place.e}
    array = xr.DataArray(pixels, dims=("band", "y", "x"), coords=coords).rio.write_crs("EPSG:32631")
    return prithvi.open_scene(array, scale=scale, offset=0, nodata=nodata, level=level)


def proteus(root: Path) -> Iterator[Case]:
    """A part of a true HLS v2.0 granule."""
    folder = root / "proteus_hls_s30_dswx"
    (fmask,) = folder.glob("*.Fmask.tif")
    yield Case("HLS S30, 30 m", "Fmask", prithvi.open_scene(folder), classes_in(fmask, "fmask"))


def hls_water(root: Path) -> Iterator[Case]:
    """Chips of HLS, of which nobody says whether they are L30 or S30."""
    for file in sorted((root / "hls_water" / "images").glob("*.tif")):
        pixels = read(file)
        truth = MASK_PRODUCTS["fmask"].classes(pixels[6].astype(np.uint8))
        yield Case("HLS, L30 or S30", "Fmask", of_array(pixels[:6], "SR", 1e4, 30, -9999), truth)


def landsat_8(root: Path) -> Iterator[Case]:
    """Two dates of a fire in Colorado."""
    for day in ("189", "205"):
        files = sorted((root / "cold_springs_fire").glob(f"LC8*2016{day}*_sr_band[2-7]_crop.tif"))
        (mask,) = (root / "cold_springs_fire").glob(f"LC8*2016{day}*_cfmask_crop.tif")
        yield Case("Landsat 8, 30 m", "CFmask", prithvi.open_scene(files), classes_in(mask, "cfmask"))


def landsat_457(root: Path) -> Iterator[Case]:
    """Windows of Landsat 4, 5 and 7."""
    bands = [f"sr_band{number}.tif" for number in (1, 2, 3, 4, 5, 7)]
    for archive in sorted((root / "landsat_tiles").glob("*.tar.gz")):
        with tarfile.open(archive) as tar:
            files = {name.rsplit("XXX01_")[-1].rsplit("_00_")[-1]: name for name in tar.getnames()}

            def of(end: str, tar: tarfile.TarFile = tar, files: dict[str, str] = files) -> npt.NDArray[Any]:
                (name,) = (name for name in files.values() if name.endswith(end))
                file = tar.extractfile(name)
                assert file is not None
                with rasterio.MemoryFile(file.read()) as memory, memory.open() as raster:
                    return np.asarray(raster.read(1))

            pixels, mask = np.stack([of(end) for end in bands]), of("_cfmask.tif")
        yield Case("Landsat 4, 5, 7, 30 m", "CFmask", of_array(pixels, "SR", 1e4, 30, -9999),
                   MASK_PRODUCTS["cfmask"].classes(mask))  # fmt: skip
    folder = next((root / "misc_landsat").glob("LE7*"))
    pixels = np.concatenate([read(next(folder.glob(f"*{end}"))) for end in bands])
    mask = read(next(folder.glob("*_fmask.tif")))[0]
    yield Case("Landsat 4, 5, 7, 30 m", "CFmask", of_array(pixels, "SR", 1e4, 30, -9999),
               MASK_PRODUCTS["cfmask"].classes(mask))  # fmt: skip


def worldcereal_sentinel_2(root: Path) -> Iterator[Case]:
    """All dates of a field in Flanders of 640 m; B8A, B11 and B12 are of 20 m."""
    fine, coarse = (
        xr.open_dataset(next((root / "worldcereal_training").glob(f"S2_L2A_{size}m_00002806639B424A*.nc")),
                        mask_and_scale=False)
        for size in (10, 20)
    )  # fmt: skip
    for date in range(fine.sizes["timestamp"]):
        sharp = [fine[name].values[date] for name in ("B02", "B03", "B04")]
        twice = [coarse[name].values[date].repeat(2, 0).repeat(2, 1) for name in ("B8A", "B11", "B12", "SCL")]
        truth = MASK_PRODUCTS["scl"].classes(twice[3])
        pixels = np.stack([*sharp, *twice[:3]])
        if not (pixels > 0).all(axis=0).any():
            continue
        yield Case("Sentinel-2 L2A, 10 m, 64 px", "SCL", of_array(pixels.astype(np.float32), "SR", 1e4, 10, 0), truth)


def worldcereal_landsat_8(root: Path) -> Iterator[Case]:
    """Dates of two such fields, in pixels of 10 m."""
    for file in sorted((root / "worldcereal_training").glob("L8_SR_10m_*.nc")):
        data = xr.open_dataset(file, mask_and_scale=False)
        for date in range(data.sizes["timestamp"]):
            stored = np.stack([data[f"B0{number}"].values[date] for number in range(2, 8)]).astype(np.float32)
            pixels = np.where(stored > 60_000, stored - 65_536, stored)  # wrapped negatives
            if not (stored > 0).all(axis=0).any():
                continue
            truth = MASK_PRODUCTS["pixel_qa"].classes(data["pixel_qa"].values[date])
            yield Case("Landsat 8 at 10 m, 64 px", "pixel_qa", of_array(pixels, "SR", 1e4, 10, 0), truth)


def ukis(root: Path) -> Iterator[Case]:
    """The networks' authors' own test image, with a mask that people drew."""
    stored = np.load(root / "ukis_csmask" / "sentinel2.npz")
    mask = stored["msk"][..., 0]
    truth = np.select([mask == 4, mask == 0], [CLOUDY, SHADOWED], CLEAR).astype(np.uint8)
    pixels = np.moveaxis(stored["img"], -1, 0)
    yield Case("Sentinel-2 L1C (the authors' own)", "by hand", of_array(pixels, "TOA", 1, 30), truth)


SOURCES = (proteus, hls_water, landsat_8, landsat_457, worldcereal_sentinel_2, worldcereal_landsat_8, ukis)


def read(file: Path) -> npt.NDArray[Any]:
    """(band, y, x)."""
    with rasterio.open(file) as raster:
        return np.asarray(raster.read())


def classes_in(file: Path, product: str) -> Classes:
    """(y, x) classes of a mask's file."""
    return MASK_PRODUCTS[product].classes(read(file)[0])
