"""Real imagery with labels that results are reported on, in one form: chips, their labels, places and folds.

Each reader takes the folder with all sources (each with its own README and licence). Values stay as they are stored;
`Imagery.scale` says what they are of reflectance 1.
"""

from __future__ import annotations

import datetime as dt
import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import xarray as xr
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning

from prithvi.catalog import data_catalog
from prithvi.chips.spec import NODATA
from prithvi.contract import IGNORE

sys.path.insert(0, str(Path(__file__).parent))
from pretraining_sources import SITE, TEST_DATES, worldcereal_sentinel2

BANDS = ("blue", "green", "red", "nir_narrow", "swir_1", "swir_2")
FOLDS = 5
CROP_DATES = (dt.date(2018, 6, 28), dt.date(2018, 7, 18), dt.date(2018, 8, 7))
FIELDS_AT_LEAST = 50
"""Crop codes of AgriFieldNet with fewer fields are left out."""

Values = npt.NDArray[Any]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LabelledChip:
    """Pixels of one place on one or more dates, with a class of each."""

    name: str
    image: Values
    """(time, band, y, x) in the units of its `Imagery`."""
    valid: npt.NDArray[np.bool_]
    """(time, y, x) False without data."""
    label: Labels
    """(y, x) class numbers; `IGNORE` where there is no label."""
    place: str
    """Chips of one place are never on two sides of a split."""
    days: tuple[dt.date | None, ...]
    fields: Labels | None = None
    """(y, x) numbers of fields, 0 outside of them."""
    fmask: npt.NDArray[np.uint8] | None = None
    fold: int = -1
    part: str = ""
    """train, val or test, where the catalog fixes it."""
    good: bool = True
    """Whether its label is good enough to learn from."""

    def reflectance(self, scale: float) -> npt.NDArray[np.float32]:
        """(time, band, y, x) reflectance, NaN without data."""
        values = self.image.astype(np.float32) / np.float32(scale)
        return np.where(self.valid[:, None], values, np.float32(np.nan))


@dataclass(frozen=True, eq=False)
class Imagery:
    name: str
    chips: tuple[LabelledChip, ...]
    classes: tuple[str, ...]
    scale: float
    """Value of reflectance 1."""
    level: str | None

    @property
    def frames(self) -> int:
        """Number of dates."""
        return len(self.chips[0].image)


@lru_cache(maxsize=2)
def worldcereal(root: Path, dates: int = 6) -> Imagery:
    """The site of tile 31UDS on test dates: maize, grass and other crops.

    Args:
        root: folder of all sources.
        dates: 6 for the six clearest of the test dates (chosen by the share of clouds, before any label is read), 3
            for those of earlier results.

    """
    image, fmask, days, _ = worldcereal_sentinel2(root / "worldcereal_training")
    test = [number for number, day in enumerate(days) if TEST_DATES[0] <= day <= TEST_DATES[1]]
    bad = ((fmask & 14) > 0) | (fmask == 255)
    clearest = sorted(sorted(test, key=lambda number: bad[number].mean())[:dates])
    chosen = [days.index(day) for day in CROP_DATES] if dates == len(CROP_DATES) else clearest
    (path,) = (root / "worldcereal_training").glob(f"OUTPUT_POLY-110_10m_{SITE}_*.nc")
    with xr.open_dataset(path, mask_and_scale=False, engine="h5netcdf") as cube:
        land, crops = cube["LC"].values, cube["CT"].values
    label = np.select([land == 99, crops == 1200, crops == 9120], [IGNORE, 0, 1], 2).astype(np.int64)
    chip = LabelledChip(SITE, image[chosen], fmask[chosen] != 255, label, SITE, tuple(days[i] for i in chosen))
    return Imagery("worldcereal", (chip,), ("maize", "grass", "other"), 10_000.0, "SR")


@lru_cache(maxsize=1)
def agrifieldnet(root: Path) -> Imagery:
    """AgriFieldNet India: one composite without a date, uint8; crop codes as names.

    A place is a chip, or several that share a field. Its own names of the codes are not in the source.
    """
    names = sorted(path.name[:-4] for path in (root / "agrifieldnet_india").glob("*.tif") if "_" not in path.name)
    raw, fields_of = [], Counter[int]()
    for name in names:
        code, field = (
            _one_band(root / "agrifieldnet_india" / f"{name}_{kind}.tif") for kind in ("labels", "field_ids")
        )
        raw.append((name, code, field))
    seen = {(int(c), int(f)) for _, code, field in raw for c, f in zip(code[code > 0], field[code > 0], strict=True)}
    fields_of.update(code for code, _ in seen)
    kept = sorted(code for code, number in fields_of.items() if number >= FIELDS_AT_LEAST)
    number_of = np.full(256, IGNORE, np.int64)
    number_of[kept] = np.arange(len(kept))
    places = _sharing([(name, set(np.unique(field[code > 0]).tolist())) for name, code, field in raw])
    part_of = {name: part for part in ("train", "val", "test") for (name,) in listed("agrifieldnet", part)}
    chips = []
    for name, code, field in raw:
        label = number_of[code]
        if (label == IGNORE).all():
            continue
        with rasterio.open(root / "agrifieldnet_india" / f"{name}.tif") as raster:
            image = raster.read()[None]
        fields = np.where(label != IGNORE, field, 0).astype(np.int64)
        valid = (image > 0).all(axis=1)
        chips.append(LabelledChip(name, image, valid, label, places[name], (None,), fields, part=part_of[name]))
    return Imagery("agrifieldnet", tuple(chips), tuple(f"code {code}" for code in kept), 255.0, "TOA")


