"""The order of streamed samples, as pure functions of a seed and a position.

Nothing here reads pixels or depends on earlier draws. A run that is resumed, or has a different number of workers or
devices, asks for the same position and gets the same sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from prithvi.errors import ConfigError

Indices = npt.NDArray[np.int64]

_SLOTS = 4096
"""Positions per block of a mixture; weights are rounded to multiples of 1 / _SLOTS."""


class ShuffledShards:
    """Endless passes over samples of a sharded store: shards in random order, samples shuffled within a buffer.

    Args:
        indices: the samples, as positions in the store.
        per_shard: samples per shard (file) of the store.
        buffer: number of consecutive samples, in the order of shards, that are shuffled together.
        seed: seed of all draws.

    """

    # Two-stage shuffling: the shards of a pass are permuted, then the samples of each block of `buffer`, so that reads
    # stay local to a few shards. Permutations depend only on (seed, pass, block), so any position can be computed
    # directly; the caches hold the permutations of the current pass and blocks.
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
        """The sample at a position of the endless sequence; each pass of len(self) positions has every sample once."""
        number, place = divmod(position, len(self.indices))
        block, within = divmod(place, self.buffer)
        return int(self._block(number, block)[within])

    def _by_shards(self, number: int) -> Indices:
        """The samples of pass `number`, shard by shard in random order."""
        parts = np.split(self.indices, self.starts[1:])
        order = np.random.default_rng([*self.seed, 1, number]).permutation(len(parts))
        return np.concatenate([parts[shard] for shard in order])

    def _shuffled(self, number: int, block: int) -> Indices:
        some = self._pass(number)[block * self.buffer : (block + 1) * self.buffer]
        return np.random.default_rng([*self.seed, 2, number, block]).permutation(some)


class Mixture:
    """The source of each position of a stream that mixes several sources by weight.

    Args:
        weights: weight of each source, any scale; each gets at least one position in 4,096.
        seed: seed of all draws.

    Raises:
        ConfigError: a weight is not positive, or there are too many sources.

    """

    # Every block of 4,096 positions is a random permutation of the same slots, with each source in a fixed number of
    # them. The number of earlier positions of a source is therefore blocks x slots plus its rank within the block.
    def __init__(self, weights: Sequence[float], seed: tuple[int, ...]) -> None:
        if len(weights) > _SLOTS or min(weights) <= 0:
            found = f"{len(weights)} sources with weights from {min(weights):g}"
            raise ConfigError(f"{found} were given: at most {_SLOTS}, each above 0.")
        # Rounding goes down, and what remains to the largest sources, one slot each, so that slots add up and none is
        # empty. Where many small sources are raised to one slot, the others share what these leave.
        share = np.asarray(weights, float) / sum(weights)
        counts = np.maximum(1, np.floor(share * _SLOTS).astype(int))
        while counts.sum() > _SLOTS:
            larger = counts > 1
            left = _SLOTS - np.count_nonzero(~larger)
            counts[larger] = np.maximum(1, np.floor(share[larger] / share[larger].sum() * left).astype(int))
        counts[np.argsort(-counts, kind="stable")[: _SLOTS - counts.sum()]] += 1
        self.counts = counts
        self.seed = seed
        self._laid: tuple[int, Indices, Indices] | None = None

    def at(self, position: int) -> tuple[int, int]:
        """(source, number of earlier positions with the same source)."""
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
    """A random fraction of 0 .. size - 1, at least one, ascending; with one seed, smaller subsets nest in larger."""
    order = np.random.default_rng(seed).permutation(size)
    return sorted(order[: max(1, round(fraction * size))].tolist())
