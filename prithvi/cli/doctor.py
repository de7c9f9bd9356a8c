"""`prithvi doctor`: what is installed, what would run, what is missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
from typing import Annotated, Any

import typer

_CORE = ("torch", "lightning", "rasterio", "xarray", "geopandas", "zarr", "dask", "huggingface_hub")
_EXTRAS = {
    "search": "pystac_client",
    "lora": "peft",
    "baselines": "sklearn",
    "terratorch": "terratorch",
    "notebooks": "jupyterlab",
}


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Tells what prithvi finds on this machine."""
    report = _report()
    if as_json:
        typer.echo(json.dumps(report, indent=2))
        return
    for title, entries in report.items():
        typer.echo(f"{title}")
        for key, value in entries.items():
            typer.echo(f"  {key:16} {value}")


def _report() -> dict[str, dict[str, Any]]:
    import huggingface_hub.constants as hub
    import rasterio
    import torch

    from prithvi import __version__

    devices = {"cpu": f"{os.cpu_count()} cores, {torch.get_num_threads()} used by torch"}
    for index in range(torch.cuda.device_count()):
        devices[f"cuda:{index}"] = torch.cuda.get_device_name(index)
    if torch.backends.mps.is_available():
        devices["mps"] = "Apple GPU"
    extras = {
        name: "installed" if importlib.util.find_spec(module) else f"missing: pip install 'prithvi[{name}]'"
        for name, module in _EXTRAS.items()
    }
    token = "present" if huggingface_token() else "none; 'hf auth login' adds one (only private models need it)"
    return {
        "versions": {
            "prithvi": __version__,
            "python": platform.python_version(),
            "system": platform.platform(),
            "GDAL": rasterio.__gdal_version__,
            **{name: importlib.metadata.version(name) for name in _CORE},
        },
        "devices": devices,
        "extras": extras,
        "hub": {
            "cache": hub.HF_HUB_CACHE,
            "offline": "yes (HF_HUB_OFFLINE)" if hub.HF_HUB_OFFLINE else "no",
            "token": token,
        },
    }


def huggingface_token() -> str | None:
    """The hub token huggingface_hub would use."""
    from huggingface_hub import get_token

    return get_token()
