"""Whether a worker's memory grows with the number of tiles of a build.

    python benchmarks/bench_build_memory.py [--size 1024] [--tiles 4 40]

Builds stores of more and more synthetic HLS tiles (tests/synthetic_hls.py) on a Dask cluster of two processes, a fresh
one each time, and prints the largest memory that either has held (resident set), and what it held before the build.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import resource
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from distributed import Client, LocalCluster

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def peak() -> float:
    """Largest resident set of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def imported() -> float:
    """The same, once everything that a task needs is imported."""
    import prithvi.chips.recipes  # noqa: F401

    return peak()


def main() -> None:
    """Prints a line a build."""
    from prithvi.chips import DateRule, Filters
    from prithvi.chips.recipes import Recipe, store_of_granules
    from prithvi.hls import write_items
    from tests.synthetic_hls import make_archive

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--tiles", type=int, nargs="+", default=[4, 40])
    given = parser.parse_args()
    # Neighbouring tiles of one zone: 31U and 31T, column by column.
    names = [f"31U{column}{row}" for column in "CDEFG" for row in "PQRSTUVA"][: max(given.tiles)]
    recipe = Recipe(
        size=128, frames=3, filters=Filters(0.0, 0.99), dates=DateRule(3, 10, 60, 1.0, 1.0, wanted=0), per_place=1
    )
    work = Path(tempfile.mkdtemp())
    try:
        print(f"tiles of {given.size} x {given.size} px, 4 dates; 2 workers; {os.cpu_count()} cores, {dt.date.today()}")
        archive = make_archive(work / "granules", names, dates=4, every_days=15, size=given.size, swath=False)
        for count in given.tiles:
            items = [item for item in archive.items if item.id[9:14] in names[:count]]
            write_items(items, work / f"{count}.json")
            with (
                LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
                Client(cluster) as client,
            ):
                before = max(client.run(imported).values())
                store = store_of_granules(
                    work / f"{count}.json",
                    work / f"{count}.zarr",
                    recipe,
                    scheduler=cluster.scheduler_address,
                    shard=32,
                )
                after = list(client.run(peak).values())
            raw = np.prod((len(store), 3, 7, 128, 128)) * 2 / 1e6
            print(
                f"{count:3} tiles, {len(store):6,} chips ({raw:8,.0f} MB of pixels): imports {before:5.0f} MB, "
                f"peak {max(after):5.0f} MB, so {max(after) - before:4.0f} MB for the work"
            )
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
