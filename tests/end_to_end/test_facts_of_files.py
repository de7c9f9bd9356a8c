"""Files with wrong or missing facts: the map is that of the truth, or the file is refused; never silently another.

A piece of the sample is stored in ways drawn at random (container, type, scale and offset, band names, order, fill,
nodata tag, mask), some of which leave out or get wrong what a reader has to know. The truth is the same piece in its
plainest form. What states enough must be mapped.
"""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.enums import ColorInterp
from rasterio.shutil import copy as copy_raster
from rasterio.transform import from_origin

import prithvi
from prithvi.bands import PRITHVI_BANDS
from prithvi.errors import PrithviError
from prithvi.modelio.predictor import FittedModel
from tests.conftest import SIX, SPAIN

SIDE = 48
PLACE = {"crs": "EPSG:32630", "transform": from_origin(600_000, 4_200_000, 30, 30)}
IDS = ("B02", "B03", "B04", "B8A", "B11", "B12")
ALL_IDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
WAVELENGTHS = ("B2, central wavelength 490 nm", "B3, central wavelength 560 nm", "B4, central wavelength 665 nm",
               "B8A, central wavelength 865 nm", "B11, central wavelength 1610 nm",
               "B12, central wavelength 2190 nm")  # fmt: skip
THIRTEEN = ("sensor", "none", "positions")
"""Ways of naming where all thirteen bands are stored; else the six."""
SCENES = [40, pytest.param(600, marks=pytest.mark.slow)]
"""How many are drawn."""


@dataclass(frozen=True)
class Facts:
    """How one file is stored and what it says of itself."""

    container: str
    dtype: str
    offset: int
    """Added to every stored value."""
    reflectance: bool
    """Stored 0 to 1 in place of x 10,000."""
    scaling: str
    """`tags`, `options`, or `none`: who says scale and offset."""
    names: str
    shuffled: bool
    fill: float | None
    by_band: bool
    """Holes of one band each instead of whole pixels."""
    nodata: str
    """`right`, `wrong` or `none`: the tag."""
    mask: str
    """`none`, `internal` or `alpha`: holes are said by it too."""
    pattern: str

    @property
    def states_enough(self) -> bool:
        """Whether bands and scale follow from the file and what is said beside it."""
        named = self.names in ("common", "ids", "wavelengths", "options") or (
            self.names == "sensor" and not self.shuffled
        )
        # A tag of 1 and 0 is what files have that state nothing.
        told = self.scaling == "options" or (self.scaling == "tags" and not self.reflectance)
        scaled = told or (not self.reflectance and self.offset == 0)
        return named and scaled


def fills(dtype: str, reflectance: bool) -> st.SearchStrategy[float | None]:
    if dtype == "uint16":
        values: list[float | None] = [None, 0.0, 65535.0, 55537.0]
    elif dtype == "int16":
        values = [None, 0.0, -1.0, -9999.0, -1000.0, -32768.0, 32767.0]
    else:
        values = [
            None,
            0.0,
            -1.0,
            -9999.0,
            -99999.0,
            float(np.float32(-3.4e38)),
            float(np.float32(1e20)),
            np.inf,
            np.nan,
        ]
    return st.sampled_from(values)


@st.composite
def facts(draw: st.DrawFn) -> Facts:
    dtype = draw(st.sampled_from(["int16", "uint16", "float32"]))
    reflectance = dtype == "float32" and draw(st.booleans())
    fill = draw(fills(dtype, reflectance))
    names = draw(st.sampled_from(["common", "ids", "wavelengths", "options", "sensor", "none", "positions"]))
    # A hole of one band can only be told where its value is no reflectance, or is stated.
    telling = fill is not None and not -2_000 <= fill <= 20_000 and names not in THIRTEEN
    return Facts(
        container=draw(st.sampled_from(["GTiff", "VRT", "ENVI", "folder", "array"])),
        dtype=dtype,
        offset=0 if reflectance else draw(st.sampled_from([0, 0, 1000])),
        reflectance=reflectance,
        scaling=draw(st.sampled_from(["tags", "tags", "options", "none"])),
        names=names,
        shuffled=names in ("common", "ids", "wavelengths", "options") and draw(st.booleans()),
        fill=fill,
        by_band=telling and draw(st.booleans()),
        nodata=draw(st.sampled_from(["right", "none", "none", "wrong"])),
        mask=draw(st.sampled_from(["none", "none", "none", "internal", "alpha"])),
        pattern=draw(st.sampled_from(["block", "scattered"])),
    )


