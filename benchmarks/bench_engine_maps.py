"""Maps of whole scenes by engine and precision against TerraTorch's tiled inference, by turns.

    python benchmarks/bench_engine_maps.py [--size 3660] [--models light heavy small 100M] [--runs 3]
        [--terratorch NAME=FOLDER ...] [--matmul highest medium] [--out FILE.json]

Models (random weights, two classes, windows of 224): the published tiny shape with the light head (light) and with
the paper's at a third of its width (heavy), our small default with its head (small), and the published 100M (100M).
The scene is the shipped sample, repeated. TerraTorch is the installed one; --terratorch adds others, each installed
beside it (`pip install --no-deps --target FOLDER terratorch==VERSION`).

Every run is a process of its own: the model is made, one batch is predicted (by OpenVINO: the model is compiled), and
then the clock starts. Ours reads the GeoTIFF and writes a Cloud-Optimized GeoTIFF within it; TerraTorch gets a tensor
that was read before, and writes nothing. `same` are windows every 112 pixels for both, `default` each one's own: ours
overlap as `prithvi.windows.OVERLAP` says, TerraTorch's lie 192 apart, with its margin of 8 pixels. `medium` is the
precision of float32 products that importing TerraTorch sets, `highest` torch's own; both hold for both tools.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

# torch and prithvi are imported where a run needs them: a process's peak starts from that of the process it comes from.
from flood_scene import write_scene
from mapping_runs import BATCH, HEADS, STRIDE, WINDOW, measured, peak

ROOT = Path(__file__).resolve().parents[1]
MODELS: dict[str, dict[str, Any]] = {
    "light": {"model": "prithvi_eo_v2_tiny_tl", **HEADS["light"]},
    "heavy": {"model": "prithvi_eo_v2_tiny_tl", **HEADS["heavy"]},
    "small": {"model": "prithvi_hls_tiny", "head": "fused"},
    "100M": {"model": "prithvi_eo_v2_100_tl", **HEADS["light"]},
}
WAYS = ("torch float32", "torch bfloat16", "openvino float32", "openvino bfloat16")


def child(job: dict[str, Any]) -> dict[str, Any]:
    """One map by one tool, in a fresh process."""
    import warnings

    import torch
    from torch import nn

    from prithvi.catalog import dataset
    from prithvi.tasks import SegmentationTask

    warnings.filterwarnings("ignore")

    class Plain(nn.Module):
        """The module as TerraTorch calls it: (B, band, Y, X); counts windows."""

        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module, self.windows = module, 0

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            self.windows += len(images)
            scores: torch.Tensor = self.module(images[:, :, None])
            return scores

    if job["way"] == "terratorch":
        from terratorch.tasks.tiled_inference import tiled_inference
    torch.set_float32_matmul_precision(job["matmul"])
    torch.manual_seed(0)
    contract = dataset("sen1floods11").contract.to_dict()
    task = SegmentationTask(["land", "water"], contract=contract, window=WINDOW, **MODELS[job["model"]])
    model = task.eval().fitted().mappable()
    images = torch.rand(BATCH, 6, 1, WINDOW, WINDOW) * 3000
    if job["way"] == "terratorch":
        import rasterio

        plain = Plain(model.module)
        with torch.inference_mode():
            plain(images[:, :, 0])
        before, plain.windows = peak(), 0
        with rasterio.open(job["scene"]) as raster:
            image = torch.from_numpy(raster.read(out_dtype="float32"))[None]
        same = {"stride": STRIDE, "delta": 0, "padding": False} if job["windows"] == "same" else {}
        model.module = plain

        def work() -> None:
            scores = tiled_inference(plain, image, crop=WINDOW, batch_size=BATCH, **same)[0]
            torch.cat([part.argmax(0).byte() for part in scores.split(256, dim=1)])

        begun = time.process_time()
        return {**measured(model, work, before), "cpu": time.process_time() - begun}

    import prithvi
    from prithvi.mapping import map_scene

    engine, precision = job["way"].split()
    options = {"engine": engine, "precision": precision, "batch_size": BATCH, "device": "cpu"}
    scene = prithvi.open_scene(job["scene"])
    # A small part of the scene first: what is compiled is compiled, and is kept in the user's cache.
    map_scene(model, scene[..., :WINDOW, : BATCH * STRIDE], f"{job['out']}.first.tif", stride=STRIDE, **options)
    before, windows = peak(), {"stride": STRIDE} if job["windows"] == "same" else {}

    class Counted:
        windows = 0

    def progress(done: int, total: int) -> None:
        Counted.windows = done

    def map_whole() -> None:
        map_scene(model, scene, job["out"], progress=progress, **options, **windows)

    begun = time.process_time()
    model_like = type("Counter", (), {"module": Counted})
    return {**measured(model_like, map_whole, before), "cpu": time.process_time() - begun}


def run(job: dict[str, Any], extra: Path | None) -> dict[str, Any]:
    """A job's result."""
    path = os.pathsep.join([*([str(extra)] if extra else []), str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, __file__, "--child", json.dumps(job)]
    ended = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    lines = [line for line in ended.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        raise SystemExit(f"{job} ended with {ended.returncode}:\n{ended.stderr[-3000:]}")
    return {**job, **json.loads(lines[-1].removeprefix("RESULT "))}


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        print("RESULT " + json.dumps(child(json.loads(sys.argv[2]))), flush=True)
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", type=int, default=3660)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--windows", nargs="+", choices=("same", "default"), default=("same", "default"))
    parser.add_argument("--matmul", nargs="+", choices=("highest", "medium"), default=("highest",))
    parser.add_argument("--terratorch", nargs="*", metavar="NAME=FOLDER", default=())
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    peers = {metadata.version("terratorch"): None} | {
        name: Path(folder) for name, folder in (pair.split("=", 1) for pair in options.terratorch)
    }
    flags = Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0].split()
    print(" ".join(flag for flag in flags if flag.startswith(("avx512", "amx"))), f"torch {metadata.version('torch')}")
    print(
        "| model | windows | matmul | way | number | s, least / median | CPU s | MB above base | times TerraTorch's |"
    )
    print("|" + "---|" * 9)
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        scene = str(Path(folder) / "scene.tif")
        write_scene(Path(scene), options.size, options.size)
        for model in options.models:
            for windows in options.windows:
                for matmul in options.matmul:
                    job = {"model": model, "windows": windows, "matmul": matmul, "scene": scene}
                    jobs = {
                        f"TerraTorch {name}": ({**job, "way": "terratorch"}, extra) for name, extra in peers.items()
                    }
                    out = str(Path(folder) / "map.tif")
                    jobs |= {way: ({**job, "way": way, "out": out}, None) for way in options.ways}
                    found: dict[str, list[dict[str, Any]]] = {name: [] for name in jobs}
                    for _ in range(options.runs):
                        for name, (each, extra) in jobs.items():
                            found[name].append(run(each, extra))
                            results.append({**found[name][-1], "name": name})
                    for name, runs in found.items():
                        print(
                            row(name, job, runs, [found[peer] for peer in jobs if peer.startswith("Terra")]), flush=True
                        )
                    if options.out:
                        options.out.write_text(json.dumps(results, indent=1), encoding="utf-8")


def row(name: str, job: dict[str, Any], runs: list[dict[str, Any]], peers: list[list[dict[str, Any]]]) -> str:
    """A row of the table; ratios within a round, medians."""
    seconds, cpu = [run["seconds"] for run in runs], statistics.median(run["cpu"] for run in runs)
    ratios = [statistics.median(peer["seconds"] / own for peer, own in zip(of, seconds, strict=True)) for of in peers]
    told = " / ".join(f"{ratio:.2f}" for ratio in ratios)
    memory, number = statistics.median(run["MB"] for run in runs), runs[0]["windows"]
    took = f"{min(seconds):.1f} / {statistics.median(seconds):.1f}"
    what = f"{job['model']} | {job['windows']} | {job['matmul']} | {name}"
    return f"| {what} | {number} | {took} | {cpu:.1f} | {memory:.0f} | {told} |"


if __name__ == "__main__":
    main()
