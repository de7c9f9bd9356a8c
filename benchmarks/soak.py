"""Maps, fills, embeddings and requests to a service for half an hour: memory, handles, threads and results stay.

    python benchmarks/soak.py --minutes 30 --json benchmarks/results/soak.json

Each round maps a scene of a file and the same one of a server, fills a series, embeds a date (all in this process), and
asks a service for a map and a fill (a process, whose worker is another). After each round it is looked up what the
system says of this process, of the server and of its worker: resident memory, open files and threads. The first
rounds, in which caches fill, are left out; of the others the last third is compared with the first. It ends with status
1 where something grew, or where a round gave other pixels than the first one.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import hashlib
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import rasterio  # noqa: E402

import prithvi  # noqa: E402
from prithvi.catalog import data_catalog  # noqa: E402
from tests.http_files import serve_folder  # noqa: E402
from tests.service_client import Service  # noqa: E402

SPAIN = data_catalog() / "sen1floods11" / "samples" / "S2Hand" / "Spain_7370579_S2Hand.tif"
FLANDERS = data_catalog() / "samples" / "flanders"
DAYS = ("2018-06-28", "2018-07-08", "2018-07-18")
WARM = 0.25
"""Share of the rounds in which caches may fill."""
GROWTH_MB, GROWTH_SHARE = 10.0, 0.02
"""Memory may differ by the larger of both between the first and the last third, as the allocator has it."""


def numbers(process: int) -> dict[str, float]:
    """Resident memory (MB), open files and threads of a process."""
    place = Path(f"/proc/{process}")
    pages = int((place / "statm").read_text().split()[1])
    return {
        "memory": pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
        "handles": len(list((place / "fd").iterdir())),
        "threads": len(list((place / "task").iterdir())),
    }


def digest(folder: Path) -> str:
    """Of the pixels of all GeoTIFFs of a folder, by name."""
    found = hashlib.sha256()
    for file in sorted(folder.glob("*.tif")):
        with rasterio.open(file) as raster:
            found.update(file.name.encode() + raster.read().tobytes())
    return found.hexdigest()


def works(folder: Path, address: str, service: Service) -> dict[str, Callable[[], str]]:
    """What a round does: name to a function that gives the digest of what was made."""
    spain: dict[str, Any] = {"sensor": "sentinel-2-l1c", "dates": ["2019-09-18"]}
    model = prithvi.load("water")
    days = [str(FLANDERS / f"{day}.tif") for day in DAYS]
    masks = [str(FLANDERS / f"{day}_clouds.tif") for day in DAYS]

    def mapped(source: str) -> str:
        out = folder / "map"
        shutil.rmtree(out, ignore_errors=True)
        prithvi.map_scene(model, prithvi.open_scene(source, **spain), out / "map.tif")
        return digest(out)

    def filled() -> str:
        from prithvi.mapping import clear_of
        from prithvi.mapping.series_files import fill_series

        out = folder / "fill"
        shutil.rmtree(out, ignore_errors=True)
        series = prithvi.open_scene(days, dates=list(DAYS))
        fill_series(series, out, "local_regression", clear=clear_of(masks, series))
        return digest(out)

    def embedded() -> str:
        made = prithvi.embed(prithvi.open_scene(days[0], dates=[DAYS[0]]), "prithvi_hls_tiny")
        values = made if hasattr(made, "values") and not callable(made.values) else made["embedding"]
        return hashlib.sha256(np.ascontiguousarray(values.values).tobytes()).hexdigest()

    def asked(process: str, inputs: dict[str, Any]) -> str:
        answer = service.execute(process, inputs)
        if answer.status != 200:
            raise RuntimeError(answer.body)
        links = [answer.json["map"]] if "map" in answer.json else answer.json["dates"]["value"]["links"]
        found = hashlib.sha256()
        for link in links:
            with rasterio.MemoryFile(service.ask("GET", link["href"]).body) as file, file.open() as raster:
                found.update(raster.read().tobytes())
        for job in service.get("/jobs?f=json").json["jobs"]:
            service.ask("DELETE", f"/jobs/{job['jobID']}")
        return found.hexdigest()

    return {
        "map of a file": lambda: mapped(str(SPAIN)),
        "map from a server": lambda: mapped(f"{address}/{SPAIN.name}"),
        "fill": filled,
        "embed": embedded,
        "map by a service": lambda: asked("map-water", {"scene": SPAIN.name, **spain}),
        "fill by a service": lambda: asked(
            "fill-prithvi_hls_tiny",
            {"scene": [f"{day}.tif" for day in DAYS], "clouds": [f"{day}_clouds.tif" for day in DAYS],
             "dates": list(DAYS)},
        ),
    }  # fmt: skip


def children(process: int) -> list[int]:
    """Processes that one has started, a worker among them."""
    return [int(text) for file in Path(f"/proc/{process}/task").glob("*/children") for text in file.read_text().split()]


def verdict(rows: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, Any]]:
    """Of each process and number: median of the first and of the last third, and whether it grew."""
    kept = rows[int(len(rows) * WARM) :]
    third = max(1, len(kept) // 3)
    found: dict[str, dict[str, Any]] = {}
    for name in kept[-1]:
        for kind in ("memory", "handles", "threads"):
            first, last = (
                median(row[name][kind] for row in part if name in row) for part in (kept[:third], kept[-third:])
            )
            room = max(GROWTH_MB, GROWTH_SHARE * first) if kind == "memory" else 0
            found[f"{name}, {kind}"] = {"first": round(first, 1), "last": round(last, 1), "grew": last > first + room}
    return found


def main() -> None:
    """Runs rounds until the time is over, prints a table, and ends with 1 where something grew or differed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # what was freed and not given back is no leak
    rows: list[dict[str, dict[str, float]]] = []
    results: dict[str, str] = {}
    seconds: dict[str, list[float]] = {}
    differing: list[str] = []
    with TemporaryDirectory() as name, serve_folder(SPAIN.parent) as server:
        folder = Path(name)
        (folder / "scenes").mkdir()
        for file in (SPAIN, *(FLANDERS / f"{day}{end}.tif" for day in DAYS for end in ("", "_clouds"))):
            shutil.copy(file, folder / "scenes" / file.name)
        service = Service(folder, ["water", "prithvi_hls_tiny", "--folder", "scenes"]).start()
        assert service.process is not None
        try:
            every = works(folder, server.url, service)
            end = time.monotonic() + 60 * given.minutes
            while time.monotonic() < end or len(rows) < 4:
                for title, work in every.items():
                    begun = time.perf_counter()
                    made = work()
                    seconds.setdefault(title, []).append(time.perf_counter() - begun)
                    if results.setdefault(title, made) != made:
                        differing.append(f"{title} in round {len(rows) + 1}")
                server.requests.clear()
                gc.collect()
                if trim is not None:
                    trim(0)
                others = {f"worker {number}": each for number, each in enumerate(children(service.process.pid), 1)}
                processes = {"this process": os.getpid(), "server": service.process.pid, **others}
                rows.append({title: numbers(process) for title, process in processes.items()})
                print(
                    len(rows),
                    {title: {k: round(v) for k, v in row.items()} for title, row in rows[-1].items()},
                    flush=True,
                )
        finally:
            service.kill()
    found = verdict(rows)
    print(f"\n{len(rows)} rounds in {given.minutes:g} minutes; {len(differing)} results differ from the first round's")
    print("| | first third | last third | |\n|---|---:|---:|---|")
    for title, each in found.items():
        print(f"| {title} | {each['first']} | {each['last']} | {'grew' if each['grew'] else 'flat'} |")
    for title, times in seconds.items():
        print(f"{title}: median {median(times):.2f} s, first {times[0]:.2f} s, last {times[-1]:.2f} s")
    if given.json is not None:
        plain = {
            "minutes": given.minutes, "rounds": len(rows), "differing": differing, "numbers": found, "rows": rows,
            "seconds": {title: round(median(times), 3) for title, times in seconds.items()},
            "prithvi": prithvi.__version__, "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "python": platform.python_version(),
        }  # fmt: skip
        given.json.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    sys.exit(bool(differing) or any(each["grew"] for each in found.values()))


if __name__ == "__main__":
    main()
