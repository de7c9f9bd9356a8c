"""What the entries of a file say: medians and spreads, ratios within a round, exponents of growth, aims."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.suite.registry import Aim, Benchmark

Entry = dict[str, Any]


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Least, median, greatest."""
    return min(values), statistics.median(values), max(values)


def of(entry: Entry, way: str, figure: str) -> list[float]:
    """A figure of every round of a way; empty where there is none."""
    runs = entry.get("ways", {}).get(way, {}).get("runs", [])
    return [run[figure] for run in runs if run.get(figure) is not None]


def times(entry: Entry, way: str, against: str, figure: str = "seconds") -> list[float]:
    """How many times less of a figure a way took than another, within each round."""
    own, other = of(entry, way, figure), of(entry, against, figure)
    return [theirs / mine for mine, theirs in zip(own, other, strict=False) if mine > 0]


def exponent(benchmark: Benchmark, entries: Sequence[Entry], way: str) -> float | None:
    """The b of CPU seconds = a * amount ** b, by least squares over four sizes or more; None of fewer."""
    pairs = [(benchmark.amount(entry["size"]), of(entry, way, "cpu")) for entry in entries if entry["size"]]
    points = [(math.log(size), math.log(statistics.median(cpu))) for size, cpu in pairs if cpu and min(cpu) > 0]
    if len(points) < 4:
        return None
    return statistics.linear_regression(*zip(*points, strict=True)).slope


@dataclass(frozen=True)
class Judged:
    """An aim beside what was measured, the median at the largest size."""

    benchmark: Benchmark
    aim: Aim
    size: int
    found: float

    @property
    def reached(self) -> bool:
        return self.found >= self.aim.times


def judged(benchmark: Benchmark, entries: Sequence[Entry]) -> list[Judged]:
    """Every aim for which there are figures."""
    found = []
    for aim in benchmark.aims:
        having = [entry for entry in entries if times(entry, aim.way, aim.against, aim.figure)]
        if having:
            last = max(having, key=lambda entry: entry["size"])
            middle = statistics.median(times(last, aim.way, aim.against, aim.figure))
            found.append(Judged(benchmark, aim, last["size"], middle))
    return found


def entries_of(whole: dict[str, Any], benchmark: Benchmark) -> list[Entry]:
    """By size."""
    return sorted((e for e in whole["entries"] if e["benchmark"] == benchmark.name), key=lambda entry: entry["size"])
