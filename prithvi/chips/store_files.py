"""A store's files: its arrays, the small arrays about its samples, the metadata, and the list of checksums.

Each shard is completed and noted in the journal, then all files are moved into place together. All of the Zarr layout
is in this module and in `prithvi.chips.shards`, which reads single samples.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import BloscCodec
from zarr.errors import ZarrUserWarning

import prithvi
from prithvi.chips.journal import Journal
from prithvi.chips.shards import UNREADABLE, ShardedArray, chunk_file, empty_shard
from prithvi.chips.spec import CODECS, COORDINATE_CHUNK, FORMAT, ArraySpec, PixelSums, Sample, StoreSpec, statistics_of
from prithvi.errors import MALFORMED, DatasetError, first_line
from prithvi.files import sha256
from prithvi.scenes.geozarr import crs_attributes, declared

Row = tuple[str, int, str]
"""A staged sample: its unit, its row there, and the part of the store that it belongs to."""

SUMS = "SHA256SUMS"
"""The list of checksums of all other files, as `sha256sum --check` reads it."""
_NO_TIME = np.iinfo(np.int64).min
"""What datetime64 calls NaT."""
_SECONDS = {"units": "seconds since 1970-01-01", "calendar": "proleptic_gregorian", "_FillValue": _NO_TIME}
_COLUMNS: dict[str, tuple[str, tuple[str, ...], Any, dict[str, Any]]] = {
    "time": ("times", ("time",), np.int64, _SECONDS),
    "lat": ("lat", (), np.float64, {}),
    "lon": ("lon", (), np.float64, {}),
    "crs": ("crs", (), object, {}),
    "affine": ("affine", ("coefficient",), np.float64, {}),
    "granule": ("granules", ("time",), object, {}),
    "tile": ("tile", (), object, {}),
    "split": ("split", (), object, {}),
    "name": ("name", (), object, {}),
    "good": ("good", ("time",), np.float32, {"long_name": "share of good pixels by Fmask"}),
    "filled": ("filled", ("time",), np.uint32, {"long_name": "pixels filled from their nearest neighbour"}),
    "labelled": ("labelled", (), np.float64, {}),
    "seed": ("seed", (), np.int64, {}),
}
"""Name of each small array to its field of `Sample`, its dimensions after `sample`, dtype and attributes."""


def make_array(root: Path, name: str, array: ArraySpec, spec: StoreSpec, count: int) -> zarr.Array[Any]:
    """The array of `count` samples, opened where an interrupted build made it; only metadata is written."""
    if (root / name / "zarr.json").is_file():
        return zarr.open_array(root / name, mode="r+", config={"write_empty_chunks": True})
    # A chunk is one sample, which is what training reads at random, and a shard is a file of many chunks, so that a
    # store has thousands of files and not millions. Bit-shuffling first lets the codec see that neighbouring
    # reflectances have their high bits in common. Chunks of fill values alone are written too: none is ever missing.
    codec, level = CODECS[spec.codec]
    made: zarr.Array[Any] = zarr.create_array(
        root / name,
        shape=(count, *array.shape),
        dtype=array.dtype,
        chunks=(1, *array.shape),
        shards=(spec.shard, *array.shape) if spec.sharding else None,
        compressors=[BloscCodec(cname=codec, clevel=level, shuffle="bitshuffle")],  # type: ignore[arg-type]
        filters=None,
        fill_value=array.fill,
        dimension_names=array.dims,
        attributes=_attributes(name, array, spec),
        config={"write_empty_chunks": True},
    )
    return made


def _attributes(name: str, array: ArraySpec, spec: StoreSpec) -> dict[str, Any]:
    """What an array says of its values, by the CF conventions where these have a word."""
    if name == "image":
        scale = f"reflectance x {1 / spec.gain:g}"
        return {"_FillValue": array.fill, "long_name": scale, "level": spec.level, "bands": list(spec.bands)}
    if name == "fmask":
        return {"long_name": "HLS Fmask bits; 255 is fill, and where a value was filled from its nearest neighbour"}
    return {
        "long_name": "which class of flag_meanings, counted from 0; 255 is unlabelled",
        "flag_values": list(range(len(spec.classes))),
        "flag_meanings": " ".join(entry.name.replace(" ", "_") for entry in spec.classes),
        "label_values": [entry.value for entry in spec.classes],
    }


def write_samples(root: Path, spec: StoreSpec, samples: Sequence[Sample]) -> None:
    """Writes the small arrays: where and when each sample is, and what was done to it."""
    sizes = {"time": spec.frames, "coefficient": 6}
    for name, (field, dims, dtype, attributes) in _COLUMNS.items():
        values = [getattr(sample, field) for sample in samples]
        if field == "times":
            values = [[int(time.timestamp()) if time else _NO_TIME for time in times] for times in values]
        shape = (len(samples), *(sizes[dim] for dim in dims))
        _write_small(root, name, ("sample", *dims), np.array(values, dtype).reshape(shape), attributes)
    _write_small(root, "band", ("band",), np.array(spec.bands, dtype=object), {})


def _write_small(
    root: Path, name: str, dims: tuple[str, ...], values: npt.NDArray[Any], attributes: dict[str, Any]
) -> None:
    array = zarr.create_array(
        root / name,
        shape=values.shape,
        dtype="str" if values.dtype == object else values.dtype,
        chunks=(COORDINATE_CHUNK if dims[0] == "sample" else len(values), *values.shape[1:]),
        dimension_names=dims,
        attributes=attributes,
        overwrite=True,
    )
    if values.size:
        array[...] = values


def read_samples(root: Path) -> list[Sample]:
    """What a store says of its samples, in their order.

    Raises:
        DatasetError: its table is damaged.

    """
    try:
        return _read_samples(root)
    except (MemoryError, *UNREADABLE) as error:
        raise DatasetError(
            f"the samples of {root} cannot be read ({first_line(error)}): 'prithvi data verify {root}' lists damage."
        ) from error


def _read_samples(root: Path) -> list[Sample]:
    group = zarr.open_group(root, mode="r", use_consolidated=True)
    # A table is kept as columns, an array each, which readers of Zarr see as coordinates: here they turn into rows.
    columns: dict[str, list[Any]] = {
        field: np.asarray(group[name][...]).tolist()  # type: ignore[index]
        for name, (field, *_) in _COLUMNS.items()
    }
    columns["times"] = [
        [None if seconds == _NO_TIME else dt.datetime.fromtimestamp(seconds, dt.UTC) for seconds in row]
        for row in columns["times"]
    ]
    rows: list[dict[str, Any]] = [
        {field: tuple(value) if isinstance(value, list) else value for field, value in zip(columns, row, strict=True)}
        for row in zip(*columns.values(), strict=True)
    ]
    return [Sample(**row) for row in rows]


def write_metadata(root: Path, attributes: dict[str, Any]) -> None:
    """Writes the group's own metadata with that of all arrays in it, so that opening a store is one read."""
    (root / "zarr.json").unlink(missing_ok=True)
    about = {"format": FORMAT, "coordinates": " ".join([*_COLUMNS, "band"]), **attributes}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ZarrUserWarning)  # consolidated metadata is young in Zarr v3, and wanted here
        zarr.create_group(root, attributes=about)
        zarr.consolidate_metadata(root)


