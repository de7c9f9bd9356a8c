"""Reads from servers that wait side by side: a bounded number of them, on threads that stay.

A read from a server is mostly waiting, so the bands of a granule are asked for at the same time. The threads belong to
the process and not to one call: GDAL keeps connections open for each thread, and a new one costs a server and us
several round trips.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import Any, TypeVar

from rasterio.env import Env, getenv, hasenv

from prithvi.scenes.paths import is_remote

AT_ONCE = 18
"""Reads that wait at the same time in a process, whoever asks for them."""
Answer = TypeVar("Answer")

_lock = Lock()
_pool: ThreadPoolExecutor | None = None


def begin(path: str, task: Callable[[], Answer]) -> Callable[[], Answer]:
    """What waits for a read of `path` and gives its answer. It is under way by then if the path is of a server."""
    return submit(task).result if is_remote(path) else task


def submit(task: Callable[[], Answer]) -> Future[Answer]:
    """Begins a read as soon as fewer than `AT_ONCE` others are waiting.

    Args:
        task: must not wait for other tasks. GDAL's options of the calling thread hold in it.

    """
    global _pool
    if hasenv():  # GDAL keeps the options of each thread but the main one to that thread
        task = partial(_under, getenv(), task)
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="prithvi-read")
        return _pool.submit(task)


def in_order(tasks: Iterable[Callable[[], Answer]]) -> Iterator[Answer]:
    """The answers of tasks in their order, `AT_ONCE` of which are begun or held at a time.

    The first that fails ends it: its error is raised, and what has not begun is left out.
    """
    begun: deque[Future[Answer]] = deque()
    try:
        for task in tasks:
            begun.append(submit(task))
            if len(begun) >= AT_ONCE:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        for future in begun:
            future.cancel()


def _under(options: dict[str, Any], task: Callable[[], Answer]) -> Answer:
    with Env(**options):
        return task()


def _forget() -> None:
    """A forked process has none of its parent's threads, and starts its own."""
    global _pool, _lock
    _pool, _lock = None, Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
