"""Tasks on a real Dask cluster."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

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


def test_results_that_are_lost_with_a_worker_are_computed_again_beside_another_client() -> None:
    script = [sys.executable, "-c", textwrap.dedent(LOST)]
    done = subprocess.run(script, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
