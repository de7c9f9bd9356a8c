"""Runs a verb again and again, killed (SIGKILL) at a random moment each time, and compares what --resume makes.

    python tests/kill_runs.py WORK COUNT SEED ARGUMENTS...

ARGUMENTS are those of `prithvi`, without -o, which is `out` or what KILLED_OUT names in it. Prints one JSON object.
Importing is done once: every run is a fork of this process.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import prithvi.mapping
import prithvi.scenes  # noqa: F401
from prithvi.cli import main as command_line
from prithvi.mapping import methods  # noqa: F401


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()
    }


def start(folder: Path, words: list[str]) -> int:
    """Forks a run that writes into folder/out; gives the child's process number."""
    folder.mkdir(parents=True, exist_ok=True)
    child = os.fork()
    if child:
        return child
    os.chdir(folder)  # a command of the same words everywhere, because it stands in the files
    sys.argv = ["prithvi", *words, "-o", os.environ.get("KILLED_OUT", "out")]
    os.dup2(os.open("told", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    os.dup2(2, 1)
    code: object = 1
    try:
        command_line()
    except SystemExit as stop:
        code = stop.code or 0
    finally:
        os._exit(code if isinstance(code, int) else 1)


def wait(child: int) -> int:
    """The exit code; below 0 a signal's."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> None:
    """Runs them all."""
    work, count, chance, words = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3])), sys.argv[4:]
    began = time.perf_counter()
    code = wait(start(work / "whole", words))
    lasts, expected = time.perf_counter() - began, content(work / "whole" / "out")
    results = []
    for number in range(count):
        folder = work / f"killed_{number}"
        killed = False
        while not killed:  # a run that was over before its moment came is no answer: another moment is drawn
            shutil.rmtree(folder, ignore_errors=True)
            at = chance.uniform(0.1 * lasts, lasts)
            child = start(folder, words)
            time.sleep(at)
            os.kill(child, signal.SIGKILL)
            killed = wait(child) == -signal.SIGKILL
        left = sorted(content(folder / "out")) if (folder / "out").is_dir() else []
        again = wait(start(folder, [*words, "--resume"]))
        made = content(folder / "out")
        differ = sorted(file for file in made.keys() | expected.keys() if made.get(file) != expected.get(file))
        results.append({"at": at, "left": left, "code": again, "differ": differ})
    sys.stdout.write(json.dumps({"code": code, "seconds": lasts, "files": sorted(expected), "runs": results}) + "\n")


if __name__ == "__main__":
    main()
