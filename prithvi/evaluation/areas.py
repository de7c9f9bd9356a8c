"""Areas of classes and their uncertainty, from a map and a sample of reference points.

The stratified estimator and its standard errors are those of Olofsson et al. (2014), Good practices for estimating area
and assessing accuracy of land change, Remote Sensing of Environment 148, 42-57, with the map's classes as strata. The
confidence intervals are those of `prithvi.evaluation.intervals`, which remain valid where errors are rare.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely
from rasterio.windows import Window

from prithvi.errors import DatasetError, counted, nearest
from prithvi.evaluation.intervals import intervals
from prithvi.products.classmap import NONE, ClassMap, mapped_areas, open_classes
from prithvi.products.vectorfiles import read_places

Interval = tuple[float, float]
"""Lower and upper limit of a 95 % confidence interval."""
_WORDS = {"name": "name", "number": "number in the map", "label": "value in the labels"}
"""Kinds of entries of a reference column: class names, class numbers in the map, or label values if the labels number
classes differently."""


@dataclass(frozen=True)
class ClassArea:
    """Area and accuracies of one class; NaN where the sample allows no estimate. `_se` are standard errors."""

    name: str
    mapped_m2: float
    """Mapped area (pixel counts), in square metres."""
    area_m2: float
    """Estimated area, in square metres."""
    area_se: float
    """Standard error of the estimated area, in square metres."""
    interval: Interval
    """Confidence interval of the area, in square metres."""
    users: float
    """User's accuracy: fraction of the area mapped as this class that belongs to it."""
    users_se: float
    users_interval: Interval
    producers: float
    """Producer's accuracy: fraction of the true area of this class that is mapped as it."""
    producers_se: float
    producers_interval: Interval
    points: int
    """Number of reference points that are mapped as this class."""
    errors: int
    """Number of these points with another reference class."""


@dataclass(frozen=True)
class AreaEstimate:
    """Areas and accuracies of all classes of a map."""

    classes: tuple[ClassArea, ...]
    overall: float
    """Overall accuracy: fraction of the area that is mapped correctly."""
    overall_se: float
    overall_interval: Interval

    def table(self) -> pd.DataFrame:
        """One row per class; areas in square metres, accuracies from 0 to 1."""
        return pd.DataFrame([
            {
                "name": each.name, "mapped_m2": each.mapped_m2, "area_m2": each.area_m2, "area_se_m2": each.area_se,
                "area_low_m2": each.interval[0], "area_high_m2": each.interval[1], "users_accuracy": each.users,
                "users_se": each.users_se, "users_low": each.users_interval[0], "users_high": each.users_interval[1],
                "producers_accuracy": each.producers, "producers_se": each.producers_se,
                "producers_low": each.producers_interval[0], "producers_high": each.producers_interval[1],
                "points": each.points, "errors": each.errors,
            }
            for each in self.classes
        ])  # fmt: skip

    def without_errors(self) -> str:
        """A note on classes in which the sample found no error; empty if there are none."""
        clean = [each for each in self.classes if each.points > 0 and each.errors == 0]
        if not clean:
            return ""
        named = ", ".join(f"{each.name} ({counted(each.points, 'point')})" for each in clean)
        highest = max(1 - each.users_interval[0] for each in clean)
        return (
            f"No error was found in what is mapped as {named}. That is not certainty: up to {highest:.1%} of it may be "
            "wrong, which the intervals count with; the standard errors do not."
        )


@dataclass(frozen=True)
class Reference:
    """Reference points compared with a map, and the points that could not be used."""

    counts: npt.NDArray[np.int64]
    """(classes, classes) numbers of points: mapped class in rows, reference class in columns."""
    without_map: int
    """Number of points outside the map or at nodata."""
    without_class: int
    """Number of points without a reference class."""
    without_place: int = 0
    """Number of features with a class but a missing or empty geometry."""
    matched: str = ""
    """How the reference classes were interpreted, in words."""


