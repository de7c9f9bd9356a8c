"""One piece of the flood sample, stored in the ways that files of other people are stored."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import rioxarray
import xarray as xr
from affine import Affine
from rasterio.enums import ColorInterp
from rasterio.shutil import copy as copy_raster
from rasterio.transform import from_origin

from prithvi.bands import PRITHVI_BANDS
from tests.safe_products import ERAS, make_product, on_finest

SAMPLE = Path(__file__).resolve().parents[1] / "data_catalog/sen1floods11/samples/S2Hand/Spain_7370579_S2Hand.tif"
SIDE = 192
CRS, ORIGIN = "EPSG:32630", from_origin(600_000, 4_200_000, 10, 10)
PLACES = (1, 2, 3, 8, 11, 12)
"""Of the six bands among the thirteen of the sample, counted from 0."""
IDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
SIX_IDS = tuple(IDS[place] for place in PLACES)
LISTED = (*range(8), 9, 10, 11, 12, 8)
"""Of the thirteen as `ls` sorts their files: B8A last."""
NANOMETRES = (490, 560, 665, 865, 1610, 2190)
Pixels = npt.NDArray[Any]


@dataclass(frozen=True)
class Case:
    """An input and what its map must be."""

    line: str
    """Of the list of faults that it stands for."""
    what: str
    source: Any
    """A path or several as the command takes them, or an array."""
    truth: Pixels
    """(6, y, x) reflectance x 10,000, NaN where nothing is known."""
    options: dict[str, Any] = field(default_factory=dict)
    told: str = ""
    """Words of the note without which another map would be silent."""


def sample() -> Pixels:
    """(13, 192, 192) int16: the piece."""
    with rasterio.open(SAMPLE) as raster:
        found: Pixels = raster.read(window=((160, 160 + SIDE), (160, 160 + SIDE)))
    return found


def write(
    path: Path, pixels: Pixels, names: Sequence[str | None] = (), *, nodata: float | None = None,
    scales: Sequence[float] = (), offsets: Sequence[float] = (), driver: str = "GTiff", crs: Any = CRS,
    transform: Affine = ORIGIN, colors: Sequence[ColorInterp] = (), mask: Pixels | None = None, internal: bool = True,
    tags: dict[str, str] | None = None,
) -> Path:  # fmt: skip
    """A raster with these facts and no others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = pixels.shape
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal),
        rasterio.open(path, "w", driver=driver, count=count, height=height, width=width, dtype=pixels.dtype, crs=crs,
                      transform=transform, nodata=nodata) as raster,
    ):  # fmt: skip
        if colors:  # before the pixels, after which GDAL no longer takes an alpha band
            raster.colorinterp = colors
        raster.write(pixels)
        for index, name in enumerate(names, start=1):
            if name is not None:
                raster.set_band_description(index, name)
        if scales:
            raster.scales = scales
        if offsets:
            raster.offsets = offsets
        if mask is not None:
            raster.write_mask(mask)
        raster.update_tags(**(tags or {}))
    return path


def holes(pattern: str) -> npt.NDArray[np.bool_]:
    """(y, x): where a pattern has no data."""
    empty = np.zeros((SIDE, SIDE), bool)
    if pattern == "block":
        empty[20:90, 30:120] = True
    else:
        empty[np.random.default_rng(7).random((SIDE, SIDE)) < 0.02] = True
    return empty


