"""What is known of accuracy, read from accuracy.yaml, and the scripts that find it again where the data are at hand."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import yaml

from benchmarks.suite.machine import ROOT, load
from benchmarks.suite.runner import Results

FILE = Path(__file__).with_name("accuracy.yaml")


@dataclass(frozen=True)
class Study:
    """A question, and everything that has to be told with its answer."""

    TOLD: ClassVar = (
        "data", "licence", "evaluation", "result", "baselines", "run_here", "copied", "variance", "harness",
        "data_or_network", "source",
    )  # fmt: skip
    name: str
    title: str
    data: str
    licence: str
    evaluation: str
    """Whose split, and whether others share it."""
    result: str
    baselines: str
    """The simple ones beside it, also where they win."""
    run_here: str
    copied: str
    variance: str
    harness: str
    data_or_network: str
    source: str
    command: str
    """With {data} (a folder of imagery) and {out} where they are needed."""


@cache
def _file() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return found


def studies() -> list[Study]:
    """All of them; a field that is missing is an error."""
    return [Study(**each) for each in _file()["studies"]]


def missed_elsewhere() -> list[str]:
    """Aims that figures outside of the list fell behind, each with its reason."""
    return list(_file()["behind"])


def words(study: Study, data: Path | None, out: Path) -> list[str] | None:
    """A study's command; None where it needs data that nobody named."""
    if data is None and "{data}" in study.command:
        return None
    return [sys.executable, *shlex.split(study.command.format(data=data, out=out))[1:]]


def run(results: Results, data: Path | None) -> Iterator[str]:
    """Runs what is not in the results yet, and says what failed; folders of trials are kept beside the results."""
    for study in studies():
        out = results.path.parent / "accuracy" / study.name
        key = f"accuracy:{study.name}:{study.command}"
        command = words(study, data, out)
        if command is None:
            print(f"accuracy of {study.name}: not run, it needs the imagery: make results DATA=FOLDER", flush=True)
            continue
        if key in results.entries and "failed" not in results.entries[key]:
            print(f"accuracy of {study.name}: measured before", flush=True)
            continue
        out.mkdir(parents=True, exist_ok=True)
        print(f"accuracy of {study.name}: running, some for hours; trials that end are kept in {out}", flush=True)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        began, before = time.perf_counter(), load()
        with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as errors:
            status = subprocess.run(
                command, cwd=ROOT, env=environment, stdout=said, stderr=errors, check=False
            ).returncode
            said.seek(0)
            errors.seek(0)
            entry = {
                "benchmark": f"accuracy:{study.name}", "size": 0, "command": study.command, "text": said.read().strip(),
                "load before": before, "load after": load(), "took": round(time.perf_counter() - began, 1),
            }  # fmt: skip
            if status:
                entry["failed"] = f"ended with status {status}: {errors.read()[-1500:].strip()}"
                yield f"accuracy of {study.name}: {entry['failed']}"
        results.keep(key, entry)
        print(f"accuracy of {study.name}: {'failed' if status else 'measured'}, {entry['took']:.0f} s", flush=True)
