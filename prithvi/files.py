"""Atomic writing of files and folders, hashes of files, and tables in files of JSON and YAML.

JSON has no numbers for NaN and the infinities, so these become null.
"""

from __future__ import annotations

import csv
import errno
import functools
import hashlib
import io
import json
import math
import os
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prithvi.errors import MALFORMED, ConfigError, OutputError, PrithviError, first_line


@contextmanager
def _work_folder(path: Path) -> Iterator[Path]:
    """A hidden folder beside `path`, since renaming is atomic only within a file system; it goes when the block ends.

    Raises:
        OutputError: the block raised an error of the system.

    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.stem}-", dir=path.parent, ignore_cleanup_errors=True) as work:
            yield Path(work)
    except PrithviError:
        raise
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror or error}).") from error


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path to write to, which becomes `path` when the block ends without an error.

    Until then, an older file stays unchanged. The temporary file has the same name, since many writers choose a format
    by the suffix.

    Raises:
        OutputError: the file cannot be written.

    """
    path = Path(path)
    with _work_folder(path) as work:
        yield work / path.name
        os.replace(work / path.name, path)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yields a temporary folder to write into, which becomes `path` when the block ends without an error.

    Until then, an older folder stays unchanged; see `put_folder`.

    Raises:
        OutputError: the folder cannot be written.

    """
    path = Path(path)
    with _work_folder(path) as work:
        written, old = work / "new", work / "old"
        written.mkdir()
        yield written
        put_folder(written, path, old)


def put_folder(new: Path, path: Path, old: Path) -> None:
    """Renames a folder to `path`; what stands there moves aside, to `new` or `old`, and back if that fails.

    On Linux both change places in one step, so that whenever a process is killed one of them stands at `path`. Where
    the system or the file system cannot do that, there is a moment between two renamings in which neither does.
    """
    if os.path.lexists(path):
        if _exchanged(new, path):
            return
        # os.replace cannot overwrite a folder that is not empty.
        os.replace(path, old)
    try:
        os.replace(new, path)
    except OSError:
        if os.path.lexists(old):
            os.replace(old, path)
        raise


def _exchanged(one: Path, other: Path) -> bool:
    """Whether two folders could change places in one step: by renameat2 of Linux, which Python has no name for."""
    if sys.platform != "linux":
        return False
    import ctypes

    try:
        rename = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError):  # of the C libraries glibc has had it since 2.28
        return False
    here, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux's headers
    rename.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    return bool(rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)


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
    """The SHA-256 of a file, cached in this process until the file's size or modification time changes.

    Raises:
        FileNotFoundError: there is no such file, as of `sha256`.

    """
    path = Path(path).resolve()
    status = path.stat()
    return _sha256_once(path, status.st_size, status.st_mtime_ns)


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
        if path.resolve() in read and path.exists():  # an input that is not there is told as that, by who opens it
            raise OutputError(f"{path} is one of the inputs: choose another name or folder.")


def refuse_unwritable(folder: str | Path) -> None:
    """Checks that files can be made in a folder, which need not be there yet, without making anything.

    Raises:
        OutputError: a part of its path is a file, or the nearest folder that is there cannot be written.

    """
    folder = Path(folder)
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise OutputError(f"{folder} cannot be written ({there} is a file): choose another folder.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise OutputError(f"{folder} cannot be written ({there} is read-only for you): choose another folder.")


def dumps(plain: Any, indent: int | None = None) -> str:
    """Serialises plain values as JSON, with null for numbers that are not finite."""
    return json.dumps(finite(plain), indent=indent, allow_nan=False)


def finite(plain: Any) -> Any:
    """Plain values with None for numbers that are not finite."""
    if isinstance(plain, float):
        return plain if math.isfinite(plain) else None
    if isinstance(plain, Mapping):
        return {key: finite(value) for key, value in plain.items()}
    if isinstance(plain, (list, tuple)):
        return [finite(value) for value in plain]
    return plain


def refuse_inflated(path: Path, error: type[PrithviError]) -> None:
    """Whether the files in a zip archive, should it be one, take no more bytes than it has: stored and not overlapping.

    Raises:
        error: they do, or it begins like an archive and cannot be looked through.

    """
    try:
        with path.open("rb") as file:
            begins = file.read(4) == b"PK\3\4"
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    # Python's ways to say no: no archive, a damaged one, a kind of a later version. An older weights file is none.
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as found:
        if begins:
            raise error(f"{path} is damaged or cut short ({first_line(found)}): fetch it again.") from found
        return
    except OSError:  # whoever opens it says why
        return
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise error(f"{path} holds compressed files, as none that torch wrote does.")
    if sum(entry.file_size for entry in entries) > os.path.getsize(path):
        raise error(f"{path} holds files that overlap, as none that torch wrote does.")


def refuse_unreachable(path: str | Path, error: type[PrithviError] = ConfigError) -> None:
    """Raises the error for a path that cannot be looked at: too long a name, or a folder that nobody may enter.

    One that leads nowhere passes.
    """
    try:
        os.stat(path)
    except ValueError:  # a name with a zero in it
        return
    except OSError as found:
        if found.errno == errno.ENAMETOOLONG:
            named = f"{str(path)[:80]}... is too long for the name of a file ({len(str(path)):,} characters)"
            raise error(f"{named}: give several files as several words.") from found
        if found.errno in (errno.EACCES, errno.EPERM):
            raise error(f"{path} cannot be looked at ({found.strerror}): ask for access to its folder.") from found


def read_text(path: Path, error: type[PrithviError] = ConfigError) -> str:
    """The text of a UTF-8 file, without the mark that some programs set before it (byte order mark).

    Raises:
        error: the file cannot be read, or is in another encoding.

    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as found:
        raise error(f"{path} is no text in UTF-8 ({first_line(found)}): save it with this encoding.") from found
    except OSError as found:
        raise error(f"{path} cannot be read ({found.strerror or first_line(found)}).") from found


