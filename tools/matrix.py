"""Tests in environments of other versions: a cell at a time, each with its result in a file, which a later call skips.

    python tools/matrix.py list
    python tools/matrix.py run                      # every cell without a result
    python tools/matrix.py run core lowest          # these
    python tools/matrix.py run core --tests "tests/metrics tests/test_bands.py" --again
    python tools/matrix.py run core --failed        # what failed there, after a mend; the result says so
    python tools/matrix.py table                    # docs/versions.md, of the results

Environments lie in matrix/NAME; results in benchmarks/results/matrix/NAME.json. Standard library alone, as this runs
before anything is installed; uv makes the environments if it is there, else pip.
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PLACE, RESULTS, PAGE = ROOT / "matrix", ROOT / "benchmarks" / "results" / "matrix", ROOT / "docs" / "versions.md"
TOOLS = ("pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "jsonschema")
"""What tests need beside the package, without its extras."""
SHOWN = ("torch", "lightning", "numpy", "xarray", "zarr", "rasterio", "pystac", "terratorch")
"""Packages whose versions the page shows."""
LISTED = """
import json
from importlib.metadata import distributions

found = {each.name.lower().replace("_", "-"): each.version for each in distributions()}
print(json.dumps(dict(sorted(found.items()))))
"""
OUTSIDE = ("tests/qgis_plugin",)
"""Tests of what runs in another program's Python."""


@dataclass(frozen=True)
class Cell:
    """An environment and the tests that apply to it."""

    name: str
    title: str
    python: str = "3.11"
    extras: tuple[str, ...] = ("all",)
    constraints: str | None = "constraints.txt"
    more: tuple[str, ...] = ()
    """Requirements beside the package."""
    tests: tuple[str, ...] = ("tests",)
    options: tuple[str, ...] = ()
    """Of pytest."""
    layouts: bool = False
    """Whether fine-tunes are written by this TerraTorch first, for every cell after it to open."""


SEARCH = ("mgrs", "pyhdf", "rustac", "scikit-image", "duckdb")
OLD_WARNINGS = ("-o", "filterwarnings=default")  # those of other versions are not ours to mend
CELLS = (
    Cell("core", "the core without any extra", extras=(), more=TOOLS),
    Cell("python-3.11", "Python 3.11, constraints.txt"),
    Cell("python-3.12", "Python 3.12", "3.12", constraints=None, options=OLD_WARNINGS),
    Cell("python-3.13", "Python 3.13", "3.13", constraints=None, options=OLD_WARNINGS),
    Cell("python-3.14", "Python 3.14", "3.14", constraints=None, options=OLD_WARNINGS),
    Cell(
        "lowest", "the lowest versions allowed", extras=("search", "baselines", "lora"),
        constraints="constraints-lowest.txt", more=(*TOOLS, *SEARCH), options=OLD_WARNINGS,
    ),
    Cell("newest", "the newest of everything", constraints=None, options=OLD_WARNINGS),
    *(
        Cell(f"terratorch-{version}", f"TerraTorch {version}", python, constraints=None, extras=("terratorch",),
             more=(*TOOLS, f"terratorch{bound}"), tests=("tests/terratorch",), options=("-W", "ignore"), layouts=True)
        # What newer ones need in turn wants Python 3.12 (docs/terratorch.md).
        for version, python, bound in (("1.2.0", "3.11", "==1.2.0"), ("1.2.11", "3.11", "==1.2.11"),
                                       ("newest", "3.12", ">=1.2"))
    ),
)  # fmt: skip


def interpreter(version: str) -> str | None:
    """A Python of that version: this one, one on PATH, or one of pyenv."""
    if platform.python_version().startswith(f"{version}."):
        return sys.executable
    there = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    return shutil.which(f"python{version}") if not there else str(there[-1])


def run(words: list[str], log: Path, **more: str) -> int:
    """Runs a command whose output goes to the end of a file."""
    # Neither packages nor settings of whoever calls come along.
    kept = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    }
    with log.open("a", encoding="utf-8") as file:
        file.write(f"\n$ {' '.join(words)}\n")
        file.flush()
        return subprocess.run(words, cwd=ROOT, env={**kept, **more}, stdout=file, stderr=file, check=False).returncode