def adjusted_areas(mapped: Mapping[str, float], counts: npt.NDArray[Any]) -> AreaEstimate:
    """Areas and accuracies by class from a random sample stratified by the map's classes.

    Args:
        mapped: mapped area of each class by name, in square metres.
        counts: (classes, classes) numbers of points in the order of `mapped`: mapped class in rows, reference class in
            columns.

    Raises:
        DatasetError: a mapped class has fewer than two points, or the map has no pixel with data.

    """
    names, areas, counts = list(mapped), np.array(list(mapped.values()), dtype=np.float64), np.asarray(counts)
    size = len(names)
    if counts.shape != (size, size):
        raise DatasetError(f"a sample of {size} classes has {size} x {size} counts, not {counts.shape}.")
    total = areas.sum()
    if total <= 0:
        raise DatasetError("the map has no pixel with data, so there is no area to estimate.")
    points = counts.sum(axis=1)
    lacking = [f"{name} ({points[row]})" for row, name in enumerate(names) if areas[row] > 0 and points[row] < 2]
    if lacking:
        raise DatasetError(
            f"each class of the map needs two reference points at least, better 50; too few has {', '.join(lacking)}."
        )
    # The stratified estimator: rates are n_ij / n_i within stratum i, weighted by its share of the map; areas are
    # column sums of the weighted rates; variances are those of proportions within strata.
    with np.errstate(invalid="ignore", divide="ignore"):
        weights = areas / total
        rates = np.where(points[:, None] > 0, counts / np.maximum(points, 1)[:, None], 0.0)
        spread = rates * (1 - rates) / np.maximum(points - 1, 1)[:, None]  # variances of the rates
        shares = weights[:, None] * rates
        area = total * shares.sum(axis=0)
        area_se = total * np.sqrt((weights[:, None] ** 2 * spread).sum(axis=0))
        right, right_spread = np.diag(rates), np.diag(spread)
        producers = np.diag(shares) * total / area
        omitted = areas[:, None] ** 2 * spread
        np.fill_diagonal(omitted, 0.0)
        variance = areas**2 * (1 - producers) ** 2 * right_spread + producers**2 * omitted.sum(axis=0)
        producers_se = np.sqrt(variance) / area
    sampled = points > 0
    users, users_se = np.where(sampled, right, np.nan), np.where(sampled, np.sqrt(right_spread), np.nan)
    limits = intervals(weights, counts)
    columns = (
        areas, area, area_se, total * limits.areas, users, users_se, limits.users, producers, producers_se,
        limits.producers, points, points - np.diag(counts),
    )  # fmt: skip
    classes = tuple(ClassArea(name, *(_plain(each[row]) for each in columns)) for row, name in enumerate(names))
    overall_se = float(np.sqrt((weights**2 * right_spread).sum()))
    return AreaEstimate(classes, float(np.diag(shares).sum()), overall_se, _plain(limits.overall))


def _plain(value: npt.NDArray[Any]) -> Any:
    """A number, or lower and upper limit, out of an array."""
    return tuple(value.tolist()) if value.ndim else value.item()


def estimate_areas(
    path: str | Path, points: str | Path | gpd.GeoDataFrame, column: str = "class", match: str | None = None
) -> tuple[AreaEstimate, Reference]:
    """Areas of a map's classes from reference points, and how the points were used.

    Points without a class or a geometry, outside the map or at nodata are left out and counted.

    Args:
        path: a map written by `map_scene`.
        points: a vector file or GeoDataFrame of points: a random sample, stratified by the map's classes.
        column: column of the points with the true class, by name or number.
        match: meaning of the column: class `name`, `number` in the map, or `label` value; None to infer it (see
            `matched`).

    Raises:
        SceneError: the map cannot be read.
        DatasetError: the points cannot be read, have unknown or ambiguous classes, or are too few in a class.

    """
    mapped = mapped_areas(path)
    frame, source = read_places(points, "reference points")
    kinds = set(frame.geom_type.dropna()) - {"Point"}
    if kinds:
        raise DatasetError(f"{source} has {' and '.join(sorted(kinds))} features; a reference sample is points.")
    if column not in frame:
        options = [str(name) for name in frame if name != frame.geometry.name]
        told = nearest(column, options) if options else "it has none but the place."
        raise DatasetError(f"{source} has no column {column!r}: {told} (--column)")
    known = frame[column].notna() & (frame[column].astype(str).str.strip() != "")
    placed = ~(frame.geometry.isna() | frame.geometry.is_empty)
    used, row_of = frame[known & placed], {name: row for row, name in enumerate(mapped)}
    counts = np.zeros((len(mapped), len(mapped)), dtype=np.int64)
    with open_classes(path) as classes:
        meant, told = matched(used[column].tolist(), mapped, classes.titles, classes.labels, match, source)
        found = _sample(classes, used.geometry.to_crs(classes.raster.crs.to_wkt()))
        for value, name in zip(found.tolist(), meant, strict=True):
            if value != NONE:
                counts[row_of[classes.title(value)], row_of[name]] += 1
    lost = int((found == NONE).sum())
    reference = Reference(counts, lost, int((~known).sum()), int((known & ~placed).sum()), told)
    return adjusted_areas(mapped, counts), reference


