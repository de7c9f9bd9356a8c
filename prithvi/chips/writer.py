"""Writing a store's files: each shard is completed and noted, then all are moved into place together."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

import prithvi
from prithvi.chips import store_files
from prithvi.chips.journal import Journal
from prithvi.chips.shards import ShardedArray, empty_shard
from prithvi.chips.spec import Sample, StoreSpec, Tally, statistics_of
from prithvi.files import finite, sha256

Row = tuple[str, int, str]
"""A staged sample: its unit, its row there, and the part of the store that it belongs to."""


def write_shards(
    journal: Journal, spec: StoreSpec, rows: Sequence[Row], old: int, runner: Callable[..., dict[str, Exception]]
) -> None:
    """Writes every shard that holds a new sample.

    Args:
        journal: of the build.
        spec: form of the store.
        rows: new samples in the order of the store.
        old: how many samples the finished store holds; the new ones follow. If they begin inside a shard, it is
            rewritten together with its old samples.
        runner: `prithvi.parallel.run` with where it runs.

    """
    # Shards are independent files, so they are written in any order and on any machine; the journal notes each with
    # its checksum when it is on disk, and a resumed build writes only those that are not noted.
    count = old + len(rows)
    for name, array in spec.arrays().items():
        store_files.make_array(journal.new, name, array, spec, count)
    done = {entry["shard"] for entry in journal.entries() if _is_there(entry, journal)}
    tasks = {}
    for shard in range(old // spec.shard, -(-count // spec.shard)):
        begin, end = shard * spec.shard, min(count, (shard + 1) * spec.shard)
        some = list(rows[max(0, begin - old) : end - old])
        if shard not in done and some:
            kept = list(range(begin, min(end, old)))
            tasks[f"shard {shard}"] = (write_shard, (journal.store, spec, shard, kept, some))
    for error in runner(tasks, done=lambda _, entry: journal.note(entry)).values():
        raise error


def _is_there(entry: dict[str, Any], journal: Journal) -> bool:
    """Whether the files of a shard noted as written are still there, here or moved into the store."""
    return all(
        any(file.is_file() and file.stat().st_size == size for file in (journal.new / path, journal.store / path))
        for path, (_, size) in entry["files"].items()
    )


def write_shard(store: Path, spec: StoreSpec, shard: int, kept: Sequence[int], rows: Sequence[Row]) -> dict[str, Any]:
    """Writes one shard of every array into the build folder.

    Args:
        store: folder of the store.
        spec: its form.
        shard: number of the shard.
        kept: samples of the finished store that come first in it.
        rows: the staged samples behind them.

    Returns:
        The journal's entry: files with checksum and size, and the exact sums of the new samples by part.

    """
    journal = Journal(store)
    files, pixels = {}, {}
    for name, array in spec.arrays().items():
        values = np.empty((len(kept) + len(rows), *array.shape), array.dtype)
        if kept:
            ShardedArray(store / name).read(kept, values[: len(kept)])
        for position, (key, row, _) in enumerate(rows, start=len(kept)):
            _read_staged(journal.staged / key / name, row, values[position])
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
        files[file.relative_to(journal.new).as_posix()] = [sha256(file), file.stat().st_size]
        pixels[name] = values
    tallies: dict[str, Tally] = {}
    for position, (_, _, part) in enumerate(rows, start=len(kept)):
        sample = {name: values[position] for name, values in pixels.items()}
        tallies.setdefault(part, Tally()).add_sample(sample, spec)
    return {"shard": shard, "files": files, "tallies": _plain(tallies)}


def _read_staged(file: Path, row: int, out: npt.NDArray[Any]) -> None:
    """Reads one sample of a staged array, which is a file of nothing but pixels."""
    with file.open("rb") as opened:
        opened.seek(row * out.nbytes)
        if opened.readinto(out.data.cast("B")) != out.nbytes:
            raise OSError(f"{file} is cut short")


def commit(journal: Journal, spec: StoreSpec, samples: Sequence[Sample], plan: dict[str, Any]) -> None:
    """Writes the small files and moves all new files into the store, its own metadata last.

    Until `zarr.json` is replaced, the store is the old one (or none): it names neither new samples nor new files. A
    build that is killed in between finds its files by the journal and moves the others.
    """
    # Tallies of the shards add up to the store's statistics, exactly, without a second look at any pixel.
    store, new = journal.store, journal.new
    entries = {entry["shard"]: entry for entry in journal.entries() if "shard" in entry}
    store_files.write_samples(new, spec, samples)
    parts = [sample.split for sample in samples]
    tallies = {part: Tally(**plain) for part, plain in _old_tallies(store).items()}
    for entry in entries.values():
        for part, plain in entry["tallies"].items():
            tallies.setdefault(part, Tally()).merge(Tally(**plain))
    attributes = {
        "software": f"prithvi {prithvi.__version__}",
        "spec": spec.to_dict(),
        "bands": list(spec.bands),
        "classes": [entry.to_dict() for entry in spec.classes],
        "samples": {part: parts.count(part) for part in sorted(set(parts))},
        "tallies": _plain(dict(sorted(tallies.items()))),
        "statistics": finite(statistics_of(tallies)),
        "build": plan,
    }
    store_files.write_metadata(new, attributes)
    fresh = {path: sha for entry in entries.values() for path, (sha, _) in entry["files"].items()}
    for file in sorted(new.rglob("*")):
        path = file.relative_to(new).as_posix()
        # A list of checksums that a killed build left is written anew.
        if file.is_file() and path not in fresh and path != store_files.SUMS:
            fresh[path] = sha256(file)
    store_files.write_sums(new, {**store_files.read_sums(store), **fresh})
    files = sorted((file for file in new.rglob("*") if file.is_file()), key=lambda file: file == new / "zarr.json")
    for file in files:
        target = store / file.relative_to(new)
        target.parent.mkdir(parents=True, exist_ok=True)
        file.replace(target)
    journal.end()


def _old_tallies(store: Path) -> dict[str, Any]:
    tallies: dict[str, Any] = store_files.read_metadata(store)["tallies"] if (store / "zarr.json").is_file() else {}
    return tallies


def _plain(tallies: dict[str, Tally]) -> dict[str, Any]:
    return {part: dataclasses.asdict(tally) for part, tally in tallies.items()}
