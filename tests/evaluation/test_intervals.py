"""Intervals of areas and accuracies: exact where one stratum speaks, and they hold the truth where errors are rare."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from prithvi.evaluation.intervals import intervals
from tests.conftest import benchmark


@pytest.fixture(scope="module")
def bench() -> Any:
    """benchmarks/bench_area_intervals.py as a module."""
    return benchmark("bench_area_intervals")


def test_a_single_stratum_has_clopper_and_pearson_s_interval() -> None:
    for found, points in ((0, 20), (1, 20), (20, 20), (7, 50)):
        low, high = binomtest(found, points).proportion_ci(0.95, "exact")
        told = intervals(np.array([1.0, 0.0]), np.array([[found, points - found], [0, 0]]))
        assert told.users[0] == pytest.approx([low, high])
        assert told.areas[0] == pytest.approx([low, high])
        assert told.areas[1] == pytest.approx([1 - high, 1 - low])
        assert told.overall == pytest.approx([low, high])
        assert np.isnan(told.users[1]).all()


def test_they_hold_the_truth_where_classes_are_rare(bench: Any) -> None:
    """Some of the benchmark's cases, those that the usual intervals fail at among them."""
    grid = {**bench.GRID, "classes": (2, 5), "rare": (0.001, 0.01), "users": (0.9, 0.99), "points": (20, 100),
            "omitted": (0.1, 1.0), "drawn": ("equal", "Olofsson")}  # fmt: skip
    table = bench.simulate(300, grid)
    held = table.groupby("kind")["held"]
    assert held.mean()["prithvi"] > 0.96
    assert held.min()["prithvi"] > 0.93 - 3 * (0.93 * 0.07 / 300) ** 0.5  # of one case's samples
    assert held.min()["1.96 SE"] < 0.1


def test_many_points_give_the_usual_interval(bench: Any) -> None:
    weights, rates = bench.truth(3, 0.1, 0.9, 0.5)
    counts = np.round(rates * 50_000).astype(int)[None]
    ours, usual = intervals(weights, counts), bench.usual(weights, counts)
    for name in ("areas", "users", "producers", "overall"):
        assert getattr(ours, name) == pytest.approx(getattr(usual, name), rel=2e-3), name


def test_the_interval_holds_the_estimate() -> None:
    random = np.random.default_rng(0)
    for _ in range(300):
        classes = int(random.integers(2, 6))
        weights = random.dirichlet(np.full(classes, 0.3))
        counts = random.multinomial(int(random.integers(2, 60)), random.dirichlet(np.full(classes, 0.3)), size=classes)
        rates = counts / counts.sum(axis=1, keepdims=True)
        told = intervals(weights, counts)
        right, areas = weights * np.diag(rates), weights @ rates
        with np.errstate(invalid="ignore"):
            producers = right / areas
        for limits, value in ((told.areas, areas), (told.users, np.diag(rates)), (told.producers, producers)):
            known = np.isfinite(limits[:, 0])
            assert (limits[known, 0] <= value[known] + 1e-9).all()
            assert (value[known] <= limits[known, 1] + 1e-9).all()
            assert (limits[known] >= 0).all()
            assert (limits[known] <= 1 + 1e-9).all()
        assert told.overall[0] <= right.sum() <= told.overall[1]
