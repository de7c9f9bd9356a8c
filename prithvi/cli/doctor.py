"""`prithvi doctor`: what is installed, what would run, what is missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
from pathlib import Path
from typing import Any

import typer

from prithvi.cli.options import Json

_CORE = ("torch", "lightning", "rasterio", "xarray", "geopandas", "zarr", "dask", "huggingface_hub")
_EXTRAS = {
    "search": "pystac_client",
    "lora": "peft",
    "baselines": "sklearn",
    "terratorch": "terratorch",
    "olmoearth": "olmoearth_pretrain_minimal",
    "hdf4": "pyhdf",
    "openvino": "openvino",
    "serve": "pygeoapi",
    "clouds": "ukis_csmask",
    "notebooks": "jupyterlab",
    "docs": "mkdocs",
}

_NO_TOKEN = "none; 'hf auth login' adds one (for private and gated models, and to push)"


def doctor(as_json: Json = False) -> None:
    """Tells what prithvi finds on this machine."""
    report = _report()
    if as_json:
        typer.echo(json.dumps(report, indent=2))
        return
    for title, entries in report.items():
        typer.echo(title)
        for key, value in entries.items():
            typer.echo(f"  {key:16} {value}")


def _report() -> dict[str, dict[str, Any]]:
    import rasterio
    import torch
    from huggingface_hub import get_token

    from prithvi import __version__

    devices = {"cpu": f"{os.cpu_count()} cores, {torch.get_num_threads()} used by torch"}
    for index in range(torch.cuda.device_count()):
        free, whole = torch.cuda.mem_get_info(index)
        devices[f"cuda:{index}"] = f"{torch.cuda.get_device_name(index)}, {_size(free)} of {_size(whole)} free"
    if torch.backends.mps.is_available():
        devices["mps"] = "Apple GPU"
    extras = {
        name: "installed" if importlib.util.find_spec(module) else f"missing: pip install 'prithvi[{name}]'"
        for name, module in _EXTRAS.items()
    }
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
        "hub": _hub(),
        "credentials": {"Hugging Face": "present" if get_token() else _NO_TOKEN, "Earthdata": _earthdata()},
        "formats": _formats(),
    }


def _hub() -> dict[str, str]:
    import huggingface_hub.constants as hub

    cache = Path(hub.HF_HUB_CACHE)
    there = next(folder for folder in (cache, *cache.parents) if folder.is_dir())
    held = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file() and not file.is_symlink())
    return {
        "address": hub.ENDPOINT,
        "cache": f"{cache}, {_size(held)}; {_size(shutil.disk_usage(there).free)} free on its disk",
        "offline": "yes (HF_HUB_OFFLINE): what is not in the cache is not fetched" if hub.HF_HUB_OFFLINE else "no",
    }


def _earthdata() -> str:
    """Whether there is a login of NASA's, and where; it is neither shown nor tried."""
    import netrc

    if os.environ.get("EARTHDATA_TOKEN"):
        return "present (EARTHDATA_TOKEN)"
    if os.environ.get("EARTHDATA_USERNAME") and os.environ.get("EARTHDATA_PASSWORD"):
        return "present (EARTHDATA_USERNAME)"
    try:
        if netrc.netrc(os.environ.get("NETRC")).authenticators("urs.earthdata.nasa.gov"):
            return "present (.netrc)"
    except OSError:
        pass
    except netrc.NetrcParseError as error:
        return f".netrc cannot be read: {error}"
    return "none; set EARTHDATA_TOKEN (urs.earthdata.nasa.gov, Generate Token) to fetch HLS granules from NASA"


def _formats() -> dict[str, str]:
    """What the geo libraries can write and compute here."""
    import pyogrio
    import pyproj
    from rasterio.env import Env

    with Env() as environment:
        rasters = environment.drivers()
    drawn = {name: "yes" if name in rasters else "missing from this GDAL" for name in ("COG", "VRT")}
    written = pyogrio.list_drivers(write=True)
    drawn["GPKG"] = "yes" if "GPKG" in written else "missing from this GDAL: --polygons parquet works"
    try:
        x, _ = pyproj.Transformer.from_crs(4326, 32631, always_xy=True).transform(3.0, 45.0)
        wrong = "computes wrong coordinates: is another PROJ's data in PROJ_DATA?"
        drawn["PROJ"] = "yes" if abs(x - 500_000) < 1 else wrong
    except pyproj.exceptions.ProjError as error:
        drawn["PROJ"] = f"does not work ({error}): unset PROJ_DATA and PROJ_LIB"
    return drawn


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB"
