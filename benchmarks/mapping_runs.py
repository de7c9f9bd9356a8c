"""Heads, windows and clocks of the scripts that compare maps (bench_engine_maps.py, bench_overlap.py)."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import Any

WINDOW, STRIDE, BATCH = 224, 112, 8
HEADS: dict[str, dict[str, Any]] = {
    "light": {"head": "light"},
    "heavy": {"head": "fcn", "head_options": {"width": 64, "channels": 64}},
}


def peak() -> float:
    """Highest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def measured(model: Any, work: Callable[[], Any], before: float) -> dict[str, Any]:
    """What a run took: seconds, MB above those before it, and the windows that the module saw."""
    start = time.perf_counter()
    work()
    return {"seconds": time.perf_counter() - start, "MB": peak() - before, "windows": model.module.windows}