def environment(cell: Cell, log: Path) -> tuple[Path, str]:
    """The Python of the cell's environment, made if it isn't there whole; and why not, if it can't be had."""
    folder = PLACE / cell.name
    python = folder / "venv" / "bin" / "python"
    found = interpreter(cell.python)
    if found is None:
        return python, f"no Python {cell.python} here"
    # A note says that the installation is whole: one that was interrupted, or whose bounds changed, is made again.
    whole = folder / "installed.json"
    bounds_of = [ROOT / "pyproject.toml", *([ROOT / cell.constraints] if cell.constraints else [])]
    stated = hashlib.sha256(b"".join(path.read_bytes() for path in bounds_of)).hexdigest()
    wanted = [cell.python, *cell.extras, str(cell.constraints), *cell.more, stated]
    if not whole.is_file() or json.loads(whole.read_text()) != wanted:
        shutil.rmtree(folder / "venv", ignore_errors=True)
        package = f".[{','.join(cell.extras)}]" if cell.extras else "."
        bounds = ["--constraint", cell.constraints] if cell.constraints else []
        wishes = [*bounds, "--editable", package, *cell.more]
        make, install = [found, "-m", "venv", str(folder / "venv")], [str(python), "-m", "pip", "install", *wishes]
        # uv shares files between environments, which have gigabytes each.
        if uv := shutil.which("uv"):
            make = [uv, "venv", "--seed", "--python", found, str(folder / "venv")]
            install = [uv, "pip", "install", "--python", str(python), *wishes]
        for words in (make, install):
            if run(words, log):
                last = [line for line in log.read_text(encoding="utf-8").splitlines() if line.startswith("ERROR")]
                return python, f"not installed: {last[-1] if last else 'see ' + str(log)}"
        whole.write_text(json.dumps(wanted))
    return python, ""


