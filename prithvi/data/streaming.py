"""An endless, shuffled, weighted stream of batches from chip stores, which can start at any batch.

Batch `n` is a pure function of the stores, the seed and `n`. Each rank takes a slice of every batch and each worker
every n-th batch, so batches do not depend on the number of ranks or workers, and a checkpoint stores a single number.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from prithvi.chips import ChipStore
from prithvi.contract import IGNORE
from prithvi.data.order import Mixture, ShuffledShards
from prithvi.data.stores import StoreDataset, with_frames
from prithvi.errors import ConfigError, DatasetError, PrithviError, counted
from prithvi.hls.granules import FILL, flag

ENDLESS = 10**12
"""Nominal length of a stream: with a loader of unknown length, Lightning reads one batch ahead of the checkpoint."""
_MOST_CLOUDS = 2048
"""Upper limit of cloud masks, which each worker holds in memory."""


@dataclass(frozen=True)
class Source:
    """Samples of one store, with a sampling weight."""

    store: ChipStore
    indices: Sequence[int]
    weight: float
    """Sampling weight, relative to the other sources."""
    name: str
    """Store and split, for messages."""


class _Kind:
    """The mixture of all sources that have the same number of dates."""

    def __init__(self, frames: int, sources: Sequence[Source], buffer: int, seed: tuple[int, ...]) -> None:
        self.frames, self.sources = frames, sources
        self.weight = sum(source.weight for source in sources)
        self.mixture = Mixture([source.weight for source in sources], seed)
        self.orders = [
            ShuffledShards(source.indices, source.store.spec.shard, buffer, (*seed, number))
            for number, source in enumerate(sources)
        ]

    def at(self, position: int) -> tuple[Source, int]:
        """Source and row of the sample at a position of this mixture's endless sequence."""
        source, before = self.mixture.at(position)
        return self.sources[source], self.orders[source].at(before)


