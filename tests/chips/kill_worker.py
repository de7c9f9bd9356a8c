"""Builds a store on a Dask cluster of two worker processes, and kills one of them in mid-build.

python tests/chips/kill_worker.py GRANULES STORE
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from distributed import Client, LocalCluster

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def main() -> None:
    """Runs the build."""
    from prithvi.chips.recipes import store_of_granules
    from tests.chips.test_build import RECIPE

    granules, store = sys.argv[1], Path(sys.argv[2])
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster, Client(cluster) as client:
        victims = [worker.pid for worker in cluster.workers.values()]
        killed = []

        def kill_one() -> None:
            # As soon as a worker has begun to cut a tile: its folder is there and not yet under its final name.
            while not list(store.glob(".build/staged/*.tmp")):
                time.sleep(0.001)
            os.kill(victims[0], signal.SIGKILL)
            killed.append(victims[0])

        thread = threading.Thread(target=kill_one, daemon=True)
        thread.start()
        store_of_granules(
            granules, store, RECIPE, shard=16, split="block:1km:side=4km", seed=3, scheduler=cluster.scheduler_address
        )
        thread.join(5)
        alive = [worker["pid"] for worker in client.run(lambda: {"pid": os.getpid()}).values()]
    sys.stdout.write(json.dumps({"killed": bool(killed) and victims[0] not in alive}) + "\n")


if __name__ == "__main__":
    main()
