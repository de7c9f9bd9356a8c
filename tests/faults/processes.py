"""Runs of `prithvi` as processes that can be hurt: forked from one that has imported what takes seconds.

    python -m tests.faults.processes MODULE...      a request a line on standard input, its answer on standard output

What is done to a run is done in its process alone: a limit for files, power to write that is given up, an end (SIGKILL)
at the n-th operation on files of one folder.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
OPERATIONS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir")
_VERSION_3, _OVER_PERMISSIONS = 0x20080522, 0b1110
"""Of Linux's `capset`; its bits CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH and CAP_FOWNER."""


@dataclass(frozen=True)
class Ended:
    """How a run ended: its status (below 0 a signal's), and what it said."""

    code: int
    told: str

    @property
    def sentence(self) -> str:
        """The one line of an error of ours; empty where it was none, or came with anything else."""
        lines = [line for line in self.told.splitlines() if line.startswith("Error: ")]
        return lines[0] if self.code == 2 and len(lines) == 1 and "Traceback" not in self.told else ""


@dataclass
class Run:
    """A run that has begun, as whoever waits for it or kills it sees it."""

    forker: Forker
    pid: int
    log: Path
    code: int | None = None

    def ended(self) -> Ended | None:
        """How it ended, if it has."""
        with self.forker.turn:
            if self.code is None:
                self.code = self.forker.ask({"poll": self.pid})
        return None if self.code is None else Ended(self.code, self.log.read_text(errors="replace"))

    def wait(self, seconds: float = 180) -> Ended:
        """How it ended; one that does not end is killed, and said to hang."""
        until = time.monotonic() + seconds
        while (found := self.ended()) is None:
            if time.monotonic() > until:
                self.kill()
                return Ended(-1000, f"it hung for {seconds:g} s")
            time.sleep(0.02)
        return found

    def kill(self) -> None:
        if self.ended() is None:
            os.kill(self.pid, signal.SIGKILL)


@dataclass
class Forker:
    """The process that has imported, and forks."""

    process: subprocess.Popen[str]
    turn: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, request: dict[str, Any]) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, words: Sequence[object], folder: Path, **how: Any) -> Run:
        """Begins `prithvi WORDS` in a folder.

        Args:
            words: of the command line.
            folder: where it runs.
            how: `environment`; `file_limit` in bytes; `powerless`: permissions hold for root too; `below`: the folder
                whose operations are counted into FOLDER/operations, and `stop_at`, the one at which the run ends.

        """
        log = folder / f"told-{time.monotonic_ns()}"
        plain = {**how, "words": list(map(str, words)), "folder": str(folder), "log": str(log)}
        with self.turn:
            return Run(self, self.ask(plain), log)


@contextmanager
def forking(*modules: str) -> Iterator[Forker]:
    """A process that has imported these, until the context ends."""
    outside = ("HF_", "HUGGING", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
    settings = {key: value for key, value in os.environ.items() if not key.startswith(outside)}
    settings |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), "GDAL_HTTP_RETRY_DELAY": "0.05"}
    command = [sys.executable, "-m", "tests.faults.processes", *modules]
    with subprocess.Popen(
        command, env=settings, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY
    ) as process:
        yield Forker(process)
        assert process.stdin is not None
        process.stdin.close()


def give_up_power() -> None:
    """From here on permissions hold for this process, also where it is root's."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, data = (ctypes.c_uint32 * 2)(_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    if libc.capget(header, data):
        raise OSError(ctypes.get_errno(), "capget")
    for place in (0, 1):  # effective, permitted
        data[place] &= ~_OVER_PERMISSIONS
    if libc.capset(header, data):
        raise OSError(ctypes.get_errno(), "capset")


def main() -> None:
    """Imports, and answers requests."""
    for module in sys.argv[1:]:
        importlib.import_module(module)
    for line in sys.stdin:
        request = json.loads(line)
        if "poll" in request:
            pid, status = os.waitpid(request["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        elif not (answer := os.fork()):
            _run(request)
        print(json.dumps(answer), flush=True)  # noqa: T201


def _run(job: dict[str, Any]) -> None:
    """In the child: never comes back."""
    code: object = 1
    try:
        os.chdir(job["folder"])
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666), 1)
        os.dup2(1, 2)
        os.environ.update(job.get("environment", {}))
        count = _watched(job["below"], job.get("stop_at")) if "below" in job else []
        if job.get("file_limit"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (job["file_limit"],) * 2)
        if job.get("powerless"):
            give_up_power()
        sys.argv = ["prithvi", *job["words"]]
        from prithvi.cli import main as command_line

        command_line()
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    except BaseException:  # noqa: BLE001  # as Python itself would
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        if "below" in job:
            Path("operations").write_text(str(len(count)))
        os._exit(code if isinstance(code, int) else 1)


def _watched(below: str, stop_at: int | None) -> list[None]:
    """Counts what is done to files below a folder, and ends the process at one of them."""
    seen: list[None] = []

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in OPERATIONS or not isinstance(arguments[0], (str, os.PathLike)):
            return
        if os.path.abspath(arguments[0]).startswith(below):
            seen.append(None)
            if len(seen) == stop_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    return seen


if __name__ == "__main__":
    main()