def read_rows(path: Path, error: type[PrithviError] = ConfigError) -> tuple[list[str], list[dict[str, Any]]]:
    """The columns of a CSV file, and its rows by their names.

    A row with fewer cells than there are columns has "" in the rest; one with more has them under None.

    Raises:
        error: the file cannot be read, is in another encoding, or is no CSV.

    """
    reader = csv.DictReader(io.StringIO(read_text(path, error), newline=""), restval="")
    try:
        return list(reader.fieldnames or []), list(reader)
    except csv.Error as found:
        raise error(f"{path} is no CSV ({first_line(found)}).") from found


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON file that contains an object.

    Raises:
        ConfigError: the file is missing, is not JSON, or contains something else.

    """
    if not path.is_file():
        raise ConfigError(f"{path.parent} holds no {path.name}.")
    try:
        plain = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:  # a number of more than 4,300 digits is one, too
        raise ConfigError(f"{path} is not JSON ({error}).") from error
    if not isinstance(plain, dict):
        raise ConfigError(f"{path} holds a {type(plain).__name__}, not a table.")
    return plain


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML file that holds a table of settings; an empty file holds none.

    Raises:
        ConfigError: it cannot be read or holds something else.

    """
    import yaml

    try:
        plain = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read ({error}).") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark else ""
        told = getattr(error, "problem", None) or first_line(error)
        raise ConfigError(f"{path} is not YAML{line}: {told}.") from error
    # Nested too deeply; numbers and days that are none (2022-02-30); a table as the name of an entry.
    except MALFORMED as error:
        raise ConfigError(f"{path} cannot be read as YAML ({first_line(error)}).") from error
    return table(str(path), plain)


def table(where: str, part: Any) -> dict[str, Any]:
    """A table of settings by name, empty where there is none.

    Raises:
        ConfigError: it is something else.

    """
    if part is None:
        return {}
    if not isinstance(part, dict) or not all(isinstance(key, str) for key in part):
        raise ConfigError(f"{where} must be a table of settings; it is {part!r}.")
    return part
