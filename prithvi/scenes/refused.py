"""Files that people have of a product, and that are no scene: what they are, and what to give instead."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from prithvi.errors import SceneError

_LANDSAT_1 = re.compile(r"^(?P<sensor>L[COTE]\d{2})_L1\w{2}_(?P<scene>\d{6}_\d{8})_\w+_B\d+\.tiff?$", re.IGNORECASE)
_LANDSAT_METADATA = re.compile(r"^L[COTEM]\d{2}_L\w{3}_.*_(MTL|ANG)\.(txt|json|xml)$", re.IGNORECASE)
_ARCHIVE = re.compile(r"\.(tar|tar\.gz|tgz|tar\.bz2|7z|zip)$", re.IGNORECASE)


def refuse_no_scene(paths: Iterable[str], scaled: bool) -> None:
    """Stops at files that hold no reflectance, or do not hold it as they are.

    Args:
        paths: files and folders.
        scaled: whether somebody said what the values mean.

    Raises:
        SceneError: the metadata of a Landsat product, an archive, or bands of Landsat level 1 of unknown scale.

    """
    for path in map(Path, paths):
        folder = path if path.is_dir() else path.parent
        if _LANDSAT_METADATA.match(path.name):
            raise SceneError(f"{path} is the metadata of a Landsat product: give its folder, {path.parent}.")
        if _ARCHIVE.search(path.name) and path.is_file():
            raise SceneError(f"{path} is an archive: unpack it, and give the folder.")
        files = sorted(file.name for file in folder.iterdir()) if path.is_dir() else [path.name]
        raw = next((match for match in map(_LANDSAT_1.match, files) if match), None)
        if raw is not None and not scaled:
            raise SceneError(
                f"{folder / raw[0]} is of Landsat level 1, which is no surface reflectance: get the level 2 of the "
                f"same image, {raw['sensor']}_L2SP_{raw['scene']}_...; or say --scale, if these values are reflectance "
                "by now."
            )
