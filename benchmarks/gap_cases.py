"""The cases of gap filling: real series, a date of which is hidden in part under the shapes of real clouds."""

from __future__ import annotations

import datetime as dt
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import xarray as xr

from prithvi.chips.spec import NODATA

sys.path.insert(0, str(Path(__file__).parent))
from pretraining_sources import GUARD, TEST_DATES, worldcereal_sentinel2, worldcereal_training

EARLY = dt.date(2018, 7, 1)
"""Of nrt_romania: dates before it are for development, the others for results."""
REACH = 8
"""Dates before and after, of a season."""


@dataclass
class Case:
    """Some dates, one of them hidden in part."""

    image: npt.NDArray[np.float32]
    """(band, T, y, x) reflectance."""
    known: npt.NDArray[np.bool_]
    """(T, y, x)."""
    hidden: npt.NDArray[np.bool_]
    """(y, x), of the target, truth known."""
    dates: list[Any]
    place: tuple[float, float]
    target: int = 1
    """Index of the date that is hidden."""

    @property
    def days(self) -> npt.NDArray[np.float64]:
        return np.array([float((date - self.dates[0]).days) for date in self.dates])

    @property
    def times(self) -> npt.NDArray[np.float32]:
        """(T, 2) year and day of the year from 0."""
        return np.array([(day.year, day.timetuple().tm_yday - 1) for day in self.dates], np.float32)

    @property
    def cloud(self) -> float:
        return float(1 - self.known[self.target].mean())

    @property
    def wait(self) -> float:
        """Median over the hidden pixels of the days to the next date that knows them."""
        apart = np.abs(self.days - self.days[self.target])
        apart = np.where(self.known, apart[:, None, None], np.inf)
        apart[self.target] = np.inf
        return float(np.median(apart.min(axis=0)[self.hidden]))


def cases_of(image: Any, bad: Any, dates: list[Any], place: tuple[float, float], shapes: Any) -> list[Case]:
    """All triplets of a site; `shapes` (N, y, x) are drawn from for each."""
    random, found = np.random.default_rng(0), []
    clear = np.flatnonzero(bad.mean(axis=(1, 2)) < 0.01)
    for triplet in zip(clear, clear[1:], clear[2:], strict=False):
        for shape in shapes[random.choice(len(shapes), 4)]:
            three = list(triplet)
            there = (image[three] != NODATA).all(axis=1)
            # Clear dates are truth: their few bad pixels count as known, unless there is no value.
            known = there & np.stack([there[0], ~bad[three[1]] & ~shape, there[2]])
            hidden = shape & ~bad[three[1]] & there.all(axis=0)
            pixels = (image[three] / 1e4).astype(np.float32).transpose(1, 0, 2, 3)
            found.append(Case(pixels, known, hidden, [dates[date] for date in three], place))
    return found


def seasons_of(
    image: Any, bad: Any, dates: list[Any], place: tuple[float, float], shapes: Any, granules: Any
) -> list[Case]:
    """Each clear date of a site hidden among those around it, under a cloud of its own and under one of granules."""
    random, found = np.random.default_rng(1), []
    bad = bad | (image == NODATA).any(axis=1)
    share = bad.mean(axis=(1, 2))
    useful = np.flatnonzero(share < 0.98)
    for date in np.flatnonzero(share < 0.01):
        place_of = int(np.flatnonzero(useful == date)[0])
        first = max(place_of - REACH, 0)
        window = useful[first : place_of + REACH + 1]
        for pool in (shapes, granules):
            shape = pool[random.integers(len(pool))][: image.shape[2], : image.shape[3]]
            known = ~bad[window]
            hidden = shape & known[place_of - first]
            known[place_of - first] &= ~shape
            if hidden.sum() < 20 or len(window) < 3:
                continue
            pixels = (image[window] / 1e4).astype(np.float32).transpose(1, 0, 2, 3)
            found.append(Case(pixels, known, hidden, [dates[day] for day in window], place, place_of - first))
    return found


def first_site(root: Path) -> tuple[Any, Any, list[Any], Any]:
    """Image, bad pixels, dates and shapes of clouds of the first site."""
    image, fmask, dates, _ = worldcereal_sentinel2(root)
    bad = fmask & 10 > 0
    share = bad.mean(axis=(1, 2))
    return image, bad, dates, bad[(share >= 0.1) & (share <= 0.9)]


