"""Gaps of a date filled from dates of its own sensor, of another, and of both, without and with gains between them.

    python benchmarks/bench_two_sensors.py --data FOLDER [--development] [--out FILE.json]

FOLDER holds worldcereal_training: Sentinel-2 (L2A) and Landsat 8 (surface reflectance) of the same two sites over 16
months each, on one grid of 10 m; of the second site Sentinel-2 has three of the bands (nir_narrow, swir_1, swir_2).
Each date that is clear (under 5 % bad) is hidden under the bad pixels of partly cloudy dates of the first site's
Sentinel-2 (10 to 90 % bad), some draws a date, with what the other sensor saw on the same day, under the same clouds;
every other date keeps its own. Then `prithvi.fill` is asked for that date alone:

    own            from dates of its own sensor
    other          from dates of the other one, and what it shows itself
    both           from all, as they are
    with gains     from all, those of the other sensor brought to its own first

Last, what a pixel should become that the other sensor alone saw, on the same day or the next: its values as they are,
its values brought to the sensor of the date by the gains, or the date filled from all (as `prithvi.fill` does it),
where the other sensor's date is not hidden; of a date hidden in part, and of one that is hidden whole.

Errors are means over hidden pixels and bands in reflectance, then over the cases; gains are fitted anew for each case,
to the series in which that date is hidden. Results are of the dates of the first site between 2018-06-01 and
2018-08-20, and of the whole second site; `--development` measures the first site outside of these dates and 16 days
around them.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import statistics
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import xarray as xr

import prithvi
from prithvi.bands import PRITHVI_BANDS
from prithvi.mapping.sensor_gains import SensorGains, fit_gains

sys.path.insert(0, str(Path(__file__).parent))
from pretraining_sources import GUARD, SITE, TEST_DATES, _cube, _days, worldcereal_sentinel2

SECOND = "000028085BF08E7E"
DRAWS = {"sentinel-2": 1, "landsat-8": 8}
"""Clouds by date; Landsat has few clear dates."""
HOURS = {"sentinel-2": 11, "landsat-8": 10}
VARIANTS = ("own", "other", "both", "with gains")


@dataclass
class Case:
    """A series of both sensors, a date of which is hidden in part."""

    series: xr.DataArray
    """(time, band, y, x) reflectance x 10,000, NaN where unknown."""
    date: int
    hidden: Any
    """(y, x) of that date, truth known."""
    truth: Any
    """(band, y, x)."""

    @property
    def sensor(self) -> str:
        return str(self.series["sensor"].values[self.date])


def landsat(root: Path, site: str) -> tuple[Any, Any, list[dt.date]]:
    """(T, 6, y, x) reflectance x 10,000, (T, y, x) bad pixels, and dates."""
    cube = _cube(root, f"L8_SR_10m_{site}")
    values = np.stack([cube[f"B0{band}"].values for band in range(2, 8)], axis=1).astype(np.int32)
    image, quality = np.where(values > 60_000, values - 65_536, values), cube["pixel_qa"].values
    bad = (quality & (1 | 8 | 32) > 0) | (quality == 0) | (image <= 0).any(axis=1)
    return image, bad, _days(cube)


def sentinel(root: Path, site: str) -> tuple[Any, Any, list[dt.date]]:
    """The same of Sentinel-2; of the second site its last three bands."""
    if site == SITE:
        image, fmask, dates, _ = worldcereal_sentinel2(root)
        return image, (fmask & 10 > 0) | (image <= 0).any(axis=1), dates
    cube = _cube(root, f"S2_L2A_20m_{site}")
    twice = [np.kron(cube[band].values, np.ones((1, 2, 2), int)) for band in ("B8A", "B11", "B12", "SCL")]
    image = np.stack(twice[:3], axis=1)
    return image, np.isin(twice[3], (0, 1, 3, 8, 9, 10)) | (image <= 0).any(axis=1), _days(cube)


def both_of(root: Path, site: str) -> xr.DataArray:
    """A site's series of both sensors, in the order of time."""
    parts = []
    for name, (image, bad, dates) in (("landsat-8", landsat(root, site)), ("sentinel-2", sentinel(root, site))):
        image = image[:, -3:] if site == SECOND else image
        values = np.where(bad[:, None], np.nan, image).astype(np.float32)
        times = np.array(dates, "datetime64[ns]") + np.timedelta64(HOURS[name], "h")
        coords = {
            "time": times,
            "sensor": ("time", [name] * len(dates)),
            "band": list(PRITHVI_BANDS[-image.shape[1] :]),
        }
        parts.append(xr.DataArray(values, dims=("time", "band", "y", "x"), coords=coords))
    return xr.concat(parts, "time").sortby("time").assign_attrs(gain=1e-4, bias=0.0)


