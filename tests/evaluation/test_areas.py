"""Adjusted areas: the paper's own example, samples with a known truth, and the verb."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from affine import Affine

from prithvi.errors import DatasetError
from prithvi.evaluation.areas import adjusted_areas, estimate_areas
from prithvi.products.classmap import mapped_areas
from tests.products.test_class_polygons import DEGREES, UTM, geodesic_by_class, noise, write_map

HECTARE = 1e4
PIXELS = {"deforestation": 200_000, "gain": 150_000, "stable forest": 3_200_000, "stable non-forest": 6_450_000}
PAPER = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])


def test_the_paper_s_example_comes_out() -> None:
    """Olofsson et al. 2014, section 5: pixels of 30 m, 640 points.

    Of producer's accuracy the paper prints intervals of 0.23 (gain) and 0.01 (stable non-forest); its own equation 7
    gives 0.25 and 0.02, and so does the derivative in the test below.
    """
    estimate = adjusted_areas({name: count * 900.0 for name, count in PIXELS.items()}, PAPER)
    deforestation = estimate.classes[0]
    assert deforestation.mapped_m2 / HECTARE == 18_000
    assert deforestation.area_m2 / HECTARE == pytest.approx(21_158, abs=1)
    assert 1.96 * deforestation.area_se / HECTARE == pytest.approx(6_158, abs=1)
    low, high = (limit / HECTARE for limit in deforestation.interval)
    # Three points of 490 speak of deforestation that the map has not: surely not less, but perhaps much more.
    assert 21_158 - 6_158 < low < 21_158 - 3_000
    assert 21_158 + 6_158 < high < 21_158 + 2 * 6_158
    assert [round(each.users, 2) for each in estimate.classes] == [0.88, 0.73, 0.93, 0.96]
    assert [round(each.producers, 2) for each in estimate.classes] == [0.75, 0.85, 0.93, 0.96]
    assert round(estimate.overall, 2) == 0.95
    assert [round(1.96 * each.users_se, 2) for each in estimate.classes] == [0.07, 0.10, 0.04, 0.02]
    assert [round(1.96 * each.producers_se, 2) for each in estimate.classes] == [0.21, 0.25, 0.03, 0.02]
    assert round(1.96 * estimate.overall_se, 2) == 0.02
    assert sum(each.area_m2 for each in estimate.classes) == pytest.approx(sum(PIXELS.values()) * 900)


def test_standard_errors_are_those_of_the_derivatives() -> None:
    """Of every figure by every count, with the covariance of multinomial samples in each stratum."""
    mapped = {name: count * 900.0 for name, count in PIXELS.items()}
    points = PAPER.sum(axis=1)

    def figures(counts: Any) -> Any:
        shares = np.array(list(mapped.values()))[:, None] * counts / points[:, None]
        right, sums = np.diag(shares), shares.sum(axis=0)
        return np.concatenate([sums, right / sums, np.diag(counts) / points, [right.sum() / shares.sum()]])

    variance = np.zeros(13)
    for stratum in range(4):
        steps = np.zeros((4, 4, 4))
        steps[range(4), stratum, range(4)] = 1e-5
        slopes = np.stack([(figures(PAPER + step) - figures(PAPER - step)) / 2e-5 for step in steps])
        rates = PAPER[stratum] / points[stratum]
        covariance = points[stratum] ** 2 / (points[stratum] - 1) * (np.diag(rates) - np.outer(rates, rates))
        variance += np.einsum("kf,kl,lf->f", slopes, covariance, slopes)
    estimate = adjusted_areas(mapped, PAPER)
    found = [getattr(each, which) for which in ("area_se", "producers_se", "users_se") for each in estimate.classes]
    assert [*found, estimate.overall_se] == pytest.approx(np.sqrt(variance).tolist(), rel=1e-5)


def test_intervals_cover_the_truth_and_the_estimate_is_not_biased() -> None:
    """600 stratified samples of one map whose own areas are wrong."""
    rng = np.random.default_rng(0)
    truth_in_map = np.array([[0.80, 0.15, 0.05], [0.06, 0.90, 0.04], [0.03, 0.07, 0.90]])
    mapped = np.array([1e6, 5e6, 4e6])
    true = mapped @ truth_in_map
    true_producers = np.diag(truth_in_map) * mapped / true
    true_overall = (np.diag(truth_in_map) * mapped).sum() / mapped.sum()
    found, covered, producers, overall = [], [], [], []
    for _ in range(600):
        counts = rng.multinomial([300, 500, 500], truth_in_map)
        estimate = adjusted_areas(dict(zip("abc", mapped.tolist(), strict=True)), counts)
        found.append([each.area_m2 for each in estimate.classes])
        covered.append([low <= area <= high for (low, high), area in zip(
            (each.interval for each in estimate.classes), true, strict=True)])  # fmt: skip
        producers.append([low <= share <= high for (low, high), share in zip(
            (each.producers_interval for each in estimate.classes), true_producers, strict=True)])  # fmt: skip
        low, high = estimate.overall_interval
        overall.append(low <= true_overall <= high)
    error = np.std(found, axis=0) / 600**0.5
    assert (np.abs(np.mean(found, axis=0) - true) < 4 * error).all()
    assert (np.abs(mapped - true) > 8 * error).all()  # where the map's own count is far off
    for share in (*np.mean(covered, axis=0), *np.mean(producers, axis=0), np.mean(overall)):
        assert 0.93 < share < 0.995
    reported = np.sqrt(np.mean([each.area_se**2 for each in estimate.classes]))
    assert reported == pytest.approx(np.sqrt(np.mean(np.var(found, axis=0))), rel=0.25)


def test_a_class_without_points_is_named() -> None:
    with pytest.raises(DatasetError, match=r"too few has gain \(0\), stable forest \(1\)"):
        adjusted_areas(dict(PIXELS), np.array([[5, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 5]]))
    with pytest.raises(DatasetError, match="no pixel with data"):
        adjusted_areas({"a": 0.0, "b": 0.0}, np.zeros((2, 2)))
    with pytest.raises(DatasetError, match=r"4 x 4 counts, not \(2, 2\)"):
        adjusted_areas(PIXELS, np.zeros((2, 2)))


def test_a_class_that_the_map_never_shows_may_still_have_an_area() -> None:
    estimate = adjusted_areas({"land": 100.0, "water": 0.0}, np.array([[8, 2], [0, 0]]))
    water = estimate.classes[1]
    assert (water.area_m2, water.producers) == (pytest.approx(20), 0)
    assert np.isnan(water.users)
    sure = adjusted_areas({"land": 100.0, "water": 0.0}, np.array([[8, 0], [0, 0]])).classes[1]
    assert sure.area_m2 == 0
    assert sure.interval == pytest.approx((0, 100 * (1 - 0.025 ** (1 / 8))))  # eight points without any exclude no more
    assert np.isnan(sure.producers)


@pytest.mark.parametrize(
    ("crs", "transform"),
    [("EPSG:32630", UTM), ("EPSG:4326", DEGREES), ("EPSG:32630", UTM @ Affine.rotation(30)), ("EPSG:3857", UTM)],
)
def test_mapped_areas_are_geodesic(tmp_path: Path, crs: str, transform: Affine) -> None:
    values = noise((40, 60))
    path = write_map(tmp_path / "map.tif", values, transform, crs)
    expected = geodesic_by_class(values, transform, crs)
    named = {"land": expected[0], "water": expected[1], "crop": expected[2]}
    assert mapped_areas(path, rows=7) == pytest.approx(named, rel=1e-6)


def test_a_stratum_without_an_error_is_named_and_still_has_a_width() -> None:
    estimate = adjusted_areas({"water": 1e6, "land": 99e6}, np.array([[50, 0], [0, 100]]))
    water, land = estimate.classes
    assert (water.area_se, water.users_se) == (0, 0)
    assert water.interval[0] < water.area_m2 == 1e6 < 3e6 < water.interval[1]
    assert land.interval == pytest.approx((100e6 - water.interval[1], 100e6 - water.interval[0]))
    assert water.users_interval == pytest.approx((0.025 ** (1 / 50), 1))
    assert water.producers_interval[0] < 0.3
    assert estimate.without_errors() == (
        "No error was found in what is mapped as water (50 points), land (100 points). That is not certainty: up to "
        "7.1% of it may be wrong, which the intervals count with; the standard errors do not."
    )
    some = adjusted_areas({"water": 1e6, "land": 99e6}, np.array([[49, 1], [1, 99]]))
    assert some.without_errors() == ""


def points_of(places: list[tuple[float, float]], transform: Affine = UTM, **columns: Any) -> gpd.GeoDataFrame:
    """Points at (column, row) of the map."""
    return gpd.GeoDataFrame(columns, geometry=[shapely.Point(transform @ place) for place in places], crs="EPSG:32630")


def test_points_are_put_on_their_pixels(tmp_path: Path) -> None:
    """In another reference system, by name and number, off the map and on its holes."""
    values = np.tile(np.repeat([0, 1, 255], 10), (300, 1))
    path = write_map(tmp_path / "map.tif", values, names={0: "land", 1: "water"})
    places = [
        (0.5, 0.5),
        (5.5, 280.5),
        (9.9, 299.9),
        (10.1, 0.1),
        (12.5, 270.5),
        (15, 10),
        (25, 10),
        (-1, 5),
        (5, 301),
        (3, 3),
    ]
    entries = ["land", "0", "water", "water", "1.0", "land", "land", "land", "land", None]
    points = points_of(places, truth=entries).to_crs("EPSG:4326")
    estimate, reference = estimate_areas(path, points, "truth")
    assert reference.counts.tolist() == [[2, 1], [1, 2]]
    assert (reference.without_map, reference.without_class) == (3, 1)
    assert [each.points for each in estimate.classes] == [3, 3]
    assert estimate.overall == pytest.approx(2 / 3)
    numbered = points_of(places[:6], truth=[0, 0, 1, 1, 1, 0])
    assert estimate_areas(path, numbered, "truth")[1].counts.tolist() == [[2, 1], [1, 2]]


@pytest.mark.parametrize("suffix", ["gpkg", "geojson", "parquet"])
def test_points_without_a_place_are_counted_and_left_out(tmp_path: Path, suffix: str) -> None:
    path = write_map(tmp_path / "map.tif", np.tile([0, 0, 1, 1], (4, 1)), names={0: "land", 1: "water"})
    points = points_of([(0.5, 0.5), (1.5, 0.5), (2.5, 0.5), (3.5, 0.5)], truth=["land", "land", "water", "water"])
    odd = gpd.GeoDataFrame(
        {"truth": ["land", "water", None]}, geometry=[shapely.Point(), None, shapely.Point()], crs=points.crs
    )
    points = pd.concat([points, odd], ignore_index=True)
    assert estimate_areas(path, points, "truth")[1].without_place == 2
    file = tmp_path / f"points.{suffix}"
    points.to_parquet(file) if suffix == "parquet" else points.to_file(file)
    _, reference = estimate_areas(path, file, "truth")
    assert reference.counts.tolist() == [[2, 0], [0, 2]]
    assert (reference.without_place, reference.without_class, reference.without_map) == (2, 1, 0)


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:32601", Affine(1000, 0, 165_000, 0, -1000, 8_100_000)),
        ("EPSG:32760", Affine(1000, 0, 815_000, 0, -1000, 8_100_000)),
        ("EPSG:4326", Affine(0.01, 0, 179.7, 0, -0.01, -17)),  # on past 180 degrees
        ("EPSG:4326", Affine(0.01, 0, -180.3, 0, -0.01, -17)),
    ],
)
def test_points_across_the_date_line_are_put_on_their_pixels(tmp_path: Path, crs: str, transform: Affine) -> None:
    values = np.tile(np.repeat([0, 1], 30), (30, 1))
    path = write_map(tmp_path / "map.tif", values, transform, crs, names={0: "land", 1: "water"})
    places = [shapely.Point(transform @ place) for place in ((2.5, 3.5), (27.5, 20.5), (33.5, 4.5), (58.5, 25.5))]
    points = gpd.GeoDataFrame({"truth": ["land", "land", "water", "water"]}, geometry=places, crs=crs).to_crs(4326)
    longitude = (points.geometry.x + 180) % 360 - 180
    points = points.set_geometry(gpd.points_from_xy(longitude, points.geometry.y, crs=4326))
    if crs != "EPSG:32601":
        assert longitude.min() < -179.5 < 179.5 < longitude.max()
    assert estimate_areas(path, points, "truth")[1].counts.tolist() == [[2, 0], [0, 2]]


@pytest.fixture
def sampled(tmp_path: Path) -> tuple[Path, Path]:
    """A map and a file of points, wrong for one in five."""
    values = noise((100, 100), shares=(0.6, 0.4, 0, 0))
    path = write_map(tmp_path / "map.tif", values, names={0: "land", 1: "water"})
    rng = np.random.default_rng(1)
    rows, columns = rng.integers(0, 100, (2, 200))
    truth = np.where(rng.random(200) < 0.8, values[rows, columns], 1 - values[rows, columns])
    named = ["land" if value == 0 else "water" for value in truth]
    places = [(column + 0.5, row + 0.5) for row, column in zip(rows, columns, strict=True)]
    points_of([*places, (150, 5)], truth=[*named, "land"]).to_file(tmp_path / "points.gpkg")
    return path, tmp_path / "points.gpkg"


def test_the_verb_prints_a_table_and_writes_it(
    sampled: tuple[Path, Path], prithvi: Callable[..., Any], tmp_path: Path
) -> None:
    path, points = sampled
    answer = prithvi("area", path, "--reference", points, "--column", "truth", "-o", tmp_path / "out" / "areas.csv")
    assert answer.code == 0, answer.err
    assert "200 points used; left out: 1 where the map has no data or does not reach." in answer.out
    assert "Their classes were read" in answer.out
    assert "random sample" in answer.out
    assert "No error was found" not in answer.out
    table = pd.read_csv(tmp_path / "out" / "areas.csv").set_index("name")
    assert f"{table['area_m2']['water'] / HECTARE:,.1f}" in answer.out
    assert table["mapped_m2"].sum() == pytest.approx(table["area_m2"].sum()) == pytest.approx(1e6, rel=1e-3)
    assert (table["area_low_m2"] < table["area_m2"]).all()
    told = json.loads(prithvi("area", path, "--reference", points, "--column", "truth", "--json").out)
    assert told["classes"][1]["area_m2"] == pytest.approx(table["area_m2"]["water"])
    assert told["points_without_map"] == 1
    assert told["overall_low"] < told["overall_accuracy"] < told["overall_high"]
    assert told["classes"][1]["area_low_m2"] == pytest.approx(table["area_low_m2"]["water"])
    assert (
        f"{table['area_low_m2']['water'] / HECTARE:,.1f} to {table['area_high_m2']['water'] / HECTARE:,.1f}"
        in answer.out
    )
    assert told["without_errors"] is None
    assert np.sum(told["counts"]) == 200


def test_the_verb_says_what_is_wrong(sampled: tuple[Path, Path], prithvi: Callable[..., Any], tmp_path: Path) -> None:
    path, points = sampled

    def error(*arguments: str | Path) -> str:
        answer = prithvi("area", *arguments)
        assert answer.code == 2
        assert answer.err.count("\n") == 1
        return str(answer.err)

    assert "has no column 'trth': did you mean truth?" in error(path, "--reference", points, "--column", "trth")
    frame = gpd.read_file(points)
    frame.loc[3, "truth"] = "watr"
    frame.to_file(tmp_path / "slip.gpkg")
    slip = error(path, "--reference", tmp_path / "slip.gpkg", "--column", "truth")
    assert "a class 'watr' that the map does not have: did you mean water?" in slip
    assert "cannot be read as reference points" in error(path, "--reference", tmp_path / "none.gpkg")
    assert "cannot be read as a map" in error(tmp_path / "none.tif", "--reference", points)
    frame.set_geometry(frame.buffer(1)).to_file(tmp_path / "discs.gpkg")
    assert "a reference sample is points" in error(path, "--reference", tmp_path / "discs.gpkg")
    land = frame[frame["truth"] == "land"].sjoin(gpd.GeoDataFrame(geometry=[frame.union_all().envelope], crs=frame.crs))
    few = land.drop(columns="index_right")[:1]
    few.to_file(tmp_path / "few.gpkg")
    assert "each class of the map needs two reference points" in error(
        path, "--reference", tmp_path / "few.gpkg", "--column", "truth"
    )
