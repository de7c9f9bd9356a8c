"""`ChipStore`: thousands of chips in one Zarr store, read sample by sample at the speed of decompression.

    store = ChipStore("girona.zarr")
    store.samples                      # a GeoDataFrame: where, when, which granules, which part
    store.read([5, 17])["image"]       # (2, time, band, y, x) int16
    store.dataset()                    # the same as a lazy xarray.Dataset

Zarr v3, sharded: what is built on zarr-python 3 opens it, and GDAL (to 3.12) does not. `prithvi data build` makes one;
`ChipStore.create` and `append` do so from Python.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr
from shapely.geometry import Point

from prithvi.chips.files import COORDINATES
from prithvi.chips.journal import Journal
from prithvi.chips.shards import ShardedArray
from prithvi.chips.spec import FORMAT, Chip, Sample, StoreSpec, Tally
from prithvi.chips.verify import Report, verify
from prithvi.errors import DatasetError, nearest


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
            meta = json.loads((self.path / "zarr.json").read_bytes())
            self.attributes: dict[str, Any] = meta["attributes"]
            known = self.attributes["format"] == FORMAT
        except FileNotFoundError as error:
            if Journal(self.path).unfinished():
                raise DatasetError(
                    f"{self.path} is unfinished: run the command that builds it again, and it goes on where it was."
                ) from error
            raise DatasetError(f"there is no chip store at {self.path}.") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DatasetError(f"{self.path} is no chip store of ours, or its zarr.json is damaged.") from error
        if not known:
            raise DatasetError(
                f"{self.path} is of the format {self.attributes['format']}; this version reads {FORMAT}."
            )
        self.spec = StoreSpec.from_dict(self.attributes["spec"])
        self._arrays: dict[str, ShardedArray] = {}

    @classmethod
    def create(cls, path: str | Path, spec: StoreSpec, chips: Iterable[Chip] = ()) -> ChipStore:
        """A new store of chips that are at hand; more can be appended.

        Raises:
            DatasetError: something is there already, or a chip has another form.

        """
        from prithvi.chips.build import build

        if (Path(path) / "zarr.json").exists():
            raise DatasetError(f"{path} exists: append to it, or choose another name.")
        return build(Path(path), spec, [_AtHand(list(chips))], plan={}, append=True, shuffle=False)

    def append(self, chips: Iterable[Chip]) -> ChipStore:
        """The store with more samples behind those that it has. If it fails, nothing has changed.

        Raises:
            DatasetError: a chip has another form, or somebody else is writing.

        """
        from prithvi.chips.build import build

        return build(self.path, self.spec, [_AtHand(list(chips))], plan={}, append=True, shuffle=False)

    def __len__(self) -> int:
        return self.array("image").shape[0]

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
        """Samples in the order of `indices`: `image` (sample, time, band, y, x), `fmask`, `label` as far as there are.

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
        """One row a sample: name, tile, split, dates, granules, shares, and its middle as a point (EPSG:4326)."""
        rows = read_samples(self.path)
        columns = ("name", "tile", "split", "times", "granules", "good", "filled", "labelled", "crs", "affine")
        places = [Point(row.lon, row.lat) if np.isfinite(row.lat) else None for row in rows]
        table = {key: [getattr(row, key) for row in rows] for key in columns}
        return gpd.GeoDataFrame(table, geometry=places, crs="EPSG:4326")

    def verify(self) -> Report:
        """Compares every file with its checksum; see `prithvi.chips.verify.verify`."""
        return verify(self.path)

    def indices(self, split: str) -> list[int]:
        """The samples of one part.

        Raises:
            DatasetError: the store has no such part.

        """
        parts = self.attributes["samples"]
        if split not in parts:
            raise DatasetError(
                f"{self.path} has no part {split!r}: {nearest(split, parts) if any(parts) else 'it is whole.'}"
            )
        return np.flatnonzero(self.samples["split"].to_numpy() == split).tolist()

    def statistics(self, split: str | None = None) -> dict[str, Any]:
        """Mean and standard deviation by band in stored units, read anew sample by sample, without nodata.

        Args:
            split: one part; None takes all samples.

        """
        tally = Tally()
        for index in self.indices(split) if split is not None else range(len(self)):
            pixels = self.read([index])
            tally.add_sample({name: values[0] for name, values in pixels.items()}, self.spec)
        return statistics_of({split or "all": tally}, split or "all")


def statistics_of(tallies: Mapping[str, Tally], of: str | None = None) -> dict[str, Any]:
    """Mean and standard deviation of each band: of the training part where there is one, else of everything."""
    part = of or ("train" if "train" in tallies else "all")
    total = Tally()
    for name, tally in tallies.items():
        if part in (name, "all"):
            total.merge(tally)
    mean, std = total.moments()
    return {
        "of": part,
        "mean": mean,
        "std": std,
        "pixels": [count for count, _, _ in total.bands],
        "classes": total.classes,
    }


def read_samples(path: Path) -> list[Sample]:
    """What a store says of its samples, in their order."""
    group = zarr.open_group(path, mode="r", use_consolidated=True)
    found: dict[str, Any] = {name: group[name][...] for name in COORDINATES if name != "band"}  # type: ignore[index]
    missing = np.iinfo(np.int64).min

    def moment(seconds: int) -> dt.datetime | None:
        return None if seconds == missing else dt.datetime.fromtimestamp(seconds, dt.UTC)

    return [
        Sample(
            name=str(found["name"][row]),
            crs=str(found["crs"][row]),
            affine=tuple(found["affine"][row].tolist()),
            lat=float(found["lat"][row]),
            lon=float(found["lon"][row]),
            times=tuple(moment(int(value)) for value in found["time"][row]),
            granules=tuple(str(value) for value in found["granule"][row]),
            tile=str(found["tile"][row]),
            split=str(found["split"][row]),
            good=tuple(found["good"][row].tolist()),
            filled=tuple(found["filled"][row].tolist()),
            labelled=float(found["labelled"][row]),
            seed=int(found["seed"][row]),
        )
        for row in range(len(found["name"]))
    ]


@dataclass(frozen=True)
class _AtHand:
    """A unit of chips in memory."""

    have: list[Chip]

    @cached_property
    def key(self) -> str:
        """Says which chips they are, so that an interrupted append is only taken up with the same ones."""
        digest = hashlib.sha256()
        for chip in self.have:
            digest.update(json.dumps(chip.sample.to_dict()).encode())
            for pixels in (chip.image, chip.fmask, chip.label):
                digest.update(b"" if pixels is None else np.ascontiguousarray(pixels).tobytes())
        return f"chips-{digest.hexdigest()[:32]}"

    def chips(self, spec: StoreSpec) -> Iterator[Chip]:
        return iter(self.have)
