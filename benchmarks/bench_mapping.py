"""Whole scenes to maps: ours against TerraTorch's tiled inference and geoai's, with the same module and weights.

    python benchmarks/bench_mapping.py [--runs 3] [--geoai-python GEOAI/bin/python] [--out FILE.json]
    python benchmarks/bench_mapping.py --huge [--geoai-python GEOAI/bin/python] [--out FILE.json]

geoai wants an environment of its own, with torch and this package's other dependencies but without geoai's 60:

    python -m venv GEOAI && GEOAI/bin/pip install -c constraints.txt . tqdm && GEOAI/bin/pip install --no-deps geoai-py

Without --geoai-python it is left out. `geoai.utils`, which its inference needs only to choose a device, is stood in for
where it cannot be imported. Everything runs on the CPU.

The scene is the shipped sample repeated: 6 bands, int16, a tiled and compressed GeoTIFF. Windows of 224 pixels every
112, batches of 8; random weights of the shape of the published tiny model (prithvi_eo_v2_tiny_tl), with the light head
(light) or the paper's at a third of its width (heavy: fcn, 64 channels). The map is the most likely of 2 or 13 classes
at every pixel.

Each run has a process of its own. Its baseline is its highest resident memory after the model was made and one batch
was predicted; the figure is what the highest of the whole run lies above that.

ours        map_scene, from the GeoTIFF to a Cloud-Optimized GeoTIFF of classes. Reading and writing count in all of it.
TerraTorch  tiled_inference, from a float32 tensor to one of scores. The scene is read after the baseline, as whoever
            calls it has to, so that it counts in the memory, as the scores do; seconds are those of the function alone.
            No file is written; the classes are taken afterwards and count in nothing. Its margin of 8 pixels
            (delta, padding) is turned off: with it its windows lie 8 pixels off ours, where random weights give other
            scores, and the maps could not be compared.
geoai       predict_geotiff, from the GeoTIFF to a plain GeoTIFF of classes (its postprocess_fn takes them): it reads
            and writes by itself, and that counts. Its default of dividing by 255 is replaced by the pixels as they are.
            Of its blends the cosine is used, whose form is the same as ours and TerraTorch's.

`in the model` are the seconds that the module was at work within the run, `reading` those that TerraTorch's tensor
took and that are not in its seconds. `agrees` is the share of pixels that get the same class as ours, a window's width
from the scene's edges, and of how many classes: the peers weigh the overlap a little otherwise. The limit is 1.5 x the
scores under one row of windows in float32, and 100 MB.

The share of pure forward time is measured in further processes: the batches that a map is made of go through the module
alone, on the same threads, with their pixels in memory and only the calls timed; then a scene is mapped, and so on in
turn. Each map is held against the mean of the forward times before and after it.

--huge takes scenes of 10,980 x 10,980 pixels and the light head, for each tool under a limit of 20 GB on RLIMIT_DATA,
which counts the memory that a process asked for to write to. RLIMIT_AS would count the libraries' files too, some GB of
torch's that nobody touches, and Linux has no limit on what is resident. Who asks for more is refused: `ended` says how,
`seconds` when.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

# torch and prithvi are imported where a run needs them: a process's peak starts from that of the process it comes from.
from mapping_runs import BATCH, HEADS, STRIDE, TOOLS, WINDOW, Case, child

ROOT = Path(__file__).resolve().parents[1]


def run(case: Case, python: str = sys.executable) -> dict[str, Any]:
    """A case's result; `failed` says why there is none."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    start = time.perf_counter()
    ended = subprocess.run(
        [python, __file__, "--child", json.dumps(asdict(case))], env={**os.environ, "PYTHONPATH": path},
        capture_output=True, text=True,
    )  # fmt: skip
    lines = [line for line in ended.stdout.splitlines() if line.startswith("RESULT ")]
    if lines:
        return {"case": asdict(case), **json.loads(lines[-1].removeprefix("RESULT "))}
    if case.what in TOOLS and ended.returncode < 0:
        seconds = time.perf_counter() - start
        killed = f"killed by signal {-ended.returncode}, {seconds:,.0f} s after its process began"
        return {"case": asdict(case), "failed": killed, "seconds": seconds}
    raise SystemExit(f"{case} ended with {ended.returncode}:\n{ended.stderr[-3000:]}")


