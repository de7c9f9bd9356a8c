"""The list of what is measured, read from registry.yaml: beside what, at which sizes, and what was aimed at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class Way:
    """One way of doing it."""

    name: str
    """As `prepare` of the job knows it."""
    label: str
    kind: str
    """`ours`, `peer`, or `limit`: what nobody could do without."""


@dataclass(frozen=True)
class Aim:
    """How many times less of something ours should take than another way; judged at the largest size."""

    way: str
    against: str
    times: float
    reason: str
    """Why it was behind, where it was."""
    figure: str = "seconds"
    """`seconds`, `cpu` or `MB`."""


@dataclass(frozen=True)
class Benchmark:
    """One thing that is done in several ways, which take turns."""

    name: str
    title: str
    about: str
    """What is timed and what not, in sentences."""
    prepare: str
    """`module:function` of `jobs/`, and likewise `make` and `check`; see jobs/__init__.py."""
    ways: tuple[Way, ...]
    """The first is ours, with which all others are compared."""
    sizes: tuple[int, ...]
    """Those of `make bench`; none: `make results` alone. A size of 0 is none, of what does not grow."""
    more: tuple[int, ...]
    """Those of `make results`."""
    rounds: int
    """Turns of `make bench`; `make results` takes three at least."""
    unit: str = ""
    """What a size counts."""
    squared: bool = False
    """Whether a size is a side, and what time should grow with its square."""
    make: str = ""
    check: str = ""
    apart: bool = False
    """Whether every run has a process of its own, whose memory tells."""
    threads: int = 1
    aims: tuple[Aim, ...] = ()

    def amount(self, size: int) -> float:
        """What time should grow with."""
        return float(size * size if self.squared else size)


def _benchmark(told: dict[str, Any]) -> Benchmark:
    """An entry of the file; a field that is no field is an error."""
    ours, limits = told.pop("ours"), told.pop("limits", [])
    kinds = dict.fromkeys(ours, "ours") | dict.fromkeys(limits, "limit")
    ways = tuple(Way(name, label, kinds.get(name, "peer")) for name, label in told.pop("ways").items())
    aims = tuple(Aim(**aim) for aim in told.pop("aims", []))
    return Benchmark(ways=ways, aims=aims, sizes=tuple(told.pop("sizes")), more=tuple(told.pop("more")), **told)


FILE = Path(__file__).with_name("registry.yaml")
BENCHMARKS = tuple(_benchmark(told) for told in yaml.safe_load(FILE.read_text(encoding="utf-8")))
