"""How often 95 % intervals of areas and accuracies hold the truth where classes are rare and errors are few.

    python benchmarks/bench_area_intervals.py [samples]

Every case is a map with a known truth, from which that many stratified samples (2,000 if not said) are drawn: 2, 3 or 5
classes of which the first is rare on the map (0.1, 1 or 10 %) and the others share the rest; of what is mapped as a
class 70, 90 or 99 % is it; of what is mapped as another class so much is the rare one as makes 10, 50 or 100 % of its
mapped area; 20, 50, 100 or 300 points a class on average, drawn equally, in proportion to the areas (two points at
least, which is the least that `prithvi area` takes), or 50 at most in the rare class and the rest in proportion, as
Olofsson et al. (2014) advise.

"1.96 SE" is the estimate and 1.96 standard errors to each side; "prithvi" is `prithvi.evaluation.intervals`. Where a
sample has neither hits nor misses of a class, its producer's accuracy is not defined, and that sample is not counted.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from prithvi.evaluation.intervals import Intervals, intervals

GRID: dict[str, tuple[Any, ...]] = {
    "classes": (2, 3, 5), "rare": (0.001, 0.01, 0.1), "users": (0.7, 0.9, 0.99), "omitted": (0.1, 0.5, 1.0),
    "points": (20, 50, 100, 300), "drawn": ("equal", "proportional", "Olofsson"),
}  # fmt: skip
FIGURES = (
    "area, rare",
    "area, other",
    "user's, rare",
    "user's, other",
    "producer's, rare",
    "producer's, other",
    "overall",
)


def truth(classes: int, rare: float, users: float, omitted: float) -> tuple[Any, Any]:
    """Shares of the map (classes,), and of each mapped class what it is in truth (classes, classes)."""
    weights = np.array([rare, *[(1 - rare) / (classes - 1)] * (classes - 1)])
    rates = np.zeros((classes, classes))
    rates[0] = (1 - users) / (classes - 1)
    rates[0, 0] = users
    missed = omitted * rare / (1 - rare)
    for row in range(1, classes):
        rates[row, 1:] = (1 - users) * (1 - missed) / max(1, classes - 2)
        rates[row, row] = (users if classes > 2 else 1.0) * (1 - missed)
        rates[row, 0] = missed
    return weights, rates


def points_of(drawn: str, weights: Any, points: int) -> Any:
    """(classes,) points of each class."""
    whole = points * len(weights)
    if drawn == "equal":
        return np.full(len(weights), points)
    if drawn == "proportional":
        return np.maximum(2, np.round(weights * whole)).astype(int)
    few = min(50, points)
    others = weights[1:] / weights[1:].sum() * (whole - few)
    return np.concatenate([[few], np.maximum(2, np.round(others))]).astype(int)


def usual(weights: Any, counts: Any) -> Intervals:
    """1.96 standard errors to each side of Olofsson et al.'s estimates."""
    points = counts.sum(axis=-1)
    rates = counts / points[..., None]
    spread = rates * (1 - rates) / (points - 1)[..., None]
    right, right_spread = np.diagonal(rates, axis1=1, axis2=2), np.diagonal(spread, axis1=1, axis2=2)
    area = np.einsum("h,rhj->rj", weights, rates)
    with np.errstate(invalid="ignore", divide="ignore"):
        producers = weights * right / area
        rest = np.einsum("h,rhj->rj", weights**2, spread * (1 - np.eye(len(weights))))
        producers_se = np.sqrt(weights**2 * (1 - producers) ** 2 * right_spread + producers**2 * rest) / area

    def around(middle: Any, error: Any) -> Any:
        return np.stack([middle - 1.96 * error, middle + 1.96 * error], axis=-1)

    return Intervals(
        around(area, np.sqrt(np.einsum("h,rhj->rj", weights**2, spread))), around(right, np.sqrt(right_spread)),
        around(producers, producers_se), around(right @ weights, np.sqrt(right_spread @ weights**2)),
    )  # fmt: skip


def held(found: Intervals, weights: Any, rates: Any) -> Iterator[tuple[str, float, float]]:
    """Of each figure, how often its interval holds the truth, and how wide it is within 0 and 1."""
    areas, right = weights @ rates, np.diag(rates)
    for name, limits, true in (
        ("area", found.areas, areas), ("user's", found.users, right),
        ("producer's", found.producers, weights * right / areas),
    ):  # fmt: skip
        for row, which in enumerate(("rare", "other")):
            yield f"{name}, {which}", *_count(limits[:, row], true[row])
    yield "overall", *_count(found.overall, weights @ right)


def _count(limits: Any, true: float) -> tuple[float, float]:
    limits = limits[np.isfinite(limits).all(axis=1)]
    inside = (limits[:, 0] <= true + 1e-12) & (true <= limits[:, 1] + 1e-12)
    return float(inside.mean()), float(np.diff(limits.clip(0, 1)).mean())


def simulate(samples: int, grid: dict[str, tuple[Any, ...]] = GRID, seed: int = 0) -> pd.DataFrame:
    """A row for each case, figure and kind of interval: `held` (share of the samples) and `width`."""
    random = np.random.default_rng(seed)
    rows = []
    for case in product(*grid.values()):
        at = dict(zip(grid, case, strict=True))
        weights, rates = truth(at["classes"], at["rare"], at["users"], at["omitted"])
        drawn = points_of(at["drawn"], weights, at["points"])
        counts = np.stack([random.multinomial(*each, size=samples) for each in zip(drawn, rates, strict=True)], axis=1)
        for kind, limits in (("1.96 SE", usual(weights, counts)), ("prithvi", intervals(weights, counts))):
            for figure, share, width in held(limits, weights, rates):
                rows.append({**at, "figure": figure, "kind": kind, "held": share, "width": width})
    return pd.DataFrame(rows)


def main() -> None:
    samples = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    start = time.process_time()
    table = simulate(samples)
    cases = len(table) // len(FIGURES) // 2
    print(f"{cases} cases, {samples} samples of each, {time.process_time() - start:.0f} s of one processor\n")
    print("| figure | kind | held, mean | held, least | cases under 93 % | width where 1.96 SE holds |")
    print("|---|---|---|---|---|---|")
    for figure in FIGURES:
        of = table[table["figure"] == figure].set_index(list(GRID))
        old, new = of[of["kind"] == "1.96 SE"], of[of["kind"] == "prithvi"]
        holds = old["held"] >= 0.93
        ratio = (new["width"] / old["width"])[holds].median()
        for kind, rows, width in (("1.96 SE", old, "1"), ("prithvi", new, f"{ratio:.2f}")):
            low = (rows["held"] < 0.93).sum()
            print(f"| {figure} | {kind} | {rows['held'].mean():.1%} | {rows['held'].min():.1%} | {low} | {width} |")
    print("\nWidths are medians over the cases in which 1.96 standard errors hold the truth in 93 % at least.")


if __name__ == "__main__":
    main()
