"""Clusters of Dask as one types them: a scheduler and workers in processes of their own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from distributed import Client

REPOSITORY = Path(__file__).resolve().parents[1]


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Cluster:
    """A scheduler, and workers of one thread in another working folder; none that dies is started anew by itself."""

    def __init__(self, port: int | None = None) -> None:
        self.port = port or free_port()
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard")
        self.workers: list[subprocess.Popen[bytes]] = []
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.1)
        raise AssertionError(f"no scheduler at {self.address}")

    @staticmethod
    def _start(*words: str) -> subprocess.Popen[bytes]:
        settings = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
        command, elsewhere = [sys.executable, "-m", "dask", *words], tempfile.gettempdir()
        return subprocess.Popen(command, env=settings, stderr=subprocess.DEVNULL, cwd=elsewhere)

    def add(self) -> int:
        """Starts a worker; its process number. It may come to the scheduler seconds later."""
        words = ("worker", self.address, "--no-nanny", "--nthreads", "1", "--no-dashboard")
        self.workers.append(self._start(*words))
        return self.workers[-1].pid

    def kill(self, pid: int) -> None:
        """Ends a worker, by SIGKILL."""
        os.kill(pid, signal.SIGKILL)
        self.workers = [worker for worker in self.workers if worker.pid != pid or worker.wait() is None]

    def end(self) -> None:
        """Ends all of it."""
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@contextmanager
def cluster(port: int | None = None, workers: int = 0) -> Iterator[Cluster]:
    """A cluster, whose workers have come, until the context ends."""
    made = Cluster(port)
    try:
        for _ in range(workers):
            made.add()
        if workers:
            with Client(made.address, set_as_default=False) as client:
                client.wait_for_workers(workers, timeout=300)
        yield made
    finally:
        made.end()
