"""A process that makes files, times ways by turns, or compares what they left: `python -m benchmarks.suite.child JOB`.

The last line of its output is RESULT and what it found, as JSON. A way that cannot be measured here is `missing`, one
that fails is `failed`; neither takes the others with it.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
import traceback
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.suite.jobs import MissingError, Work


def memory(field: str) -> float:
    """A field of this process's status, in MB: VmRSS, its resident memory, or VmHWM, the highest of it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition(f"{field}:")[2].split()[0]) * 1024 / 1e6


def once(work: Work, apart: bool) -> dict[str, float]:
    """What one run takes; memory above what the process held when it began, where it has a process of its own."""
    if apart:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the highest so far is forgotten
    before, cpu, start = memory("VmRSS"), time.process_time(), time.perf_counter()
    told = work() or {}
    seconds, used = time.perf_counter() - start, time.process_time() - cpu
    # What a function says of another process's time, this one's memory says nothing of.
    more = {"MB": memory("VmHWM") - before} if apart and "cpu" not in told else {}
    return {"seconds": seconds, "cpu": used, **more, **told}


def named(path: str) -> Any:
    """A function from `module:function`; None where the module has none of that name."""
    module, _, function = path.partition(":")
    return getattr(importlib.import_module(f"benchmarks.suite.jobs.{module}"), function, None)


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Runs by way. In one process a first turn does not count, and every other turn goes backwards."""
    folder, apart = Path(job["folder"]), job["apart"]
    found: dict[str, Any] = {way: {"runs": []} for way in job["ways"]}
    works: dict[str, Work] = {}
    for way in job["ways"]:
        try:
            works[way] = named(job["prepare"])(way, job["size"], folder)
        except MissingError as reason:
            found[way]["missing"] = str(reason)
        except Exception:  # noqa: BLE001 - whatever a peer raises is a result
            found[way]["failed"] = traceback.format_exc()[-1500:]
    for turn in range(job["rounds"] + (not apart)):
        for way in list(works)[:: 1 if turn % 2 else -1]:
            try:
                taken = once(works[way], apart)
            except Exception:  # noqa: BLE001
                found[way]["failed"] = traceback.format_exc()[-1500:]
                del works[way]
                continue
            if turn or apart:
                found[way]["runs"].append(taken)
    return found


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def answer(job: dict[str, Any]) -> Any:
    if job["what"] == "measure":
        return measure(job)
    if job["what"] == "versions":
        return {name: version(name) for name in job["packages"]}
    function = named(job[job["what"]])
    return (function(job["size"], Path(job["folder"])) if function else None) or {}


if __name__ == "__main__":
    print("RESULT " + json.dumps(answer(json.loads(sys.argv[1]))), flush=True)
