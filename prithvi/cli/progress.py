"""The process of a long command: its progress, as a bar or as plain lines where no terminal is, and its memory."""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from prithvi.errors import one_of

TOLD_BY = "PRITHVI_PROGRESS"
"""An environment variable: `bar` (a bar or plain lines, the default) or `json`, for programs that run ours."""

_MALLOC = {
    "M_MMAP_THRESHOLD": (-3, 32 * 1024**2),
    "M_TRIM_THRESHOLD": (-1, 128 * 1024**2),
    "M_TOP_PAD": (-2, 128 * 1024**2),  # more than a thread's 64 MB: these are kept, and what nobody touches takes none
    "M_ARENA_MAX": (-8, 1),
}
"""glibc's numbers of these, and their values here."""


@contextmanager
def bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """Yields a function that moves the bar, called with the work done and the whole.

    With PRITHVI_PROGRESS=json each whole per cent is a line on stderr instead, in the work's own units:
    `{"progress": TITLE, "done": 12, "whole": 40}`. If nobody reads them any more (a broken pipe), the work ends.

    Raises:
        ConfigError: PRITHVI_PROGRESS is something else.

    """
    if one_of(os.environ.get(TOLD_BY) or "bar", ("bar", "json"), f"{TOLD_BY} is not bar or json, but") == "json":
        yield partial(_tell, title, told=[-1])
        return
    console = Console(stderr=True)
    drawn, printed = console.is_terminal, -1
    columns = TextColumn("  {task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f}%")
    times = TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()
    with Progress(*columns, *times, console=console, disable=not drawn) as progress:
        task = progress.add_task(title, total=None)

        def move(done: int, whole: int) -> None:
            nonlocal printed
            progress.update(task, completed=done, total=whole)
            tenth = 10 * done // max(whole, 1)
            if not drawn and tenth > printed:
                printed = tenth
                console.print(f"  {title} {10 * tenth}%", highlight=False)

        yield move


def _tell(title: str, done: int, whole: int, *, told: list[int]) -> None:
    percent = 100 * done // max(whole, 1)
    if percent > told[0]:
        told[0] = percent
        print(json.dumps({"progress": title, "done": done, "whole": whole}), file=sys.stderr, flush=True)  # noqa: T201


def keep_windows() -> None:
    """Lets glibc's malloc keep what was freed; nothing on other systems. It changes the whole process for good.

    A window's arrays are allocated and freed thousands of times. By default malloc fetches most of them from the system
    each time, page by page, which takes a third of a heavy head's time, and makes an arena of its own for every thread.
    What was freed before goes back to the system.
    """
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        if hasattr(library, "mallopt") and hasattr(library, "malloc_trim"):  # glibc has them, musl has not
            library.malloc_trim(0)
            for number, value in _MALLOC.values():
                library.mallopt(number, value)
