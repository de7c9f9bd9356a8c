"""Many scenes, one task each, here or on a Dask cluster; one that fails does not stop the others."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
import xarray as xr

from prithvi import windows
from prithvi.errors import ModelError, counted
from prithvi.files import atomic_file, fingerprint
from prithvi.mapping.class_maps import MapResult, map_scene
from prithvi.mapping.inference import mappable
from prithvi.modelio.model_files import found_here
from prithvi.modelio.predictor import Predictor
from prithvi.parallel import run
from prithvi.products.jobs import Job
from prithvi.scenes import open_scene
from prithvi.scenes.paths import shown

if TYPE_CHECKING:
    from distributed import Client

    from prithvi.mapping.mask_sources import Clouds

MANIFEST = "manifest.parquet"


@dataclass(frozen=True)
class Outcome:
    """What became of a scene."""

    job: Job
    result: MapResult | None
    error: str
    seconds: float


def map_file(
    model: str,
    job: Job,
    opening: Mapping[str, Any],
    options: Mapping[str, Any],
    scene: xr.DataArray | None = None,
    clouds: Clouds | None = None,
) -> Outcome:
    """Opens a scene and maps it; a task of a cluster. A process loads a model once, and anew when its files change.

    Args:
        model: a model folder or exported program.
        job: what, and where to.
        opening: of `prithvi.open_scene`.
        options: of `prithvi.map_scene`.
        scene: the scene, where it is open already.
        clouds: where it is to be masked.

    """
    begun = time.monotonic()
    try:
        if scene is None:
            scene = open_scene(job.sources[0] if len(job.sources) == 1 else list(job.sources), **opening)
        how = dict(options)
        if clouds is not None:
            how["clear"] = clouds.clear_of(job.sources, scene, opening, Path(job.path), how)
        result = map_scene(opened(model), scene, job.path, **how)
    except torch.OutOfMemoryError as error:
        many = options.get("batch_size") or windows.at_once(opened(model).window)
        told = f"the device has too little memory for {counted(many, 'window')} at once"
        raise ModelError(f"{job.name}: {told}: say a smaller --batch-size.") from error
    return Outcome(job, result, "", time.monotonic() - begun)


def opened(model: str) -> Predictor:
    """What a map can be made with, loaded once a process; see `prithvi.mapping.mappable`."""
    path = found_here(model) or Path(model)
    files = sorted(path.iterdir()) if path.is_dir() else [path] if path.is_file() else []
    return _opened(model, tuple(tuple(fingerprint(file)) for file in files))


@lru_cache(maxsize=1, typed=True)  # a path that is trusted is another than the plain one
def _opened(model: str, _: tuple[tuple[int, ...], ...]) -> Predictor:
    return mappable(model)


def map_files(
    model: str,
    jobs: Sequence[Job],
    folder: str | Path,
    opening: Mapping[str, Any],
    options: Mapping[str, Any],
    *,
    scheduler: str | Client | None = None,
    retries: int = 1,
    progress: Callable[[int, int], None] | None = None,
    clouds: Clouds | None = None,
) -> list[Outcome]:
    """Maps many scenes and writes manifest.parquet, a row a scene, anew whenever one has ended.

    Args:
        model: a model folder or exported program that every worker can read.
        jobs: see `prithvi.products.jobs.jobs_of`.
        folder: of the manifest.
        opening: of `prithvi.open_scene`, for all of them.
        options: of `prithvi.map_scene`, for all of them. Scenes that were mapped already are left as they are where
            `resume` is among them, and on a cluster always: a task there cannot know whether it took over from a
            worker that died.
        scheduler: address of a Dask scheduler (tcp://host:8786) or a client of one; None maps here, one by one. A
            worker that dies takes its task along; another one resumes from the rows that it had finished.
        retries: how often scenes that failed are tried again.
        progress: called with (scenes ended, all scenes).
        clouds: where they are to be masked.

    Raises:
        ConfigError: the scheduler does not answer.
        OutputError: the manifest cannot be written.

    """
    outcomes: dict[str, Outcome] = {}
    by_path, ended = {job.path: job for job in jobs}, 0

    def done(path: str, outcome: Outcome) -> None:
        outcomes[path] = outcome
        write_manifest(list(outcomes.values()), folder)

    def count(number: int, _: int) -> None:
        if progress is not None:
            progress(min(ended + number, len(jobs)), len(jobs))

    failed: dict[str, Exception] = {}
    for attempt in range(retries + 1):
        how = {**options, "resume": True} if attempt or scheduler is not None else dict(options)
        tasks = {
            path: (map_file, (model, by_path[path], dict(opening), how, None, clouds)) for path in failed or by_path
        }
        failed = run(tasks, scheduler=scheduler, workers=1, progress=count, done=done)
        ended = len(jobs) - len(failed)
        if not failed:
            break
    for path, error in failed.items():
        outcomes[path] = Outcome(by_path[path], None, str(error), 0.0)
    found = [outcomes[job.path] for job in jobs]
    write_manifest(found, folder)
    return found


def write_manifest(outcomes: Sequence[Outcome], folder: str | Path) -> Path:
    """manifest.parquet: scene, map, state (`done` or `failed`), error, pixels (JSON), seconds.

    Raises:
        OutputError: it cannot be written.

    """
    path = Path(folder) / MANIFEST
    rows = [
        {
            "scene": ", ".join(map(shown, outcome.job.sources)), "map": outcome.job.path,
            "state": "done" if outcome.result is not None else "failed", "error": outcome.error,
            "pixels": json.dumps(outcome.result.pixels) if outcome.result is not None else "",
            "seconds": outcome.seconds,
        }
        for outcome in outcomes
    ]  # fmt: skip
    with atomic_file(path) as written:
        pd.DataFrame(rows).to_parquet(written, index=False)
    return path
