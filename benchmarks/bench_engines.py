"""Engines and precisions of a map, by turns in one process: CPU seconds of a forward pass, and the classes that change.

python benchmarks/bench_engines.py demo/model [--rounds 7] [--maps 3]

Compared are torch in float32 and in bfloat16 (autocast), and OpenVINO in both, two windows a call on one thread, as a
map calls them: the published tiny shape and our small default, each with a `light` head on windows of 224, and the
model of `prithvi demo`. The weights of the published model are not fetched: speed depends on its shape alone. So that
classes mean something, the light heads are fitted to the label of the shipped sample first, the encoders left as they
are. Then whole maps of the sample by the demo's model, each a process of its own: CPU seconds and peak memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from torch.nn import functional as F

import prithvi
from prithvi.bands import PRITHVI_BANDS
from prithvi.catalog import data_catalog
from prithvi.contract import Contract
from prithvi.mapping.engine_choice import InPrecision
from prithvi.modelio.compiled import Compiled, openvino_version
from prithvi.modelio.predictor import Predictor, class_entries
from prithvi.models import Segmenter
from prithvi.models.zoo import VARIANTS

SAMPLE = data_catalog() / "sen1floods11" / "samples"
SIDE, TOGETHER = 224, 2
WAYS = (("torch", "float32"), ("torch", "bfloat16"), ("openvino", "float32"), ("openvino", "bfloat16"))


def windows_of(side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, 6, 1, side, side) pixels of the shipped sample, reflectance x 10,000, and (B, side, side) labels, -1 none."""
    with rasterio.open(SAMPLE / "S2Hand" / "Spain_7370579_S2Hand.tif") as raster:
        pixels = raster.read((2, 3, 4, 9, 12, 13)).astype(np.float32)
    with rasterio.open(SAMPLE / "LabelHand" / "Spain_7370579_LabelHand.tif") as raster:
        label = raster.read(1).astype(np.int64)
    starts = range(0, 512 - side + 1, side if side < 200 else 512 - side)
    places = [(row, column) for row in starts for column in starts]
    images = np.stack([pixels[:, r : r + side, c : c + side] for r, c in places])[:, :, None]
    return torch.from_numpy(images), torch.from_numpy(np.stack([label[r : r + side, c : c + side] for r, c in places]))