def read_metadata(root: Path) -> dict[str, Any]:
    """What a finished store says about all of itself.

    Raises:
        FileNotFoundError: there is no finished store.
        DatasetError: it is of another format, or damaged.

    """
    try:
        attributes: dict[str, Any] = json.loads((root / "zarr.json").read_bytes())["attributes"]
        found = attributes["format"]
    except FileNotFoundError:
        raise
    except (OSError, *MALFORMED) as error:
        raise DatasetError(f"{root} is no chip store of ours, or its zarr.json is damaged.") from error
    if found != FORMAT:
        raise DatasetError(f"{root} is of the format {found}; this version reads {FORMAT}.")
    return attributes


def files_of(root: Path) -> dict[str, Path]:
    """Every file below a folder by its path there (with /), sorted."""
    return {file.relative_to(root).as_posix(): file for file in sorted(root.rglob("*")) if file.is_file()}


def read_sums(root: Path) -> dict[str, str]:
    """Path under the store (with /) to checksum; empty where there is no list."""
    if not (root / SUMS).is_file():
        return {}
    lines = (root / SUMS).read_text(encoding="utf-8", errors="replace").splitlines()
    return {line[66:]: line[:64] for line in lines if len(line) > 66}


def write_sums(root: Path, sums: dict[str, str]) -> None:
    """Writes the list, sorted by path."""
    text = "".join(f"{sums[path]}  {path}\n" for path in sorted(sums))
    (root / SUMS).write_text(text, encoding="utf-8", newline="\n")


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
        make_array(journal.new, name, array, spec, count)
    done = {entry["shard"] for entry in journal.entries() if _is_there(entry, journal)}
    tasks = {}
    for shard in range(old // spec.shard, -(-count // spec.shard)):
        begin = shard * spec.shard
        some = rows[max(0, begin - old) : max(0, begin + spec.shard - old)]
        if shard not in done and some:
            tasks[f"shard {shard}"] = (write_shard, (journal.store, spec, shard, max(0, old - begin), some))
    for error in runner(tasks, done=lambda _, entry: journal.note(entry)).values():
        raise error


def _is_there(entry: dict[str, Any], journal: Journal) -> bool:
    """Whether the files of a shard noted as written are still there, here or moved into the store."""
    return all(
        any(file.is_file() and file.stat().st_size == size for file in (journal.new / path, journal.store / path))
        for path, (_, size) in entry["files"].items()
    )


def write_shard(store: Path, spec: StoreSpec, shard: int, old: int, rows: Sequence[Row]) -> dict[str, Any]:
    """Writes one shard of every array into the build folder, or its samples in a file each.

    Args:
        store: folder of the store.
        spec: its form.
        shard: number of the shard.
        old: how many samples of the finished store come first in it.
        rows: the staged samples behind them.

    Returns:
        The journal's entry: files with checksum and size, and the exact sums of the new samples by part.

    """
    journal, begin = Journal(store), shard * spec.shard
    files, pixels = {}, {}
    for name, array in spec.arrays().items():
        values = pixels[name] = np.empty((old + len(rows), *array.shape), array.dtype)
        if old:
            ShardedArray(store / name).read(range(begin, begin + old), values[:old])
        for out, (key, row, _) in zip(values[old:], rows, strict=True):
            _read_staged(journal.staged / key / name, row, out)
        target = zarr.open_array(journal.new / name, mode="r+", config={"write_empty_chunks": True})
        target[begin : begin + len(values)] = values
        for number in [shard] if spec.sharding else range(begin, begin + len(values)):
            file = chunk_file(journal.new / name, number, len(array.dims))
            if spec.sharding and not file.exists():
                # zarr leaves out a shard whose every value is the fill value; here a missing file is damage.
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(empty_shard(spec.shard))
            with file.open("rb") as written:
                os.fsync(written.fileno())
            files[file.relative_to(journal.new).as_posix()] = [sha256(file), file.stat().st_size]
    tallies: dict[str, PixelSums] = {}
    for position, (_, _, part) in enumerate(rows, start=old):
        sample = {name: values[position] for name, values in pixels.items()}
        tallies.setdefault(part, PixelSums()).add_sample(sample, spec)
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
    entries = {entry["shard"]: entry for entry in journal.entries()}
    write_samples(new, spec, samples)
    parts = [sample.split for sample in samples]
    old = read_metadata(store)["tallies"] if (store / "zarr.json").is_file() else {}
    tallies = {part: PixelSums(**plain) for part, plain in old.items()}
    for entry in entries.values():
        for part, plain in entry["tallies"].items():
            tallies.setdefault(part, PixelSums()).merge(PixelSums(**plain))
    attributes = {
        "software": f"prithvi {prithvi.__version__}",
        "spec": spec.to_dict(),
        "bands": list(spec.bands),
        "classes": [entry.to_dict() for entry in spec.classes],
        "samples": {part: parts.count(part) for part in sorted(set(parts))},
        "tallies": _plain(dict(sorted(tallies.items()))),
        "statistics": statistics_of(tallies),
        "build": plan,
    }
    systems = {sample.crs for sample in samples}
    if len(systems) == 1 and "" not in systems:
        # Where each chip lies is in `affine`; GeoZarr has one transform for a group, and none of so many.
        attributes |= {"zarr_conventions": declared("proj"), **crs_attributes(next(iter(systems)))}
    write_metadata(new, attributes)
    fresh = {path: sha for entry in entries.values() for path, (sha, _) in entry["files"].items()}
    (new / SUMS).unlink(missing_ok=True)  # a list that a killed build left
    for path, file in files_of(new).items():
        if path not in fresh:
            fresh[path] = sha256(file)
    write_sums(new, {**read_sums(store), **fresh})
    for file in sorted(files_of(new).values(), key=lambda file: file == new / "zarr.json"):
        target = store / file.relative_to(new)
        target.parent.mkdir(parents=True, exist_ok=True)
        file.replace(target)
    journal.end()


def _plain(tallies: dict[str, PixelSums]) -> dict[str, Any]:
    return {part: dataclasses.asdict(tally) for part, tally in tallies.items()}