def cases_of(series: xr.DataArray, wanted: Any, shapes: Any) -> Iterator[Case]:
    """Each clear date of a series that is wanted, under some clouds.

    Args:
        series: (time, band, y, x), NaN where unknown.
        wanted: (T,) bool.
        shapes: (N, y, x) of clouds.

    """
    random = np.random.default_rng(0)
    known = np.isfinite(series.values).all(axis=1)
    days = series["time"].values.astype("datetime64[D]")
    useful = known.mean(axis=(1, 2)) > 0.02
    for date in np.flatnonzero((known.mean(axis=(1, 2)) > 0.95) & wanted):
        for shape in shapes[random.choice(len(shapes), DRAWS[str(series["sensor"].values[date])])]:
            values = series.values.copy()
            values[days == days[date]] = np.where(shape, np.nan, values[days == days[date]])
            kept = np.flatnonzero(useful | (days == days[date]))
            part = series.copy(data=values).isel(time=kept)
            yield Case(part, int(np.searchsorted(kept, date)), shape & known[date], series.values[date])


def filled(case: Case, method: str, variant: str) -> tuple[Any, float]:
    """(band, y, x) of the date, and the CPU seconds that it took, the gains among them."""
    sensors = case.series["sensor"].values
    here = np.arange(len(sensors)) == case.date
    series = case.series
    if variant == "own":
        series = series.isel(time=np.flatnonzero(sensors == case.sensor))
    elif variant == "other":
        series = series.isel(time=np.flatnonzero((sensors != case.sensor) | here))
    # Without gains the series is one of two sensors all the same, as far as the dates go that are looked at.
    gains = fit_gains if variant == "with gains" else lambda *_: SensorGains(())
    when = case.series["time"].values[case.date]
    began = time.process_time()
    with patch("prithvi.mapping.two_sensors.fit_gains", gains):
        found = prithvi.fill(series, method, only=when, uncertainty=False)["image"].values[0]
    return found, time.process_time() - began


def measure(cases: list[Case], method: str) -> dict[str, Any]:
    """MAE of the cases' means by variant, CPU seconds a case, and how many cases gains make better."""
    means: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    seconds = dict.fromkeys(VARIANTS, 0.0)
    for case in cases:
        for variant in VARIANTS:
            found, took = filled(case, method, variant)
            empty = np.nanmean(case.series.values, axis=(0, 2, 3))[:, None, None]
            off = np.abs(np.where(np.isfinite(found), found, empty) - case.truth)[:, case.hidden]
            means[variant].append(float(off.mean()) * 1e-4)
            seconds[variant] += took
    better = np.mean(np.array(means["with gains"]) < np.array(means["both"]))
    return {
        "cases": len(cases), "mae": {name: round(statistics.mean(of), 5) for name, of in means.items()},
        "cpu_s_case": {name: round(of / len(cases), 3) for name, of in seconds.items()},
        "better_with_gains": round(float(better), 2),
    }  # fmt: skip