@dataclass
class ChipStream:
    """Batches of samples drawn from sources.

    A batch holds what `StoreDataset` describes, with a batch axis; `label` only if `labels` is set; `number`, its
    position in the stream; and `complete`, whether all pixels are valid. All samples of a batch are from stores with
    the same number of dates, which avoids padding; dates that a sample lacks are nodata.

    Args:
        sources: at least one source; all with the same height, width and bands.
        batch_size: samples per batch over all ranks.
        buffer: samples shuffled together.
        frames: numbers of dates, one of which is drawn for each batch; of samples with more dates a random subset is
            used, in order, and stores with fewer dates give all of them. None for all dates.
        clouds: (N, Y, X) bool masks of real clouds; batches then hold `clouds` (B, T, Y, X), randomly drawn and
            flipped.
        seed: seed of all draws.
        labels: give labels, which are all IGNORE for samples of stores without them.

    Raises:
        DatasetError: no source, an empty source, or stores whose samples cannot share a batch.

    """

    sources: Sequence[Source]
    batch_size: int
    buffer: int = 4096
    frames: Sequence[int] | None = None
    clouds: npt.NDArray[np.bool_] | None = None
    seed: int = 0
    labels: bool = False
    _kinds: list[_Kind] = field(init=False, repr=False)
    _readers: dict[str, StoreDataset] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        if not self.sources:
            raise DatasetError("a stream needs at least one store.")
        first = self.sources[0].store
        for source in self.sources:
            if not source.indices:
                raise DatasetError(f"{source.name} holds no sample.")
            same_form(first, source.store)
            self._readers.setdefault(str(source.store.path), StoreDataset(source.store))
        total = sum(len(source.indices) for source in self.sources)
        if total < self.batch_size:
            names = ", ".join(source.name for source in self.sources)
            raise DatasetError(
                f"no batch of {self.batch_size} over all devices comes of {counted(total, 'sample')} ({names}): "
                "lower the batch size, use fewer devices, or add a store."
            )
        # Two levels of mixing: over numbers of dates for each batch, then over sources for each sample of the batch.
        by_frames: dict[int, list[Source]] = {}
        for source in self.sources:
            by_frames.setdefault(source.store.spec.frames, []).append(source)
        self._kinds = [
            _Kind(frames, some, self.buffer, (self.seed, frames)) for frames, some in sorted(by_frames.items())
        ]
        self._turns = Mixture([kind.weight for kind in self._kinds], (self.seed,))

    def batch(self, number: int, rank: int = 0, ranks: int = 1) -> dict[str, Any]:
        """Batch `number`, or the slice of it that belongs to one of several ranks."""
        # 1. The mixture of numbers of dates decides which kind of sources this batch takes, and at which position.
        # 2. Samples are grouped by store, so that each store is read once; the slots of the batch are restored at the
        #    end, since the order must not depend on the grouping.
        # 3. Draws for a sample (dates, clouds) are seeded by its position in the whole stream, never by its rank.
        turn, before = self._turns.at(number)
        kind, frames = self._kinds[turn], self._kinds[turn].frames
        if self.frames:
            frames = min(frames, self.frames[int(self._random(4, number).integers(len(self.frames)))])
        each = self.batch_size // ranks
        start = number * self.batch_size + rank * each
        first = before * self.batch_size + rank * each
        rows = [kind.at(position) for position in range(first, first + each)]
        parts: dict[str, list[int]] = {}
        for place, (source, _) in enumerate(rows):
            parts.setdefault(str(source.store.path), []).append(place)
        read, places = [], []
        for path, some in parts.items():
            batch = self._readers[path].read([rows[place][1] for place in some])
            label = batch.pop("label", None)
            if self.labels:
                empty = torch.full(batch["image"].shape[:1] + batch["image"].shape[-2:], IGNORE, dtype=torch.int16)
                batch["label"] = empty if label is None else label
            dates = [self._dates(batch, row, start + place, frames) for row, place in enumerate(some)]
            read.append(with_frames(batch, torch.from_numpy(np.stack(dates))))
            places += some
        back = torch.from_numpy(np.argsort(places))
        names = [name for part in read for name in part.pop("id")]
        found: dict[str, Any] = {name: torch.cat([part[name] for part in read])[back] for name in read[0]}
        found["id"] = [names[place] for place in back.tolist()]
        if self.clouds is not None:
            found["clouds"] = torch.stack([self._clouds(start + place, frames) for place in range(each)])
        return {**found, "number": number, "complete": bool(found["valid"].all())}

    def describe(self) -> dict[str, Any]:
        """Everything that the order of samples depends on, which must be unchanged for a run to be resumed."""
        return {
            "sources": [[source.name, len(source.indices), round(source.weight, 9)] for source in self.sources],
            "buffer": self.buffer,
            "frames": list(self.frames or []),
            "seed": self.seed,
        }

    def _random(self, *key: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *key])

    def _dates(self, batch: Mapping[str, Any], row: int, position: int, frames: int) -> npt.NDArray[np.int64]:
        """(frames,) indices of dates of a sample that have any data, in order, padded with -1."""
        there = torch.nonzero(batch["valid"][row].flatten(1).any(dim=1)).flatten().numpy()
        if not len(there):
            raise DatasetError(f"sample {batch['id'][row]} has no pixel with data: leave it out of its store.")
        # Dates without data are skipped rather than shown as nodata: the model would learn nothing from them.
        if len(there) > frames:
            there = np.sort(self._random(5, position).choice(there, frames, replace=False))
        return np.concatenate([there, np.full(frames - len(there), -1, np.int64)])

    def _clouds(self, position: int, frames: int) -> Tensor:
        """(frames, Y, X) random bool cloud masks of a sample, with random flips common to all dates."""
        assert self.clouds is not None
        random = self._random(6, position)
        chosen = self.clouds[random.integers(len(self.clouds), size=frames)]
        flips = [slice(None, None, -1) if flip else slice(None) for flip in random.integers(2, size=2)]
        return torch.from_numpy(np.ascontiguousarray(chosen[:, flips[0], flips[1]]))


def same_form(one: ChipStore, other: ChipStore) -> None:
    """Checks that samples of two stores can share a batch.

    Raises:
        DatasetError: bands, height, width or gain differ.

    """
    a, b = one.spec, other.spec
    if a.bands != b.bands:
        found = f"{other.path} holds {', '.join(b.bands)} and {one.path} holds {', '.join(a.bands)}"
        raise DatasetError(f"{found}: stores that are mixed have the same bands in the same order.")
    if (a.height, a.width, a.gain) != (b.height, b.width, b.gain):
        raise DatasetError(
            f"{other.path} holds chips of {b.height} x {b.width} (gain {b.gain:g}) and {one.path} of {a.height} x "
            f"{a.width} (gain {a.gain:g}): build both with the same --size."
        )


