"""Cases of one kind in one process, from a number to another.

    python -m tests.fuzz.child KIND FIRST LAST FOLDER      a line of JSON a case on standard output

A process that dies or hangs does so alone; who started it sees at which case.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import shutil
import sys
import time
import traceback
import warnings
from pathlib import Path

from prithvi.errors import PrithviError
from tests.fuzz.kind import OutsideError
from tests.fuzz.kinds import KINDS

MEMORY = 4 * 2**30
"""Bytes of address space that the cases may take beside what the libraries did."""


def main() -> None:
    """Runs the cases."""
    name, first, last, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    faulthandler.enable()
    warnings.simplefilter("ignore")
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    kind, sound = KINDS[name], folder / "sound"
    if not sound.exists():
        sound.mkdir(parents=True)
        kind.make(sound)
    _look_at_sound(name, folder)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY,) * 2)
    for number in range(first, last):
        work, out = folder / "work" / str(number), folder / "out" / str(number)
        work.mkdir(parents=True)
        out.mkdir(parents=True)
        began = time.monotonic()
        ending, told = _ending(name, sound, work, out, number)
        plain = {
            "number": number, "ending": ending, "told": told, "seconds": time.monotonic() - began,
            "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }  # fmt: skip
        answers.write(json.dumps(plain) + "\n")
        os.chdir("/")
        shutil.rmtree(work)
        shutil.rmtree(out)


def _look_at_sound(name: str, folder: Path) -> None:
    """Sound files open: else every refusal would be for nothing. What this imports is no case's memory."""
    kind = KINDS[name]
    out = folder / "out" / "sound"
    shutil.rmtree(out, ignore_errors=True)
    for base in sorted((folder / "sound").iterdir()):
        out.mkdir(parents=True)
        kind.look(base / f"{base.name}.json" if (base / f"{base.name}.json").is_file() else base, out, 0)
        os.chdir("/")
        shutil.rmtree(out)


def _ending(name: str, sound: Path, work: Path, out: Path, number: int) -> tuple[str, str]:
    kind = KINDS[name]
    try:
        kind.look(kind.change(sound, work, number), out, number)
    except PrithviError as error:
        text = str(error)
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) != 1 or len(text) > 1500:
            return "fault", f"no sentence: {type(error).__name__}: {text[:600]}"
        return f"refused: {type(error).__name__}", text
    except OutsideError as error:
        return "refused by the reader", repr(error.__cause__)
    except BaseException:  # noqa: BLE001  # that is what is looked for
        return "fault", traceback.format_exc()
    return "right", ""


if __name__ == "__main__":
    main()