@pytest.fixture(scope="module")
def stack() -> np.ndarray:
    """(13, y, x) int16: a piece of the sample with water and land."""
    with rasterio.open(SPAIN) as raster:
        found: np.ndarray = raster.read()[:, 200 : 200 + SIDE, 260 : 260 + SIDE]
    assert found.min() > 0
    return found


def holes(said: Facts) -> np.ndarray:
    """(y, x) bool."""
    empty = np.zeros((SIDE, SIDE), bool)
    if said.fill is None and said.mask == "none":
        return empty
    if said.pattern == "block":
        empty[:17, 5:23] = True
    else:
        empty[np.random.default_rng(7).random((SIDE, SIDE)) < 0.1] = True
    return empty


def stored(said: Facts, stack: np.ndarray) -> tuple[np.ndarray, list[str | None], dict[str, Any], np.ndarray]:
    """Values (band, y, x), names, options of `open_scene`, and holes."""
    thirteen = said.names in THIRTEEN
    pixels = stack.astype(np.float64) if thirteen else stack[[band - 1 for band in SIX]].astype(np.float64)
    options: dict[str, Any] = {}
    names: list[str | None]
    match said.names:
        case "common":
            names = list(PRITHVI_BANDS)
        case "ids":
            names, options["sensor"] = list(IDS), None
        case "wavelengths":
            names = list(WAVELENGTHS)
        case "options":
            names, options["bands"] = [None] * 6, list(PRITHVI_BANDS)
        case "sensor":
            names, options["sensor"] = [None] * 13, "sentinel-2-l1c"
        case "positions":
            names = [f"Band {number}" for number in range(1, 14)]
        case _:
            names = [None] * 13
    options = {key: value for key, value in options.items() if value is not None}
    if said.shuffled:
        order = np.random.default_rng(3).permutation(len(pixels))
        pixels, names = pixels[order], [names[place] for place in order]
        if "bands" in options:
            options["bands"] = [PRITHVI_BANDS[place] for place in order]
    if said.scaling == "options":
        options |= {"scale": 1.0 if said.reflectance else 10_000.0}
        if said.offset:
            options["offset"] = -said.offset
    if "sensor" in options and "offset" not in options and said.scaling != "tags":
        options["dates"] = ["2019-09-18"]
    values = pixels / 10_000 if said.reflectance else pixels + said.offset
    empty = holes(said)
    if said.fill is not None:
        bands = np.arange(len(values))[:, None, None]
        values[
            empty & (np.arange(SIDE) % len(values) == bands) if said.by_band else np.tile(empty, (len(values), 1, 1))
        ] = said.fill
    return values.astype(said.dtype), names, options, empty


def write(path: Path, values: np.ndarray, names: list[str | None], said: Facts, empty: np.ndarray, driver: str) -> Path:
    nodata = {"right": said.fill, "none": None, "wrong": 12345.0}[said.nodata]
    alpha = said.mask == "alpha" and driver == "GTiff"
    count = len(values) + alpha
    profile = {"driver": driver, "width": SIDE, "height": SIDE, "count": count, "dtype": values.dtype, **PLACE}
    if nodata is not None and said.mask == "none":
        profile["nodata"] = nodata
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **profile) as raster:
        raster.write(values, list(range(1, len(values) + 1)))
        if said.scaling == "tags":
            gain = 1.0 if said.reflectance else 1e-4
            raster.scales = [gain] * count
            raster.offsets = [-said.offset * gain] * count
        for index, name in enumerate(names, start=1):
            if name is not None:
                raster.set_band_description(index, name)
        if alpha:
            raster.colorinterp = [ColorInterp.gray] + [ColorInterp.undefined] * (count - 2) + [ColorInterp.alpha]
            top = np.iinfo(values.dtype).max if values.dtype.kind in "iu" else 255
            raster.write(np.where(empty, 0, top).astype(values.dtype), count)
        elif said.mask != "none" and driver == "GTiff":
            raster.write_mask(~empty)
    return path


