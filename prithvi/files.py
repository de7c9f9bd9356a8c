"""Atomic writing of files and folders, and hashes of files."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from prithvi.errors import OutputError, PrithviError


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path to write to, which becomes `path` when the block ends without an error.

    Until then, an older file stays unchanged. The temporary file has the same name, since many writers choose a format
    by the suffix, in a hidden folder beside `path`, since renaming is atomic only within a file system.

    Raises:
        OutputError: the file cannot be written.

    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.stem}-", dir=path.parent, ignore_cleanup_errors=True) as work:
            written = Path(work) / path.name
            yield written
            os.replace(written, path)
    except PrithviError:
        raise
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror or error}).") from error


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yields a temporary folder to write into, which becomes `path` when the block ends without an error.

    Until then, an older folder stays unchanged; it is restored if the new one cannot take its place.

    Raises:
        OutputError: the folder cannot be written.

    """
    path = Path(path)
    work = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # os.replace cannot overwrite a folder that is not empty, so an old one first moves into the work folder.
        work = Path(tempfile.mkdtemp(prefix=f".{path.stem}-", dir=path.parent))
        written, old = work / "new", work / "old"
        written.mkdir()
        yield written
        if path.exists():
            os.replace(path, old)
        try:
            os.replace(written, path)
        except OSError:
            if old.exists():
                os.replace(old, path)
            raise
    except PrithviError:
        raise
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror or error}).") from error
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)


def write_text(path: str | Path, text: str, sync: bool = False) -> Path:
    """Writes a UTF-8 text file, atomically.

    Args:
        path: the file.
        text: its contents.
        sync: wait until the file is on disk, so that it survives a crash of the machine.

    Raises:
        OutputError: the file cannot be written.

    """
    with atomic_file(path) as written, written.open("w", encoding="utf-8") as file:
        file.write(text)
        if sync:
            file.flush()
            os.fsync(file.fileno())
    return Path(path)


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_once(path: str | Path) -> str:
    """The SHA-256 of a file, cached in this process until the file's size or modification time changes."""
    path = Path(path).resolve()
    return _sha256_once(path, *fingerprint(path))


@functools.lru_cache(maxsize=256)
def _sha256_once(path: Path, size: int, changed: int) -> str:
    return sha256(path)


def fingerprint(path: str | Path) -> list[int]:
    """Size in bytes and modification time in ns of a file; empty if there is no such local file (for URLs)."""
    if not os.path.isfile(path):  # returns False for a URL that is too long, where Path.is_file may raise
        return []
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns]


def refuse_overwrite(outputs: Iterable[str | Path], inputs: Iterable[str | Path]) -> None:
    """Checks that no output would overwrite an input.

    Raises:
        OutputError: an output is one of the inputs.

    """
    read = {Path(path).resolve() for path in inputs}
    for path in map(Path, outputs):
        if path.resolve() in read:
            raise OutputError(f"{path} is one of the inputs: choose another name or folder.")
