"""The table of verbs and faults, run and printed.

    python -m tests.faults.matrix [--verbs map,fill] [--faults killed] [--tries 2] [--seed 0]

A cell holds tries and losses. What was lost is told below, with the number that brings it again.
"""

from __future__ import annotations

import argparse
import collections
import random
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.places import LossError, Place
from tests.faults.processes import Forker, forking
from tests.faults.troubles import TROUBLES, ImpossibleError
from tests.faults.verbs import VERBS
from tests.http_files import serve_folder
from tests.hub_server import serve_hub


@dataclass
class Cell:
    """What the tries of one verb and fault came to."""

    endings: collections.Counter[str] = field(default_factory=collections.Counter)
    losses: list[str] = field(default_factory=list)
    impossible: str = ""

    def __str__(self) -> str:
        tries = sum(self.endings.values()) + len(self.losses)
        return f"{tries} / {len(self.losses)}" if tries else "-"


@dataclass
class Harness:
    """Places of verbs, made when they are first asked for."""

    root: Path
    stack: ExitStack
    forkers: dict[tuple[str, ...], Forker] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)

    def place(self, name: str) -> Place:
        if name not in self.places:
            verb, folder = VERBS[name], self.root / name
            if verb.imports not in self.forkers:
                self.forkers[verb.imports] = self.stack.enter_context(forking("prithvi.cli", *verb.imports))
            served, hub = self.stack.enter_context(serve_folder(folder / "in")), self.stack.enter_context(serve_hub())
            self.places[name] = Place(verb, folder, self.forkers[verb.imports], hub, served)
        return self.places[name]

    def attempt(self, verb: str, trouble: str, number: int, seed: int = 0) -> str:
        """One try; its ending.

        Raises:
            LossError: what was lost.
            ImpossibleError: why there is no such try.

        """
        if trouble in VERBS[verb].impossible:
            raise ImpossibleError(f"{verb} {VERBS[verb].impossible[trouble]}")
        chance = random.Random(zlib.crc32(f"{verb} {trouble} {number} {seed}".encode()))
        return TROUBLES[trouble].bring(self.place(verb), chance, number)


@contextmanager
def harness(root: Path) -> Iterator[Harness]:
    """A harness with its servers and processes, until the context ends."""
    with ExitStack() as stack:
        yield Harness(root, stack)


def main() -> None:
    """Runs the table and prints it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--verbs", default=",".join(VERBS))
    parser.add_argument("--faults", default=",".join(TROUBLES))
    parser.add_argument("--tries", type=int, help="instead of each fault's own number")
    parser.add_argument("--first", type=int, default=0, help="number of the first try")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    verbs, faults, began = given.verbs.split(","), given.faults.split(","), time.monotonic()
    cells = {(verb, fault): Cell() for verb in verbs for fault in faults}
    with tempfile.TemporaryDirectory() as folder, harness(Path(folder)) as run:
        for (verb, fault), cell in cells.items():
            for number in range(given.first, given.first + (given.tries or TROUBLES[fault].tries)):
                try:
                    cell.endings[run.attempt(verb, fault, number, given.seed)] += 1
                except ImpossibleError as error:
                    cell.impossible = str(error)
                except LossError as error:
                    cell.losses.append(f"{verb}, {fault}, {number}: {error}")
                    print(f"LOSS {cell.losses[-1]}", flush=True)  # noqa: T201
            print(f"{verb:10} {fault:12} {cell} {dict(cell.endings)} {cell.impossible}", flush=True)  # noqa: T201
    print("\n".join(table(cells, verbs, faults)))  # noqa: T201
    print(f"\n{time.monotonic() - began:.0f} s")  # noqa: T201


def table(cells: dict[tuple[str, str], Cell], verbs: list[str], faults: list[str]) -> Iterator[str]:
    """The table in Markdown, the endings of each fault, and why cells are empty."""
    yield "| tries / losses | " + " | ".join(TROUBLES[fault].title for fault in faults) + " |"
    yield "|---|" + "---|" * len(faults)
    for verb in verbs:
        yield f"| {verb} | " + " | ".join(str(cells[verb, fault]) for fault in faults) + " |"
    yield ""
    for fault in faults:
        ended: collections.Counter[str] = collections.Counter()
        for verb in verbs:
            ended += cells[verb, fault].endings
        yield f"- {TROUBLES[fault].title}: " + ", ".join(f"{count} {how}" for how, count in sorted(ended.items()))
    yield ""
    yield from sorted({f"- {TROUBLES[key[1]].title}: {c.impossible}" for key, c in cells.items() if c.impossible})


if __name__ == "__main__":
    main()
