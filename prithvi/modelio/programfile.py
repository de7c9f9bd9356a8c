"""The archive that an exported program is: its limits, its record, and which files may be opened without being asked.

Read without torch. `torch.export.load` may run code that a file holds, so a file opens if this user exported it on this
machine, known by its SHA-256, or if the caller says that it is trusted.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import zipfile
from pathlib import Path
from typing import Any

from prithvi.errors import CheckpointError, ConfigError
from prithvi.files import sha256_once

FORMAT = "prithvi-program/1"
SUFFIX = ".pt2"
RECORD = "prithvi.json"
"""Name of this package's record among a program's extra files."""

_RECORD_BYTES = 64_000_000
"""At most; that of a model with a hundred classes has some ten thousand."""
_MEMBERS = 100_000
"""Files in the archive at most; the largest Prithvi has some two thousand."""

_exported: set[str] = set()
"""SHA-256 of the programs that this process has exported."""


class Trusted(str):
    """Path of a program whose maker the user trusts (`--trust`); it travels to other processes as it is."""

    __slots__ = ()


def read_record(path: Path) -> dict[str, Any]:
    """The record in a program: `format`, `torch` and `facts` (see `Predictor.facts`).

    The archive's sizes are checked first. Its files are stored and not compressed and do not overlap, so that opening
    it takes no more memory than it has bytes; and they have the check sums beside them, which torch does not compare.

    Raises:
        CheckpointError: not there, not a program of this package's, damaged, or sizes that no program has.
        ConfigError: the record is damaged or of another version.

    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
            stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
            if not stored or len(set(names)) < len(names) or len(names) > _MEMBERS:
                raise CheckpointError(f"{path} holds compressed, repeated or too many files, as no program does.")
            if sum(entry.file_size for entry in entries) > os.path.getsize(path):
                raise CheckpointError(f"{path} holds files that overlap, as no program does.")
            # NAME/extra/ is torch 2.7 and later, extra_files/ torch 2.6.
            records = [
                entry for entry in entries if entry.filename.endswith((f"/extra/{RECORD}", f"extra_files/{RECORD}"))
            ]
            if len(records) != 1 or records[0].file_size > _RECORD_BYTES:
                raise CheckpointError(f"{path} has no {RECORD}: it is not a program that 'prithvi export' wrote.")
            damaged = archive.testzip()
            if damaged is not None:
                raise CheckpointError(f"{path} is damaged ({damaged}): fetch it again.")
            text = archive.read(records[0])
    except CheckpointError:
        raise
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}).") from error
    # What zipfile raises of bytes that are no archive: by name, or as its own parts stumble over them.
    except (
        zipfile.BadZipFile,
        OSError,
        ValueError,
        NotImplementedError,
        EOFError,
        struct.error,
        RuntimeError,
    ) as error:
        raise CheckpointError(f"{path} is no program file, or was cut short ({error}): fetch it again.") from error
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} has a damaged {RECORD}: export the model again.") from error
    found = record.get("format") if isinstance(record, dict) else None
    if found != FORMAT:
        raise ConfigError(f"{path} has the format {found!r}; this version reads {FORMAT!r}.")
    return dict(record)


def remember(path: Path) -> None:
    """Keeps the SHA-256 of a program that was exported here, in this process and, where it can, in a cache."""
    digest = sha256_once(path)
    _exported.add(digest)
    with contextlib.suppress(OSError, ValueError):
        (_cache() / digest).touch()


def was_exported_here(path: Path) -> bool:
    """Whether a program is one that this user exported on this machine."""
    digest = sha256_once(path)
    if digest in _exported:
        return True
    with contextlib.suppress(OSError, ValueError):
        return (_cache() / digest).is_file()
    return False


def _cache() -> Path:
    """Folder of empty files, each named by the hash of an exported program, in huggingface_hub's cache of assets."""
    from huggingface_hub import cached_assets_path, constants

    return cached_assets_path("prithvi", "exported", assets_dir=constants.HF_ASSETS_CACHE)
