"""An endless, shuffled, weighted stream of batches out of chip stores, which can start at any batch.

Batch `n` of a stream is a function of the stores, the seed and `n`. Ranks take their slices of it and workers take
turns at it, so it is the same batch with any number of either; a checkpoint needs to remember one number.
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
from prithvi.data.order import Mixture, ShuffledShards
from prithvi.data.stores import StoreDataset, with_frames
from prithvi.errors import ConfigError, DatasetError, PrithviError
from prithvi.hls.fmask import FILL, flag

ENDLESS = 10**12
"""Length of a stream, for those that ask: a loader without one makes Lightning read a batch ahead of the checkpoint."""
_MOST_CLOUDS = 2048
"""Cloud masks kept in memory by each worker."""


@dataclass(frozen=True)
class Source:
    """Some samples of one store, and how often they are drawn."""

    store: ChipStore
    indices: Sequence[int]
    weight: float
    """Against the other sources."""
    name: str
    """Store and part, for messages."""


class _Kind:
    """The sources of one number of dates, mixed."""

    def __init__(self, frames: int, sources: Sequence[Source], buffer: int, seed: tuple[int, ...]) -> None:
        self.frames, self.sources = frames, sources
        self.weight = sum(source.weight for source in sources)
        self.mixture = Mixture([source.weight for source in sources], seed)
        self.orders = [
            ShuffledShards(source.indices, source.store.spec.shard, buffer, (*seed, number))
            for number, source in enumerate(sources)
        ]

    def at(self, position: int) -> tuple[Source, int]:
        """The sample at a position of this kind's own endless sequence."""
        source, before = self.mixture.at(position)
        return self.sources[source], self.orders[source].at(before)


@dataclass
class ChipStream:
    """Batches of samples drawn from sources.

    A batch is what `StoreDataset` describes, with a batch axis and without labels, and `number`, its place in the
    stream, and `complete`, whether every pixel is valid. All of its samples are from stores of the same number of
    dates, so that nothing is spent on filling up; a date that a sample lacks is nodata.

    Args:
        sources: at least one; all of one height, width and bands.
        batch_size: samples in a batch over all ranks.
        buffer: samples shuffled together.
        frames: numbers of dates, one of which is drawn for each batch; samples with more dates give a random
            subset in order, stores with fewer all they have. None takes all dates.
        clouds: (N, Y, X) bool masks of real clouds; a batch then holds `clouds` (B, T, Y, X), drawn and flipped.
        seed: of every draw.

    Raises:
        DatasetError: no source, an empty one, or stores of different form.

    """

    sources: Sequence[Source]
    batch_size: int
    buffer: int = 4096
    frames: Sequence[int] | None = None
    clouds: npt.NDArray[np.bool_] | None = None
    seed: int = 0
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
            path = str(source.store.path)
            self._readers.setdefault(path, StoreDataset(source.store))
        total = sum(len(source.indices) for source in self.sources)
        if total < self.batch_size:
            raise DatasetError(
                f"{total} samples ({', '.join(source.name for source in self.sources)}) do not make one batch of "
                f"{self.batch_size} over all devices: lower the batch size, use fewer devices, or add a store."
            )
        by_frames: dict[int, list[Source]] = {}
        for source in self.sources:
            by_frames.setdefault(source.store.spec.frames, []).append(source)
        self._kinds = [
            _Kind(frames, some, self.buffer, (self.seed, frames)) for frames, some in sorted(by_frames.items())
        ]
        self._turns = Mixture([kind.weight for kind in self._kinds], (self.seed,))

    def batch(self, number: int, rank: int = 0, ranks: int = 1) -> dict[str, Any]:
        """Batch `number`, or the slice of it that one of several ranks takes."""
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
            batch.pop("label", None)
            dates = [self._dates(batch, row, start + place, frames) for row, place in enumerate(some)]
            read.append(with_frames(batch, torch.from_numpy(np.stack(dates))))
            places += some
        back = torch.from_numpy(np.argsort(places))
        found: dict[str, Any] = {
            name: torch.cat([part[name] for part in read])[back] for name in read[0] if name != "id"
        }
        names = [name for part in read for name in part["id"]]
        found["id"] = [names[place] for place in back.tolist()]
        if self.clouds is not None:
            found["clouds"] = torch.stack([self._clouds(start + place, frames) for place in range(each)])
        return {**found, "number": number, "complete": bool(found["valid"].all())}

    def describe(self) -> dict[str, Any]:
        """Everything that the order depends on, compared when a run is resumed."""
        return {
            "sources": [[source.name, len(source.indices), round(source.weight, 9)] for source in self.sources],
            "buffer": self.buffer,
            "frames": list(self.frames or []),
            "seed": self.seed,
        }

    def _random(self, *key: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *key])

    def _dates(self, batch: Mapping[str, Any], row: int, position: int, frames: int) -> npt.NDArray[np.int64]:
        """(frames,) dates of one sample that hold any pixel, in order; -1 behind them where they are fewer."""
        there = torch.nonzero(batch["valid"][row].flatten(1).any(dim=1)).flatten().numpy()
        if not len(there):
            raise DatasetError(f"sample {batch['id'][row]} has no pixel with data: leave it out of its store.")
        if len(there) > frames:
            there = np.sort(self._random(5, position).choice(there, frames, replace=False))
        return np.concatenate([there, np.full(frames - len(there), -1, np.int64)])

    def _clouds(self, position: int, frames: int) -> Tensor:
        """(frames, Y, X) bool cloud masks, each flipped or not along either axis."""
        assert self.clouds is not None
        random = self._random(6, position)
        chosen = self.clouds[random.integers(len(self.clouds), size=frames)]
        flips = [slice(None, None, -1) if flip else slice(None) for flip in random.integers(2, size=2)]
        return torch.from_numpy(np.ascontiguousarray(chosen[:, flips[0], flips[1]]))


