"""Runs the cases of every kind, and prints what they came to.

    python -m tests.fuzz.campaign [--kinds GeoTIFF,SAFE] [--first 0] [--cases 100]

`--kinds KIND --first NUMBER --cases 1` is one case again.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

CASE_LIMIT, BEGIN_LIMIT = 30.0, 300.0
"""Seconds of one case, and until the first of a process has ended."""
MEMORY_LIMIT = 2_200_000_000
"""Bytes that a process may hold at most, with everything that it imports, and the 128 files that stay open."""
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass
class Figures:
    """What the cases of a kind came to."""

    endings: collections.Counter[str] = field(default_factory=collections.Counter)
    faults: list[str] = field(default_factory=list)
    crashes: list[str] = field(default_factory=list)
    longest: float = 0.0
    memory: int = 0
    seconds: float = 0.0

    @property
    def cases(self) -> int:
        return sum(self.endings.values())


def run(kind: str, first: int, last: int, folder: Path) -> Figures:
    """The cases of a kind from a number to before another."""
    found, number, began = Figures(), first, time.monotonic()
    while number < last:
        for plain in _process(kind, number, last, folder):
            number = plain["number"] + 1
            found.endings[plain["ending"].partition(":")[0] if plain["ending"] == "fault" else plain["ending"]] += 1
            if plain["ending"] in ("fault", "hung"):
                found.faults.append(f"{kind} {plain['number']}: {plain['told']}")
            if plain["ending"] == "crashed":
                found.crashes.append(f"{kind} {plain['number']}: {plain['told']}")
            found.longest = max(found.longest, plain["seconds"])
            found.memory = max(found.memory, plain["memory"])
    found.seconds = time.monotonic() - began
    return found


def _process(kind: str, first: int, last: int, folder: Path) -> Iterator[dict]:
    """Answers of one process, which goes on until the last case, its own end, or a case that takes too long."""
    settings = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), "GDAL_HTTP_MAX_RETRY": "0"}
    command = [sys.executable, "-m", "tests.fuzz.child", kind, str(first), str(last), str(folder)]
    lines: queue.Queue[str] = queue.Queue()
    with (
        tempfile.TemporaryFile() as told,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=told, text=True, env=settings, cwd=REPOSITORY
        ) as process,
    ):

        def listen() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                lines.put(line)
            lines.put("")

        threading.Thread(target=listen, daemon=True).start()
        number, began, hung = first, time.monotonic(), False
        while number < last:
            try:
                line = lines.get(timeout=CASE_LIMIT if number > first else BEGIN_LIMIT)
            except queue.Empty:
                hung = True
                process.send_signal(signal.SIGABRT)  # says where it stands
                line = ""
            if line:
                plain = json.loads(line)
                number, began = plain["number"] + 1, time.monotonic()
                yield plain
                continue
            code = process.wait(30)
            told.seek(0)
            text = told.read().decode(errors="replace")[-3000:]
            if number == first and code > 0:
                raise AssertionError(f"{kind}: sound files do not open: {text}")
            ending = "hung" if hung else "crashed"
            seconds = time.monotonic() - began
            yield {"number": number, "ending": ending, "told": f"{code} {text}", "seconds": seconds, "memory": 0}
            return


def rows(figures: dict[str, Figures]) -> Iterator[str]:
    """The figures as a table in Markdown."""
    yield "| kind | cases | right | our own error | the reader's | crashed outside | hung | faults | longest | memory |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for kind, found in figures.items():
        refused = sum(count for ending, count in found.endings.items() if ending.startswith("refused: "))
        told = [found.endings[name] for name in ("refused by the reader", "crashed", "hung", "fault")]
        yield (
            f"| {kind} | {found.cases} | {found.endings['right']} | {refused} | {' | '.join(map(str, told))} | "
            f"{found.longest:.1f} s | {found.memory / 1e6:.0f} MB |"
        )


def main() -> None:
    """Runs them and prints."""
    from tests.fuzz.kinds import KINDS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--cases", type=int, help="of each kind, instead of its own number")
    given = parser.parse_args()
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in given.kinds.split(","):
            last = given.first + (given.cases or KINDS[kind].cases)
            figures[kind] = run(kind, given.first, last, Path(folder) / kind)
            for text in (*figures[kind].faults, *figures[kind].crashes):
                print(f"FAULT {text}\n", flush=True)  # noqa: T201
            print(f"{kind}: {dict(figures[kind].endings)}, {figures[kind].seconds:.0f} s", flush=True)  # noqa: T201
    print("\n".join(rows(figures)))  # noqa: T201


if __name__ == "__main__":
    main()
