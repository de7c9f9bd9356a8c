"""Spatial splits: each block of ground goes to one part, and chips near another part become a buffer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine
from pyproj import CRS
from shapely.geometry import Polygon

from prithvi.chips.spec import Sample
from prithvi.errors import ConfigError, counted

BUFFER = "buffer"
"""The part of chips too near to another part: kept in the store, but used by none."""
EQUAL_AREA = "EPSG:6933"
_ATTEMPTS = 20
"""Draws that may leave a part without a chip before the split is refused."""
_WEIGHT = {"train": 0, "val": 1, "test": 2}
"""Of two chips that lie too near the one of the greater keeps its part."""
Block = tuple[int, int]
_DISTANCE = re.compile(r"^(\d+(?:\.\d+)?)(m|km)$")


@dataclass(frozen=True)
class BlockSplit:
    """Blocks of ground drawn for validation and test.

    Chips of different parts lie at least `distance` apart, edge to edge; to that end chips too near to another part
    become `buffer`: first those of training, then those of validation.
    """

    distance: float
    """Metres."""
    height: int
    """Pixels of a chip."""
    width: int
    side: float | None = None
    """Metres along a block; None takes eight chips or four times the distance, whichever is more."""
    validation: float = 0.1
    """Share of the chips."""
    test: float = 0.1
    seed: int = 0

    def __call__(self, samples: Sequence[Sample], old: Sequence[Sample] = ()) -> list[str]:
        """The part of each sample.

        Args:
            samples: those that are to be split.
            old: those of the store that they are added to. These keep their parts, blocks that hold some of them are
                of that part, and what is added lies as far from them as from each other.

        Raises:
            ConfigError: a sample has no place, or some part is left without a chip.

        """
        everyone = [*old, *samples]
        nowhere = next((sample.name for sample in everyone if not sample.crs), None)
        if nowhere is not None:
            raise ConfigError(f"{nowhere} has no place, so it cannot be split by blocks: split by a column.")
        shapes = [ground_of(sample, self.height, self.width) for sample in everyone]
        blocks = self._blocks(everyone, shapes)
        taken = _parts_taken(blocks[: len(old)], [sample.split for sample in old])
        wanted = {part for part, share in (("val", self.validation), ("test", self.test)) if share > 0} | {"train"}
        # A draw may leave a part empty, where its few blocks lie beside those of a heavier part: draw again then.
        for attempt in range(_ATTEMPTS):
            parts = self._draw(blocks, attempt, taken)
            drawn = [sample.split for sample in old] + [parts[block] for block in blocks[len(old) :]]
            kept = _keep_apart(everyone, shapes, np.array(drawn), self.distance, fixed=len(old))
            if wanted <= set(kept):
                return [str(part) for part in kept[len(old) :]]
        missing = " and ".join(sorted(wanted - set(kept)))
        raise ConfigError(
            f"of {counted(len(everyone), 'chip')} in {counted(len(set(blocks)), 'block')} none is left for {missing} "
            f"once parts are {self.distance:g} m apart: make blocks or distance smaller (block:1km:side=20km), or "
            "split by a column."
        )

    def _blocks(self, samples: Sequence[Sample], shapes: Sequence[Polygon]) -> list[Block]:
        """The block that contains the centre of each chip, on one global equal-area grid."""
        side = self.side
        if side is None:
            moved = _projected(samples, shapes, [_local(sample) for sample in samples])
            chip = max(max(s.bounds[2] - s.bounds[0], s.bounds[3] - s.bounds[1]) for s in moved)
            side = max(8 * chip, 4 * self.distance)
        middles = gpd.points_from_xy([s.lon for s in samples], [s.lat for s in samples], crs="EPSG:4326")
        return [(int(point.x // side), int(point.y // side)) for point in middles.to_crs(EQUAL_AREA)]

    def _draw(self, blocks: Sequence[Block], attempt: int, taken: Mapping[Block, str]) -> dict[Block, str]:
        """The part of each block, where it is not taken: blocks in random order, until each part has its share of the
        chips.
        """
        # Blocks differ in how many chips they hold, so shares are counted in chips: blocks go to validation in random
        # order until it has its share, the next ones to test, and all others train.
        names = sorted(set(blocks))
        chips = {name: blocks.count(name) for name in names}
        parts = {**dict.fromkeys(names, "train"), **taken}
        drawn = np.random.default_rng([self.seed, attempt]).permutation(len(names))
        order = iter([index for index in drawn if names[index] not in taken])
        for part, share in (("val", self.validation), ("test", self.test)):
            have = sum(chips[name] for name, other in taken.items() if other == part)
            while have < share * len(blocks) and (index := next(order, None)) is not None:
                parts[names[index]] = part
                have += chips[names[index]]
        return parts


def block_split(text: str, height: int, width: int, seed: int = 0) -> BlockSplit:
    """`block:5km` or `block:5km:side=60km:val=0.1:test=0.1` as a split.

    Raises:
        ConfigError: it cannot be read.

    """
    words = text.split(":")
    given = {"distance": words[1] if len(words) > 1 else "", **dict(word.partition("=")[::2] for word in words[2:])}
    try:
        options = {"validation": float(given.get("val", 0.1)), "test": float(given.get("test", 0.1))}
        side = _metres(given["side"]) if "side" in given else None
        known = words[0] == "block" and not given.keys() - {"distance", "side", "val", "test"}
        if known and min(options.values()) >= 0 and sum(options.values()) < 1 and (side is None or side > 0):
            return BlockSplit(_metres(given["distance"]), height, width, side, **options, seed=seed)
    except ValueError:
        pass
    raise ConfigError(f"{text!r} is no split: write block:5km, block:5km:side=60km:val=0.1:test=0.1 or column:NAME.")


def _metres(text: str) -> float:
    match = _DISTANCE.match(text)
    if match is None:
        raise ValueError(text)
    return float(match[1]) * (1000 if match[2] == "km" else 1)


def ground_of(sample: Sample, height: int, width: int) -> Polygon:
    """The square of ground a sample covers, in its own CRS."""
    corners = ((0, 0), (width, 0), (width, height), (0, height))
    return Polygon([Affine(*sample.affine) * corner for corner in corners])


def _local(sample: Sample) -> str:
    """The UTM zone of a sample, where distances are exact to one part in a thousand."""
    zone = int((sample.lon + 180) // 6) % 60 + 1
    return f"EPSG:{(32700 if sample.lat < 0 else 32600) + zone}"


def _projected(samples: Sequence[Sample], shapes: Sequence[Polygon], targets: Sequence[str]) -> list[Polygon]:
    """Footprints of samples, each in its own target CRS, all those of one pair of CRSs at once."""
    result = list(shapes)
    pairs = [(sample.crs, target) for sample, target in zip(samples, targets, strict=True)]
    for source, target in sorted(set(pairs)):
        here = [index for index, pair in enumerate(pairs) if pair == (source, target)]
        if CRS.from_user_input(source) != CRS.from_user_input(target):
            moved = gpd.GeoSeries([shapes[index] for index in here], crs=source).to_crs(target)
            for index, shape in zip(here, moved, strict=True):
                result[index] = shape
    return result


def _parts_taken(blocks: Sequence[Block], parts: Sequence[str]) -> dict[Block, str]:
    """The part of each block of a store: the heaviest of those that its chips are of."""
    taken: dict[Block, str] = {}
    for block, part in zip(blocks, parts, strict=True):
        if part in _WEIGHT and _WEIGHT[part] >= _WEIGHT[taken.get(block, "train")]:
            taken[block] = part
    return taken


def _keep_apart(
    samples: Sequence[Sample], shapes: Sequence[Polygon], parts: npt.NDArray[np.str_], distance: float, fixed: int
) -> npt.NDArray[np.str_]:
    """The parts, with `buffer` for every chip nearer than `distance` to a part of more weight, or to one of the first
    `fixed` chips of another part, which keep theirs.
    """
    # Distances are measured in UTM, zone by zone: a zone's own chips against all that lie near, each pair of chips in
    # at least one of its two zones. Of a pair that is too near, the chip of the lighter part becomes buffer.
    result = parts.astype(object)
    zones = np.array([_local(sample) for sample in samples])
    for zone in sorted(set(zones)):
        # The zone's chips and all chips near them, in the zone's coordinates.
        near = _near(samples, zones == zone, distance)
        moved = _projected([samples[i] for i in near], [shapes[i] for i in near], [str(zone)] * len(near))
        tree = shapely.STRtree(moved)
        mine = np.flatnonzero(zones[near] == zone)
        # dwithin includes the distance itself; chips exactly that far apart are far enough.
        left, right = tree.query([moved[i] for i in mine], predicate="dwithin", distance=distance * (1 - 1e-9))
        for one, other in zip(near[mine[left]], near[right], strict=True):
            if parts[one] == parts[other] or not {parts[one], parts[other]} <= _WEIGHT.keys():
                continue
            if min(one, other) >= fixed:
                result[one if _WEIGHT[parts[one]] < _WEIGHT[parts[other]] else other] = BUFFER
            elif max(one, other) >= fixed:  # two of the first are as they are
                result[max(one, other)] = BUFFER
    return result


def _near(samples: Sequence[Sample], inside: npt.NDArray[np.bool_], distance: float) -> npt.NDArray[np.int_]:
    """Positions of samples that may be near those `inside`, by their centres in degrees with a generous margin."""
    # A coarse filter before anything is projected: a degree of latitude is 111 km, one of longitude shrinks with the
    # cosine of the latitude, and 50 km are added for the size of chips and the rounding here.
    lon, lat = np.array([s.lon for s in samples]), np.array([s.lat for s in samples])
    reach = (distance + 50_000) / 111_000
    south, north = lat[inside].min() - reach, lat[inside].max() + reach
    wide = reach / max(0.05, np.cos(np.radians(min(89.0, max(abs(south), abs(north))))))
    middle = lon[inside][0]
    around = (lon - middle + 180) % 360 - 180  # so that the date line cuts nothing
    west, east = around[inside].min() - wide, around[inside].max() + wide
    return np.flatnonzero((lat >= south) & (lat <= north) & (around >= west) & (around <= east))