def same_form(one: ChipStore, other: ChipStore) -> None:
    """Raises DatasetError where samples of two stores cannot lie in one batch."""
    a, b = one.spec, other.spec
    if a.bands != b.bands:
        raise DatasetError(
            f"{other.path} holds {', '.join(b.bands)} and {one.path} holds {', '.join(a.bands)}: stores that are mixed "
            "have the same bands in the same order."
        )
    if (a.height, a.width, a.gain) != (b.height, b.width, b.gain):
        raise DatasetError(
            f"{other.path} holds chips of {b.height} x {b.width} (gain {b.gain:g}) and {one.path} of {a.height} x "
            f"{a.width} (gain {a.gain:g}): build both with the same --size."
        )


def cloud_masks(store: ChipStore, least: float = 0.1, most: float = 0.9) -> npt.NDArray[np.bool_]:
    """(N, Y, X) cloud and shadow of a store's dates that are partly cloudy, N up to 2,048.

    Args:
        store: one with Fmask.
        least: cloudy share of a date from which on it is taken.
        most: the share up to which it is.

    Raises:
        DatasetError: no Fmask, or no date that is partly cloudy.

    """
    if not store.spec.fmask:
        raise DatasetError(f"{store.path} has no Fmask to take cloud shapes from.")
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
    """One rank's slices from batch `start` on; a worker takes every n-th."""

    def __init__(self, stream: ChipStream, rank: int, ranks: int) -> None:
        self.stream, self.rank, self.ranks, self.start = stream, rank, ranks, 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        info = get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        if info is not None:
            torch.set_num_threads(1)
        for number in itertools.count(self.start + first, step):
            try:
                yield self.stream.batch(number, self.rank, self.ranks)
            except PrithviError as error:
                # An error that torch carries over from a worker turns into a page of traceback.
                yield {"error": error}
                return


class StreamLoader:
    """A stream as a loader that Lightning saves with a checkpoint and restores.

    Not a DataLoader itself, since Lightning warns of any that streams and has a length.

    Args:
        stream: what is read.
        rank: of this process.
        ranks: processes that train; each takes its own slice of a batch.
        num_workers: processes that read for this one; any number, also on resuming.
        pin_memory: hand batches over in memory that a GPU copies from without waiting.

    Raises:
        ConfigError: ranks do not divide the batch; or, on resuming, the checkpoint belongs to other data.

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
            self.position += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Samples that all ranks have seen together, and of which stream."""
        return {"samples": self.position * self.stream.batch_size, **self.stream.describe()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resumes behind the samples that a checkpoint has seen; another batch size starts at its next whole batch."""
        own = self.stream.describe()
        for key, value in own.items():
            if state.get(key) != value:
                raise ConfigError(
                    f"the checkpoint was trained with {key} {state.get(key)} and this configuration streams "
                    f"{key} {value}: resume with the same data, or start a new run from its weights (model.init)."
                )
        self.position = -(-int(state["samples"]) // self.stream.batch_size)
