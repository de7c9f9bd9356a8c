"""A run of the program: its progress, how it is stopped, and its error as one sentence. Nothing here imports QGIS."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from .environment import NO_WINDOW

GRACE = 10.0
"""Seconds that a stopped run has to end by itself before it is ended."""

_TRACEBACK = "Traceback (most recent call last)"


class RunError(Exception):
    """The program failed; its own sentence."""


class StoppedError(Exception):
    """The user stopped it."""


def run(
    command: Sequence[str],
    variables: Mapping[str, str],
    *,
    progress: Callable[[float], None],
    say: Callable[[str], None],
    detail: Callable[[str], None],
    stopped: Callable[[], bool],
) -> str:
    """Runs a command to its end and gives what it printed.

    Args:
        command: the program and its words.
        variables: what it inherits, see `child_environment`.
        progress: called with per cent.
        say: called with what it tells the user, a line each.
        detail: called with what only a developer wants to know: the lines of a traceback.
        stopped: asked ten times a second whether the user wants it to end.

    Raises:
        StoppedError: it was ended, with all processes that it had started.
        RunError: it failed, with its own sentence.

    """
    # A group of its own, so that a stop reaches the workers it started and nothing else.
    process = subprocess.Popen(
        list(command), env=dict(variables), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        encoding="utf-8", errors="replace", start_new_session=os.name != "nt", creationflags=NO_WINDOW,
    )  # fmt: skip
    printed: list[str] = []
    lines: queue.Queue[str | None] = queue.Queue()
    readers = [
        threading.Thread(target=_read, args=(process.stdout, printed.append), daemon=True),
        threading.Thread(target=_read, args=(process.stderr, lines.put, lambda: lines.put(None)), daemon=True),
    ]
    for reader in readers:
        reader.start()
    told: list[str] = []
    tell = say
    try:
        while True:
            if stopped():
                raise StoppedError
            try:
                line = lines.get(timeout=0.1)
            except queue.Empty:
                continue
            if line is None:
                break
            share = share_of(line)
            if share is not None:
                progress(share)
                continue
            told.append(line.rstrip("\n"))
            tell = detail if _TRACEBACK in line else tell  # to the end: what follows one is its error
            if line.strip() and not line.startswith("Error: "):  # which is raised
                tell(told[-1])
        code = process.wait()
    except BaseException:  # also an error of the caller's functions: the child does not outlive the call
        end(process)
        raise
    for reader in readers:
        reader.join()
    if code:
        raise RunError(sentence_of(told, code))
    return "".join(printed)


def _read(stream: IO[str] | None, take: Callable[[str], None], ended: Callable[[], None] = lambda: None) -> None:
    if stream is not None:
        with stream:
            for line in stream:
                take(line)
    ended()


def end(process: subprocess.Popen[str]) -> None:
    """Ends a process and all that it started: an interrupt first, on which prithvi tidies up, then by force."""
    if os.name == "nt":  # no interrupt reaches a process without a console; what is half done has no final name
        subprocess.run(
            ["taskkill", "/PID", str(process.pid), "/T", "/F"],
            capture_output=True,
            check=False,
            creationflags=NO_WINDOW,
        )
        process.wait()
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def share_of(line: str) -> float | None:
    """Per cent that a line of PRITHVI_PROGRESS=json tells; None of any other line."""
    if not line.startswith('{"progress"'):
        return None
    try:
        plain = json.loads(line)
        return min(100.0, 100.0 * float(plain["done"]) / max(float(plain["whole"]), 1.0))
    except (ValueError, KeyError, TypeError):
        return None


def sentence_of(lines: Sequence[str], code: int) -> str:
    """What went wrong, in a sentence.

    Args:
        lines: what the program said on stderr, without its progress.
        code: its exit status; below 0 the signal that ended it.

    """
    for number in reversed(range(len(lines))):
        if lines[number].startswith("Error: "):
            return " ".join(line.strip() for line in lines[number:] if line.strip())[len("Error: ") :]
    said = [line.strip() for line in lines if line.strip()]
    if any(_TRACEBACK in line for line in said):
        return f"prithvi met an error that it does not know ({said[-1][:200].rstrip('.')}): the log holds all it said."
    failed = [line for line in said if " failed: " in line]  # scenes of a run of several
    if failed:
        return " ".join(failed)
    if code in (-9, 137):
        return (
            "The system ended prithvi (signal 9), most often because memory ran out: a smaller batch or extent "
            "needs less."
        )
    if code < 0:
        return f"prithvi was ended by signal {-code}: the log holds all that it said."
    return f"prithvi ended with status {code}: {said[-1] if said else 'it said nothing.'}"
