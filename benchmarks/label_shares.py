"""Parts of labelled imagery to train on, to choose the best step by, and to test on; and shares of the labels.

A share of the labels is a share of units: squares of 32 pixels of the flood chip's training columns, squares of 4 of
the WorldCereal site's, fields of AgriFieldNet, chips of hls_water. Of the units of each class (that of most of their
pixels) the share is drawn by seed, at least one, spread over how much of that class they hold. All methods see the same
units. The validation part is the same at every share: columns of the chip, the catalog's list, or of hls_water the good
chips of the fold after the one that is tested on.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from labelled_imagery import FOLDS, Imagery, LabelledChip, without_label

from prithvi.cli.demo import PARTS
from prithvi.contract import IGNORE

COLUMNS = {"floods": PARTS, "worldcereal": {"train": (0, 34), "val": (36, 46), "test": (48, 64)}}
"""Columns of the parts of the data that are one chip."""
ROWS = {"burn": {"train": (0, 70), "val": (74, 90), "test": (94, 177)}}
UNIT = {"floods": 32, "worldcereal": 4, "burn": 16}
SQUARE = 64
"""Larger chips are validated and tested in squares of this size that have labels."""


@dataclass(frozen=True, eq=False)
class Parts:
    train: list[LabelledChip]
    val: list[LabelledChip]
    test: list[LabelledChip]


def parts(imagery: Imagery, fold: int = -1) -> Parts:
    """All labels of each part; fold is the one of hls_water's that is tested on."""
    if imagery.name in COLUMNS or imagery.name in ROWS:
        along, axis = (COLUMNS, 1) if imagery.name in COLUMNS else (ROWS, 0)
        spans = along[imagery.name]
        cut = {name: _span(imagery.chips[0], span, axis, name) for name, span in spans.items()}
        if imagery.name == "worldcereal":  # narrower than a window: around them there are pixels without labels
            place = np.arange(imagery.chips[0].label.shape[1])
            for name in ("val", "test"):
                inside = np.broadcast_to((place >= spans[name][0]) & (place < spans[name][1]), (64, 64))
                cut[name] = without_label(imagery.chips[0], inside)
        return Parts([cut["train"]], [cut["val"]], [cut["test"]])
    if imagery.name == "water":
        kept_back = (fold + 1) % FOLDS
        return Parts(
            [chip for chip in imagery.chips if chip.good and chip.fold not in (fold, kept_back)],
            [chip for chip in imagery.chips if chip.good and chip.fold == kept_back],
            [chip for chip in imagery.chips if chip.fold == fold],
        )
    train, val, test = ([chip for chip in imagery.chips if chip.part == part] for part in ("train", "val", "test"))
    return Parts(train, list(_squares(val)), list(_squares(test)))


def _span(chip: LabelledChip, span: tuple[int, int], axis: int, name: str) -> LabelledChip:
    square = (slice(None), slice(*span)) if axis else (slice(*span), slice(None))
    return _cut(chip, square, f"{chip.name}, {name}")


def _cut(chip: LabelledChip, square: tuple[slice, slice], name: str) -> LabelledChip:
    fields = None if chip.fields is None else chip.fields[square]
    image, valid = chip.image[(..., *square)], chip.valid[(..., *square)]
    return replace(chip, name=name, image=image, valid=valid, label=chip.label[square], fields=fields)


def _squares(chips: Sequence[LabelledChip]) -> Iterator[LabelledChip]:
    for chip in chips:
        for row in range(0, chip.label.shape[0], SQUARE):
            for column in range(0, chip.label.shape[1], SQUARE):
                square = (slice(row, row + SQUARE), slice(column, column + SQUARE))
                if (chip.label[square] != IGNORE).any():
                    yield _cut(chip, square, f"{chip.name}/{row}/{column}")


def units_of(imagery: Imagery, chip: LabelledChip) -> npt.NDArray[Any]:
    """(y, x) the unit of each pixel: a square, field or chip."""
    if imagery.name in UNIT:
        rows, columns = (np.arange(length) // UNIT[imagery.name] for length in chip.label.shape)
        return rows[:, None] * 1000 + columns
    return np.full(chip.label.shape, chip.name) if chip.fields is None else chip.fields


def share_of(imagery: Imagery, train: Sequence[LabelledChip], share: float, seed: int) -> list[LabelledChip]:
    """The chips with labels of a share of their units only; chips without any are left out."""
    maps = [units_of(imagery, chip) for chip in train]
    counts: dict[Hashable, npt.NDArray[np.int64]] = {}
    for chip, units in zip(train, maps, strict=True):
        labelled = chip.label != IGNORE
        for unit in np.unique(units[labelled]).tolist():
            here = np.bincount(chip.label[labelled & (units == unit)], minlength=len(imagery.classes))
            counts[unit] = counts.get(unit, np.zeros(len(imagery.classes), np.int64)) + here
    kept = list(chosen_units(counts, share, seed))
    chips = [without_label(chip, np.isin(units, kept)) for chip, units in zip(train, maps, strict=True)]
    return [chip for chip in chips if (chip.label != IGNORE).any()]


def chosen_units(counts: Mapping[Hashable, npt.NDArray[np.int64]], share: float, seed: int) -> Iterator[Hashable]:
    """A share of the units of each class, at least one, spread over how much of the class they hold."""
    generator = np.random.default_rng(seed)
    of_class: dict[int, list[tuple[float, str, Hashable]]] = {}
    for unit, count in counts.items():
        of_class.setdefault(int(count.argmax()), []).append((float(count.max() / count.sum()), str(unit), unit))
    for label in sorted(of_class):
        order = [unit for *_, unit in sorted(of_class[label])]
        number = max(1, round(share * len(order)))
        for group in np.array_split(np.arange(len(order)), number):
            yield order[int(generator.choice(group))]
