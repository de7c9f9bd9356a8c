"""Memory and waiting times of a service: idle, with a model, and after the worker ended; ten jobs at once.

    python benchmarks/bench_service.py

Prints a table. The server and its worker are processes of their own; memory is what `/health` says of them (resident).
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.service_client import Service

SCENE = Path(__file__).parents[1] / "data_catalog/sen1floods11/samples/S2Hand/Spain_7370579_S2Hand.tif"
INPUTS = {"scene": "spain.tif", "sensor": "sentinel-2-l1c", "dates": ["2019-09-18"]}
MB = 1e6


def main() -> None:
    """Measures."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "scenes").mkdir()
        (folder / "scenes" / "spain.tif").write_bytes(SCENE.read_bytes())
        began = time.perf_counter()
        service = Service(folder, ["water", "--folder", "scenes", "--idle", "5"]).start()
        rows = {"start of the server, s": time.perf_counter() - began}
        try:
            rows["server idle, MB"] = memory(service)[0]
            for title in ("first request (512 x 512), s", "second request, s"):
                began = time.perf_counter()
                answer = service.execute("map-water", INPUTS)
                assert answer.status == 200, answer.body
                rows[title] = time.perf_counter() - began
            rows["server with a worker, MB"], rows["worker with a model, MB"] = memory(service)
            began = time.perf_counter()
            with ThreadPoolExecutor(10) as pool:
                jobs = [
                    each.json["jobID"]
                    for each in pool.map(lambda _: service.execute("map-water", INPUTS, True), range(10))
                ]
            rows["ten jobs accepted, s"] = time.perf_counter() - began
            states = [service.ended(job)["status"] for job in jobs]
            rows["ten jobs done, s"] = time.perf_counter() - began
            assert states == ["successful"] * 10, states
            slowest = 0.0
            for _ in range(50):
                began = time.perf_counter()
                service.get("/health")
                slowest = max(slowest, time.perf_counter() - began)
            rows["slowest of 50 /health, ms"] = 1000 * slowest
            while service.get("/health").json["memory"]["workers"]:
                time.sleep(0.5)
            rows["server after the worker ended, MB"] = memory(service)[0]
        finally:
            service.kill()
    for title, value in rows.items():
        print(f"| {title} | {value:.2f} |" if value < 10 else f"| {title} | {value:,.0f} |")
    print(json.dumps(rows))


def memory(service: Service) -> list[float]:
    """MB of the server and of each worker."""
    told = service.get("/health").json["memory"]
    return [told["service"] / MB, *(size / MB for size in told["workers"])]


if __name__ == "__main__":
    main()
