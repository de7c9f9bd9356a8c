"""Maps scenes on a Dask cluster of two worker processes, and kills one of them (SIGKILL) in the middle of a map.

python tests/mapping/kill_mapper.py MODEL OUT COMMAND SCENES...
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

from prithvi.mapping import Products
from prithvi.mapping.batch import map_files
from prithvi.products.jobs import jobs_of

OPTIONS = {"products": Products(confidence=True, polygons="parquet", item=True, style=True), "stride": 8}
OPENING = {"dates": ["2019-09-18"]}


def main() -> None:
    """Runs the maps."""
    model, out, command, *scenes = sys.argv[1:]
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster, Client(cluster) as client:
        victim = next(iter(cluster.workers.values())).pid
        killed = []

        def kill_one() -> None:
            # When a scene is done and both workers have finished rows of others.
            while not (list(Path(out).glob("*.tif")) and len(list(Path(out).glob(".*.partial/journal.json"))) == 2):
                time.sleep(0.001)
            os.kill(victim, signal.SIGKILL)
            killed.append(victim)

        thread = threading.Thread(target=kill_one, daemon=True)
        thread.start()
        progress: list[tuple[int, int]] = []
        outcomes = map_files(
            model, jobs_of(scenes, out), out, OPENING, {**OPTIONS, "command": command},
            scheduler=cluster.scheduler_address, progress=lambda *at: progress.append(at),
        )  # fmt: skip
        thread.join(5)
        alive = [worker["pid"] for worker in client.run(lambda: {"pid": os.getpid()}).values()]
    failed = {outcome.job.name: outcome.error for outcome in outcomes if outcome.result is None}
    told = {"killed": bool(killed) and victim not in alive, "failed": failed, "progress": progress}
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