def cloud_masks(store: ChipStore, least: float = 0.1, most: float = 0.9) -> npt.NDArray[np.bool_]:
    """(N, Y, X) bool masks of cloud and cloud shadow from partly cloudy dates of a store, at most 2,048.

    Args:
        store: a store with Fmask.
        least: smallest cloudy fraction of a date to be used.
        most: largest cloudy fraction of a date to be used.

    Raises:
        DatasetError: the store has no Fmask, or no partly cloudy date.

    """
    if not store.spec.fmask:
        raise DatasetError(f"{store.path} has no Fmask to take cloud shapes from.")
    # Dates partly outside the swath are left out, since clouds are unknown there and shapes would be cut at its edge.
    # Almost clear or overcast dates leave nothing to fill, or nothing to fill from. Masks are collected in the order
    # of samples until there are enough.
    found: list[npt.NDArray[np.bool_]] = []
    for index in range(len(store)):
        fmask = store.read([index], ["fmask"])["fmask"][0]
        cloudy = flag(fmask, "cloud") | flag(fmask, "shadow")
        share = cloudy.mean(axis=(1, 2))
        whole = (fmask != FILL).all(axis=(1, 2))
        found += list(cloudy[whole & (share >= least) & (share <= most)])
        if len(found) >= _MOST_CLOUDS:
            break
    if not found:
        raise DatasetError(f"no date of {store.path} is between {least:.0%} and {most:.0%} cloudy by its Fmask.")
    return np.stack(found[:_MOST_CLOUDS])


class _Batches(IterableDataset[dict[str, Any]]):
    """One rank's slices of all batches from `start` on; of n workers, each yields every n-th."""

    def __init__(self, stream: ChipStream, rank: int, ranks: int) -> None:
        self.stream, self.rank, self.ranks, self.start = stream, rank, ranks, 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        info = get_worker_info()
        # DataLoader takes batches from its workers in turn, so every n-th batch from each gives them all in order.
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        if info is not None:
            torch.set_num_threads(1)
        for number in itertools.count(self.start + first, step):
            try:
                yield self.stream.batch(number, self.rank, self.ranks)
            except PrithviError as error:
                # Yielded, not raised: torch would turn an exception of a worker into a page of traceback.
                yield {"error": error}
                return


class StreamLoader:
    """A data loader of a stream, whose position Lightning saves in checkpoints and restores.

    It is not a DataLoader, since Lightning warns about any iterable-style DataLoader that has a length.

    Args:
        stream: the stream.
        rank: rank of this process.
        ranks: number of training processes, each of which takes its slice of every batch.
        num_workers: reader processes of this rank; may differ when resuming.
        pin_memory: copy batches to page-locked memory, from which transfer to a GPU is asynchronous.

    Raises:
        ConfigError: the batch size is not a multiple of `ranks`; on resuming, the checkpoint belongs to other data.

    """

    def __init__(
        self, stream: ChipStream, rank: int = 0, ranks: int = 1, num_workers: int = 0, pin_memory: bool = False
    ) -> None:
        if stream.batch_size % ranks:
            raise ConfigError(f"a batch of {stream.batch_size} does not divide among {ranks} devices.")
        self.stream, self.position = stream, 0
        self._batches = _Batches(stream, rank, ranks)
        ahead = 4 if num_workers else None
        self._loader = DataLoader(
            self._batches, None, num_workers=num_workers, pin_memory=pin_memory, prefetch_factor=ahead
        )

    def __len__(self) -> int:
        return ENDLESS

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self._batches.start = self.position
        for batch in self._loader:
            if "error" in batch:
                raise batch["error"]
            # Counted when a batch is handed out, not when it is read: workers read ahead of training.
            self.position += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Number of samples that all ranks together have seen, and the description of the stream."""
        return {"samples": self.position * self.stream.batch_size, **self.stream.describe()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resumes after the samples that a checkpoint has seen; with another batch size, at its next whole batch.

        Raises:
            ConfigError: the checkpoint belongs to other data.

        """
        own = self.stream.describe()
        for key, value in own.items():
            if state.get(key) != value:
                raise ConfigError(
                    f"the checkpoint was trained with {key} {state.get(key)} and this configuration streams "
                    f"{key} {value}: resume with the same data, or start a new run from its weights (model.init)."
                )
        # Rounded up: with another batch size, up to one batch of samples may be skipped, but none is repeated.
        self.position = -(-int(state["samples"]) // self.stream.batch_size)
