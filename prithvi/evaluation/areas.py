"""Areas of classes with their uncertainty: a map's pixel counts put right by a sample of reference points.

Olofsson et al. (2014), Good practices for estimating area and assessing accuracy of land change, Remote Sensing of
Environment 148, 42-57: the stratified estimator, the map's classes being the strata.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely
from rasterio.windows import Window

from prithvi.errors import DatasetError, nearest
from prithvi.evaluation.matching import matched
from prithvi.mapping.classmap import NONE, ClassMap, mapped_areas, open_classes
from prithvi.mapping.vectorfiles import read_vector_file

Z = 1.96
"""Standard errors to each side of a 95 % interval."""


@dataclass(frozen=True)
class ClassArea:
    """What is known of one class; NaN where the sample cannot say. Standard errors are `_se`."""

    name: str
    mapped_m2: float
    """What the map says."""
    area_m2: float
    """What the sample makes of it."""
    area_se: float
    users: float
    """Share of what is mapped as this class that is it."""
    users_se: float
    producers: float
    """Share of this class that is mapped as it."""
    producers_se: float
    points: int
    """Reference points where the map has this class."""

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of the area, in square metres; it does not go below 0."""
        return max(0.0, self.area_m2 - Z * self.area_se), self.area_m2 + Z * self.area_se


@dataclass(frozen=True)
class AreaEstimate:
    """Areas and accuracies of a map."""

    classes: tuple[ClassArea, ...]
    overall: float
    """Share of the area that is mapped right."""
    overall_se: float

    def table(self) -> pd.DataFrame:
        """A row for each class; areas in square metres, accuracies from 0 to 1."""
        return pd.DataFrame([
            {
                "name": each.name, "mapped_m2": each.mapped_m2, "area_m2": each.area_m2, "area_se_m2": each.area_se,
                "area_low_m2": each.interval[0], "area_high_m2": each.interval[1], "users_accuracy": each.users,
                "users_se": each.users_se, "producers_accuracy": each.producers, "producers_se": each.producers_se,
                "points": each.points,
            }
            for each in self.classes
        ])  # fmt: skip


@dataclass(frozen=True)
class Reference:
    """Reference points compared with a map."""

    counts: npt.NDArray[np.int64]
    """(classes, classes) points: rows what the map says, columns what the reference says."""
    without_map: int
    """Points where the map has no data or does not reach."""
    without_class: int
    """Points whose column is empty."""
    matched: str = ""
    """How the points' classes were read, in words."""


def adjusted_areas(mapped: Mapping[str, float], counts: npt.NDArray[Any]) -> AreaEstimate:
    """Areas by class from a random sample that is stratified by the map's classes.

    Args:
        mapped: class name to mapped area, in square metres.
        counts: (classes, classes) points in the order of `mapped`: rows the map's class, columns the reference's.

    Raises:
        DatasetError: a class that the map has got fewer than two points, or the map has none.

    """
    names, areas, counts = list(mapped), np.array(list(mapped.values()), dtype=np.float64), np.asarray(counts)
    if counts.shape != (len(names), len(names)):
        raise DatasetError(
            f"a sample of {len(names)} classes has {len(names)} x {len(names)} counts, not {counts.shape}."
        )
    total = areas.sum()
    if total <= 0:
        raise DatasetError("the map has no pixel with data, so there is no area to estimate.")
    points = counts.sum(axis=1)
    lacking = [f"{name} ({points[row]})" for row, name in enumerate(names) if areas[row] > 0 and points[row] < 2]
    if lacking:
        raise DatasetError(
            f"each class of the map needs two reference points at least, better 50; too few has {', '.join(lacking)}."
        )
    with np.errstate(invalid="ignore", divide="ignore"):
        weights = areas / total
        rates = np.where(points[:, None] > 0, counts / np.maximum(points, 1)[:, None], 0.0)  # of each stratum
        spread = rates * (1 - rates) / np.maximum(points - 1, 1)[:, None]  # their variances
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
    classes = tuple(
        ClassArea(
            name, float(areas[row]), float(area[row]), float(area_se[row]), float(users[row]), float(users_se[row]),
            float(producers[row]), float(producers_se[row]), int(points[row]),
        )
        for row, name in enumerate(names)
    )  # fmt: skip
    overall_se = float(np.sqrt((weights**2 * right_spread).sum()))
    return AreaEstimate(classes, float(np.diag(shares).sum()), overall_se)


