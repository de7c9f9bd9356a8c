"""Files and folders that appear under their names when they are whole, and what tells one file from another."""

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
    """Gives a temporary path to write to, which becomes `path` when the block ends without an error.

    Until then an older file stays as it is. The temporary path has the same name, because many writers choose a format
    by the suffix, and lies in a hidden folder beside `path`, because renaming is atomic within one file system only.

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
    """Gives a temporary folder to write into, which becomes `path` when the block ends without an error.

    An older folder of that name stays until then, and is put back if the new one cannot take its place.

    Raises:
        OutputError: the folder cannot be written.

    """
    path = Path(path)
    work = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
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
    """Writes a file of UTF-8 text; see `atomic_file`.

    Args:
        path: the file.
        text: all of it.
        sync: wait until it is on the disk, so that it outlives a crash of the machine.

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
    """The same, read once a process as long as size and time of the file stay: for weights, which are large."""
    path = Path(path).resolve()
    return _sha256_once(path, *fingerprint(path))


@functools.lru_cache(maxsize=256)
def _sha256_once(path: Path, size: int, changed: int) -> str:
    return sha256(path)


def fingerprint(path: str | Path) -> list[int]:
    """Size in bytes and time of the last change in ns of a file; empty for what is no file here, such as an address."""
    if not os.path.isfile(path):  # an address may be too long to ask of a Path
        return []
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns]


def refuse_overwrite(outputs: Iterable[str | Path], inputs: Iterable[str | Path]) -> None:
    """Refuses to write over what is read.

    Raises:
        OutputError: an output is one of the inputs.

    """
    read = {Path(path).resolve() for path in inputs}
    for path in map(Path, outputs):
        if path.resolve() in read:
            raise OutputError(f"{path} is one of the inputs: choose another name or folder.")
