"""In which order samples are streamed: pure functions of a seed and a position, so that any moment can be gone back to.

Nothing here reads a pixel or remembers what it gave before. A run that is resumed, that has another number of workers
or devices, or that is looked at from a debugger asks for the same position and gets the same sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from prithvi.errors import ConfigError

Indices = npt.NDArray[np.int64]

_SLOTS = 4096
"""Weights of a mixture are rounded to this fraction."""


class ShuffledShards:
    """Endless passes over some samples of a sharded store: shards in random order, samples shuffled within a buffer.

    Args:
        indices: the samples, as positions in the store.
        per_shard: samples in a file of the store.
        buffer: how many samples that follow each other by shards are shuffled together.
        seed: of every draw.

    """

    def __init__(self, indices: Sequence[int], per_shard: int, buffer: int, seed: tuple[int, ...]) -> None:
        self.indices = np.sort(np.asarray(indices, np.int64))
        self.starts = np.flatnonzero(np.diff(self.indices // per_shard, prepend=-1))
        self.buffer = max(1, buffer)
        self.seed = seed
        self._pass = lru_cache(maxsize=2)(self._by_shards)
        self._block = lru_cache(maxsize=4)(self._shuffled)

    def __len__(self) -> int:
        return len(self.indices)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_pass", "_block")}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._pass = lru_cache(maxsize=2)(self._by_shards)
        self._block = lru_cache(maxsize=4)(self._shuffled)

    def at(self, position: int) -> int:
        """The sample at a position of the endless sequence; each pass of len(self) positions has each sample once."""
        number, place = divmod(position, len(self.indices))
        block, within = divmod(place, self.buffer)
        return int(self._block(number, block)[within])

    def _by_shards(self, number: int) -> Indices:
        """One pass, shard after shard."""
        parts = np.split(self.indices, self.starts[1:])
        order = np.random.default_rng([*self.seed, 1, number]).permutation(len(parts))
        return np.concatenate([parts[shard] for shard in order])

    def _shuffled(self, number: int, block: int) -> Indices:
        some = self._pass(number)[block * self.buffer : (block + 1) * self.buffer]
        return np.random.default_rng([*self.seed, 2, number, block]).permutation(some)


class Mixture:
    """Which of several sources each position of a stream takes, and how many that source gave before.

    Args:
        weights: of each source, any scale; each gets at least one position in 4,096.
        seed: of every draw.

    Raises:
        ConfigError: a weight of 0 or less, or too many sources.

    """

    def __init__(self, weights: Sequence[float], seed: tuple[int, ...]) -> None:
        if len(weights) > _SLOTS or min(weights) <= 0:
            raise ConfigError(
                f"{len(weights)} sources with weights from {min(weights):g} were given: at most {_SLOTS}, each above 0."
            )
        share = np.asarray(weights, float) / sum(weights)
        counts = np.maximum(1, np.floor(share * _SLOTS).astype(int))
        counts[np.argmax(counts)] += _SLOTS - counts.sum()
        self.counts = counts
        self.seed = seed
        self._laid: tuple[int, Indices, Indices] | None = None

    def at(self, position: int) -> tuple[int, int]:
        """(source, how many positions before this one took the same source)."""
        block, place = divmod(position, _SLOTS)
        if self._laid is None or self._laid[0] != block:
            slots = np.repeat(np.arange(len(self.counts)), self.counts)
            if len(self.counts) > 1:
                slots = np.random.default_rng([*self.seed, 3, block]).permutation(slots)
            rank = np.empty_like(slots)
            for source, count in enumerate(self.counts):
                rank[slots == source] = np.arange(count)
            self._laid = block, slots, rank
        _, slots, rank = self._laid
        source = int(slots[place])
        return source, block * int(self.counts[source]) + int(rank[place])


def subset(size: int, fraction: float, seed: int) -> list[int]:
    """A share of 0 .. size - 1, at least one, ascending; smaller shares of one seed are parts of larger ones."""
    order = np.random.default_rng(seed).permutation(size)
    return sorted(order[: max(1, round(fraction * size))].tolist())