def source_of(said: Facts, stack: np.ndarray, folder: Path) -> tuple[Any, dict[str, Any], np.ndarray, bool]:
    """What is opened, with which options; the holes; whether it states enough."""
    values, names, options, empty = stored(said, stack)
    enough = said.states_enough
    if said.container == "folder" and all(names):
        if said.names in ("wavelengths", "positions"):
            names = [str(name).partition(",")[0] for name in names]
        inside = folder / "scene"
        inside.mkdir()
        for band, name in zip(values, names, strict=True):
            write(inside / f"{name}.tif", band[None], [None], said, empty, "GTiff")
        return inside, options, empty, enough
    driver = "ENVI" if said.container == "ENVI" else "GTiff"
    path = write(folder / ("scene.img" if driver == "ENVI" else "scene.tif"), values, names, said, empty, driver)
    if said.container == "VRT":
        copy_raster(path, folder / "scene.vrt", driver="VRT")
        path = folder / "scene.vrt"
    if said.container == "array":
        opened = rioxarray.open_rasterio(path)
        assert isinstance(opened, xr.DataArray)
        # An array's alpha band looks like any other band without a name.
        return opened, options, empty, enough and said.mask != "alpha"
    return path, options, empty, enough


def has_holes(said: Facts) -> bool:
    """Whether the holes are in what is written: not every container carries a mask."""
    return said.fill is not None or (said.mask != "none" and said.container not in ("ENVI", "array"))


def map_of(source: Any, options: dict[str, Any], model: FittedModel, **more: Any) -> xr.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return prithvi.map(prithvi.open_scene(source, **options, **more), model).compute()


def difference(found: xr.Dataset, truth: xr.Dataset) -> str | None:
    """What differs between two maps; a class may, where the truth's own choice hangs on rounding."""
    ours, theirs = found["class"].values, truth["class"].values
    if ours.shape != theirs.shape:
        return f"shape {ours.shape} for {theirs.shape}"
    if ((ours == 255) != (theirs == 255)).any():
        return f"{(ours == 255).sum()} pixels without data for {(theirs == 255).sum()}"
    certain = truth["confidence"].values > 0.5 + 1e-3
    wrong = (ours != theirs) & (theirs != 255) & certain
    return f"{wrong.sum()} pixels of another class" if wrong.any() else None


@pytest.fixture(scope="module")
def truth_of(
    stack: np.ndarray, fitted: FittedModel, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[np.ndarray], xr.Dataset]:
    """The map of the plainest form: six bands by name, reflectance x 10,000 as stated, holes at the stated nodata."""
    known: dict[bytes, xr.Dataset] = {}
    folder = tmp_path_factory.mktemp("truths")

    def truth(empty: np.ndarray) -> xr.Dataset:
        key = empty.tobytes()
        if key not in known:
            pixels = np.where(empty, -9999, stack[[band - 1 for band in SIX]]).astype(np.int16)
            path = folder / f"{len(known)}.tif"
            profile = {"driver": "GTiff", "width": SIDE, "height": SIDE, "count": 6, "dtype": "int16", "nodata": -9999}
            with rasterio.open(path, "w", **profile, **PLACE) as raster:
                raster.write(pixels)
                raster.scales = [1e-4] * 6
                for index, name in enumerate(PRITHVI_BANDS, start=1):
                    raster.set_band_description(index, name)
            known[key] = map_of(path, {}, fitted)
            assert (known[key]["class"].values == 255).sum() == empty.sum()
        return known[key]

    return truth


@pytest.mark.parametrize("scenes", SCENES)
def test_a_map_is_the_truths_or_the_file_is_refused(
    scenes: int,
    stack: np.ndarray,
    fitted: FittedModel,
    truth_of: Callable[[np.ndarray], xr.Dataset],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """`--log-cli-level=INFO` shows the count of each outcome."""
    outcomes: Counter[str] = Counter()
    faults: list[str] = []

    @settings(
        max_examples=scenes, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(facts())
    def check(said: Facts) -> None:
        source, options, empty, enough = source_of(said, stack, tmp_path_factory.mktemp("scene"))
        states = "enough stated" if enough else "too little stated"
        try:
            found = map_of(source, options, fitted)
        except PrithviError as error:
            outcomes[f"{states}, refused"] += 1
            if enough:
                faults.append(f"refused: {said} {options}: {error}")
            return
        differs = difference(found, truth_of(empty if has_holes(said) else np.zeros_like(empty)))
        if differs is not None:
            faults.append(f"silently wrong: {said} {options}: {differs}")
        outcomes[f"{states}, {'right' if differs is None else 'wrong'}"] += 1

    check()
    drawn = outcomes.total()
    logging.getLogger(__name__).info("%d scenes: %s", drawn, dict(sorted(outcomes.items())))
    assert not faults, f"{len(faults)} of {drawn}:\n" + "\n".join(faults[:5])
    assert drawn >= 0.8 * scenes
    assert 2 * outcomes["enough stated, right"] >= drawn, outcomes
