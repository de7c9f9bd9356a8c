"""Which scenes are meant by the sources on a command line, and where their maps go; without torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from prithvi.errors import ConfigError, SceneError
from prithvi.files import refuse_overwrite
from prithvi.products.products import BESIDE
from prithvi.scenes.names import read_file_name
from prithvi.scenes.paths import shown
from prithvi.scenes.safe import product_name, sentinel_granule_of

_RASTERS = (".tif", ".tiff", ".vrt", ".jp2", ".img", ".nc", ".json", ".hdf")
_GRANULE = re.compile(
    r"^(HLS\.[LS]30\.T\w{5}\.\d{7}(T\d{6})?\.v\d+\.\d+|T\d{2}[A-Z]{3}_\d{8}T\d{6}"
    r"|L[COTE]\d{2}_L2\w{2}_\d{6}_\d{8}_\d{8}_02_T\d|L[COTE]\d{14}[^_]*)",
    re.IGNORECASE,
)
"""What the names of a granule's single-band files have in common: HLS, Sentinel-2, Landsat Collection 2 and 1."""
_PRODUCT = re.compile(r"\.(safe|zip)", re.IGNORECASE)
"""Paths that may lead to a product of Sentinel-2's archive, or into one."""


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
        refuse_overwrite((path.with_name(stem + end) for end in (".tif", *BESIDE)), group)
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