def _sample(classes: ClassMap, places: gpd.GeoSeries) -> npt.NDArray[np.int64]:
    """(points,) mapped class at each point, `NONE` outside the map or at nodata; reads each strip once."""
    # Points are grouped by strips of 256 rows, and only strips with points are read.
    found = np.full(len(places), NONE, dtype=np.int64)
    raster = classes.raster
    back = ~raster.transform
    x, y = shapely.get_x(places.to_numpy()), shapely.get_y(places.to_numpy())
    if raster.crs.is_geographic:  # longitudes of a map across the antimeridian exceed 180 degrees
        middle = (raster.transform @ (raster.width / 2, raster.height / 2))[0]
        x = middle + (x - middle + 180) % 360 - 180
    column = np.floor(back.a * x + back.b * y + back.c)
    row = np.floor(back.d * x + back.e * y + back.f)
    with np.errstate(invalid="ignore"):
        there = (column >= 0) & (column < raster.width) & (row >= 0) & (row < raster.height)
    strip = np.where(there, row // 256, -1)
    for number in np.unique(strip[there]).astype(int).tolist():
        start = number * 256
        values = classes.read(Window(0, start, raster.width, min(256, raster.height - start)))
        here = strip == number
        found[here] = values[row[here].astype(int) - start, column[here].astype(int)]
    return found


def matched(
    entries: Sequence[Any],
    names: Iterable[str],
    numbers: Mapping[int, str],
    labels: Mapping[int, str],
    kind: str | None = None,
    source: str = "the points",
) -> tuple[list[str], str]:
    """The class name of each entry, and how the column was interpreted, in words.

    If some kind fits the whole column, only such kinds are considered; otherwise each entry is matched by itself. An
    entry that means different classes by different kinds is an error.

    Args:
        entries: non-empty entries of the column; numbers may be written as 1.0.
        names: class names of the map.
        numbers: class number in the map to class name.
        labels: label value to class name, if the labels number classes differently from the map.
        kind: a key of `_WORDS`; None to infer it.
        source: name of the points in error messages.

    Raises:
        DatasetError: an entry is not a class of the map, or is ambiguous.

    """
    if kind is not None and kind not in _WORDS:
        raise DatasetError(f"a reference column holds one of {', '.join(_WORDS)}; found --match {kind}.")
    tables: dict[str, Mapping[str, str]] = {
        "name": {name: name for name in names},
        "number": {str(number): name for number, name in numbers.items()},
        "label": {str(value): name for value, name in labels.items()},
    }
    tables = {way: table for way, table in tables.items() if kind in (None, way)}
    # Tables are tried in the order name, number, label. `fitting` are those that have all entries; if there are any,
    # the others are not considered. Each distinct entry is then looked up in all remaining tables, which must agree.
    texts = [_text(entry) for entry in entries]
    different = list(dict.fromkeys(texts))
    fitting = {way: table for way, table in tables.items() if all(text in table for text in different)}
    meant: dict[str, str] = {}
    read: list[str] = []
    for text in different:
        ways = {way: table[text] for way, table in (fitting or tables).items() if text in table}
        if not ways:
            known = sorted({name for table in tables.values() for name in table})
            raise DatasetError(
                f"{source} have a {kind or 'class'} {text!r} that the map does not have: {nearest(text, known)}"
            )
        way, meant[text] = next(iter(ways.items()))
        for other, name in ways.items():
            if name != meant[text]:
                raise DatasetError(
                    f"{source} hold {text}, which is the {_WORDS[way]} of the class {meant[text]!r} and the "
                    f"{_WORDS[other]} of the class {name!r}: say which is meant (--match {way} or --match {other})."
                )
        read += [] if way in read else [way]
    told = "by " + " and ".join(_WORDS[way] for way in read) if read else ""
    table = ", ".join(f"{text} is {name}" for text, name in meant.items() if text != name)
    return [meant[text] for text in texts], f"{told} ({table})" if table else told


def _text(entry: Any) -> str:
    """An entry as text, with integers that a table stores as floats (1.0) written as integers."""
    text = str(entry).strip()
    whole = text.removesuffix(".0")
    return whole if whole.lstrip("-").isdecimal() else text
