"""Building a store: every unit is staged, all samples are put in order, every shard is written, and all is moved in.

Each of the steps is done whole or not at all and remembered (`prithvi.chips.journal`), so that a killed build goes on
where it was and ends in the same bytes. Units and shards are independent: they run on threads or on a cluster.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import shutil
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prithvi.chips.journal import Journal
from prithvi.chips.running import Progress, run
from prithvi.chips.spec import Sample, StoreSpec
from prithvi.chips.staging import Unit, stage, staged_samples
from prithvi.chips.store import ChipStore, read_samples
from prithvi.chips.writing import commit, write_shards
from prithvi.errors import DatasetError, OutputError

if TYPE_CHECKING:
    from distributed import Client

Splitter = Callable[[Sequence[Sample]], Sequence[str]]
"""Gives each sample its part: train, val, test, or another word."""
_PARTS = {"train": 0, "val": 1, "test": 2}


def build(
    path: Path,
    spec: StoreSpec,
    units: Iterable[Unit],
    *,
    plan: Mapping[str, Any],
    split: Splitter | None = None,
    per_unit: int | None = None,
    seed: int = 0,
    scheduler: str | Client | None = None,
    workers: int | None = None,
    progress: Callable[[str], Progress] | None = None,
    append: bool = False,
    shuffle: bool = True,
) -> ChipStore:
    """Makes (or goes on making) a store of the chips of `units`.

    Samples stand in the order of their parts (train, val, test, others by name), shuffled within each part.

    Args:
        path: folder of the store.
        spec: form of the samples.
        units: where chips come from; keys must differ.
        plan: everything beside the units' keys that the result depends on, as JSON holds it. A build goes on from
            what a killed one left if the plans are equal.
        split: gives each sample its part; None keeps what the units say.
        per_unit: most samples of a unit; more are thinned out at random.
        seed: of the thinning and of the order.
        scheduler: see `prithvi.chips.running.run`.
        workers: threads.
        progress: called with the name of a stage of the work, gives that stage's progress function.
        append: add to the samples of a store that is there, behind them.
        shuffle: False keeps the order of the units and of the chips in them.

    Raises:
        DatasetError: the store exists and is another one; another build is at work; no chip was left; a unit failed
            (the others are kept).
        OutputError: the disk is full, or the folder cannot be written.

    """
    todo = sorted(units, key=lambda unit: unit.key)
    keys = [unit.key for unit in todo]
    if len(set(keys)) != len(keys):
        raise DatasetError(f"two parts of the source are called {next(key for key in keys if keys.count(key) > 1)}.")
    full: dict[str, Any] = {
        **json.loads(json.dumps(plan)),
        "spec": spec.to_dict(),
        "units": _mark(keys),
        "seed": seed,
        "per_unit": per_unit,
    }
    full["shuffle"] = shuffle
    full["append_to"] = 0
    journal = Journal(path)
    with journal.lock():
        _end_what_was_committed(journal)
        existing = _existing(path, spec, full, append, journal)
        if existing is not None and not append and not journal.unfinished():
            return existing
        old = read_samples(path) if existing is not None and append else []
        full["append_to"] = len(old)
        journal.begin(full)
        step = progress or (lambda _: lambda _done, _all: None)
        try:
            _stage_all(journal, spec, todo, scheduler, workers, step("cutting"))
            order, samples = _arrange(journal, keys, split, per_unit, seed, shuffle)
            if not samples and not append:
                raise _nothing(journal, keys)
            write_shards(journal, spec, order, samples, old, scheduler, workers, step("writing"))
            commit(journal, spec, [*old, *samples], full)
        except OSError as error:
            raise _disk(error, path) from error
    return ChipStore(path)


def _end_what_was_committed(journal: Journal) -> None:
    """Clears up behind a build that was killed after its last file was in place."""
    whole = (journal.store / "zarr.json").is_file()
    if journal.unfinished() and whole and ChipStore(journal.store).attributes.get("build") == journal.plan():
        journal.end()


def _mark(keys: Sequence[str]) -> list[Any]:
    """The units in a few bytes: how many, and a checksum of their names."""
    return [len(keys), zlib.crc32("\n".join(keys).encode())]


def _existing(path: Path, spec: StoreSpec, plan: dict[str, Any], append: bool, journal: Journal) -> ChipStore | None:
    """The finished store at `path`, if it is one that this build may meet."""
    if not (path / "zarr.json").is_file():
        strangers = (
            [entry.name for entry in path.iterdir() if entry.name != journal.folder.name] if path.is_dir() else []
        )
        if strangers and not journal.unfinished():
            raise DatasetError(f"{path} is a folder with other files in it ({min(strangers)}): choose another name.")
        return None
    store = ChipStore(path)
    if append and dataclasses.replace(store.spec, shard=spec.shard, codec=spec.codec) != spec:
        raise DatasetError(
            f"{path} holds samples of another form ({_differences(store.spec, spec)}): build another store."
        )
    if append or journal.unfinished():
        return store
    built = store.attributes.get("build", {})
    differ = sorted(key for key in built.keys() | plan.keys() if built.get(key) != plan.get(key))
    if differ:
        raise DatasetError(
            f"{path} is a finished store that was built otherwise ({', '.join(differ)} differ): choose another name, "
            "append to it (--append), or delete it."
        )
    return store


def _differences(one: StoreSpec, other: StoreSpec) -> str:
    names = [field.name for field in dataclasses.fields(StoreSpec) if field.name not in ("shard", "codec")]
    return ", ".join(name for name in names if getattr(one, name) != getattr(other, name))


def _stage_all(
    journal: Journal,
    spec: StoreSpec,
    units: Sequence[Unit],
    scheduler: str | Client | None,
    workers: int | None,
    progress: Progress,
) -> None:
    tasks = {f"cut {unit.key}": (stage, (unit, spec, journal.staged)) for unit in units}
    failed = run(tasks, scheduler=scheduler, workers=workers, progress=progress)
    for error in failed.values():
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise error
    if failed:
        first = next(iter(failed))
        raise DatasetError(
            f"{len(failed)} of {len(units)} parts failed, {first.removeprefix('cut ')} with: "
            f"{failed[first] or type(failed[first]).__name__} The others are kept: mend or leave out what failed, and "
            "run the same command again."
        ) from failed[first]


def _arrange(
    journal: Journal, keys: Sequence[str], split: Splitter | None, per_unit: int | None, seed: int, shuffle: bool
) -> tuple[list[tuple[str, int]], list[Sample]]:
    """The order of the store: (unit, row in it) and what is known of each sample."""
    places: list[tuple[str, int]] = []
    samples: list[Sample] = []
    for key in keys:
        known = staged_samples(journal.staged / key)
        rows = range(len(known))
        if per_unit is not None and len(known) > per_unit:
            chance = np.random.default_rng([seed, zlib.crc32(key.encode())])
            rows = sorted(chance.choice(len(known), per_unit, replace=False).tolist())  # type: ignore[assignment]
        places += [(key, row) for row in rows]
        samples += [known[row] for row in rows]
    parts = split(samples) if split is not None else [sample.split for sample in samples]
    samples = [dataclasses.replace(sample, split=part, seed=seed) for sample, part in zip(samples, parts, strict=True)]
    shuffled = list(range(len(samples)))
    if shuffle:
        shuffled = np.random.default_rng(seed).permutation(len(samples)).tolist()
        shuffled.sort(key=lambda index: (_PARTS.get(samples[index].split, 3), samples[index].split))
    return [places[index] for index in shuffled], [samples[index] for index in shuffled]


def _nothing(journal: Journal, keys: Sequence[str]) -> DatasetError:
    shutil.rmtree(journal.folder / "new", ignore_errors=True)
    journal.end()
    return DatasetError(
        f"no chip was left: each of the {len(keys)} parts of the source was searched, and none has a window that "
        "passes the filters on every date of a sequence. Widen the dates, or loosen --good, --missing, --max-cloud."
    )


def _disk(error: OSError, path: Path) -> OutputError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(path).free
        return OutputError(
            f"the disk of {path} is full ({free / 1e6:,.0f} MB free): what was done is kept; make room and run the "
            "same command again. Building needs, for a while, the size of the chips without compression."
        )
    return OutputError(f"{path} cannot be written: {error}.")
