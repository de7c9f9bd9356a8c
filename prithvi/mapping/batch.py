"""Many scenes, one task each, here or on a Dask cluster; one that fails does not stop the others."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from prithvi.errors import ConfigError, ModelError, SceneError
from prithvi.files import atomic_file, fingerprint, refuse_overwrite
from prithvi.mapping.class_maps import MapResult, map_scene
from prithvi.mapping.inference import mappable
from prithvi.modelio.model_files import found_here
from prithvi.modelio.predictor import Predictor
from prithvi.parallel import run
from prithvi.scenes import open_scene
from prithvi.scenes.names import read_file_name
from prithvi.scenes.remote import shown
from prithvi.scenes.safe import product_name, sentinel_granule_of

if TYPE_CHECKING:
    from distributed import Client

MANIFEST = "manifest.parquet"
_RASTERS = (".tif", ".tiff", ".vrt", ".jp2", ".img", ".nc", ".json", ".hdf")
_GRANULE = re.compile(
    r"^(HLS\.[LS]30\.T\w{5}\.\d{7}(T\d{6})?\.v\d+\.\d+|T\d{2}[A-Z]{3}_\d{8}T\d{6}"
    r"|L[COTE]\d{2}_L2\w{2}_\d{6}_\d{8}_\d{8}_02_T\d|L[COTE]\d{14}[^_]*)",
    re.IGNORECASE,
)
"""What the names of a granule's single-band files have in common: HLS, Sentinel-2, Landsat Collection 2 and 1."""
_PRODUCT = re.compile(r"\.(safe|zip)", re.IGNORECASE)
"""Paths that may lead to a product of Sentinel-2's archive, or into one."""
_BESIDE = (".tif", ".tif.aux.xml", "_confidence.tif", "_disagreement.tif", "_probabilities.tif", ".parquet",
           ".gpkg", "_zones.csv", "_zones.parquet", ".qml", ".json")  # fmt: skip


@dataclass(frozen=True)
class Job:
    """A scene that is to be mapped."""

    sources: tuple[str, ...]
    """Its file, folder, item or address; or its single-band files, or those of its dates."""
    path: str
    """Of its map."""

    @property
    def name(self) -> str:
        """What it is called."""
        return PurePath(shown(self.sources[0])).name


@dataclass(frozen=True)
class Outcome:
    """What became of a scene."""

    job: Job
    result: MapResult | None
    error: str
    seconds: float


def jobs_of(sources: Sequence[str], folder: str | Path, together: bool = False) -> list[Job]:
    """Which scenes are meant: each source is one, but the single-band files of a granule are one together.

    Args:
        sources: files, folders, items or addresses.
        folder: of the maps.
        together: all of them are one scene (single-band files, or the dates of a series).

    Raises:
        ConfigError: two maps would have the same name.
        OutputError: a map, or a file beside it, would overwrite its scene.

    """
    groups: dict[str, list[str]] = {}
    for source in sources:
        groups.setdefault("" if together else _granule(source), []).append(source)
    jobs: dict[str, Job] = {}
    for key, group in groups.items():
        key = key or (_granule(group[0]) if len(group) > 1 else group[0])
        first = PurePath(shown(key if len(group) > 1 else group[0]))
        stem = product_name(group[0]) if len(group) == 1 and _PRODUCT.search(group[0]) else None
        stem = stem or (first.stem if first.suffix.lower() in _RASTERS else first.name)
        path = Path(folder) / f"{stem}.tif"
        if str(path) in jobs:
            other = jobs[str(path)].sources[0]
            raise ConfigError(f"{group[0]} and {other} would both become {path}: map them into two folders.")
        refuse_overwrite((path.with_name(stem + end) for end in _BESIDE), group)
        jobs[str(path)] = Job(tuple(group), str(path))
    return list(jobs.values())


def _granule(source: str) -> str:
    """Folder and granule of a source that holds one band or what goes with it; any other source as it is."""
    path = PurePath(shown(source))
    try:
        granule = sentinel_granule_of(str(path)) if path.suffix == ".jp2" else None
        named = read_file_name(path.name)
    except SceneError:
        return source
    if granule is not None:
        return granule
    found = _GRANULE.match(path.name)
    if found is None or (named.band is None and not named.ancillary):
        return source
    return str(path.parent / found[0])


def map_file(model: str, job: Job, opening: Mapping[str, Any], options: Mapping[str, Any]) -> Outcome:
    """Opens a scene and maps it; a task of a cluster. A process loads a model once, and anew when its files change.

    Args:
        model: a model folder or exported program.
        job: what, and where to.
        opening: of `prithvi.open_scene`.
        options: of `prithvi.map_scene`.

    """
    begun = time.monotonic()
    try:
        scene = open_scene(job.sources[0] if len(job.sources) == 1 else list(job.sources), **opening)
        result = map_scene(opened(model), scene, job.path, **options)
    except torch.OutOfMemoryError as error:
        told = f"the device has too little memory for {options.get('batch_size', 8)} windows at once"
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
) -> list[Outcome]:
    """Maps many scenes and writes manifest.parquet, a row a scene, anew whenever one has ended.

    Args:
        model: a model folder or exported program that every worker can read.
        jobs: see `jobs_of`.
        folder: of the manifest.
        opening: of `prithvi.open_scene`, for all of them.
        options: of `prithvi.map_scene`, for all of them. Scenes that were mapped already are left as they are where
            `resume` is among them, and on a cluster always: a task there cannot know whether it took over from a
            worker that died.
        scheduler: address of a Dask scheduler (tcp://host:8786) or a client of one; None maps here, one by one. A
            worker that dies takes its task along; another one resumes from the rows that it had finished.
        retries: how often scenes that failed are tried again.
        progress: called with (scenes ended, all scenes).

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
        tasks = {path: (map_file, (model, by_path[path], dict(opening), how)) for path in failed or by_path}
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
