"""Tasks on a real Dask cluster."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import dask
import distributed  # noqa: F401 - its settings are there before one is changed
import pytest

from prithvi.errors import ConfigError
from prithvi.parallel import run
from tests.clusters import cluster

REPOSITORY = Path(__file__).resolve().parents[1]

LOST = """
    import os, signal, time
    from distributed import Client, LocalCluster
    from prithvi.parallel import run

    # The first result comes when the others have ended, too, on a worker that then dies with them.
    found = {}

    def done(key, worker):
        if not found:
            time.sleep(1.5)
            os.kill(worker, signal.SIGKILL)
        found[key] = worker

    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster, Client(cluster):
        failed = run({str(n): (os.getpid, ()) for n in range(4)}, scheduler=cluster.scheduler_address, done=done)
    assert not failed, failed
    first, *others = found.values()
    assert len(others) == 3 and first not in others, found
"""


@pytest.mark.slow
def test_results_that_are_lost_with_a_worker_are_computed_again_beside_another_client() -> None:
    script = [sys.executable, "-c", textwrap.dedent(LOST)]
    done = subprocess.run(script, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_cluster_without_workers_is_a_sentence_after_a_while() -> None:
    tasks = {"one": (os.getpid, ()), "two": (os.getpid, ())}
    with cluster() as made:
        with (
            dask.config.set({"distributed.scheduler.no-workers-timeout": "3s"}),
            pytest.warns(UserWarning, match="has no worker; one is waited for, 3 seconds"),
            pytest.raises(ConfigError, match=f"at {made.address} has had no worker for 3 seconds: start some") as stop,
        ):
            run(tasks, scheduler=made.address)
        assert f"('dask worker {made.address}')" in str(stop.value)  # which is what `add` types
        pid, found = made.add(), {}
        assert not run(tasks, scheduler=made.address, done=found.__setitem__)
        assert set(found.values()) == {pid}


@pytest.mark.filterwarnings("default:the Dask scheduler at .* has no worker")
def test_what_the_last_worker_left_is_done_by_one_that_comes_later() -> None:
    found: dict[str, int] = {}
    with cluster(workers=1) as made:

        def done(key: str, pid: int) -> None:
            if not found:
                made.kill(pid)
                made.add()
            found[key] = pid

        assert not run(slow_tasks(), scheduler=made.address, done=done)
    assert len(found) == 3
    assert len(set(found.values())) == 2


def slow_tasks() -> dict[str, tuple[Callable[[], int], tuple[()]]]:
    """Each ends after the results of those before it were seen."""

    def slowly() -> int:  # one of the module would have the workers import it
        time.sleep(0.5)
        return os.getpid()

    return {str(number): (slowly, ()) for number in range(3)}


def test_a_scheduler_that_ends_is_a_sentence(capfd: pytest.CaptureFixture[str]) -> None:
    with (
        cluster(workers=1) as made,
        pytest.raises(ConfigError, match=f"the Dask scheduler at {made.address} ended, or the connection to it"),
    ):
        run(slow_tasks(), scheduler=made.address, done=lambda *_: made.scheduler.kill())
    assert "Traceback" not in capfd.readouterr().err
