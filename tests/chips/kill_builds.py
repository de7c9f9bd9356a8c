"""Builds a store again and again, each time killed (SIGKILL) at another moment, and compares what the next run makes.

    python tests/chips/kill_builds.py GRANULES WORK moments|files COUNT

`moments` kills at random times; `files` kills at file operations of the build, half of them near its end. Prints one
JSON object. Importing is done once: every build is a fork of this process.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from prithvi.chips import DateRule, Filters
from prithvi.chips.recipes import Recipe, store_of_granules

RECIPE = Recipe(
    size=64, frames=2, filters=Filters(0.5, 0.05), dates=DateRule(2, 10, 60, 0.6, 0.2, wanted=0), per_place=3
)
OPERATIONS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir")


def content(path: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def in_child(work: Callable[[], None]) -> int:
    """Forks; gives the child's process number."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:  # noqa: BLE001  (the parent reports it)
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(1)
    return child


def main() -> None:
    """Runs the builds."""
    granules, work, how, count = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    log = work / "operations"

    def build(name: str, stop_at: int | None = None, count_only: bool = False) -> Callable[[], None]:
        def run() -> None:
            seen = 0

            def watch(event: str, arguments: tuple[object, ...]) -> None:
                nonlocal seen
                if event in OPERATIONS and isinstance(arguments[0], (str, os.PathLike)) and name in str(arguments[0]):
                    seen += 1
                    if seen == stop_at:
                        os.kill(os.getpid(), signal.SIGKILL)

            if stop_at is not None or count_only:
                sys.addaudithook(watch)
            store_of_granules(granules, work / name, RECIPE, shard=16, split="block:1km:side=4km", seed=3)
            if count_only:
                log.write_text(str(seen))

        return run

    def finish(name: str) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(in_child(build(name)), 0)[1])

    began = time.perf_counter()
    os.waitpid(in_child(build("whole.zarr", count_only=True)), 0)
    lasts = time.perf_counter() - began
    expected, operations = content(work / "whole.zarr"), int(log.read_text())
    chance = random.Random(int(sys.argv[5]) if len(sys.argv) > 5 else 0)
    results = []
    for number in range(count):
        name = f"killed_{number}.zarr"
        killed = False
        while not killed:  # a build that was over before its moment came is no answer: another moment is drawn
            shutil.rmtree(work / name, ignore_errors=True)
            if how == "files":
                # Half of them spread over the whole build, half in its end, where all is moved into place.
                spread = number % 2 == 0
                at: float = operations - (number * (operations - 1) // count if spread else number * 160 // count)
                child = in_child(build(name, stop_at=int(at)))
            else:
                at = chance.uniform(0, lasts)
                child = in_child(build(name))
                time.sleep(at)
                os.kill(child, signal.SIGKILL)
            killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
            operations -= 5 * (not killed)  # threads may need a few operations less than the counted build did
        code = finish(name)
        made = content(work / name) if (work / name).is_dir() else {}
        differ = sorted(file for file in made.keys() | expected.keys() if made.get(file) != expected.get(file))
        results.append({"at": at, "completed": code == 0, "differ": differ})
        shutil.rmtree(work / name, ignore_errors=True)
    sys.stdout.write(json.dumps({"seconds": lasts, "operations": operations, "files": len(expected), "runs": results}))


if __name__ == "__main__":
    main()
