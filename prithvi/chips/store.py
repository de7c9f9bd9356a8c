"""`ChipStore`: thousands of chips in one Zarr store, read sample by sample at the speed of decompression.

    store = ChipStore("girona.zarr")
    store.samples                      # a GeoDataFrame: where, when, which granules, which part
    store.read([5, 17])["image"]       # (2, time, band, y, x) int16
    store.dataset()                    # the same as a lazy xarray.Dataset

Zarr v3, sharded: what is built on zarr-python 3, zarrita and GDAL 3.13 open it; GDAL to 3.12 opens one that was built
without sharding (`StoreSpec.sharding`). `prithvi data build` makes one; `ChipStore.create` and `append` do so from
Python.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import xarray as xr
from shapely.geometry import Point

from prithvi.catalog.datasets import HALVES, PLUS, in_half
from prithvi.chips.build import build
from prithvi.chips.journal import Journal
from prithvi.chips.shards import ShardedArray
from prithvi.chips.spec import Chip, PixelSums, StoreSpec, statistics_of
from prithvi.chips.store_files import read_metadata, read_samples
from prithvi.chips.verify import Report, verify
from prithvi.errors import DatasetError, nearest, states_nonsense


class ChipStore:
    """A finished store.

    Args:
        path: its folder.

    Raises:
        DatasetError: there is none, it is unfinished, or of another format.

    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self.attributes = read_metadata(self.path)
        except FileNotFoundError as error:
            message = f"there is no chip store at {self.path}."
            if Journal(self.path).unfinished():
                state = "unfinished: run the command that builds it again, and it goes on where it was."
                message = f"{self.path} is {state}"
            raise DatasetError(message) from error
        with states_nonsense(f"{self.path / 'zarr.json'}", DatasetError):
            self.spec = StoreSpec.from_dict(self.attributes["spec"])
            self.attributes["samples"] = {str(part): int(n) for part, n in self.attributes["samples"].items()}
        self._arrays: dict[str, ShardedArray] = {}

    @classmethod
    def create(cls, path: str | Path, spec: StoreSpec, chips: Iterable[Chip] = ()) -> ChipStore:
        """A new store of chips in memory; more can be appended.

        Raises:
            DatasetError: the store exists already, or a chip has another form.

        """
        if (Path(path) / "zarr.json").exists():
            raise DatasetError(f"{path} exists: append to it, or choose another name.")
        build(Path(path), spec, [_InMemory(list(chips))], plan={}, append=True, shuffle=False)
        return cls(path)

    def append(self, chips: Iterable[Chip]) -> ChipStore:
        """The store with more samples behind its own. If it fails, nothing has changed.

        Raises:
            DatasetError: a chip has another form, or another process is writing.

        """
        build(self.path, self.spec, [_InMemory(list(chips))], plan={}, append=True, shuffle=False)
        return ChipStore(self.path)

    def __len__(self) -> int:
        return sum(self.attributes["samples"].values())

    def array(self, name: str) -> ShardedArray:
        """One of the arrays `image`, `fmask`, `label`.

        Raises:
            DatasetError: the store has no such array.

        """
        if name not in self.spec.arrays():
            raise DatasetError(f"{self.path} has no {name}: {nearest(name, self.spec.arrays())}")
        if name not in self._arrays:
            self._arrays[name] = ShardedArray(self.path / name)
        return self._arrays[name]

    def read(self, indices: Sequence[int], names: Iterable[str] | None = None) -> dict[str, npt.NDArray[Any]]:
        """Samples in the order of `indices`: `image` (sample, time, band, y, x), and `fmask`, `label` if present.

        Raises:
            IndexError: no such sample.
            DatasetError: a shard is missing or damaged.

        """
        return {name: self.array(name).read(indices) for name in names or self.spec.arrays()}

    def dataset(self) -> xr.Dataset:
        """Everything as a lazy Dataset; values as stored (`image` int16, nodata -9999)."""
        opened: xr.Dataset = xr.open_zarr(self.path, mask_and_scale=False, decode_times=True)
        return opened

    @cached_property
    def samples(self) -> gpd.GeoDataFrame:
        """One row a sample: name, tile, split, dates, granules, shares, and its centre as a point (EPSG:4326)."""
        rows = read_samples(self.path)
        columns = ("name", "tile", "split", "times", "granules", "good", "filled", "labelled", "crs", "affine")
        table = {key: [getattr(row, key) for row in rows] for key in columns}
        places = [Point(row.lon, row.lat) if np.isfinite(row.lat) else None for row in rows]
        return gpd.GeoDataFrame(table, geometry=places, crs="EPSG:4326")

    def verify(self) -> Report:
        """Compares every file with its checksum; see `prithvi.chips.verify.verify`."""
        return verify(self.path)

    @property
    def parts(self) -> list[str]:
        """The names of its parts, with `prithvi.catalog.datasets.HALVES` of `val` where there is no `test`."""
        parts = list(self.attributes["samples"])
        return [*parts, *HALVES] if "val" in parts and "test" not in parts else parts

    def indices(self, split: str) -> list[int]:
        """The samples of one part; halves of `val` are divided by a checksum of the chips' names, as for files, and of
        what was cut from granules by that of the place in the name, so that all dates of a place are in one half.

        Args:
            split: one of `parts`, or several joined by `prithvi.catalog.datasets.PLUS`, in this order.

        Raises:
            DatasetError: the store has no such part, or the parts share a chip.

        """
        stored = self.attributes["samples"]
        if PLUS in split and split not in stored:
            rows = [row for part in split.split(PLUS) for row in self.indices(part)]
            if len(set(rows)) < len(rows):
                raise DatasetError(f"{self.path}: {split} names chips more than once.")
            return rows
        if split not in self.parts:
            known = nearest(split, stored) if any(stored) else "it is whole."
            raise DatasetError(f"{self.path} has no part {split!r}: {known}")
        if split in stored:
            return np.flatnonzero(self.samples["split"].to_numpy() == split).tolist()
        names = self.samples["name"].tolist()
        return [row for row in self.indices("val") if in_half(_DATED.sub(r"\1", names[row]), split)]

    @property
    def moments(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Mean and standard deviation of each band in stored units, of the training part or, without one, of all.

        Raises:
            DatasetError: the store says none.

        """
        found = self.attributes.get("statistics") or {}
        # A band without any pixel has null, which becomes NaN.
        mean, std = (np.array(found.get(key) or [], dtype=np.float64) for key in ("mean", "std"))
        if not len(mean) or not len(std) or not np.isfinite([*mean, *std]).all() or min(std) <= 0:
            raise DatasetError(
                f"{self.path} says no mean and standard deviation for its bands ({', '.join(self.spec.bands)}): "
                "it holds no pixel with data, or its zarr.json was altered. Build it again."
            )
        return mean, std

    def statistics(self, split: str | None = None) -> dict[str, Any]:
        """Mean and standard deviation by band in stored units, read anew sample by sample, without nodata.

        Args:
            split: one part; None takes all samples.

        """
        # One sample at a time: sums of whole numbers need no second pass, and memory stays that of one chip.
        tally = PixelSums()
        for index in self.indices(split) if split is not None else range(len(self)):
            tally.add_sample({name: values[0] for name, values in self.read([index]).items()}, self.spec)
        return statistics_of({split or "all": tally}, split or "all")


_DATED = re.compile(r"^(T\d{2}[A-Z]{3}_-?\d+_-?\d+)_\d{7}(T\d{6})?$")
"""Names of chips that were cut from granules: the place, and the day of the first date."""


@dataclass(frozen=True)
class _InMemory:
    """A unit of chips in memory."""

    samples: list[Chip]

    @cached_property
    def key(self) -> str:
        """A digest of the chips, so that an interrupted append is resumed with the same ones only."""
        digest = hashlib.sha256()
        for chip in self.samples:
            digest.update(json.dumps(chip.sample.to_dict()).encode())
            for pixels in (chip.image, chip.fmask, chip.label):
                digest.update(b"" if pixels is None else np.ascontiguousarray(pixels).tobytes())
        return f"chips-{digest.hexdigest()[:32]}"

    def chips(self, spec: StoreSpec) -> Iterator[Chip]:
        return iter(self.samples)
