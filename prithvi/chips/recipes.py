"""From a source by name to a finished store: what `prithvi data build` does, as functions."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Unpack

from prithvi.catalog import dataset
from prithvi.catalog.datasets import DatasetLayout
from prithvi.chips.build import Running, Splitter, build
from prithvi.chips.dataset_units import layout_units
from prithvi.chips.date_plan import SEQUENCES, SPLIT, choose_dates
from prithvi.chips.filters import Recipe
from prithvi.chips.label_files import RasterLabels, VectorLabels, check_column, open_labels
from prithvi.chips.spec import StoreSpec
from prithvi.chips.splits import block_split
from prithvi.chips.store import ChipStore
from prithvi.chips.tile_units import tile_units
from prithvi.errors import ConfigError
from prithvi.files import sha256
from prithvi.hls.items import read_items

__all__ = ["Recipe", "store_of_dataset", "store_of_granules"]

_ADDED = ("ignore", "keep", "label_product")
"""Fields of a recipe that older stores' plans do not have: left out of the plan where they are empty."""


def store_of_granules(
    source: str | Path,
    output: str | Path,
    recipe: Recipe,
    *,
    split: str | None = None,
    codec: str = "zstd",
    shard: int = 64,
    seed: int = 0,
    note: Callable[[str], None] = lambda _: None,
    **running: Unpack[Running],
) -> ChipStore:
    """Cuts the granules of a search result, folder or catalog into a store.

    Args:
        source: see `prithvi.hls.items.read_items`; a result of `prithvi data choose` keeps its dates and parts.
        output: folder of the store.
        recipe: how chips are cut.
        split: `block:5km` or `column:NAME`; see `prithvi.chips.splits`.
        codec: key of `prithvi.chips.spec.CODECS`.
        shard: samples in a file.
        seed: of every draw.
        note: called with sentences for the user: tiles whose rule of dates was relaxed.
        running: scheduler, workers, append and progress; see `prithvi.chips.build.Running`.

    Raises:
        PrithviError: see `prithvi.chips.build.build`, `prithvi.chips.date_plan.choose_dates` and `open_labels`.

    """
    items = read_items(source)
    labels = _labels(recipe, note)
    classes = labels.classes if labels is not None else ()
    spec = StoreSpec(recipe.size, recipe.size, recipe.frames, recipe.bands, classes=classes, shard=shard, codec=codec)
    column = _column(split)
    if column is not None:
        if not isinstance(labels, VectorLabels):
            raise ConfigError(f"--split {split} names a column of the label file: give one (--labels FILE).")
        check_column(labels, column)
    if not any(SEQUENCES in item.properties for item in items):
        rule = dataclasses.replace(recipe.dates, frames=recipe.frames)
        stages = running.get("progress")
        items = choose_dates(items, rule, progress=stages("looking for clear dates") if stages else None, note=note)
    units = tile_units(items, recipe, seed, labels, column)
    # The plan is all that the bytes of the store depend on, files by their content. It is kept in the store: the same
    # command run again finds it finished, and another one is refused instead of mixing two recipes.
    known = {key: value for key, value in dataclasses.asdict(recipe).items() if value or key not in _ADDED}
    plan = {
        "recipe": {**known, "labels": _digest(recipe.labels), "area": _digest(recipe.area)},
        "split": split,
        "granules": _short(
            f"{item.id} {item.properties.get(SEQUENCES)} {item.properties.get(SPLIT)}" for item in items
        ),
    }
    parts, path = _splitter(split, spec, seed), Path(output)
    build(path, spec, units, plan=plan, split=parts, per_unit=recipe.per_tile, seed=seed, **running)
    return ChipStore(path)


def store_of_dataset(
    source: str | DatasetLayout,
    root: str | Path,
    output: str | Path,
    *,
    size: int | None = None,
    splits: Sequence[str] | None = None,
    split: str | None = None,
    codec: str = "zstd",
    shard: int = 64,
    seed: int = 0,
    **running: Unpack[Running],
) -> ChipStore:
    """Puts a public dataset (by name), or any folder of images and masks (by layout), into a store.

    Args:
        source: name in the data catalog, or a layout (`prithvi.catalog.folder_layout`).
        root: folder that the archive was unpacked into.
        output: folder of the store.
        size: side of a chip in pixels; None keeps images whole.
        splits: parts to import; None takes all.
        split: `block:...` draws parts anew; None keeps the official ones.
        codec: key of `prithvi.chips.spec.CODECS`.
        shard: samples in a file.
        seed: of the order and of drawn parts.
        running: scheduler, workers, append and progress; see `prithvi.chips.build.Running`.

    Raises:
        PrithviError: see `prithvi.chips.build.build` and `prithvi.chips.dataset_units`.

    """
    layout = dataset(source) if isinstance(source, str) else source
    if _column(split) is not None:
        raise ConfigError(f"{layout.name} has official parts; --split column is for label files.")
    spec, units = layout_units(layout, Path(root), size=size, splits=splits, shard=shard, codec=codec)
    plan = {
        "dataset": layout.name,
        "splits": list(splits) if splits else None,
        "split": split,
        "files": _short(f"{unit.key} {file.id}" for unit in units for file in unit.files),
    }
    build(Path(output), spec, units, plan=plan, split=_splitter(split, spec, seed), seed=seed, **running)
    return ChipStore(output)


def _labels(recipe: Recipe, note: Callable[[str], None]) -> VectorLabels | RasterLabels | None:
    if recipe.labels is None:
        for name in ("class_column", "background", *_ADDED):
            if getattr(recipe, name):
                raise ConfigError(f"--{name.replace('_', '-')} is about a file of labels: give one (--labels FILE).")
        return None
    labels = open_labels(
        recipe.labels,
        recipe.class_column,
        background=recipe.background,
        ignore=recipe.ignore,
        keep=recipe.keep,
        product=recipe.label_product,
    )
    note(f"Labels of {labels.summary}" if isinstance(labels, VectorLabels) else f"Labels: {labels.summary}")
    return labels


def _column(split: str | None) -> str | None:
    """NAME of `column:NAME`."""
    return split.removeprefix("column:") if split is not None and split.startswith("column:") else None


def _splitter(split: str | None, spec: StoreSpec, seed: int) -> Splitter | None:
    if split is None or _column(split) is not None:
        return None
    return block_split(split, spec.height, spec.width, seed)


def _digest(path: str | None) -> str | None:
    """Stands for a file's content, whatever its name is; for a folder that is its name."""
    if path is None:
        return None
    return Path(path).name if Path(path).is_dir() else sha256(path)[:16]


def _short(words: Iterable[str]) -> str:
    """Stands for a list of words in the plan."""
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]
