"""Starts the processes that measure, and keeps what they found in one file, an entry a benchmark and size.

What is finished is kept by its key (everything that it depends on), so that a run that was stopped goes on where it
stood. A benchmark that fails is an entry too, is named at the end, and takes no other with it.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.suite.machine import PACKAGES, ROOT, code, load, machine
from benchmarks.suite.registry import Benchmark
from prithvi.files import dumps, write_text

Ask = Callable[[dict[str, Any]], Any]
"""What a process answers to a job."""


class FailedError(Exception):
    """A process that ended without a result, and the end of what it said."""


@dataclass
class Processes:
    """Starts `child.py`, in the folder of the project and beside the peers that have folders of their own."""

    peers: Path
    """Folders of packages that are no dependencies of ours: `terratorch` (a newer one) and `geoai`."""
    seconds: float | None = None
    """After which a process is ended."""

    def __call__(self, job: dict[str, Any]) -> Any:
        folders = [str(ROOT), *map(str, sorted(self.peers.glob("*"))), os.environ.get("PYTHONPATH", "")]
        threads = str(job.get("threads", 1))
        environment = {
            **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, folders)), "OMP_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "OMP_WAIT_POLICY": "passive",
        }  # fmt: skip
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.suite.child", json.dumps(job)]
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=self.seconds, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise FailedError(f"ended after {error.timeout:.0f} seconds without a result") from None
        lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        if not lines:
            raise FailedError(f"ended with status {done.returncode}: {done.stderr[-1500:].strip()}")
        return json.loads(lines[-1].removeprefix("RESULT "))


def measured(benchmark: Benchmark, size: int, ask: Ask, folder: Path) -> dict[str, Any]:
    """An entry: what every way took in every round, or why there is nothing.

    Raises:
        FailedError: the files that all ways need could not be made.

    """
    job = {
        "folder": str(folder), "size": size, "apart": benchmark.apart, "threads": benchmark.threads, "what": "measure",
        "prepare": benchmark.prepare,
    }  # fmt: skip
    if benchmark.make:
        ask({**job, "what": "make", "make": benchmark.make})
    names = [way.name for way in benchmark.ways]
    ways: dict[str, Any] = {name: {"runs": []} for name in names}
    if not benchmark.apart:
        ways = ask({**job, "ways": names, "rounds": benchmark.rounds})
    for turn in range(benchmark.rounds if benchmark.apart else 0):
        for name in names[:: 1 if turn % 2 else -1]:
            if "missing" in ways[name] or "failed" in ways[name]:
                continue
            try:
                found = ask({**job, "ways": [name], "rounds": 1})[name]
            except FailedError as error:
                found = {"runs": [], "failed": str(error)}
            found["runs"] = ways[name]["runs"] + found["runs"]
            ways[name] = found
    entry: dict[str, Any] = {"ways": ways}
    if benchmark.check and ways[names[0]]["runs"]:
        entry["check"] = ask({**job, "what": "check", "check": benchmark.check})
    return entry


@dataclass
class Results:
    """A file of results, and what the next entries of it depend on."""

    path: Path
    command: str
    head: dict[str, Any]
    """Machine, versions and code: an entry that was found with others is of another file."""
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)

    def resume(self) -> None:
        """Takes over what the file has; a file of another machine, other versions or other code keeps its own name."""
        if not self.path.is_file():
            return
        known = json.loads(self.path.read_text(encoding="utf-8"))
        if all(known.get(name) == value for name, value in self.head.items()):
            self.entries = {entry["key"]: entry for entry in known["entries"]}
            return
        kept = self.path.with_name(f"{self.path.stem}-{known['date']}-{_key(known)}.json")
        self.path.rename(kept)
        print(f"{self.path.name} is of another machine, other versions or other code: it is {kept.name} now, and all "
              "is measured anew.", flush=True)  # fmt: skip

    def key(self, benchmark: Benchmark, size: int) -> str:
        """Everything that an entry depends on."""
        ways = [way.name for way in benchmark.ways]
        how = [benchmark.name, benchmark.prepare, ways, benchmark.rounds, benchmark.threads, benchmark.apart]
        return _key({**self.head, "how": how, "size": size})

    def keep(self, key: str, entry: dict[str, Any]) -> None:
        """Writes an entry, and the file with all of them."""
        self.entries[key] = {"key": key, **entry}
        found = list(self.entries.values())
        whole = {
            "command": self.command, "date": dt.date.today().isoformat(), **self.head,
            "minutes": round(sum(entry["took"] for entry in found) / 60, 1), "entries": found,
        }  # fmt: skip
        write_text(self.path, dumps(whole, indent=1) + "\n")


def _key(of: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()[:12]


def head_of(ask: Ask) -> dict[str, Any]:
    """What all entries of a file have in common."""
    versions = ask({"what": "versions", "packages": PACKAGES})
    return {"machine": machine(), "versions": {name: of for name, of in versions.items() if of}, "code": code()}


def broken(entries: Iterable[dict[str, Any]]) -> list[str]:
    """Sentences about what failed."""
    found = []
    for entry in entries:
        name = f"{entry['benchmark']} at {entry['size']}"
        if "failed" in entry:
            found.append(f"{name}: {entry['failed']}")
        ways = entry.get("ways", {}).items()
        found += [f"{name}, {way}: {told['failed']}" for way, told in ways if "failed" in told]
    return found


def run(benchmarks: Iterable[Benchmark], results: Results, ask: Ask, more: bool) -> list[str]:
    """Measures what the results do not have yet.

    Args:
        benchmarks: the list.
        results: where entries go, one by one.
        ask: starts a process; see `Processes`.
        more: the sizes of `make results` instead of those of `make bench`.

    Returns:
        What failed, a sentence each; these are tried again the next time.

    """
    if more:
        benchmarks = [dataclasses.replace(each, rounds=max(3, each.rounds)) for each in benchmarks]
    wanted = [(each, size) for each in benchmarks for size in (each.more if more else each.sizes)]
    keys = {results.key(each, size) for each, size in wanted}
    results.entries = {key: entry for key, entry in results.entries.items() if key not in keys or not broken([entry])}
    for each, size in wanted:
        key, began = results.key(each, size), time.perf_counter()
        if key in results.entries:
            print(f"{each.name} at {size}: measured before", flush=True)
            continue
        entry: dict[str, Any] = {"benchmark": each.name, "size": size, "load before": load()}
        with tempfile.TemporaryDirectory() as folder:
            try:
                entry |= measured(each, size, ask, Path(folder))
            except FailedError as error:
                entry["failed"] = str(error)
        results.keep(key, {**entry, "load after": load(), "took": round(time.perf_counter() - began, 1)})
        state = "failed" if broken([entry]) else "measured"
        print(f"{each.name} at {size}: {state}, {time.perf_counter() - began:.0f} s", flush=True)
    return broken(entry for key, entry in results.entries.items() if key in keys)