class Table:
    """Rows printed as they come, and again as markdown at the end."""

    pages: list[str] = []  # noqa: RUF012  one for all tables

    def __init__(self, title: str, *columns: str) -> None:
        self.columns = columns
        self.pages += [f"\n{title}\n", "| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
        print(f"\n{title}\n" + "  ".join(f"{name:>12}" for name in columns), flush=True)

    def row(self, *values: str) -> None:
        self.pages.append("| " + " | ".join(values) + " |")
        print("  ".join(f"{value:>{max(12, len(name))}}" for value, name in zip(values, self.columns, strict=True)),
              flush=True)  # fmt: skip


def both(values: list[float], digits: int = 1) -> str:
    """The least and the median; one number where there is one."""
    least = f"{min(values):,.{digits}f}"
    return least if len(values) == 1 else f"{least} / {statistics.median(values):,.{digits}f}"


def limit(width: int, classes: int) -> float:
    """MB that a map may take."""
    return 1.5 * WINDOW * width * classes * 4 / 1e6 + 100


class Bench:
    """Options, a folder for scenes and maps, and all results."""

    def __init__(self, options: argparse.Namespace, work: Path) -> None:
        self.options, self.work = options, work
        self.results: list[dict[str, Any]] = []
        self.tools = [tool for tool in TOOLS if options.only in (None, tool)]
        if "geoai" in self.tools and options.geoai_python is None:
            self.tools.remove("geoai")
            print("geoai is left out: --geoai-python names an interpreter that has it.")

    def scene(self, height: int, width: int) -> str:
        path = self.work / f"scene_{height}_{width}.tif"
        if not path.exists():
            run(Case("scene", str(path), "", height=height, width=width))
        return str(path)

    def run(self, case: Case) -> dict[str, Any]:
        python = self.options.geoai_python if case.what == "geoai" else sys.executable
        result = run(case, python)
        self.results.append(result)
        if self.options.out:
            Path(self.options.out).write_text(json.dumps(self.results, indent=1), encoding="utf-8")
        return result

    def out(self, tool: str) -> str:
        return str(self.work / (f"{tool}.npy" if tool == "terratorch" else f"{tool}.tif"))

    def tools_table(self, size: int, heads: list[str], memory: float = 0.0) -> None:
        """Ours and the peers."""
        few = self.options.runs
        table = Table(
            f"{size:,} x {size:,} pixels" + (f", limit {memory:g} GB (RLIMIT_DATA)" if memory else ""),
            "head", "classes", "tool", "windows", "MB above base", "our limit, MB", "seconds", "in the model",
            "reading", "MB / ours", "s / ours", "agrees", "ended",
        )  # fmt: skip
        scene = self.scene(size, size)
        for head, classes in ((head, classes) for head in heads for classes in self.options.classes):
            found: dict[str, list[dict[str, Any]]] = {tool: [] for tool in self.tools}
            for _ in range(few):
                for tool in self.tools:
                    with contextlib.suppress(FileNotFoundError):
                        os.remove(self.out(tool))
                    found[tool].append(self.run(Case(tool, scene, self.out(tool), head, classes, limit=memory)))
            for tool, runs in found.items():
                self._row(table, head, classes, size, tool, runs, found.get("ours", []))

    def _row(
        self, table: Table, head: str, classes: int, size: int, tool: str, runs: list[dict[str, Any]],
        ours: list[dict[str, Any]],
    ) -> None:  # fmt: skip
        def figure(name: str, digits: int = 1) -> str:
            return both([run[name] for run in runs], digits) if all(name in run for run in runs) else "-"

        def ratio(name: str) -> str:
            if not ours or failed or any(run["failed"] for run in ours):
                return "-"
            of = [statistics.median(run[name] for run in each) for each in (runs, ours)]
            return f"{of[0] / of[1]:.2f}"

        failed = next((run["failed"] for run in runs if run["failed"]), "")
        agrees = "-"
        if ours and tool != "ours" and not failed and Path(self.out("ours")).exists():
            same = self.run(Case("compare", self.out("ours"), self.out(tool)))
            agrees = f"{100 * same['agrees']:.2f} % of {same['found']}"
        table.row(
            head, str(classes), tool, figure("windows", 0), figure("MB", 0),
            f"{limit(size, classes):,.0f}" if tool == "ours" else "-", figure("seconds"), figure("in model"),
            figure("reading"), ratio("MB"), ratio("seconds"), agrees, failed or "finished",
        )  # fmt: skip

    def heights_table(self, width: int) -> None:
        """Ours, scenes of one width."""
        classes = max(self.options.classes)
        table = Table(f"ours by height, {width:,} wide, light head, {classes} classes (limit "
                      f"{limit(width, classes):,.0f} MB)", "rows", "MB above base", "seconds")  # fmt: skip
        for height in self.options.heights:
            case = Case("ours", self.scene(height, width), self.out("ours"), "light", classes)
            runs = [self.run(case) for _ in range(self.options.runs)]
            table.row(f"{height:,}", both([run["MB"] for run in runs], 0), both([run["seconds"] for run in runs]))

    def forward_table(self, size: int) -> None:
        """How much of a map's time is the module's."""
        table = Table(f"pure forward time against that of a map, {size:,} x {size:,} pixels", "head", "classes",
                      "forward, s", "map, s", "of it in the model, s", "forward / map")  # fmt: skip
        for head, classes in ((head, classes) for head in self.options.heads for classes in self.options.classes):
            case = Case("forward", self.scene(size, size), self.out("ours"), head, classes, self.options.runs)
            found = self.run(case)
            table.row(head, str(classes), both(found["forward"]), both(found["map"]), both(found["in model"]),
                      f"{statistics.median(found['share']):.3f}")  # fmt: skip


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        child(Case(**json.loads(sys.argv[2])))
        return
    parser = argparse.ArgumentParser(description="Ours against the peers' tiled inference.")
    parser.add_argument("--size", type=int, default=3660)
    parser.add_argument("--classes", type=int, nargs="+", default=[2, 13])
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=list(HEADS))
    parser.add_argument("--heights", type=int, nargs="*", default=[1024, 3660, 7320], help="rows of ours alone")
    parser.add_argument("--only", choices=TOOLS)
    parser.add_argument("--geoai-python", help="interpreter of an environment that has geoai")
    parser.add_argument("--runs", type=int, default=1, help="repeats; least and median are shown")
    parser.add_argument("--huge", action="store_true", help="10,980 pixels under a memory limit, and nothing else")
    parser.add_argument("--limit", type=float, default=20.0, help="GB, with --huge")
    parser.add_argument("--out", help="JSON file of every run")
    options = parser.parse_args()
    threads = os.environ.get("OMP_NUM_THREADS", "unset")
    repeats = f", least / median of {options.runs}" if options.runs > 1 else ""
    print(f"{platform.machine()}, {os.cpu_count()} cores, OMP_NUM_THREADS {threads}, {date.today()}; windows of "
          f"{WINDOW} every {STRIDE}, batches of {BATCH}{repeats}")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options, Path(folder))
        if options.huge:
            bench.tools_table(10_980 if options.size == 3660 else options.size, ["light"], options.limit)
        else:
            bench.tools_table(options.size, options.heads)
            if "ours" in bench.tools:
                bench.forward_table(options.size)
                bench.heights_table(options.size)
    versions = {run["case"]["what"]: run["version"] for run in bench.results if "version" in run}
    versions["torch"] = metadata.version("torch")
    print("\n" + ", ".join(f"{tool} {version}" for tool, version in versions.items()))
    print("\n".join(["\nas markdown", *Table.pages]))


if __name__ == "__main__":
    main()
