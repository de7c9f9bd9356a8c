"""A store's files: arrays written shard by shard, the small arrays, the metadata, and the list of checksums.

Everything is written into a staging folder beside the store's own files and moved into place when it is whole.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import BloscCodec
from zarr.errors import ZarrUserWarning

from prithvi.chips.spec import CODECS, COORDINATE_CHUNK, FORMAT, ArraySpec, Sample, StoreSpec

SUMS = "SHA256SUMS"
"""The list of checksums of all other files, as `sha256sum --check` reads it."""


def make_array(root: Path, name: str, array: ArraySpec, spec: StoreSpec, count: int) -> zarr.Array[Any]:
    """The array of `count` samples, opened where an interrupted build made it; only metadata is written."""
    if (root / name / "zarr.json").is_file():
        return zarr.open_array(root / name, mode="r+", config={"write_empty_chunks": True})
    codec, level = CODECS[spec.codec]
    extra = {"_FillValue": array.fill} if name == "image" else {}
    made: zarr.Array[Any] = zarr.create_array(
        root / name,
        shape=(count, *array.shape),
        dtype=array.dtype,
        chunks=(1, *array.shape),
        shards=(spec.shard, *array.shape),
        compressors=[BloscCodec(cname=codec, clevel=level, shuffle="bitshuffle")],  # type: ignore[arg-type]
        filters=None,
        fill_value=array.fill,
        dimension_names=array.dims,
        attributes={**extra, **_describe(name, spec)},
        config={"write_empty_chunks": True},
    )
    return made


def _describe(name: str, spec: StoreSpec) -> dict[str, Any]:
    if name == "image":
        return {"long_name": f"reflectance x {1 / spec.gain:g}", "level": spec.level, "bands": list(spec.bands)}
    if name == "fmask":
        return {"long_name": "HLS Fmask bits; 255 is fill, and where a value was filled from its nearest neighbour"}
    return {
        "long_name": "which class of flag_meanings, counted from 0; 255 is unlabelled",
        "flag_values": list(range(len(spec.classes))),
        "flag_meanings": " ".join(entry.name.replace(" ", "_") for entry in spec.classes),
        "label_values": [entry.value for entry in spec.classes],
    }


def write_samples(root: Path, spec: StoreSpec, samples: Sequence[Sample]) -> None:
    """The small arrays: where and when each sample is, and what was done to it."""
    count, frames = len(samples), spec.frames
    missing = np.iinfo(np.int64).min  # what datetime64 calls NaT
    seconds = [[int(time.timestamp()) if time else missing for time in sample.times] for sample in samples]
    texts = {key: [getattr(sample, key) for sample in samples] for key in ("name", "crs", "tile", "split")}
    numbers = {key: [getattr(sample, key) for sample in samples] for key in ("lat", "lon", "labelled")}
    time_attributes = {"units": "seconds since 1970-01-01", "calendar": "proleptic_gregorian", "_FillValue": missing}
    _small(root, "time", ("sample", "time"), np.array(seconds, np.int64).reshape(count, frames), time_attributes)
    for key, values in numbers.items():
        _small(root, key, ("sample",), np.array(values, np.float64))
    _small(
        root, "affine", ("sample", "coefficient"), np.array([s.affine for s in samples], np.float64).reshape(count, 6)
    )
    good = np.array([sample.good for sample in samples], np.float32).reshape(count, frames)
    _small(root, "good", ("sample", "time"), good, {"long_name": "share of good pixels by Fmask"})
    filled = np.array([sample.filled for sample in samples], np.uint32).reshape(count, frames)
    _small(root, "filled", ("sample", "time"), filled, {"long_name": "pixels filled from their nearest neighbour"})
    _small(root, "seed", ("sample",), np.array([sample.seed for sample in samples], np.int64))
    granules = np.array([sample.granules for sample in samples], dtype=object).reshape(count, frames)
    _small(root, "granule", ("sample", "time"), granules)
    for key, words in texts.items():
        _small(root, key, ("sample",), np.array(words, dtype=object))
    _small(root, "band", ("band",), np.array(spec.bands, dtype=object))


def _small(
    root: Path, name: str, dims: tuple[str, ...], values: npt.NDArray[Any], attributes: dict[str, Any] | None = None
) -> None:
    first = COORDINATE_CHUNK if dims[0] == "sample" else values.shape[0]
    array = zarr.create_array(
        root / name,
        shape=values.shape,
        dtype="str" if values.dtype == object else values.dtype,
        chunks=(first, *values.shape[1:]),
        dimension_names=dims,
        attributes=attributes or {},
        overwrite=True,
    )
    if values.size:
        array[...] = values


COORDINATES = (
    "time", "lat", "lon", "crs", "affine", "granule", "tile", "split", "name", "good", "filled", "labelled", "seed",
    "band",
)  # fmt: skip


def write_metadata(root: Path, attributes: dict[str, Any]) -> None:
    """The group's own metadata with that of all arrays in it, so that opening a store is one read."""
    (root / "zarr.json").unlink(missing_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ZarrUserWarning)  # consolidated metadata is young in Zarr v3, and wanted here
        zarr.create_group(root, attributes={"format": FORMAT, "coordinates": " ".join(COORDINATES), **attributes})
        zarr.consolidate_metadata(root)


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
