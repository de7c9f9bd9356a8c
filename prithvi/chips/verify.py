"""Checks a store's files against the checksums written with them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prithvi.chips.journal import BUILD, Journal
from prithvi.chips.shards import ShardedArray
from prithvi.chips.store_files import SUMS, files_of, read_sums
from prithvi.errors import DatasetError
from prithvi.files import sha256


@dataclass(frozen=True)
class Problem:
    """A damaged, missing or unknown file."""

    path: str
    """Under the store."""
    what: str
    """`missing`, `truncated`, `altered` or `unknown` (a file that the list does not name)."""
    samples: tuple[int, int] | None = None
    """First sample and the one after the last that lie in it."""

    def __str__(self) -> str:
        where = f" (samples {self.samples[0]} to {self.samples[1] - 1})" if self.samples else ""
        return f"{self.path}{where} is {self.what}"


@dataclass(frozen=True)
class Report:
    """The result of a check."""

    files: int
    problems: list[Problem]
    unfinished: str = ""
    """A sentence for a store whose build was interrupted; empty for a finished one."""


def verify(path: str | Path, progress: Callable[[int, int], None] | None = None) -> Report:
    """Compares every file with the list of checksums that was written with it.

    Of an unfinished store, the files written so far are checked.

    Raises:
        DatasetError: there is no store.

    """
    root = Path(path)
    journal = Journal(root)
    finished = (root / "zarr.json").is_file()
    if not finished and not journal.unfinished() and not (root / SUMS).is_file():
        raise DatasetError(f"there is no chip store at {root}.")
    sums, pending, unfinished = read_sums(root), {}, ""
    if journal.unfinished():
        entries = journal.entries()
        pending = {name: sha for entry in entries for name, (sha, _) in entry["files"].items()} | read_sums(journal.new)
        unfinished = f"a build of it is unfinished ({len(entries)} shards are written): run the same command again."
    checks = [(root / name, name) for name in sorted(sums)] if finished else []
    checks += [(journal.new / name, name) for name in sorted(pending) if (journal.new / name).is_file()]
    # Two lists of checksums may be in force: the finished store's, and that of a build that is not finished. A file
    # in place may be of either, as an interrupted commit has moved some files and not others.
    problems = []
    for number, (file, name) in enumerate(checks, start=1):
        right = {sums.get(name), pending.get(name)} - {None}
        # Where a build was killed while it moved its files into place, some are of before and some of after.
        places = [file, journal.new / name] if unfinished else [file]
        if not any(place.is_file() and sha256(place) in right for place in places):
            problems.append(_problem(root, file, name))
        if progress is not None:
            progress(number, len(checks))
    if finished and sums:
        listed = {*sums, *pending, SUMS}
        others = [name for name in files_of(root) if name not in listed and not name.startswith(BUILD)]
        problems += [Problem(name, "unknown") for name in others]
    elif finished:
        problems.append(Problem(SUMS, "missing"))
    return Report(len(checks), problems, unfinished)


def _problem(root: Path, file: Path, name: str) -> Problem:
    """A file that is missing, altered, or truncated if its size shows it; with its samples if it is a shard."""
    array, _, rest = name.partition("/")
    per_shard, sharded, samples = 0, True, None
    if array in ("image", "fmask", "label") and rest.startswith("c/"):
        with suppress(DatasetError):
            read = ShardedArray(root / array)
            per_shard, sharded = read.per_shard, read.sharded
            first = int(name.split("/")[2]) * per_shard
            samples = (first, first + per_shard)
    if not file.is_file():
        return Problem(name, "missing", samples)
    broken = file.stat().st_size == 0 or (
        per_shard > 0 and (_index_is_broken(file, per_shard) if sharded else _is_cut(file))
    )
    return Problem(name, "truncated" if broken else "altered", samples)


def _is_cut(file: Path) -> bool:
    """Whether a Blosc chunk, whose bytes 12 to 15 say how long it is, is another length."""
    with file.open("rb") as opened:
        return int.from_bytes(opened.read(16)[12:], "little") != file.stat().st_size


def _index_is_broken(file: Path, per_shard: int) -> bool:
    """Whether a shard's index (the last bytes of its file) points beyond the file."""
    # A file that was cut short ends in pixels, which read as an index give places far beyond its end.
    size, length = file.stat().st_size, per_shard * 16 + 4
    if size < length:
        return True
    with file.open("rb") as opened:
        opened.seek(size - length)
        table = np.frombuffer(opened.read(length - 4), "<u8").reshape(-1, 2).astype(float)
    there = table[:, 0] < 2**63  # an unused place is all ones
    return bool((table[there].sum(axis=1) > size - length).any())