def neighbours(series: xr.DataArray, wanted: Any, shapes: Any) -> dict[str, list[float]]:
    """MAE of each way to a pixel that another sensor saw within a day; both sensors' dates are hidden in turn, in part
    and whole (as beside a swath).
    """
    random, sensors = np.random.default_rng(3), series["sensor"].values
    known = np.isfinite(series.values).all(axis=1)
    found: dict[str, list[float]] = {}
    bands = [str(band) for band in series["band"].values]
    apart = np.abs(series["time"].values[:, None] - series["time"].values) <= np.timedelta64(26, "h")
    for date, other in np.argwhere(apart & (sensors[:, None] != sensors)):
        if not wanted[date] or known[date].mean() < 0.95 or known[other].mean() < 0.95:
            continue
        for shape in (*shapes[random.choice(len(shapes), 4)], np.ones_like(shapes[0])):
            values = series.values.copy()
            values[date] = np.where(shape, np.nan, values[date])
            hidden = shape & known[date] & known[other]
            case = Case(series.copy(data=values), int(date), hidden, series.values[date])
            gains = fit_gains(case.series, sensors.tolist(), bands)
            ways = {
                "as it is": series.values[other],
                "brought": gains.brought(series.values[other], str(sensors[other]), case.sensor),
                "filled": filled(case, "local_regression", "with gains")[0],
            }
            for name, way in ways.items():
                kind = f"{name}{', whole date' if shape.all() else ''}"
                found.setdefault(kind, []).append(float(np.abs(way - case.truth)[:, hidden].mean()) * 1e-4)
    return found


Part = tuple[xr.DataArray, Any]
"""A series, and (T,) which of its dates may be hidden."""


def sites_of(root: Path, development: bool) -> dict[str, list[Part]]:
    """The series to measure on, by site."""
    first = both_of(root, SITE)
    days = first["time"].values.astype("datetime64[D]").astype(object)
    if development:
        # Nothing of the test dates is seen: what lies before and what lies after are two series.
        halves = [
            first.isel(time=np.flatnonzero(part))
            for part in (days < TEST_DATES[0] - GUARD, days > TEST_DATES[1] + GUARD)
        ]
        return {"first site": [(half, np.ones(half.sizes["time"], bool)) for half in halves]}
    second = both_of(root, SECOND)
    within = (days >= TEST_DATES[0]) & (days <= TEST_DATES[1])
    return {"test dates": [(first, within)], "second site": [(second, np.ones(second.sizes["time"], bool))]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--development", action="store_true", help="cases to develop on instead of test cases")
    parser.add_argument("--methods", nargs="+", default=["local_regression", "linear", "nearest"])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    root, results = options.data / "worldcereal_training", dict[str, Any]()
    _, bad, _ = sentinel(root, SITE)
    share = bad.mean(axis=(1, 2))
    shapes = bad[(share >= 0.1) & (share <= 0.9)]
    for site, series in sites_of(root, options.development).items():
        for part, _ in series:
            bands = [str(band) for band in part["band"].values]
            print(f"{site}: {fit_gains(part, part['sensor'].values.tolist(), bands).notes[0]}")
        every = [case for part in series for case in cases_of(*part, shapes)]
        for sensor in DRAWS:
            cases = [case for case in every if case.sensor == sensor]
            print(f"{site}, {sensor}: {len(cases)} cases")
            for method in options.methods if cases else ():
                found = results[f"{site}, {sensor}, {method}"] = measure(cases, method)
                told = " ".join(f"{variant} {of:.5f}" for variant, of in found["mae"].items())
                cost = " ".join(f"{of:.2f}" for of in found["cpu_s_case"].values())
                print(f"  {method:18} {told}  CPU s {cost}  better with gains {found['better_with_gains']}", flush=True)
        ways: dict[str, list[float]] = {}
        for part in series:
            for name, of in neighbours(*part, shapes).items():
                ways.setdefault(name, []).extend(of)
        if ways:
            found = results[f"{site}, seen by the other sensor"] = {
                name: round(statistics.mean(of), 5) for name, of in ways.items()
            }
            print(f"{site}, seen by the other sensor within a day, {len(ways['filled'])} cases: {found}", flush=True)
        if options.out is not None:
            options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
