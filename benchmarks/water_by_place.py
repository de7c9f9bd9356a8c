"""Water by folds of places: IoU pooled over the pixels of all test chips, and how sure a difference is by place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from trials import spread

DRAWS = 10_000
Counts = npt.NDArray[np.int64]


def counts_by_place(results: Sequence[Mapping[str, Any]], good: bool) -> dict[str, Counts]:
    """Pixels that are water, and are in either, for each place: summed over chips, folds and seeds of the results."""
    found: dict[str, Counts] = {}
    for result in results:
        for chip in result["chips"]:
            if chip["good"] or not good:
                (_, wrong), (missed, hit) = chip["confusion"]
                found.setdefault(chip["place"], np.zeros(2, np.int64))
                found[chip["place"]] += (hit, hit + wrong + missed)
    return found


def pooled(counts: Mapping[str, Counts]) -> float:
    """IoU of all pixels of all places."""
    hit, either = sum(counts.values())
    return float(hit / either)


def by_seed(results: Sequence[Mapping[str, Any]], good: bool) -> list[float]:
    """Pooled IoU of each seed."""
    seeds = sorted({result["trial"]["seed"] for result in results})
    return [pooled(counts_by_place([r for r in results if r["trial"]["seed"] == seed], good)) for seed in seeds]


def difference(first: Mapping[str, Counts], second: Mapping[str, Counts], seed: int = 0) -> tuple[float, float, float]:
    """Pooled IoU of the first less that of the second, and the 95 % interval of a paired bootstrap of places."""
    assert set(first) == set(second), "both are tested at the same places"
    places = sorted(first)
    a, b = (np.array([counts[place] for place in places], float) for counts in (first, second))
    a, b = a / max(a[:, 1].sum(), 1), b / max(b[:, 1].sum(), 1)  # numbers of seeds may differ
    drawn = np.random.default_rng(seed).integers(len(places), size=(DRAWS, len(places)))
    weights = np.stack([np.bincount(row, minlength=len(places)) for row in drawn])
    each = [(weights @ counts[:, 0]) / np.maximum(weights @ counts[:, 1], 1e-12) for counts in (a, b)]
    low, high = np.percentile(each[0] - each[1], [2.5, 97.5])
    return pooled(first) - pooled(second), float(low), float(high)


def rows_of(results: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """A row of each method: IoU on good chips, and on all."""
    rows: list[list[Any]] = []
    for method in dict.fromkeys(result["trial"]["method"] for result in results):
        mine = [result for result in results if result["trial"]["method"] == method]
        rows.append([method, spread(by_seed(mine, True)), spread(by_seed(mine, False))])
    return rows


PAIRED = (
    ("pretrained", "branch alone"), ("random weights", "branch alone"), ("pretrained", "random weights"),
    ("pretrained", "trees"), ("pretrained", "trees + indices"), ("pretrained", "U-Net"), ("pretrained", "MNDWI > 0"),
    ("pretrained", "index"), ("branch alone", "trees + indices"), ("branch alone", "MNDWI > 0"),
    ("branch alone", "Fmask"), ("pseudo-labels", "pseudo-labels, branch alone"),
    ("pseudo-labels, branch alone", "Fmask"), ("pseudo-labels, branch alone", "MNDWI > 0"),
    ("pseudo-labels, branch alone", "trees + indices"),
)  # fmt: skip
"""Differences that are reported, where both were run."""


def difference_rows(results: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """A row of each pair: difference with its interval, on good chips and on all."""
    rows: list[list[Any]] = []
    for first, second in PAIRED:
        pair = [[r for r in results if r["trial"]["method"] == method] for method in (first, second)]
        if all(pair):
            cells = [difference(*(counts_by_place(side, good) for side in pair)) for good in (True, False)]
            rows.append([f"{first} - {second}", *(f"{d:+.3f} ({low:+.3f} to {high:+.3f})" for d, low, high in cells)])
    return rows