def with_light_head(name: str, steps: int = 60) -> Predictor:
    """A variant's encoder (ours with its weights, others as they begin) and a light head that knows the sample."""
    import dataclasses

    torch.manual_seed(0)
    config = dataclasses.replace(VARIANTS[name].config, img_size=(SIDE, SIDE), num_frames=1)
    model = Segmenter(config, 2, "light")
    if VARIANTS[name].hub_id is None:
        state = prithvi.load(name).encoder.state_dict()
        kept = model.encoder.state_dict()
        model.encoder.load_state_dict(
            {key: state[key] if state[key].shape == kept[key].shape else kept[key] for key in kept}
        )
    contract = Contract(PRITHVI_BANDS, config.mean, config.std)
    found = Predictor.fine_tuned(model, contract, window=SIDE, head="light", classes=class_entries(("land", "water")))
    images, label = windows_of(SIDE)
    parameters = list(model.head.parameters())
    optimizer = torch.optim.Adam(parameters, 3e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(found.module(images), label, ignore_index=-1).backward()
        optimizer.step()
    return found.mappable()


def forward(model: Predictor, rounds: int) -> dict[str, dict[str, Any]]:
    """CPU seconds a window by way and round, the largest difference of scores, and the share of other classes."""
    images, _ = windows_of(model.window)
    modules = {way: _by(model, *way) for way in WAYS if way[0] == "torch" or openvino_version()}
    found: dict[str, dict[str, Any]] = {" ".join(way): {"seconds": []} for way in modules}
    exact = _scores(model.module, images)
    for way, module in modules.items():
        scores = _scores(module, images)
        found[" ".join(way)].update(
            difference=float((scores - exact).abs().max() / exact.abs().max()),
            changed=float((scores.argmax(1) != exact.argmax(1)).float().mean()),
        )
    some = images[:4]
    for _ in range(rounds):
        for way, module in modules.items():
            begun, number = time.process_time(), 0
            while time.process_time() - begun < 0.3:
                _scores(module, some)
                number += len(some)
            found[" ".join(way)]["seconds"].append((time.process_time() - begun) / number)
    return found


def _by(model: Predictor, engine: str, precision: str) -> torch.nn.Module:
    if engine == "openvino":
        return Compiled(model, precision, TOGETHER).ready()
    return InPrecision(model.module, precision)


def _scores(module: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return torch.cat([module(images[first : first + TOGETHER]) for first in range(0, len(images), TOGETHER)])


def one_map(folder: str, engine: str, precision: str, path: str) -> None:
    """Maps the sample, and prints CPU seconds and peak memory of this process."""
    from prithvi.mapping import map_scene

    scene = prithvi.open_scene(SAMPLE / "S2Hand" / "Spain_7370579_S2Hand.tif", sensor="sentinel-2-l1c", offset=0)
    loaded = time.process_time()
    map_scene(folder, scene, path, engine=engine, precision=precision, stride=16)
    used, status = time.process_time(), Path("/proc/self/status").read_text()
    peak = 1024 * int(status.partition("VmHWM:")[2].split()[0])  # not ru_maxrss, which begins with the parent's
    print(json.dumps({"cpu": used, "map": used - loaded, "peak": peak}))


def maps(folder: Path, rounds: int) -> Iterator[tuple[str, list[dict[str, float]]]]:
    """What `one_map` says, by way; the first round, which compiles, apart."""
    ways = [way for way in WAYS if way[0] == "torch" or openvino_version()]
    found: dict[str, list[dict[str, float]]] = {" ".join(way): [] for way in ways}
    with tempfile.TemporaryDirectory() as work:
        for _ in range(rounds + 1):
            for way in ways:
                command = [sys.executable, __file__, str(folder), "--one", *way, str(Path(work) / "map.tif")]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found[" ".join(way)].append(json.loads(done.stdout.splitlines()[-1]))
    yield from found.items()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="model folder of 'prithvi demo'")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--maps", type=int, default=3)
    parser.add_argument("--one", nargs=3, metavar=("ENGINE", "PRECISION", "PATH"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        return one_map(str(asked.folder), *asked.one)
    torch.set_num_threads(1)
    flags = Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0].split()
    named = [flag for flag in flags if flag.startswith(("avx512", "amx"))]
    print(f"torch {torch.__version__}, OpenVINO {openvino_version() or 'missing'}; {' '.join(named)}\n")
    print("| model | way | ms a window (CPU) | times torch float32 | range | largest difference | other classes |")
    print("|---|---|---|---|---|---|---|")
    for name, model in (
        ("published tiny, light", with_light_head("prithvi_eo_v2_tiny_tl")),
        ("our small default, light", with_light_head("prithvi_hls_tiny")),
        ("demo/model", prithvi.load(str(asked.folder)).mappable()),
    ):
        found = forward(model, asked.rounds)
        plain = found["torch float32"]["seconds"]
        for way, told in found.items():
            ratios = sorted(one / other for one, other in zip(plain, told["seconds"], strict=True))
            print(
                f"| {name} | {way} | {1000 * statistics.median(told['seconds']):.2f} | {statistics.median(ratios):.2f} "
                f"| {ratios[0]:.2f} to {ratios[-1]:.2f} | {told['difference']:.1e} | {told['changed']:.3%} |"
            )
    print("\n| way | first run, CPU s | later, CPU s | of it after imports | peak of the first run, MB | later, MB |")
    print("|---|---|---|---|---|---|")
    for way, (first, *later) in maps(asked.folder, asked.maps):
        middle = {key: statistics.median(run[key] for run in later) for key in first}
        told = f"{first['cpu']:.1f} | {middle['cpu']:.1f} | {middle['map']:.1f} | {first['peak'] / 1e6:.0f}"
        print(f"| {way} | {told} | {middle['peak'] / 1e6:.0f} |")
    return None


if __name__ == "__main__":
    main()
