"""Single samples out of a sharded Zarr array, read straight from its files.

A shard is a file of many Blosc chunks with an index of (offset, length) at its end (Zarr v3, sharding_indexed). For one
sample that is two reads and one decompression into the caller's own memory, which is what this module does; zarr-python
spends more time on bookkeeping than on bytes there (benchmarks/results). Arrays of any other form are read with zarr.
"""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt
import zarr
from numcodecs import blosc

from prithvi.errors import MALFORMED, DatasetError, first_line

UNREADABLE = (RuntimeError, OSError, *MALFORMED)
"""What zarr, its codecs and numpy raise where metadata or a chunk were altered: each of them has errors of its own."""
_OPEN = 128
"""Shard files kept open at once."""
_CHECKSUM = 4
"""Bytes of the CRC-32C that ends an index."""
_ABSENT = 2**64 - 1
"""Offset and length of a chunk that is not there, which stands for fill values."""


def chunk_file(array: Path, number: int, dimensions: int) -> Path:
    """The file of a shard, or of a sample that has one of its own, of an array of so many dimensions."""
    return array.joinpath("c", str(number), *["0"] * (dimensions - 1))


def empty_shard(samples: int) -> bytes:
    """A shard file without any chunk: nothing but its index."""
    index = np.full(2 * samples, _ABSENT, "<u8").tobytes()
    checksum: int = google_crc32c.value(index)
    return index + checksum.to_bytes(_CHECKSUM, "little")


class ShardedArray:
    """An array (sample, ...) whose chunk is one sample, at `path` on this machine's file system.

    Where samples have files of their own (`StoreSpec.sharding`), each of these counts as a shard of one.

    It can be sent to another process; open files stay behind.

    Raises:
        DatasetError: the array's metadata cannot be read.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files: OrderedDict[int, tuple[int, npt.NDArray[np.uint64]]] = OrderedDict()
        try:
            meta = json.loads((path / "zarr.json").read_bytes())
            self.shape: tuple[int, ...] = tuple(int(size) for size in meta["shape"])
            self.dtype = np.dtype(meta["data_type"])
            self.fill = meta["fill_value"]
            self.per_shard = int(meta["chunk_grid"]["configuration"]["chunk_shape"][0])
            if not self.shape or self.per_shard < 1:
                raise ValueError(self.shape)
            self.sharded = meta["codecs"][0]["name"] == "sharding_indexed"
            self.direct = _is_ours(meta)
        except (OSError, *MALFORMED) as error:
            raise DatasetError(f"{path} is no readable Zarr array: 'prithvi data verify {path.parent}'.") from error

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": OrderedDict()}

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Closes the shard files."""
        for descriptor, _ in self._files.values():
            os.close(descriptor)
        self._files.clear()

    def read(self, indices: Sequence[int], out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Samples in the order of `indices`, (len(indices), ...).

        Args:
            indices: positions in the array.
            out: memory to read into, C-contiguous and of the array's type.

        Raises:
            IndexError: a position outside the array.
            DatasetError: a shard is missing, truncated or damaged.

        """
        wanted = [int(index) for index in indices]
        outside = next((index for index in wanted if not 0 <= index < self.shape[0]), None)
        if outside is not None:
            raise IndexError(f"{self.path} has samples 0 to {self.shape[0] - 1}; {outside} was asked for.")
        try:
            if out is None:
                out = np.empty((len(wanted), *self.shape[1:]), self.dtype)
            if not self.direct:
                out[...] = zarr.open_array(self.path, mode="r").oindex[np.asarray(wanted)]
                return out
        except MemoryError as error:
            raise DatasetError(
                f"{len(wanted)} samples of {self.path} do not fit into memory ({first_line(error)}): read fewer, "
                f"or, if samples should be smaller, look for damage with 'prithvi data verify {self.path.parent}'."
            ) from error
        except UNREADABLE as error:
            raise DatasetError(
                f"{self.path} cannot be read ({first_line(error)}): 'prithvi data verify {self.path.parent}' lists all "
                "damage; restore the file or build the store again."
            ) from error
        for place, index in enumerate(wanted):
            self._read_one(index, out[place])
        return out

    def _read_one(self, index: int, out: npt.NDArray[Any]) -> None:
        shard, row = divmod(index, self.per_shard)
        descriptor, table = self._open(shard)
        start, length = int(table[row, 0]), int(table[row, 1])
        if start == _ABSENT:  # a sample of fill values alone has no chunk
            out[...] = self.fill
            return
        try:
            packed = os.pread(descriptor, length, start)
            # A Blosc chunk begins with its sizes: bytes 4 to 7 unpacked, 12 to 15 packed. Never decompress past them.
            sizes = int.from_bytes(packed[4:8], "little"), int.from_bytes(packed[12:16], "little")
            if len(packed) == length and sizes == (out.nbytes, length):
                blosc.decompress(packed, out)
                return
        except (RuntimeError, OverflowError, OSError, ValueError) as error:
            raise self._damaged(shard, index) from error
        raise self._damaged(shard, index)

    def _open(self, shard: int) -> tuple[int, npt.NDArray[np.uint64]]:
        if shard in self._files:
            self._files.move_to_end(shard)
            return self._files[shard]
        file = self.file(shard)
        size = self.per_shard * 16
        try:
            descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise DatasetError(f"{file} is missing: 'prithvi data verify {self.path.parent}' lists all.") from error
        if self.sharded:
            raw = os.pread(descriptor, size, max(0, os.fstat(descriptor).st_size - size - _CHECKSUM))
        else:
            raw = np.array([0, os.fstat(descriptor).st_size], "<u8").tobytes()
        table = np.frombuffer(raw[: len(raw) // 8 * 8], "<u8")
        if len(raw) != size or (table[table != _ABSENT] > os.fstat(descriptor).st_size).any():
            os.close(descriptor)
            raise self._damaged(shard, shard * self.per_shard)
        self._files[shard] = (descriptor, table.reshape(-1, 2))
        if len(self._files) > _OPEN:
            oldest, _ = self._files.popitem(last=False)[1]
            os.close(oldest)
        return self._files[shard]

    def file(self, shard: int) -> Path:
        """The file of one shard."""
        return chunk_file(self.path, shard, len(self.shape))

    def _damaged(self, shard: int, index: int) -> DatasetError:
        return DatasetError(
            f"{self.file(shard)} is damaged where sample {index} lies: 'prithvi data verify {self.path.parent}' lists "
            "all damage; restore the file or build the store again."
        )


def _is_ours(meta: dict[str, Any]) -> bool:
    """Whether the metadata is of the form that a store writes: a chunk a sample, Blosc, the index at the end."""
    codecs, grid = meta["codecs"], meta["chunk_grid"]["configuration"]["chunk_shape"]
    if not hasattr(os, "pread") or grid[1:] != meta["shape"][1:]:
        return False
    if codecs[0]["name"] == "sharding_indexed":
        inside = codecs[0]["configuration"]
        index = [entry["name"] for entry in inside["index_codecs"]], inside.get("index_location", "end")
        if len(codecs) > 1 or index != (["bytes", "crc32c"], "end"):
            return False
        codecs, grid = inside["codecs"], inside["chunk_shape"]
    elif meta["chunk_key_encoding"] != {"name": "default", "configuration": {"separator": "/"}}:
        return False
    little = all(entry.get("configuration", {}).get("endian", "little") == "little" for entry in codecs)
    named = [entry["name"] for entry in codecs]
    return grid == [1, *meta["shape"][1:]] and named == ["bytes", "blosc"] and little