def second_site(root: Path) -> tuple[Any, Any, list[Any], tuple[float, float]]:
    """Image, bad pixels, dates and place of the second site."""
    (second,) = (scene for scene in worldcereal_training(root) if scene.source.endswith("000028085BF08E7E/L8"))
    cloudy = (second.quality() & 10 > 0) | (second.image <= 0).any(axis=1)
    assert second.image.shape[-1] == 64, "the second site is of the first one's size"
    return second.image, cloudy, list(second.dates), second.place


def sites(root: Path) -> tuple[list[Case], list[Case]]:
    """Triplets of the first site and of the second."""
    image, bad, dates, shapes = first_site(root)
    second = second_site(root)
    return cases_of(image, bad, dates, (50.9, 3.5), shapes), cases_of(*second, shapes)


def granule_shapes(folder: Path) -> Any:
    """(N, 128, 128) cuts of the Fmasks of true granules, 15 to 90 % cloud or shadow and next to no fill."""
    random, found = np.random.default_rng(2), []
    for path in sorted(folder.glob("HLS.*.Fmask.tif")):
        with rasterio.open(path) as raster:
            fmask = raster.read(1)
        for row, column in random.integers(0, np.array(fmask.shape) - 128, (300, 2)):
            cut = fmask[row : row + 128, column : column + 128]
            shape = (cut & 10 > 0) & (cut != 255)
            if (cut == 255).mean() < 0.02 and 0.15 <= shape.mean() <= 0.9:
                found.append(shape)
    return np.stack(found)


def seasons(data: Path, development: bool) -> dict[str, list[Case]]:
    """Whole seasons of three sites, or those that methods may be developed on."""
    granules = granule_shapes(data / "hls_v2_pieces")
    root = data / "worldcereal_training"
    image, bad, dates, shapes = first_site(root)
    found = {}
    if development:
        kept = [np.flatnonzero([day < TEST_DATES[0] - GUARD for day in dates])]
        kept += [np.flatnonzero([day > TEST_DATES[1] + GUARD for day in dates])]
        found["first site"] = [
            case
            for part in kept
            for case in seasons_of(image[part], bad[part], [dates[day] for day in part], (50.9, 3.5), shapes, granules)
        ]
    else:
        every = seasons_of(image, bad, dates, (50.9, 3.5), shapes, granules)
        found["test"] = [case for case in every if TEST_DATES[0] <= case.dates[case.target] <= TEST_DATES[1]]
        found["second site"] = seasons_of(*second_site(root), shapes, granules)
    image, bad, dates = romania(data / "nrt_romania")
    share = bad.mean(axis=(1, 2))
    own = bad[(share >= 0.1) & (share <= 0.9)]
    part = np.flatnonzero([(day < EARLY) == development for day in dates])
    found["Romania"] = seasons_of(
        image[part], bad[part], [dates[day] for day in part], (float("nan"), float("nan")), own, granules
    )
    return found


def romania(folder: Path) -> tuple[Any, Any, list[dt.date]]:
    """(T, 5, 100, 100) pixels x 10,000 without swir_2, the 20 m bands repeated; bad pixels; dates."""
    name = "sentinel2_cube_subset_romania"
    with xr.open_dataset(folder / f"{name}_10m.nc", mask_and_scale=False) as fine:
        bands = [fine[band].values for band in ("B2", "B3", "B4")]
        quality, times = fine["SCL"].values, fine["time"].values
    with xr.open_dataset(folder / f"{name}_20m.nc", mask_and_scale=False) as coarse:
        bands += [np.kron(coarse[band].values, np.ones((1, 2, 2), int)) for band in ("B8A", "B11")]
    image = np.stack(bands, axis=1).astype(np.int32)
    bad = np.isin(quality, (0, 1, 3, 8, 9, 10)) | (image <= 0).any(axis=1)
    return image, bad, [dt.date.fromisoformat(str(time)[:10]) for time in times]


def is_test(case: Case) -> bool:
    return all(TEST_DATES[0] <= date <= TEST_DATES[1] for date in case.dates)


def is_development(case: Case) -> bool:
    """Whether all of a case lies before or after the test dates and their guard."""
    first, last = TEST_DATES[0] - GUARD, TEST_DATES[1] + GUARD
    return all(date < first for date in case.dates) or all(date > last for date in case.dates)
