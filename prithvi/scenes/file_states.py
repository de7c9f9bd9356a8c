"""The files on this machine that pixels and features really come from, which tell whether anything has changed."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

import rasterio
from rasterio.errors import RasterioError

from prithvi.files import fingerprint
from prithvi.scenes.paths import is_remote

_ARCHIVE = re.compile(r"^(?:(?:zip|tar|gzip|7z|rar)(?:\+file)?://|(?:/vsi(?:zip|tar|gzip|7z|rar)/)+)")
_VIRTUAL = re.compile(r"(^|[:\"])/vsi[a-z0-9_]+/")
"""Where GDAL reads with another of its file systems; a folder of one's own may begin so, too."""
_WITH_A_MASK = (".tif", ".tiff", ".jp2")
"""Formats of one file, beside which a mask may lie. They are not opened: a long series has thousands."""
_NO_PIXELS = (".ovr", ".aux.xml")
"""Overviews and statistics, which programs leave beside rasters that they show."""
_TABLES = {
    ".shp": (".shp", ".dbf", ".shx", ".prj", ".cpg"),
    ".tab": (".tab", ".dat", ".map", ".id"),
    ".mif": (".mif", ".mid"),
}
"""Vector formats of several files."""


def states_of_rasters(paths: list[str]) -> dict[str, list[int]]:
    """Path to `prithvi.files.fingerprint` of all files that rasters are read from; nothing is asked of servers.

    Args:
        paths: of files, VRTs, subdatasets and files in archives, or addresses. A VRT stands for itself and all that it
            names, a subdataset and a file in an archive for the file that holds it, and with each goes the mask (.msk)
            beside it.

    """
    found: dict[str, list[int]] = {}
    left, seen, asked = list(reversed(paths)), set[str](), set(paths)
    while left:
        name = left.pop()
        if name in seen:
            continue
        seen.add(name)
        there = archive_of(name)
        found[there] = fingerprint(there)
        if there != name or is_remote(name) or _VIRTUAL.search(name):
            continue
        if found[there] and name.lower().endswith(_WITH_A_MASK):
            if os.path.isfile(f"{name}.msk"):
                left.append(f"{name}.msk")
        elif not found[there] or name in asked or name.lower().endswith(".vrt"):
            # Who reads the pixels says what cannot be opened; and HDF4 (HLS 1) is nothing that GDAL opens here.
            with suppress(RasterioError), rasterio.open(name) as raster:
                left += [file for file in reversed(raster.files) if not file.endswith(_NO_PIXELS)]
    return found


def states_of_vectors(path: str | Path) -> list[list[int]]:
    """`prithvi.files.fingerprint` of each file that features are read from: tables beside a Shapefile, what GeoPackages
    are still to take over, the files of a folder (File Geodatabase). Empty where there is none.
    """
    path = Path(archive_of(str(path)))
    if not path.name:
        return []
    if path.is_dir():
        files = sorted(path.iterdir())
    else:
        ends = _TABLES.get(path.suffix.lower(), (path.suffix,))
        files = [path.with_suffix(end.upper() if path.suffix.isupper() else end) for end in ends]
        files.append(path.with_name(f"{path.name}-wal"))
    return [state for state in map(fingerprint, files) if state]


def archive_of(path: str) -> str:
    """The archive that a path of GDAL (/vsizip/a.zip/b.tif) or rasterio (zip://a.zip!b.tif) lies in; else the path."""
    if not _ARCHIVE.match(path):
        return path
    inner = Path(re.sub(r"[{}]", "", _ARCHIVE.sub("", path)).replace("!", "/"))
    return next((str(part) for part in (inner, *inner.parents) if part.is_file()), path)
