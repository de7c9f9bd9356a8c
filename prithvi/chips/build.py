"""Building a store: every unit is cut, all samples are put in order, every shard is written, and all is moved in.

Each of the steps is done whole or not at all and remembered (`prithvi.chips.journal`), so that a killed build resumes
where it was and ends in the same bytes. Units and shards are independent: they run on threads or on a cluster.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import shutil
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, Unpack

import numpy as np

from prithvi.chips.journal import BESIDE, Journal, differing
from prithvi.chips.spec import Chip, Sample, StoreSpec
from prithvi.chips.store_files import Row, commit, read_metadata, read_samples, write_shards
from prithvi.errors import DatasetError, OutputError
from prithvi.files import write_text
from prithvi.parallel import Progress, run

if TYPE_CHECKING:
    from distributed import Client

Splitter = Callable[[Sequence[Sample], Sequence[Sample]], Sequence[str]]
"""Gives each sample its part: train, val, test, or another word. Its second argument are the samples of the store."""
_PARTS = {"train": 0, "val": 1, "test": 2}
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class Unit(Protocol):
    """Something that chips come from: independent of all other units, and small enough to travel to a worker."""

    @property
    def key(self) -> str:
        """Its name, unlike that of any other unit; the order of the names is the order of the store."""
        ...

    def chips(self, spec: StoreSpec) -> Iterator[Chip]:
        """Its chips, the same ones in the same order each time."""
        ...


class Running(TypedDict, total=False):
    """How a build runs; all but `append` leaves the store's bytes as they are."""

    scheduler: str | Client | None
    """Address or client of a Dask cluster; None runs on threads."""
    workers: int | None
    """Threads; None takes one a core."""
    append: bool
    """Add to the samples of an existing store, behind them, in files of as many samples as it has."""
    progress: Callable[[str], Progress] | None
    """Called with the name of a stage of the work; returns that stage's progress function."""


def build(
    path: Path,
    spec: StoreSpec,
    units: Iterable[Unit],
    *,
    plan: Mapping[str, Any],
    split: Splitter | None = None,
    per_unit: int | None = None,
    seed: int = 0,
    shuffle: bool = True,
    **running: Unpack[Running],
) -> None:
    """Makes a store of the chips of `units`, or resumes a build that was killed.

    Samples are ordered by part (train, val, test, others by name) and shuffled within each part.

    Args:
        path: folder of the store.
        spec: form of the samples.
        units: where chips come from; keys must differ.
        plan: everything beside the units' keys that the result depends on, as JSON holds it. A killed build is
            resumed if the plans are equal.
        split: gives each sample its part; None keeps those of the units.
        per_unit: most samples of a unit; more are thinned out at random.
        seed: of the thinning and of the order.
        shuffle: False keeps the order of the units and of the chips in them.
        running: scheduler, workers, append and progress; see `Running`.

    Raises:
        DatasetError: the store exists and is another one; another build is at work; no chip was left; a unit failed
            (the others are kept).
        OutputError: the disk is full, or the folder cannot be written.

    """
    todo = sorted(units, key=lambda unit: unit.key)
    keys = [unit.key for unit in todo]
    if len(set(keys)) != len(keys):
        raise DatasetError(f"two parts of the source are called {next(key for key in keys if keys.count(key) > 1)}.")
    append, progress = running.get("append", False), running.get("progress")
    runner = partial(run, scheduler=running.get("scheduler"), workers=running.get("workers"))
    journal = Journal(path)
    with journal.lock():
        exists = (path / "zarr.json").is_file()
        if exists and append:
            # The store's files are as they are: new samples are packed as the old ones, whatever is asked now.
            known = StoreSpec.from_dict(read_metadata(path)["spec"])
            spec = dataclasses.replace(spec, shard=known.shard, codec=known.codec, sharding=known.sharding)
            differ = differing(known.to_dict(), spec.to_dict())
            if differ:
                raise DatasetError(f"{path} holds samples of another form ({differ}): build another store.")
        full: dict[str, Any] = {
            **json.loads(json.dumps(plan)),
            "spec": spec.to_dict(),
            "units": [len(keys), zlib.crc32("\n".join(keys).encode())],
            "seed": seed,
            "per_unit": per_unit,
            "shuffle": shuffle,
            "append_to": 0,
        }
        # A build that was killed after its last file was in place left only its own folder to clear up. The command
        # that it was is done then: an append must not add its samples a second time.
        done = journal.plan()
        if exists and done and read_metadata(path).get("build") == done:
            journal.end()
            before = {"append_to": done.get("append_to", 0), BESIDE: done.get(BESIDE)}
            if append and not differing(done, {**full, **before}):
                return
        _refuse_other(path, full, append, journal)
        if exists and not append and not journal.unfinished():
            return
        old = read_samples(path) if exists and append else []
        full["append_to"] = len(old)
        # Shards that an earlier version has written hold samples in the order of the parts that it drew without the old
        # ones: such a build is finished as it was begun.
        if old and split is not None and (BESIDE in done or not journal.entries()):
            full[BESIDE] = True
        journal.begin(full)
        # Cut, arrange, write, commit. Each step finds what an earlier run has done of it and does the rest, and none
        # depends on the order in which tasks end: the same plan gives the same bytes however often it is interrupted.
        try:
            tasks = {f"cut {unit.key}": (stage, (unit, spec, journal.staged)) for unit in todo}
            _refuse_failed(runner(tasks, progress=progress and progress("cutting")), len(todo))
            rows, samples = _arrange(journal, keys, old if BESIDE in full else [], split, per_unit, seed, shuffle)
            if not samples and not append:
                shutil.rmtree(journal.new, ignore_errors=True)
                journal.end()
                raise DatasetError(
                    f"no chip was left: each of the {len(keys)} parts was searched, and none has a window that passes "
                    "the filters on every date of a sequence. Widen the dates; loosen --good, --missing, --max-cloud."
                )
            write_shards(journal, spec, rows, len(old), partial(runner, progress=progress and progress("writing")))
            commit(journal, spec, [*old, *samples], full)
        except OSError as error:
            if error.errno not in _DISK_FULL:
                raise OutputError(f"{path} cannot be written: {error}.") from error
            raise OutputError(
                f"the disk of {path} is full ({shutil.disk_usage(path).free / 1e6:,.0f} MB free): what was done is "
                "kept; make room (the size of the chips without compression) and run the same command again."
            ) from error


