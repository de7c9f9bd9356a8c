"""Requests to a service, answered by its worker without the server around it."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from prithvi.catalog import data_catalog
from prithvi.modelio import save
from prithvi.service.descriptions import checked, description, processes
from prithvi.service.settings import RefusedError, Settings, settings_of
from prithvi.service.worker import Worker
from tests.conftest import small_task
from tests.faults.verbs import six_bands, tif
from tests.fuzz.kind import BLOCK, Kind, WrongError, documents

FLANDERS = data_catalog() / "samples" / "flanders"
SOUND: dict[str, dict[str, Any]] = {
    "map": {
        "scene": "scene.tif", "dates": ["2022-05-01"], "bbox": [-1.861, 37.94, -1.858, 37.943], "confidence": True,
        "polygons": "none", "nodata": -9999, "scale": 10000,
    },
    "embed": {
        "scene": ["scene.tif"], "bands": [1, 2, 3, 4, 5, 6], "dates": ["2022-05-01"], "pooled": True,
        "sensor": "hls-s30", "offset": 0,
    },
    "fill": {
        "scene": ["2018-06-28.json", "2018-07-08.json"], "clouds": ["2018-06-28_clouds.tif", "2018-07-08_clouds.tif"],
        "uncertainty": False,
    },
}  # fmt: skip
NUMBERS = [0, -1, 1, 1e-320, 1e308, -1e308, 10000, 0.5, 2**63, 10**30, float("nan"), float("inf"), -9999, 1e-4]
NAMES = [
    "", ".", " ", "..", "scene.tif", "2018-06-28.json", "none.tif", "a\nb", "\0", "x" * 3000, "é" * 40, "/etc/hostname",
    "file:///etc/hostname", "http://127.0.0.1:9/none.tif", "s3://bucket/x.tif", "https://example.org/x.tif",
    "scene.tif#", "scene.tif?x=1", "zip://x.zip!a.tif", "/vsizip/x", {"href": "scene.tif"}, {"href": ""},
]  # fmt: skip
DAYS = ["2022-05-01", "2022-02-30", "1e5", "", "0001-01-01", "9999-12-31", "2022-05-01T10:00:00Z", "1677-01-01"]
BANDS: list[list[Any]] = [
    [], [0], [1] * 6, [7, 1, 2, 3, 4, 5], ["blue"], list("abcdef"), [1, "blue"], [""], [10**30, 1, 2, 3, 4, 5],
    ["B02", "B03", "B04", "B8A", "B11", "B12"],
]  # fmt: skip
DEGREES = [*NUMBERS, -1.861, 37.94, -1.858, 37.943, 180, -180, 90, -90, 361]
STRANGE: dict[str, Callable[[random.Random], Any]] = {
    "scene": lambda chance: chance.choices(NAMES, k=chance.choice((1, 1, 2, 3))),
    "bands": lambda chance: chance.choice(BANDS),
    "dates": lambda chance: chance.choices(DAYS, k=chance.choice((0, 1, 1, 2, 3))),
    "sensor": lambda chance: chance.choice(["hls-s30", "hls-l30", "sentinel-2-l2a", "landsat", "", "HLS-S30"]),
    "scale": lambda chance: chance.choice(NUMBERS),
    "offset": lambda chance: chance.choice(NUMBERS),
    "nodata": lambda chance: chance.choice(NUMBERS),
    "bbox": lambda chance: chance.choice([chance.choices(DEGREES, k=4), [-180, -90, 180, 90], [179, -1, -179, 1]]),
    "confidence": lambda chance: chance.random() < 0.5,
    "polygons": lambda chance: chance.choice(["none", "parquet", "gpkg"]),
    "pooled": lambda chance: chance.random() < 0.5,
    "clouds": lambda chance: chance.choices([*NAMES, "2018-07-08_clouds.tif"], k=chance.choice((0, 1, 2))),
    "uncertainty": lambda chance: chance.random() < 0.5,
}
"""Values of the kind that a description allows, and that work stumbles over."""


def _make(folder: Path) -> None:
    data = folder.parent / "data"
    data.mkdir()
    tif(data / "scene.tif", six_bands()[:, :80, :80], nodata=-9999)
    for day in ("2018-06-28", "2018-07-08"):
        for end in (".tif", ".json", "_clouds.tif"):
            shutil.copy(FLANDERS / f"{day}{end}", data)
    save(small_task().fitted(seed=0), folder.parent / "models" / "seg")
    for kind, inputs in SOUND.items():
        (folder / f"{kind}.json").write_text(json.dumps(inputs))


def _change(sound: Path, work: Path, number: int) -> Path:
    """One of the requests with one to three inputs that are strange or missing, or any change of its structure."""
    chance = random.Random(number)
    base = sorted(sound.iterdir())[number % len(SOUND)]
    inputs: Any = json.loads(base.read_text())
    if chance.random() < 0.2:
        inputs = documents(base, number // BLOCK)[number % BLOCK]
    else:
        for name in chance.sample(sorted(STRANGE), chance.choice((1, 1, 2, 3))):
            inputs[name] = STRANGE[name](chance)
            if chance.random() < 0.15:
                del inputs[name]
    (target := work / base.name).write_text(json.dumps(inputs), errors="replace")
    return target


@functools.cache
def _service(root: Path) -> tuple[Settings, Worker, io.StringIO]:
    (file := root / "service.yaml").write_text(
        yaml.safe_dump({"models": [str(root / "models" / "seg"), "prithvi_hls_tiny"], "folders": [str(root / "data")]})
    )
    settings, answers = settings_of([], file, {}), io.StringIO()
    given = {
        "folders": [str(root / "data")], "hosts": [], "private_hosts": [], "max_pixels": 10**7, "device": "cpu",
        "engine": "torch", "batch_size": None,
    }  # fmt: skip
    return settings, Worker(given, answers), answers


def _look(path: Path, out: Path, number: int) -> None:
    settings, worker, answers = _service(out.parents[1])
    name, (model, kind) = next(entry for entry in processes(settings).items() if entry[1][1] == path.stem)
    inputs = checked(json.loads(path.read_text()), description(name, model, kind, settings))
    if not set(inputs) <= set(SOUND[kind]) | set(STRANGE):
        raise WrongError("an input was taken that there is not")
    answers.seek(0)
    answers.truncate()
    request = {"kind": kind, "inputs": inputs, "folder": str(out), "model": model.source, "process": name,
               "bands": list(model.bands), "resume": False}  # fmt: skip
    with contextlib.redirect_stderr(io.StringIO()) as told:
        worker.answer(request)
    last = json.loads(answers.getvalue().splitlines()[-1])
    if last.get("status", 0) >= 500:
        raise WrongError(f"{last['error']} {told.getvalue()[-1500:]}")
    if str(out.parents[1]) in json.dumps(last):
        raise WrongError(f"a path of this machine was told: {last}")
    if "error" in last:
        raise RefusedError(last["error"])


REQUESTS = (Kind("request", 600, _make, _change, _look),)
