"""Checks a store's files against the checksums written with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prithvi.chips.journal import BUILD, Journal
from prithvi.chips.shards import ShardedArray
from prithvi.chips.store_files import SUMS, read_sums
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
    sums = read_sums(root)
    pending, unfinished = _pending(journal)
    checks = [(root / name, name) for name in sorted(sums)] if finished else []
    checks += [(journal.new / name, name) for name in sorted(pending) if (journal.new / name).is_file()]
    # Two lists of checksums may be in force: the finished store's, and that of a build that is not finished. A file
    # in place may be of either, as an interrupted commit has moved some files and not others.
    problems = []
    for number, (file, name) in enumerate(checks, start=1):
        right = {sums.get(name), pending.get(name)} - {None}
        found = sha256(file) if file.is_file() else None
        # Where a build was killed while it moved its files into place, some are of before and some of after.
        waiting = journal.new / name if file.is_relative_to(root) and unfinished else file
        if found not in right and not (waiting != file and waiting.is_file() and sha256(waiting) in right):
            problems.append(Problem(name, _state(root, file, name), _samples(root, name)))
        if progress is not None:
            progress(number, len(checks))
    if finished:
        problems += [problem for problem in _unlisted(root, sums) if problem.path not in pending]
    return Report(len(checks), problems, unfinished)


def _pending(journal: Journal) -> tuple[dict[str, str], str]:
    """Checksums of what an unfinished build has written, and a sentence about it; both empty where there is none."""
    if not journal.unfinished():
        return {}, ""
    entries = journal.entries()
    sums = {file: sha for entry in entries for file, (sha, _) in entry["files"].items()} | read_sums(journal.new)
    return sums, f"a build of it is unfinished ({len(entries)} shards are written): run the same command again."


def _state(root: Path, file: Path, name: str) -> str:
    """`missing`, `altered`, or `truncated` if the size shows it."""
    if not file.is_file():
        return "missing"
    size = file.stat().st_size
    return "truncated" if size == 0 or _index_is_broken(root, file, name, size) else "altered"


def _index_is_broken(root: Path, file: Path, name: str, size: int) -> bool:
    """Whether a shard's index (the last bytes of its file) points beyond the file."""
    # A file that was cut short ends in pixels, which read as an index give places far beyond its end.
    form = _form(root, name)
    if form is None:
        return False
    length = form * 16 + 4
    if size < length:
        return True
    with file.open("rb") as opened:
        opened.seek(size - length)
        table = np.frombuffer(opened.read(length - 4), "<u8").reshape(-1, 2).astype(float)
    there = table[:, 0] < 2**63  # an unused place is all ones
    return bool((table[there].sum(axis=1) > size - length).any())


def _form(root: Path, name: str) -> int | None:
    """Samples in a shard, for a file that is one."""
    array, _, rest = name.partition("/")
    if array not in ("image", "fmask", "label") or not rest.startswith("c/"):
        return None
    try:
        return ShardedArray(root / array).per_shard
    except DatasetError:
        return None


def _samples(root: Path, name: str) -> tuple[int, int] | None:
    per_shard = _form(root, name)
    if per_shard is None:
        return None
    first = int(name.split("/")[2]) * per_shard
    return first, first + per_shard


def _unlisted(root: Path, sums: dict[str, str]) -> list[Problem]:
    """Files that the list does not name, and a list that is no list."""
    if not sums:
        return [Problem(SUMS, "missing")]
    found = (file.relative_to(root).as_posix() for file in sorted(root.rglob("*")) if file.is_file())
    return [
        Problem(name, "unknown") for name in found if name not in sums and name != SUMS and not name.startswith(BUILD)
    ]