class Cases:
    """Makes the inputs in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.all = folder, sample()
        self.six = self.all[list(PLACES)]
        self.truth = self.six.astype(np.float64)
        self.made: list[Case] = []

    def place(self, name: str = "scene.tif") -> Path:
        """A new place for a file."""
        return self.folder / f"{len(self.made):03d}" / name

    def add(
        self, line: str, what: str, source: Any, truth: Pixels | None = None, told: str = "", **options: Any
    ) -> None:
        """Notes an input."""
        source = str(source) if isinstance(source, Path) else source
        self.made.append(Case(line, what, source, self.truth if truth is None else truth, options, told))

    def emptied(self, empty: npt.NDArray[np.bool_]) -> Pixels:
        """The truth without these pixels."""
        return np.where(empty, np.nan, self.truth)

    def fill(self) -> None:
        """Values of pixels without data that nobody stated."""
        values: dict[str, tuple[float, ...]] = {
            "int16": (-9999, -1000, 0, -32768, 32767, -1),
            "uint16": (0, 65535, 55537),
            "float32": (np.nan, np.inf, -np.inf, -3.4028235e38, -99999, 1e20, -9999, -1, 0),
        }
        for dtype, fills in values.items():
            for fill in fills:
                for pattern in ("block", "scattered"):
                    empty = holes(pattern)
                    pixels = np.where(empty, np.array(fill, dtype), self.six.astype(dtype))
                    path = write(self.place(), pixels, PRITHVI_BANDS)
                    self.add("A2", f"{dtype}, {fill:g} {pattern} in every band, no tag", path, self.emptied(empty))
                # A value that is no reflectance tells a hole of one band, too.
                if not -2000 <= fill <= 20_000:
                    empty = holes("scattered")
                    pixels = self.six.astype(dtype)
                    pixels[4, empty] = fill
                    path = write(self.place(), pixels, PRITHVI_BANDS)
                    self.add("A2", f"{dtype}, {fill:g} scattered in one band, no tag", path, self.emptied(empty))
        for dtype, fill in (("float32", -1.0), ("float32", -9999.0), ("float32", 65535.0), ("float64", 1e20)):
            empty = holes("block")
            pixels = np.where(empty, fill, self.truth / 10_000).astype(dtype)
            path = write(self.place(), pixels, PRITHVI_BANDS)
            self.add("A2", f"{dtype} reflectance, {fill:g} in a block, --scale 1", path, self.emptied(empty), scale=1)
        dark = self.six.copy()
        dark[5, holes("scattered")] = -32
        self.add("A2", "-32 in one band over dark water is a value", write(self.place(), dark, PRITHVI_BANDS),
                 dark.astype(np.float64))  # fmt: skip

    def masks(self) -> None:
        """Nodata, masks and alpha of bands."""
        empty = holes("block")
        parts = holes("scattered")
        by_band = self.six.copy()
        by_band[0, empty], by_band[3, parts] = -5000, -7000
        both = self.emptied(empty | parts)
        inside = self.place("scene")
        for index, (name, pixels) in enumerate(zip(SIX_IDS, by_band, strict=True)):
            write(inside / f"{name}.tif", pixels[None], nodata={0: -5000, 3: -7000}.get(index, -1234))
        self.add("A3", "folder, each band with a nodata value of its own", inside, both, sensor="sentinel-2-l1c",
                 date="2019-09-18")  # fmt: skip
        path = write(self.place(), by_band, PRITHVI_BANDS)
        stacked = path.with_suffix(".vrt")
        copy_raster(path, stacked, driver="VRT")
        text = stacked.read_text()
        for number, value in ((1, -5000), (4, -7000)):
            text = text.replace(f'band="{number}">', f'band="{number}"><NoDataValue>{value}</NoDataValue>', 1)
        stacked.write_text(text)
        self.add("A3", "VRT, two bands with nodata values of their own", stacked, both)
        for internal in (True, False):
            path = write(self.place(), self.six, PRITHVI_BANDS, mask=~empty, internal=internal)
            self.add("A3", "internal mask" if internal else ".msk file", path, self.emptied(empty))
        grey = [ColorInterp.gray, *[ColorInterp.undefined] * 5]
        for top in (255, 32767):
            alpha = np.where(empty, 0, top).astype(np.int16)[None]
            path = write(
                self.place(), np.concatenate([self.six, alpha]), PRITHVI_BANDS, colors=[*grey, ColorInterp.alpha]
            )
            self.add("A3", f"alpha as band 7 of 7, 0 and {top}", path, self.emptied(empty))
        path = write(self.place(), self.six, PRITHVI_BANDS, colors=[
            ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.alpha, ColorInterp.undefined,
            ColorInterp.undefined])  # fmt: skip
        self.add("A3", "a near infrared that is tagged alpha, bands named", path)
        path = write(self.place(), self.six, colors=[
            ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.alpha, ColorInterp.undefined,
            ColorInterp.undefined])  # fmt: skip
        self.add("A3", "the same without names, --bands", path, bands=",".join(PRITHVI_BANDS))
        for tag in (-1, 0, 1416):
            path = write(self.place(), self.six, PRITHVI_BANDS, nodata=tag)
            truth = np.where((self.six == tag).any(axis=0), np.nan, self.truth)
            self.add("A3", f"nodata tag {tag}", path, truth)
        wrong = np.where(empty, -32768, self.six).astype(np.int16)
        self.add("A3", "-32768 in a block, the tag says -9999", write(self.place(), wrong, PRITHVI_BANDS, nodata=-9999),
                 self.emptied(empty))  # fmt: skip

    def scales(self) -> None:
        """Scale and offset: of tags, options, sensors and arrays."""
        gain, six = 1e-4, self.six
        more = (six + 1000).astype(np.uint16)
        steps = (1000, 1000, 1000, 900, 800, 0)
        differ = (six + np.array(steps)[:, None, None]).astype(np.int16)
        path = write(self.place(), more, PRITHVI_BANDS, scales=[gain] * 6, offsets=[-0.1] * 6)
        self.add("A4", "+1000, tags state the offset", path)
        path = write(self.place(), differ, PRITHVI_BANDS, scales=[gain] * 6, offsets=[-step * gain for step in steps])
        self.add("A4", "offsets that differ by band, in tags", path)
        halves = (six.astype(np.float64) * np.array([1, 2, 1, 1, 2, 1])[:, None, None]).astype(np.int16)
        path = write(self.place(), halves, PRITHVI_BANDS, scales=[gain, gain / 2, gain, gain, gain / 2, gain])
        self.add("A4", "scales that differ by band, in tags", path)
        path = write(self.place(), more, PRITHVI_BANDS, scales=[gain] * 6, offsets=[-0.1] * 6)
        self.add("A4", "--scale 10000 beside the file's offset", path, scale=10_000)
        self.add("A4", "--offset -1000 beside the file's scale", path, offset=-1000)
        self.add("A4", "--sensor beside the file's scale and offset", path, sensor="sentinel-2-l1c")
        path = write(self.place(), six, PRITHVI_BANDS, scales=[gain] * 6)
        self.add("A4", "--sensor landsat-8-c2-l2 for a file whose tags say 1e-4", path, sensor="landsat-8-c2-l2")
        path = write(self.place(), more, PRITHVI_BANDS)
        self.add("A4", "+1000 that nothing states", path)
        self.add("A4", "+1000, --scale 10000 --offset -1000", path, scale=10_000, offset=-1000)
        self.add("A4", "+1000, --sensor, date of 2022", path, sensor="sentinel-2-l1c", date="2022-09-18")
        for dtype in ("float32", "float64"):
            shares = (self.truth / 10_000).astype(dtype)
            self.add("A4", f"{dtype} reflectance that nothing states", write(self.place(), shares, PRITHVI_BANDS))
            self.add("A4", f"{dtype} reflectance, --scale 1", write(self.place(), shares, PRITHVI_BANDS), scale=1)
        percent = (self.truth / 100).astype(np.float32)
        self.add("A4", "percent that nothing states", write(self.place(), percent, PRITHVI_BANDS))
        self.add("A4", "percent, --scale 100", write(self.place(), percent, PRITHVI_BANDS), scale=100)
        self.add(
            "A4", "8-bit picture", write(self.place(), (self.truth / 40).clip(0, 255).astype(np.uint8), PRITHVI_BANDS)
        )
        landsat = ((self.truth / 10_000 + 0.2) / 0.0000275).round()
        near = (landsat * 0.0000275 - 0.2) * 10_000
        path = write(self.place(), landsat.astype(np.uint16), PRITHVI_BANDS, scales=[0.0000275] * 6, offsets=[-0.2] * 6)
        self.add("A4", "Landsat C2 scaling in tags", path, near)
        path = write(self.place(), landsat.astype(np.uint16), PRITHVI_BANDS)
        self.add("A4", "Landsat C2 scaling that nothing states", path, near)
        self.add("A4", "Landsat C2 scaling, --sensor", path, near, sensor="landsat-8-c2-l2")

    def names(self) -> None:
        """Names and orders of bands."""
        words = ("blue", "green", "red", "narrow nir", "swir1", "swir2")
        spellings: dict[str, Sequence[str]] = {
            "Prithvi's": PRITHVI_BANDS,
            "ids": SIX_IDS,
            "ids without zeros": [name.replace("B0", "B") for name in SIX_IDS],
            "lower case": [name.lower() for name in SIX_IDS],
            "B8A_20m": [f"{name}_20m" for name in SIX_IDS],
            "T30UYB_..._B8A_20m": [f"T30UYB_20190918T105641_{name}_20m" for name in SIX_IDS],
            "B2, central wavelength 490 nm": [
                f"{name.replace('B0', 'B')}, central wavelength {length} nm"
                for name, length in zip(SIX_IDS, NANOMETRES, strict=True)
            ],
            "B02 (blue)": [f"{name} ({word})" for name, word in zip(SIX_IDS, words, strict=True)],
            "20190918_B02": [f"20190918_{name}" for name in SIX_IDS],
            "blue, green, red, nir08, swir16, swir22": ["blue", "green", "red", "nir08", "swir16", "swir22"],
            "Blue, Green, Red, NIR, SWIR1, SWIR2": ["Blue", "Green", "Red", "NIR", "SWIR1", "SWIR2"],
        }
        turned = (4, 0, 5, 2, 1, 3)
        for what, names in spellings.items():
            for order, how in ((range(6), "in order"), (turned, "shuffled")):
                path = write(self.place(), self.six[list(order)], [names[at] for at in order])
                told = {"sensor": "sentinel-2-l1c", "date": "2019-09-18"} if "NIR" in names else {}
                self.add("A5", f"names {what}, {how}", path, **told)
        path = write(self.place(), self.six, [f"Band {number}" for number in range(1, 7)])
        self.add("A5", "Band 1 to Band 6", path)
        self.add("A5", "Band 1 to Band 6, --sensor hls-l30", path, sensor="hls-l30", date="2019-09-18")
        seven = self.all[[0, *PLACES]]
        path = write(self.place(), seven, [f"Band {number}" for number in range(1, 8)])
        self.add("A5", "Band 1 to Band 7", path)
        of_landsat = "Band 1 to Band 7 in the order of HLS L30, --sensor hls-l30"
        self.add("A5", of_landsat, path, sensor="hls-l30", date="2019-09-18")
        path = write(self.place(), seven[[0, 4, 3, 2, 1, 5, 6]], [f"Band {number}" for number in range(1, 8)])
        self.add("A5", "the same with red and blue exchanged", path, sensor="hls-l30", date="2019-09-18")
        said = {"sensor": "sentinel-2-l1c", "date": "2019-09-18"}
        for what, order in {
            "in the order of the sensor": range(13), "as ls lists them (B8A last)": LISTED,
            "backwards": range(12, -1, -1), "by pixel size": (1, 2, 3, 7, 4, 5, 6, 8, 11, 12, 0, 9, 10),
            "B8A before B08": (0, 1, 2, 3, 4, 5, 6, 8, 7, 9, 10, 11, 12),
        }.items():  # fmt: skip
            path = write(self.place(), self.all[list(order)])
            exchanged = "were taken in the order" if what == "B8A before B08" else ""
            self.add("A5", f"13 bands without names {what}, --sensor", path, told=exchanged, **said)
            names = ",".join(IDS[at] for at in order)
            self.add("A5", f"13 bands without names {what}, --bands", path, bands=names, **said)
            named = write(self.place(), self.all[list(order)], [IDS[at] for at in order])
            self.add("A5", f"13 named bands {what}, --sensor", named, **said)
        self.add("A5", "13 bands without names, nothing said", write(self.place(), self.all))
        twice = write(self.place(), self.six, ["B02", "B03", "B04", "B8A", "B11", "B11"])
        self.add("A5", "one name twice", twice)
        inside = self.place("scene")
        for name, pixels in zip(PRITHVI_BANDS, self.six, strict=True):
            write(inside / f"{name}.tif", pixels[None])
        self.add("A5", "folder of blue.tif, green.tif ...", inside)
        inside = self.place("scene")
        for name, pixels in zip(IDS, self.all, strict=True):
            write(inside / f"T30SUH_20190918T105641_{name}.tif", pixels[None])
        self.add("A5", "folder of T30SUH_20190918T105641_B02.tif ...", inside, sensor="sentinel-2-l1c")

    def products(self) -> None:
        """Sentinel-2 products of every era and their parts."""
        for era in ERAS:
            root = self.place("scene")
            product = make_product(root, era)
            fine = np.stack([on_finest(name) for name in SIX_IDS])
            empty = np.isnan(fine).any(axis=0)
            truth = np.where(empty, np.nan, fine)
            self.add("A6", f"SAFE folder, {era}", product, truth)
            granule = next((product / "GRANULE").iterdir())
            self.add("A6", f"its granule, {era}", granule, truth)
            self.add("A6", f"its images, {era}", granule / "IMG_DATA", truth)

    def grids(self) -> None:
        """The same grid in other words, and others that look alike."""
        words = 'PROJCS["UTM Zone 30, Northern Hemisphere",GEOGCS["Unknown datum based upon the WGS 84 ellipsoid",' \
            'DATUM["Not_specified_based_on_WGS_84_spheroid",SPHEROID["WGS 84",6378137,298.257223563]],' \
            'PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],PROJECTION["Transverse_Mercator"],' \
            'PARAMETER["latitude_of_origin",0],PARAMETER["central_meridian",-3],PARAMETER["scale_factor",0.9996],' \
            'PARAMETER["false_easting",500000],PARAMETER["false_northing",0],UNIT["Meter",1]]'  # fmt: skip
        kinds: dict[str, dict[str, Any]] = {
            "the CRS in words": {"crs": words},
            "a corner 1e-4 of a pixel off": {"transform": from_origin(600_000.001, 4_200_000, 10, 10)},
            "a corner a pixel off": {"transform": from_origin(600_010, 4_200_000, 10, 10)},
            "a corner half a pixel off": {"transform": from_origin(600_005, 4_200_000, 10, 10)},
            "pixels of 10.001 m": {"transform": from_origin(600_000, 4_200_000, 10.001, 10.001)},
            "another zone": {"crs": "EPSG:32631"},
            "no CRS": {"crs": None},
        }
        for what, place in kinds.items():
            inside = self.place("scene")
            for name, pixels in zip(SIX_IDS, self.six, strict=True):
                write(inside / f"{name}.tif", pixels[None], **(place if name == "B11" else {}))
            self.add("A8", f"folder, one band with {what}", inside, sensor="sentinel-2-l1c", date="2019-09-18")

    def arrays(self) -> None:
        """Arrays of xarray and numpy."""
        path = write(self.place(), self.six, PRITHVI_BANDS, scales=[1e-4] * 6)
        opened = rioxarray.open_rasterio(path)
        assert isinstance(opened, xr.DataArray)
        self.add("A9", "rioxarray.open_rasterio", opened)
        masked = rioxarray.open_rasterio(path, mask_and_scale=True)
        self.add("A9", "rioxarray.open_rasterio(mask_and_scale=True)", masked)
        more = write(self.place(), (self.six + 1000).astype(np.int16), PRITHVI_BANDS, scales=[1e-4] * 6,
                     offsets=[-0.1] * 6)  # fmt: skip
        self.add("A9", "rioxarray, +1000 with scale_factor and add_offset", rioxarray.open_rasterio(more))
        empty = holes("block")
        tagged = write(self.place(), np.where(empty, -1, self.six).astype(np.int16), PRITHVI_BANDS, nodata=-1)
        self.add("A9", "rioxarray, _FillValue -1", rioxarray.open_rasterio(tagged), self.emptied(empty))
        named = xr.DataArray(self.six, dims=("band", "y", "x"), coords={"band": list(PRITHVI_BANDS)})
        self.add("A9", "a DataArray with neither CRS nor place", named)
        self.add("A9", "a DataArray with a CRS and no place", named.rio.write_crs(CRS))
        stated = named.rio.write_crs(CRS)
        stated.attrs |= {"spatial:transform": list(ORIGIN)[:6], "proj:code": CRS}
        self.add("A9", "spatial:transform and proj:code", stated.drop_vars("spatial_ref"))
        centres = {"x": 600_005.0 + 10 * np.arange(SIDE), "y": 4_199_995.0 - 10 * np.arange(SIDE)}
        placed = named.assign_coords(centres).rio.write_crs(CRS)
        self.add("A9", "pixel centres as coordinates", placed)
        self.add("A9", "uint16", placed.astype(np.uint16))
        self.add("A9", "0 to 1 that nothing states", placed.astype(np.float32) / 10_000)
        self.add("A9", "0 to 1, scale=1", placed.astype(np.float32) / 10_000, scale=1)
        dated = placed.expand_dims(time=[np.datetime64("2019-09-18", "ns")])
        self.add("A9", "with a time", dated)
        self.add("A9", "with a time without a value", placed.expand_dims(time=[np.datetime64("NaT", "ns")]))
        self.add("A9", "a time and another date", dated, dates=[dt.date(2020, 1, 1)])
        self.add("A9", "a numpy array", self.six)
        wide = placed.to_dataset("band")
        self.add("A9", "a Dataset with a variable for each band", wide)
        shuffled = placed.isel(band=[4, 0, 5, 2, 1, 3])
        self.add("A9", "bands in another order", shuffled)
        self.add("A9", "y upwards", placed.isel(y=slice(None, None, -1)), self.truth[:, ::-1])


def all_cases(folder: Path) -> Iterator[Case]:
    """Every input, made in a folder."""
    cases = Cases(folder)
    steps: tuple[Callable[[], None], ...] = (
        cases.fill, cases.masks, cases.scales, cases.names, cases.products, cases.grids, cases.arrays
    )  # fmt: skip
    for step in steps:
        step()
    yield from cases.made
