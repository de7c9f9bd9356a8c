"""What bench_mapping.py measures, each run in a process of its own; its docstring says what is counted."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from threading import Lock
from typing import Any

# torch and prithvi are imported where a run needs them: a process's peak starts from that of the process it comes from.

WINDOW, STRIDE, BATCH = 224, 112, 8
HEADS: dict[str, dict[str, Any]] = {
    "light": {"head": "light"},
    "heavy": {"head": "fcn", "head_options": {"width": 64, "channels": 64}},
}
TOOLS = ("ours", "terratorch", "geoai")
FAILURES = ("memory", "allocate")


@dataclass(frozen=True)
class Case:
    """What one process is to do."""

    what: str
    """A tool, `forward`, `scene` or `compare`."""
    scene: str
    out: str
    head: str = "light"
    classes: int = 2
    runs: int = 1
    limit: float = 0.0
    """GB of RLIMIT_DATA; 0 sets none."""
    height: int = 0
    width: int = 0


# What runs in a process of its own


def peak() -> float:
    """Highest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def model_of(case: Case) -> Any:
    """The model as mapping takes it, the module inside with a watch on it."""
    import torch
    from torch import nn

    from prithvi.catalog import dataset
    from prithvi.tasks import SegmentationTask

    class Watched(nn.Module):
        """Counts windows and the seconds in which the module is at work, on one thread or several; (B, band, Y, X), as
        the peers call it, means one date.
        """

        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module, self.windows, self.seconds = module, 0, 0.0
            self.lock, self.calls, self.since = Lock(), 0, 0.0

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            with self.lock:
                if self.calls == 0:
                    self.since = time.perf_counter()
                self.calls += 1
            scores: torch.Tensor = self.module(images if images.ndim == 5 else images[:, :, None])
            with self.lock:
                self.calls -= 1
                self.windows += len(images)
                if self.calls == 0:
                    self.seconds += time.perf_counter() - self.since
            return scores

    torch.manual_seed(0)
    task = SegmentationTask(
        [f"class {number}" for number in range(case.classes)], model="prithvi_eo_v2_tiny_tl",
        contract=dataset("sen1floods11").contract.to_dict(), window=WINDOW, **HEADS[case.head],
    )  # fmt: skip
    model = task.fitted().mappable()
    model.module = Watched(model.module).eval()
    with torch.inference_mode():
        model.module(torch.rand(BATCH, 6, 1, WINDOW, WINDOW) * 3000)
    model.module.windows, model.module.seconds = 0, 0.0
    return model


def measured(model: Any, work: Callable[[], Any], before: float) -> dict[str, Any]:
    """What a run took; memory that cannot be had is a result too."""
    start = time.perf_counter()
    try:
        work()
        failed = ""
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(word in str(error) for word in FAILURES):
            raise
        kind = "MemoryError" if isinstance(error, MemoryError) else "torch can't allocate"
        failed = f"{kind} after {time.perf_counter() - start:,.0f} s"
    return {
        "seconds": time.perf_counter() - start, "MB": peak() - before, "base MB": before, "failed": failed,
        "windows": model.module.windows, "in model": model.module.seconds,
    }  # fmt: skip


def run_ours(case: Case) -> dict[str, Any]:
    import prithvi
    from prithvi.mapping import map_scene

    model, before = model_of(case), peak()

    def work() -> None:
        scene = prithvi.open_scene(case.scene)
        map_scene(model, scene, case.out, stride=STRIDE, batch_size=BATCH, device="cpu")

    return {"version": prithvi.__version__, **measured(model, work, before)}


def run_terratorch(case: Case) -> dict[str, Any]:
    import numpy as np
    import rasterio
    import torch

    from prithvi.process import settings_kept

    with settings_kept():  # both sides at full float32 precision, which the import lowers
        from terratorch.tasks.tiled_inference import tiled_inference

    model, found, begin, before = model_of(case), {}, time.perf_counter(), peak()
    with rasterio.open(case.scene) as raster:
        image = torch.from_numpy(raster.read(out_dtype="float32"))[None]
    reading = time.perf_counter() - begin

    def work() -> None:
        found["scores"] = tiled_inference(
            model.module, image, crop=WINDOW, stride=STRIDE, batch_size=BATCH, delta=0, padding=False
        )

    result = measured(model, work, before)
    if not result["failed"]:
        scores = found["scores"][0]
        np.save(case.out, np.concatenate([part.argmax(0).byte().numpy() for part in scores.split(256, dim=1)]))
    return {"version": metadata.version("terratorch"), "reading": reading, **result}