def _one_band(path: Path) -> Values:
    with rasterio.open(path) as raster:
        return raster.read(1)


def _sharing(owned: list[tuple[str, set[int]]]) -> dict[str, str]:
    """Place of each name: the first of those that own something in common, directly or through others."""
    place: dict[str, str] = {}
    first: dict[int, str] = {}
    for name, things in owned:
        place[name] = name
        for thing in things:
            pair = {place[first.setdefault(thing, name)], place[name]}
            place = {key: min(pair) if value in pair else value for key, value in place.items()}
    return place


@lru_cache(maxsize=1)
def water(root: Path) -> Imagery:
    """hls_water: land and water, in the catalog's five folds of sites (grounds that do not overlap)."""
    files, chips = root / "hls_water", []
    for fold in range(FOLDS):
        for good in (True, False):
            for name, _, site in listed("hls_water", f"fold{fold}" if good else f"fold{fold}_rough"):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", NotGeoreferencedWarning)
                    with rasterio.open(files / "images" / f"{name}.tif") as raster:
                        image, fmask = raster.read(range(1, 7))[None], raster.read(7).astype(np.uint8)
                label = np.array(Image.open(files / "labels" / f"{name}.png")).astype(np.int64)
                valid = (image != NODATA).all(axis=1) & (fmask != 255)[None]
                chips.append(LabelledChip(name, image, valid, label, site, (None,), fmask=fmask, fold=fold, good=good))
    return Imagery("water", tuple(chips), ("land", "water"), 10_000.0, "SR")


def listed(name: str, part: str) -> list[list[str]]:
    """Lines of a list of the catalog, split at commas."""
    return [line.split(",") for line in (data_catalog() / name / "splits" / f"{part}.txt").read_text().split()]


@lru_cache(maxsize=1)
def floods(root: Path | None = None) -> Imagery:
    """The demo's chip: a flood in Spain, Sentinel-2 L1C."""
    from prithvi.cli.demo import DATE, _Chip

    demo = _Chip()
    image = demo.scene.sel(band=list(BANDS)).values.astype(np.float32)
    chip = LabelledChip("Spain", image, np.isfinite(image).all(axis=1), demo.label.astype(np.int64), "Spain",
                        (dt.date.fromisoformat(DATE),))  # fmt: skip
    return Imagery("floods", (chip,), tuple(demo.names), demo.layout.contract.scale, "TOA")


@lru_cache(maxsize=1)
def burn(root: Path) -> Imagery:
    """The Cold Springs fire after it alone; a weak label: dNBR above 0.27 where both dates are clear."""
    from prithvi.evaluation import normalised_difference

    def date(day: str) -> tuple[Values, npt.NDArray[np.bool_]]:
        files = root / "cold_springs_fire"
        bands = [f"sr_band{band}" for band in range(2, 8)]
        image, clear = (
            np.stack([_one_band(files / f"LC80340322016{day}LGN00_{name}_crop.tif") for name in names])
            for names in (bands, ["cfmask"])
        )
        return image.astype(np.float32), (clear[0] == 0) & (image > 0).all(axis=0)

    (before, clear_before), (after, clear_after) = date("189"), date("205")
    change = normalised_difference(before[3], before[5]) - normalised_difference(after[3], after[5])
    label = np.where(clear_before & clear_after, change > 0.27, IGNORE).astype(np.int64)
    chip = LabelledChip("Cold Springs", after[None], clear_after[None], label, "Cold Springs", (dt.date(2016, 7, 23),))
    return Imagery("burn", (chip,), ("not burnt", "burn scar"), 10_000.0, "SR")


READERS: dict[str, Callable[[Path], Imagery]] = {
    "floods": floods, "water": water, "worldcereal": worldcereal, "agrifieldnet": agrifieldnet, "burn": burn,
}  # fmt: skip


def of_fold(source: str | None, fold: int) -> str | None:
    """The weights of a fold: `{fold}` in their name becomes its number."""
    return None if source is None else re.sub(r"\{fold\}", str(fold), source)


def without_label(chip: LabelledChip, keep: npt.NDArray[np.bool_]) -> LabelledChip:
    """The chip with labels only where `keep` is True."""
    return replace(chip, label=np.where(keep, chip.label, IGNORE))