def estimate_areas(
    path: str | Path, points: str | Path | gpd.GeoDataFrame, column: str = "class", match: str | None = None
) -> tuple[AreaEstimate, Reference]:
    """Areas of a map's classes from reference points, with what became of the points.

    Args:
        path: a map that `map_scene` wrote.
        points: a vector file or a frame of points: a random sample, stratified by the map's classes.
        column: of the points, with the class that is there in truth, by name or number.
        match: how the column is meant, `name`, `number` or `label`; None finds out. See `prithvi.evaluation.matching`.

    Raises:
        SceneError: the map cannot be read.
        DatasetError: the points cannot be read, name classes that the map does not have or that may be meant in two
            ways, or are too few in a class.

    """
    mapped = mapped_areas(path)
    with open_classes(path) as classes:
        reference = _compare(classes, list(mapped), points, column, match)
    return adjusted_areas(mapped, reference.counts), reference


def _compare(
    classes: ClassMap, names: list[str], points: str | Path | gpd.GeoDataFrame, column: str, match: str | None
) -> Reference:
    frame, source = (points, "the points") if isinstance(points, gpd.GeoDataFrame) else (None, str(points))
    frame = read_vector_file(source, "reference points") if frame is None else frame
    kinds = set(frame.geom_type.dropna()) - {"Point"}
    if kinds:
        raise DatasetError(f"{source} has {' and '.join(sorted(kinds))} features; a reference sample is points.")
    if column not in frame:
        options = [str(name) for name in frame if name != frame.geometry.name]
        told = nearest(column, options) if options else "it has none but the place."
        raise DatasetError(f"{source} has no column {column!r}: {told} (--column)")
    known = frame[column].notna() & (frame[column].astype(str).str.strip() != "")
    row_of = {name: row for row, name in enumerate(names)}
    entries = frame.loc[known, column].tolist()
    meant, told = matched(entries, names, classes.titles, classes.labels, match, source)
    found = _sample(classes, frame.geometry[known].to_crs(classes.crs.to_wkt()))
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    lost = 0
    for value, name in zip(found.tolist(), meant, strict=True):
        if value == NONE:
            lost += 1
        else:
            counts[row_of[classes.title(value)], row_of[name]] += 1
    return Reference(counts, lost, int((~known).sum()), told)


def _sample(classes: ClassMap, places: gpd.GeoSeries) -> npt.NDArray[np.int64]:
    """The map's class at each point, `NONE` where it has none; read by strips, so that no block is read twice."""
    found = np.full(len(places), NONE, dtype=np.int64)
    back = ~classes.transform
    x, y = shapely.get_x(places.to_numpy()), shapely.get_y(places.to_numpy())  # NaN where there is no point
    column = np.floor(back.a * x + back.b * y + back.c)
    row = np.floor(back.d * x + back.e * y + back.f)
    with np.errstate(invalid="ignore"):
        there = (column >= 0) & (column < classes.shape[1]) & (row >= 0) & (row < classes.shape[0])
    strip = np.where(there, row // 256, -1)
    for number in np.unique(strip[there]).astype(int).tolist():
        start = number * 256
        values = classes.read(Window(0, start, classes.shape[1], min(256, classes.shape[0] - start)))
        here = strip == number
        found[here] = values[row[here].astype(int) - start, column[here].astype(int)]
    return found