def run_geoai(case: Case) -> dict[str, Any]:
    from types import ModuleType

    import numpy as np
    from geoai.inference import predict_geotiff

    try:
        import geoai.utils  # noqa: F401
    except ImportError:
        sys.modules["geoai.utils"] = ModuleType("geoai.utils")
        sys.modules["geoai.utils"].get_device = None  # type: ignore[attr-defined]

    model, before = model_of(case), peak()

    def work() -> None:
        predict_geotiff(
            model.module, case.scene, case.out, tile_size=WINDOW, overlap=WINDOW - STRIDE, batch_size=BATCH,
            num_classes=case.classes, output_dtype="uint8", output_nodata=255, blend_mode="cosine", device="cpu",
            preprocess_fn=lambda tile: tile, postprocess_fn=lambda scores: scores.argmax(0).astype(np.uint8),
            verbose=False,
        )  # fmt: skip

    return {"version": metadata.version("geoai-py"), **measured(model, work, before)}


def run_forward(case: Case) -> dict[str, Any]:
    """Seconds of the forward passes alone, called as a map calls them, and of whole maps, in turn."""
    import numpy as np
    import torch

    import prithvi
    from prithvi import windows
    from prithvi.mapping import map_scene
    from prithvi.mapping.inference import PlaceAndDates, scoring
    from prithvi.scenes import conform, read

    model = model_of(case)
    scene = prithvi.open_scene(case.scene)
    pixels = read(conform(scene, model.contract), model.contract).astype(np.float32)
    plan = windows.plan(scene.sizes["y"], scene.sizes["x"], WINDOW, STRIDE)

    def forward() -> float:
        seconds = 0.0
        with scoring(
            model.module, PlaceAndDates.of(scene), False, BATCH, "cpu", concurrent=model.concurrent
        ) as predict:
            for row in plan.rows:
                for first in range(0, len(plan.columns), BATCH):
                    columns = plan.columns[first : first + BATCH]
                    batch = np.stack([pixels[..., row : row + WINDOW, c : c + WINDOW] for c in columns])
                    images = torch.from_numpy(batch).transpose(1, 2)
                    start = time.perf_counter()
                    for _ in predict(images, []):
                        pass
                    seconds += time.perf_counter() - start
        return seconds

    forwards, maps, inside = [forward()], [], []
    for _ in range(case.runs):
        model.module.seconds = 0.0
        start = time.perf_counter()
        map_scene(model, prithvi.open_scene(case.scene), case.out, stride=STRIDE, batch_size=BATCH, device="cpu")
        maps.append(time.perf_counter() - start)
        inside.append(model.module.seconds)
        forwards.append(forward())
    shares = [(forwards[i] + forwards[i + 1]) / 2 / seconds for i, seconds in enumerate(maps)]
    return {"forward": forwards, "map": maps, "in model": inside, "share": shares, "windows": len(plan)}


def write(case: Case) -> dict[str, Any]:
    from flood_scene import write_scene

    write_scene(Path(case.scene), case.height, case.width)
    return {}


def compare(case: Case) -> dict[str, Any]:
    """Share of pixels of two maps that have the same class, a window's width from the edges."""
    import numpy as np
    import rasterio

    found = []
    for path in (case.scene, case.out):
        if path.endswith(".npy"):
            found.append(np.load(path, mmap_mode="r"))
        else:
            with rasterio.open(path) as raster:
                found.append(raster.read(1))
    inner = (slice(WINDOW, -WINDOW),) * 2
    return {"agrees": float((found[0][inner] == found[1][inner]).mean()), "found": len(np.unique(found[0]))}


JOBS: dict[str, Callable[[Case], dict[str, Any]]] = {
    "ours": run_ours, "terratorch": run_terratorch, "geoai": run_geoai, "forward": run_forward, "scene": write,
    "compare": compare,
}  # fmt: skip


def child(case: Case) -> None:
    import warnings

    warnings.filterwarnings("ignore")
    if case.limit:
        resource.setrlimit(resource.RLIMIT_DATA, (int(case.limit * 1e9),) * 2)
    print("RESULT " + json.dumps(JOBS[case.what](case)), flush=True)


# What starts them and shows what they found