def _refuse_other(path: Path, plan: dict[str, Any], append: bool, journal: Journal) -> None:
    """Raises DatasetError for a folder, or a finished store, that this build may not meet."""
    if not (path / "zarr.json").is_file():
        others = [entry.name for entry in path.iterdir() if entry != journal.folder]
        if others and not journal.unfinished():
            raise DatasetError(f"{path} is a folder with other files in it ({min(others)}): choose another name.")
        return
    differ = differing(read_metadata(path).get("build", {}), plan)
    if differ and not append and not journal.unfinished():
        raise DatasetError(
            f"{path} is a finished store that was built otherwise ({differ} differ): choose another name, append to it "
            "(--append), or delete it."
        )


def stage(unit: Unit, spec: StoreSpec, folder: Path) -> int:
    """Cuts a unit into `folder/<key>/`, unless that was done before; returns the number of chips.

    The folder holds a file of raw pixels for each array, one chip after the other, and `samples.json`.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
        PrithviError: what the unit raises.

    """
    whole = folder / unit.key
    if whole.is_dir():
        return len(_staged_samples(whole))
    # A name of its own: a cluster may give the same unit to two workers, and the first to end wins.
    partial_folder = folder / f"{unit.key}.{uuid.uuid4().hex}.tmp"
    partial_folder.mkdir(parents=True)
    try:
        samples = []
        with ExitStack() as stack:
            files = {name: stack.enter_context((partial_folder / name).open("wb")) for name in spec.arrays()}
            for chip in unit.chips(spec):
                chip.check(spec)
                for name, file in files.items():
                    file.write(np.ascontiguousarray(getattr(chip, name)).data)
                samples.append(chip.sample.to_dict())
        write_text(partial_folder / "samples.json", json.dumps(samples), sync=True)
        try:
            partial_folder.rename(whole)
        except OSError:
            if not whole.is_dir():
                raise
    finally:
        shutil.rmtree(partial_folder, ignore_errors=True)
    return len(samples)


def _staged_samples(folder: Path) -> list[Sample]:
    plain: list[dict[str, Any]] = json.loads((folder / "samples.json").read_text(encoding="utf-8"))
    return [Sample.from_dict(entry) for entry in plain]


def _refuse_failed(failed: Mapping[str, Exception], count: int) -> None:
    """Raises what stopped units from being cut: a full disk as it is, anything else with the first unit's name."""
    for error in failed.values():
        if isinstance(error, OSError) and error.errno in _DISK_FULL:
            raise error
    if failed:
        task, error = next(iter(failed.items()))
        raise DatasetError(
            f"{len(failed)} of {count} parts failed, {task.removeprefix('cut ')} with: {error or type(error).__name__} "
            "The others are kept: mend or leave out what failed, and run the same command again."
        ) from error


def _arrange(
    journal: Journal,
    keys: Sequence[str],
    old: Sequence[Sample],
    split: Splitter | None,
    per_unit: int | None,
    seed: int,
    shuffle: bool,
) -> tuple[list[Row], list[Sample]]:
    """The order of what is new: where each sample is staged, and what is known of it. `old` is there already."""
    staged: list[tuple[str, int, Sample]] = []
    for key in keys:
        rows = list(enumerate(_staged_samples(journal.staged / key)))
        if per_unit is not None and len(rows) > per_unit:
            # Drawn by a generator of the unit's own: it keeps the same chips whatever other units there are.
            chance = np.random.default_rng([seed, zlib.crc32(key.encode())])
            rows = [rows[row] for row in sorted(chance.choice(len(rows), per_unit, replace=False).tolist())]
        staged += [(key, row, sample) for row, sample in rows]
    parts = split([sample for *_, sample in staged], old) if split else [sample.split for *_, sample in staged]
    placed = [
        ((key, row, part), dataclasses.replace(sample, split=part, seed=seed))
        for (key, row, sample), part in zip(staged, parts, strict=True)
    ]
    if shuffle:
        placed = [placed[index] for index in np.random.default_rng(seed).permutation(len(placed)).tolist()]
        placed.sort(key=lambda entry: (_PARTS.get(entry[1].split, 3), entry[1].split))
    return [row for row, _ in placed], [sample for _, sample in placed]
