"""A store's files written: each shard whole and noted, then everything moved into place at once."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

import prithvi
from prithvi.chips.files import SUMS, make_array, read_sums, write_metadata, write_samples, write_sums
from prithvi.chips.journal import Journal
from prithvi.chips.running import Progress, run
from prithvi.chips.shards import empty_shard
from prithvi.chips.spec import Sample, StoreSpec, Tally
from prithvi.chips.staging import staged_pixels
from prithvi.chips.store import ChipStore, statistics_of
from prithvi.files import sha256
from prithvi.jsontext import finite

if TYPE_CHECKING:
    from distributed import Client


def write_shards(
    journal: Journal,
    spec: StoreSpec,
    order: Sequence[tuple[str, int]],
    samples: Sequence[Sample],
    old: Sequence[Sample],
    scheduler: str | Client | None,
    workers: int | None,
    progress: Progress,
) -> None:
    """Every shard that holds a new sample, the first of them with the old samples that it holds already."""
    count = len(old) + len(order)
    for name, array in spec.arrays().items():
        make_array(journal.new, name, array, spec, count)
    done = {entry["shard"] for entry in journal.entries() if _stands(entry, journal)}
    tasks: dict[str, tuple[Callable[..., dict[str, Any]], tuple[Any, ...]]] = {}
    for shard in range(len(old) // spec.shard, -(-count // spec.shard)):
        begin, end = shard * spec.shard, min(count, (shard + 1) * spec.shard)
        rows = order[max(0, begin - len(old)) : end - len(old)]
        if shard not in done and rows:
            kept = range(begin, min(end, len(old)))
            parts = [sample.split for sample in samples[max(0, begin - len(old)) : end - len(old)]]
            tasks[f"shard {shard}"] = (write_shard, (journal.store, spec, shard, list(kept), list(rows), parts))
    failed = run(
        tasks, scheduler=scheduler, workers=workers, progress=progress, done=lambda _, entry: journal.note(entry)
    )
    for error in failed.values():
        raise error


def _stands(entry: dict[str, Any], journal: Journal) -> bool:
    """Whether the files of a shard noted as written are still there, here or moved into the store."""
    for path, (_, size) in entry["files"].items():
        places = [root / path for root in (journal.new, journal.store)]
        if not any(place.is_file() and place.stat().st_size == size for place in places):
            return False
    return True


def write_shard(
    store: Path,
    spec: StoreSpec,
    shard: int,
    kept: Sequence[int],
    rows: Sequence[tuple[str, int]],
    parts: Sequence[str],
) -> dict[str, Any]:
    """Writes one shard of every array into the build folder.

    Args:
        store: folder of the store.
        spec: its form.
        shard: number of the shard.
        kept: samples of the finished store that come first in it.
        rows: (unit, row) of the staged samples behind them.
        parts: the part of the store that each of these belongs to.

    Returns:
        The journal's entry: files with checksum and size, and the exact sums of the new samples by part.

    """
    journal = Journal(store)
    entry: dict[str, Any] = {"shard": shard, "files": {}}
    pixels = {}
    for name, array in spec.arrays().items():
        values = np.empty((len(kept) + len(rows), *array.shape), array.dtype)
        if kept:
            ChipStore(store).array(name).read(kept, values[: len(kept)])
        for place, (key, row) in enumerate(rows, start=len(kept)):
            staged_pixels(journal.staged / key, name, row, spec, values[place])
        target = zarr.open_array(journal.new / name, mode="r+", config={"write_empty_chunks": True})
        begin = shard * spec.shard
        target[begin : begin + len(values)] = values
        file = journal.new / name / "c" / "/".join([str(shard)] + ["0"] * len(array.shape))
        if not file.exists():
            # zarr leaves out a shard whose every value is the fill value; here a missing file is damage.
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(empty_shard(spec.shard))
        with file.open("rb") as written:
            os.fsync(written.fileno())
        entry["files"][file.relative_to(journal.new).as_posix()] = [sha256(file), file.stat().st_size]
        pixels[name] = values
    tallies: dict[str, Tally] = {}
    for row, part in enumerate(parts, start=len(kept)):
        tallies.setdefault(part, Tally()).add_sample({name: values[row] for name, values in pixels.items()}, spec)
    entry["tallies"] = {part: dataclasses.asdict(tally) for part, tally in tallies.items()}
    return entry


def commit(journal: Journal, spec: StoreSpec, samples: Sequence[Sample], plan: dict[str, Any]) -> None:
    """Writes the small files and moves all new files into the store, its own metadata last."""
    entries = {entry["shard"]: entry for entry in journal.entries() if "shard" in entry}
    store, new = journal.store, journal.new
    write_samples(new, spec, samples)
    write_metadata(new, {**_attributes(journal, spec, samples, entries), "build": plan})
    sums = read_sums(store)
    fresh = {path: sha for entry in entries.values() for path, (sha, _) in entry["files"].items()}
    for file in sorted(new.rglob("*")):
        path = file.relative_to(new).as_posix()
        if file.is_file() and path not in fresh and path != SUMS:  # a list that a killed build left is written anew
            fresh[path] = sha256(file)
    write_sums(new, {**sums, **fresh})
    files = sorted((file for file in new.rglob("*") if file.is_file()), key=lambda file: file == new / "zarr.json")
    for file in files:
        target = store / file.relative_to(new)
        target.parent.mkdir(parents=True, exist_ok=True)
        file.replace(target)
    journal.end()


def _attributes(
    journal: Journal, spec: StoreSpec, samples: Sequence[Sample], entries: Mapping[int, dict[str, Any]]
) -> dict[str, Any]:
    """What the store says about all of itself."""
    old = ChipStore(journal.store) if (journal.store / "zarr.json").is_file() else None
    tallies = {part: Tally(**plain) for part, plain in (old.attributes["tallies"] if old else {}).items()}
    for entry in entries.values():
        for part, plain in entry["tallies"].items():
            tallies.setdefault(part, Tally()).merge(Tally(**plain))
    return {
        "software": f"prithvi {prithvi.__version__}",
        "spec": spec.to_dict(),
        "bands": list(spec.bands),
        "classes": [dataclasses.asdict(entry) for entry in spec.classes],
        "samples": {part: sum(s.split == part for s in samples) for part in sorted({s.split for s in samples})},
        "tallies": {part: dataclasses.asdict(tally) for part, tally in sorted(tallies.items())},
        "statistics": finite(statistics_of(tallies)),
    }
