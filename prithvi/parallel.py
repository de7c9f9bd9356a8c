"""Independent tasks as one Dask graph, on local threads or a cluster, with the same progress and error handling."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from dask.base import compute
from dask.callbacks import Callback
from dask.delayed import delayed

from prithvi.errors import ConfigError, PrithviError

if TYPE_CHECKING:
    from distributed import Client

Progress = Callable[[int, int], None]
_T = TypeVar("_T")
PATIENCE = "10 minutes"
"""So long a cluster without workers is waited for, where Dask's own setting for it says nothing."""
_TIMEOUT = "no-workers-timeout"


def run(
    tasks: Mapping[str, tuple[Callable[..., _T], tuple[Any, ...]]],
    *,
    scheduler: str | Client | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    done: Callable[[str, _T], None] | None = None,
) -> dict[str, Exception]:
    """Runs all tasks; a failed task does not stop the others.

    Args:
        tasks: function and arguments by key; the key describes the task.
        scheduler: address of a Dask scheduler (tcp://host:8786) or a client of one; None for local threads.
        workers: number of threads; None for one per core.
        progress: called with (finished tasks, all tasks).
        done: called in this process, one at a time, with key and result of each successful task.

    Returns:
        The exception of each failed task by key. The task of a worker that dies is run again by another one.

    Raises:
        ConfigError: the scheduler cannot be reached, ends meanwhile, or has no worker for longer than `PATIENCE`.

    """
    failed: dict[str, Exception] = {}
    ended = 0

    def end(key: str, result: _T | None, error: Exception | None) -> None:
        nonlocal ended
        ended += 1
        if error is not None:
            failed[key] = error
        elif done is not None:
            done(key, result)  # type: ignore[arg-type]
        if progress is not None:
            progress(ended, len(tasks))

    if progress is not None:
        progress(0, len(tasks))
    graph = {key: delayed(_attempt, pure=False)(*task, dask_key_name=key) for key, task in tasks.items()}
    if not graph:
        return failed
    if scheduler is None:
        with Callback(posttask=lambda key, value, *_: end(key, *value)):
            # A single worker runs in this thread, which Ctrl-C interrupts; a thread pool would first finish its task.
            here = "threads" if workers != 1 else "synchronous"
            compute(*graph.values(), scheduler=here, num_workers=workers, optimize_graph=False)
        return failed
    _on_cluster(graph, scheduler, end)
    return failed


def _attempt(function: Callable[..., _T], arguments: tuple[Any, ...]) -> tuple[_T | None, Exception | None]:
    """Result and None, or None and the exception, so that a failed task does not stop the others."""
    try:
        return function(*arguments), None
    except (PrithviError, OSError, MemoryError) as error:
        return None, error


def _on_cluster(graph: Mapping[str, Any], scheduler: str | Client, end: Callable[..., None]) -> None:
    from distributed import Client, as_completed

    try:
        client = scheduler if isinstance(scheduler, Client) else Client(scheduler, timeout=10)
    except (OSError, TimeoutError, ValueError) as error:
        told = f"no Dask scheduler answers at {scheduler}: start one ('dask scheduler'), or leave it out."
        raise ConfigError(told) from error
    futures: list[Any] = []
    try:
        watch = _Workers(client)
        # Futures are released one by one, so that the cluster does not keep results which `done` has handled.
        futures = client.compute(list(graph.values()), optimize_graph=False)
        # By itself it waits in the loop of the current client (`with Client(...)`), which may be another one; a result
        # that is lost with its worker could then not be waited for again in this client's (distributed 2026.8.0).
        completed = as_completed(futures, loop=client.loop)
        while not completed.is_empty():
            if completed.has_ready():
                watch.seen = time.monotonic()
                future = next(completed)
                end(future.key, *_outcome(future, watch.address))
                future.release()
            else:
                watch.look()
                time.sleep(0.05)
    finally:
        for future in futures:
            future.release()
        if client is not scheduler:
            log = logging.getLogger("distributed.client")
            before, log.disabled = log.disabled, True  # one that has lost its scheduler logs a traceback
            try:
                client.close()
            finally:
                log.disabled = before


def _outcome(future: Any, address: str) -> tuple[Any, Exception | None]:
    """Result and None, or None and what the cluster could not do; ConfigError where it is not there any more."""
    try:
        fault = future.exception()
        return (None, fault) if isinstance(fault, Exception) else future.result()
    except BaseException as error:  # of asyncio, and no Exception
        if not future.cancelled():
            raise
        raise ConfigError(
            f"the Dask scheduler at {address} ended, or the connection to it: run the same again once one answers; "
            "what was done is kept."
        ) from error


class _Workers:
    """Looks whether a cluster has any, since tasks of one that has none wait for ever."""

    def __init__(self, client: Client) -> None:
        import dask
        from dask.utils import parse_timedelta

        assert client.scheduler is not None
        self.client, self.address = client, str(client.scheduler.address)
        self.limit: float = parse_timedelta(dask.config.get(f"distributed.scheduler.{_TIMEOUT}", None) or PATIENCE)
        self.asked = self.seen = time.monotonic()
        self.warned = False

    def look(self) -> None:
        """Raises ConfigError where there has been no worker for longer than the limit."""
        now = time.monotonic()
        if now - self.asked < 1:
            return
        self.asked = now
        try:
            if self.client.nthreads():
                self.seen, self.warned = now, False
        except OSError:  # the scheduler is gone, as its futures will say
            return
        if now - self.seen > self.limit:
            raise ConfigError(
                f"the Dask scheduler at {self.address} has had no worker for {self.limit:,.0f} seconds: start some "
                f"('dask worker {self.address}') and run the same again; what was done is kept. To wait longer set "
                f"Dask's {_TIMEOUT}, as in DASK_DISTRIBUTED__SCHEDULER__NO_WORKERS_TIMEOUT=2h."
            )
        if now - self.seen > min(10, self.limit / 2) and not self.warned:
            self.warned = True
            warnings.warn(
                f"the Dask scheduler at {self.address} has no worker; one is waited for, {self.limit:,.0f} seconds.",
                stacklevel=4,
            )