def outcome(cell: Cell, tests: list[str], workers: int, once_more: bool = False) -> dict[str, object]:
    """Makes the environment and runs the tests there; what became of it, as JSON holds it."""
    folder = PLACE / cell.name
    folder.mkdir(parents=True, exist_ok=True)
    log, report, begun = folder / "log.txt", folder / "report.xml", time.monotonic()
    about: dict[str, object] = {"cell": cell.name, "title": cell.title, "tests": tests}
    python, missing = environment(cell, log)
    if missing:
        return {**about, "ended": missing}
    installed = time.monotonic() - begun
    asked = subprocess.run([str(python), "-c", LISTED], capture_output=True, text=True, check=True)
    versions = json.loads(asked.stdout)
    more = {"OMP_NUM_THREADS": "1"}
    if cell.layouts:
        written = PLACE / "layouts" / cell.name.removeprefix("terratorch-")
        words = [str(python), "-W", "ignore", "-m", "tests.terratorch.layouts", str(written)]
        if not (once_more and written.is_dir()) and run(words, log):
            return {**about, "versions": versions, "ended": "no files written by this TerraTorch"}
        more["PRITHVI_LAYOUTS"] = str(PLACE / "layouts")
    report.unlink(missing_ok=True)
    ignored = [f"--ignore={path}" for path in OUTSIDE]
    code = run(
        [str(python), "-m", "pytest", "-n", str(workers), "-m", "not slow", "-q", "-p", "no:cacheprovider",
         f"--junit-xml={report}", *ignored, *cell.options, *tests], log, **more,
    )  # fmt: skip
    if not report.is_file():
        return {**about, "versions": versions, "ended": f"pytest ended with {code} and no report: see {log}"}
    minutes = {"install": round(installed / 60, 1), "all": round((time.monotonic() - begun) / 60, 1)}
    return {
        **about, **counts(report), "ended": {0: "passed", 1: "failed"}.get(code, f"pytest ended with {code}"),
        "python": version_of(python), "versions": versions, "minutes": minutes, "date": today(), "commit": commit(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }  # fmt: skip


def again(cell: Cell, before: dict[str, Any], workers: int) -> dict[str, Any]:
    """The stored result of a cell after what failed in it ran once more, which `rerun` in it says."""
    failed: list[str] = before.get("failed", [])
    # A file that could not be collected stands in the report under its module's name.
    tests = [name.removeprefix(".py::").replace(".", "/") + ".py" if name.startswith(".py::") else name
             for name in failed]  # fmt: skip
    made: dict[str, Any] = outcome(cell, tests, workers, once_more=True)
    if made["ended"] not in ("passed", "failed"):
        raise SystemExit(f"{cell.name}: {made['ended']}; the result stays as it was.")
    skipped = dict(before["skipped"])
    for reason, count in made["skipped"].items():
        skipped[reason] = skipped.get(reason, 0) + count
    note = {key: made[key] for key in ("passed", "failed", "skipped", "commit", "date")}
    return {
        **before, "passed": before["passed"] + made["passed"], "failed": made["failed"], "skipped": skipped,
        "ended": made["ended"], "versions": made["versions"],
        "rerun": [*before.get("rerun", []), {"tests": failed, **note}],
    }  # fmt: skip


def today() -> str:
    """The date in UTC."""
    return dt.datetime.now(dt.UTC).date().isoformat()


def commit() -> str:
    """What is checked out, and whether files differ from it."""
    words = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def version_of(python: Path) -> str:
    """Its version."""
    asked = subprocess.run([str(python), "-c", "import platform; print(platform.python_version())"],
                           capture_output=True, text=True, check=True)  # fmt: skip
    return asked.stdout.strip()


def counts(report: Path) -> dict[str, object]:
    """How many tests of a report of pytest passed, which failed, and why others were skipped."""
    passed, failed, skipped = 0, [], dict[str, int]()
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        kinds = {part.tag: part for part in case}
        name = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
        if "failure" in kinds or "error" in kinds:
            failed.append(name)
        elif "skipped" in kinds:
            reason = re.sub(r"\s+", " ", kinds["skipped"].get("message") or "no reason")[:120]
            skipped[reason] = skipped.get(reason, 0) + 1
        else:
            passed += 1
    return {"passed": passed, "failed": failed, "skipped": skipped}


def table() -> str:
    """The page of all results."""
    found = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    order = [cell.name for cell in CELLS]
    found.sort(key=lambda each: order.index(each["cell"]) if each["cell"] in order else len(order))
    rows = []
    for each in found:
        versions = each.get("versions", {})
        shown = ", ".join(f"{name} {versions[name]}" for name in SHOWN if name in versions)
        why = each.get("skipped", {})
        reasons = "".join(f"; {count} x {reason}" for reason, count in why.items())
        counted = [str(each.get("passed", "")), str(len(each["failed"])) if "failed" in each else each["ended"],
                   f"{sum(why.values())}{reasons}" if "skipped" in each else ""]  # fmt: skip
        some = "" if each["tests"] == ["tests"] else f" ({', '.join(each['tests'])})"
        rows.append([each["title"] + some, each.get("python", ""), shown, *counted, each.get("date", "")])
    missing = [cell.title for cell in CELLS if cell.name not in {each["cell"] for each in found}]
    head = ["cell", "Python", "versions", "passed", "failed", "skipped", "date"]
    lines = [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in ([*head], ["---"] * 7, *rows)]
    begin = (
        "# Versions\n\nWhat the tests said in environments of other versions, on Linux. `make matrix` makes the "
        "environments and runs them, a\ncell at a time, and writes this page.\n\n"
    )
    parts = [begin + "\n".join(lines)]
    if missing:
        parts.append(f"Without a result so far: {'; '.join(missing)}.")
    if failures := [f"- {each['title']}: {', '.join(each['failed'])}" for each in found if each.get("failed")]:
        parts.append("Failed:\n\n" + "\n".join(failures))
    # Counts above hold what ran again; here is what it was.
    mended = [
        f"- {each['title']}: {len(once['tests'])} failed, and at `{once['commit']}` ({once['date']}) "
        f"{once['passed']} passed, {sum(once['skipped'].values())} skipped, {len(once['failed'])} failed"
        for each in found for once in each.get("rerun", [])
    ]  # fmt: skip
    if mended:
        parts.append("Ran again after a mend, and only what had failed:\n\n" + "\n".join(mended))
    return "\n\n".join(parts) + "\n"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("list", "run", "table"))
    parser.add_argument("cells", nargs="*", help="Names; all without a result if none is given.")
    parser.add_argument("--tests", help="These tests alone, separated by blanks.")
    parser.add_argument("--again", action="store_true", help="Also where there is a result.")
    parser.add_argument("--failed", action="store_true", help="Only what failed in the stored result, merged into it.")
    parser.add_argument("--workers", type=int, default=int(os.environ.get("WORKERS", "2")))
    given = parser.parse_args()
    known = {cell.name: cell for cell in CELLS}
    if strange := [name for name in given.cells if name not in known]:
        parser.error(f"there is no cell {', '.join(strange)}; there are {', '.join(known)}.")
    if given.verb == "list":
        for cell in CELLS:
            there = "done" if (RESULTS / f"{cell.name}.json").is_file() else ""
            print(f"{cell.name:20} {cell.title:32} {there}")
        return 0
    bad = []
    for cell in (known[name] for name in given.cells or known) if given.verb == "run" else ():
        target = RESULTS / f"{cell.name}.json"
        before = json.loads(target.read_text(encoding="utf-8")) if target.is_file() else None
        if given.failed and not (before and before.get("failed")):
            print(f"{cell.name}: no result in which a test failed")
            continue
        # One that could not be had, or was interrupted, is tried anew.
        if before and before["ended"] in ("passed", "failed") and not (given.again or given.failed):
            print(f"{cell.name}: done before ({target.relative_to(ROOT)}; --again runs it anew, --failed what failed)")
            continue
        if given.failed:
            made = again(cell, before, given.workers)
        else:
            made = outcome(cell, given.tests.split() if given.tests else list(cell.tests), given.workers)
        RESULTS.mkdir(parents=True, exist_ok=True)
        draft = target.with_suffix(".part")
        draft.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
        draft.replace(target)
        failed = made.get("failed")
        print(f"{cell.name}: {made['ended']}, {made.get('passed', 0)} passed, "
              f"{len(failed) if isinstance(failed, list) else 0} failed; {PLACE / cell.name / 'log.txt'}")  # fmt: skip
        bad += [cell.name] if made["ended"] != "passed" else []
    PAGE.write_text(table(), encoding="utf-8")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
