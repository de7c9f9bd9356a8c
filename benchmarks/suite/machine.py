"""What a figure depends on beside the code that it measures: processor, versions, load."""

from __future__ import annotations

import hashlib
import os
import platform
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FLAGS = (
    "avx2",
    "fma",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx_vnni",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "bf16",
)
"""Those that decide how fast products of matrices are."""
PACKAGES = (
    "torch", "terratorch", "geoai-py", "openvino", "odc-stac", "lightning", "numpy", "xarray", "rasterio", "zarr",
    "shapely", "geopandas", "scipy",
)  # fmt: skip


def machine() -> dict[str, Any]:
    """Processor, its flags that matter, cores and memory."""
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        memory = (
            int(re.findall(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(encoding="utf-8"))[0]) * 1024 / 1e9
        )
    except (OSError, IndexError):
        told, memory = "", 0.0
    name = re.findall(r"model name\s*:\s*(.+)", told)
    flags = set((re.findall(r"(?:flags|Features)\s*:\s*(.+)", told) or [""])[0].split())
    return {
        "processor": name[0].strip() if name else platform.processor() or platform.machine(),
        "flags": [flag for flag in FLAGS if flag in flags],
        "without": [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag not in flags],
        "cores": os.cpu_count(), "memory GB": round(memory, 1),
        "system": platform.system(), "python": platform.python_version(),
    }  # fmt: skip


def code() -> str:
    """A digest of everything that is measured, and of what is timed."""
    digest = hashlib.sha256()
    for folder in ("prithvi", "benchmarks/suite/jobs"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            digest.update(file.relative_to(ROOT).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


def load() -> float:
    """Processes that ran or waited to, over the last minute."""
    return round(os.getloadavg()[0], 2)
