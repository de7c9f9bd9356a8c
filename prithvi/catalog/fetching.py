"""Public datasets from the hub, at the revision that the catalog names and by the checksums that it knows."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from prithvi import hub
from prithvi.catalog.stac_catalog import collection
from prithvi.errors import DatasetError

_ARCHIVES = (".tar.gz", ".tgz", ".tar")


def fetch_dataset(name: str, folder: str | Path, progress: Callable[[int, int], None] | None = None) -> Path:
    """Fetches and unpacks a dataset; what is unpacked already is not fetched again.

    Args:
        name: in the data catalog.
        folder: where it is unpacked; `data.root` of 'prithvi fit' afterwards.
        progress: called with the files done and their number in all.

    Returns:
        The folder.

    Raises:
        DatasetError: it is not on the hub (the message says where it is); or a file is no archive, or holds links or
            what would be unpacked outside of the folder.
        HubError: a file is not the one that the catalog knows; see `prithvi.hub.fetch`.

    """
    plain, folder = collection(name), Path(folder)
    where = plain.get("prithvi:hub")
    if where is None:
        source = plain.get("prithvi:source")
        told = f": fetch {', '.join(source['files'])} of {source['url']}" if source else ""
        raise DatasetError(f"{name} is not on the hub{told}.")
    for number, file in enumerate(where["files"], start=1):
        done = folder / f".{file}.done"
        if not done.is_file():
            sha256 = where.get("sha256", {}).get(file)
            fetched = hub.fetch(where["repo_id"], file, where["revision"], where["repo_type"], sha256)
            _place(fetched, file, folder)
            done.touch()
        if progress is not None:
            progress(number, len(where["files"]))
    return folder


def _place(path: Path, name: str, folder: Path) -> None:
    """Unpacks an archive, or copies a plain file; each file appears when it is whole, and no other is touched."""
    folder.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder))
    try:
        if name.endswith(_ARCHIVES):
            with tarfile.open(path) as archive:
                _look_through(archive, path, work)
                archive.extractall(work, filter="data")
        else:
            shutil.copyfile(path, work / name)
        for entry in sorted(path for path in work.rglob("*") if not path.is_dir()):
            target = folder / entry.relative_to(work)  # beside what else lies there
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(entry, target)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DatasetError(f"{path} cannot be unpacked into {folder} ({error}).") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _look_through(archive: tarfile.TarFile, path: Path, work: Path) -> None:
    """Refuses an archive with anything but files and folders inside of it, before any of it is written."""
    for member in archive:
        if not (member.isfile() or member.isdir()):
            raise DatasetError(f"{path} cannot be unpacked: {member.name!r} is a link or a device; it was left alone.")
        tarfile.data_filter(member, str(work))  # refuses what would lie outside
