"""From a source by name to a finished store: what `prithvi data build` does, as functions."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prithvi.bands import PRITHVI_BANDS
from prithvi.catalog import dataset
from prithvi.catalog.datasets import DatasetLayout
from prithvi.chips.build import Splitter, build
from prithvi.chips.cutting import TileUnit
from prithvi.chips.dates import DateRule
from prithvi.chips.filters import Filters
from prithvi.chips.importing import layout_units
from prithvi.chips.labels import RasterLabels, VectorLabels, check_column, open_labels
from prithvi.chips.planning import SEQUENCES, SPLIT, choose_dates, tile_units
from prithvi.chips.running import Progress
from prithvi.chips.spec import StoreSpec
from prithvi.chips.splits import block_split
from prithvi.chips.store import ChipStore
from prithvi.errors import ConfigError
from prithvi.files import sha256
from prithvi.hls.items import read_items
from prithvi.hls.search import read_area

if TYPE_CHECKING:
    from distributed import Client

Stages = Callable[[str], Progress]


@dataclass(frozen=True)
class Recipe:
    """How chips are cut out of granules."""

    size: int = 224
    """Side of a chip in pixels."""
    frames: int = 3
    bands: tuple[str, ...] = PRITHVI_BANDS
    filters: Filters = field(default_factory=Filters)
    dates: DateRule = field(default_factory=DateRule)
    per_tile: int = 3000
    """Most chips of a tile."""
    per_place: int = 10
    """Most chips of one place, each of other dates."""
    labels: str | None = None
    """File of labels, see `prithvi.chips.labels.open_labels`."""
    class_column: str | None = None
    background: str | None = None
    ignore: tuple[str, ...] = ()
    """Values or classes of the label file that are no class."""
    keep: tuple[str, ...] = ()
    """Values of a label raster that are classes though they look like no data."""
    label_product: str | None = None
    """What a label raster is, see `open_labels`."""
    least_labelled: float = 0.0
    area: str | None = None
    """Vector file: only chips that touch one of its features."""


def store_of_granules(
    source: str | Path,
    output: str | Path,
    recipe: Recipe,
    *,
    split: str | None = None,
    codec: str = "zstd",
    shard: int = 64,
    seed: int = 0,
    scheduler: str | Client | None = None,
    workers: int | None = None,
    append: bool = False,
    progress: Stages | None = None,
    note: Callable[[str], None] = lambda _: None,
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
        scheduler: address or client of a Dask cluster; None runs on threads.
        workers: threads.
        append: add to a store that is there.
        progress: called with a stage's name, gives that stage's progress function.
        note: called with sentences for the user: tiles whose rule of dates was relaxed.

    Raises:
        PrithviError: see `prithvi.chips.build.build`, `prithvi.chips.planning.choose_dates` and `open_labels`.

    """
    items = read_items(source)
    labels = _labels(recipe, note)
    spec = StoreSpec(
        recipe.size, recipe.size, recipe.frames, recipe.bands, classes=labels.classes if labels else (), shard=shard,
        codec=codec,
    )  # fmt: skip
    column = _column(split)
    if column is not None:
        if not isinstance(labels, VectorLabels):
            raise ConfigError(f"--split {split} names a column of the label file: give one (--labels FILE).")
        check_column(labels, column)
    stages = progress or (lambda _: lambda _done, _all: None)
    if not any(SEQUENCES in item.properties for item in items):
        rule = dataclasses.replace(recipe.dates, frames=recipe.frames)
        items = choose_dates(items, rule, progress=stages("looking for clear dates"), note=note)
    template = TileUnit("", (), (), recipe.filters, recipe.per_place, seed, labels, column, recipe.least_labelled)
    units = tile_units(
        items, template, recipe.bands, recipe.frames, area=read_area(recipe.area) if recipe.area is not None else None
    )
    plan = {
        "recipe": {
            **{key: value for key, value in dataclasses.asdict(recipe).items() if value or key not in _ADDED},
            "labels": _digest(recipe.labels),
            "area": _digest(recipe.area),
        },
        "split": split,
        "granules": _short(
            f"{item.id} {item.properties.get(SEQUENCES)} {item.properties.get(SPLIT)}" for item in items
        ),
    }
    return build(
        Path(output), spec, units, plan=plan, split=_splitter(split, spec, seed), per_unit=recipe.per_tile, seed=seed,
        scheduler=scheduler, workers=workers, progress=progress, append=append,
    )  # fmt: skip


_ADDED = ("ignore", "keep", "label_product")
"""Fields of a recipe that older stores' plans do not have."""


def _labels(recipe: Recipe, note: Callable[[str], None]) -> VectorLabels | RasterLabels | None:
    if recipe.labels is None:
        for name in ("class_column", "background", *_ADDED):
            if getattr(recipe, name):
                raise ConfigError(f"--{name.replace('_', '-')} is about a file of labels: give one (--labels FILE).")
        return None
    labels = open_labels(
        recipe.labels, recipe.class_column, background=recipe.background, ignore=recipe.ignore, keep=recipe.keep,
        product=recipe.label_product,
    )  # fmt: skip
    note(f"Labels of {labels.told}" if isinstance(labels, VectorLabels) else f"Labels: {labels.told}")
    return labels


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
    scheduler: str | Client | None = None,
    workers: int | None = None,
    append: bool = False,
    progress: Stages | None = None,
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
        scheduler: address or client of a Dask cluster; None runs on threads.
        workers: threads.
        append: add to a store that is there.
        progress: called with a stage's name, gives that stage's progress function.

    Raises:
        PrithviError: see `prithvi.chips.build.build` and `prithvi.chips.importing`.

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
    return build(
        Path(output), spec, units, plan=plan, split=_splitter(split, spec, seed), seed=seed, scheduler=scheduler,
        workers=workers, progress=progress, append=append,
    )  # fmt: skip


def _column(split: str | None) -> str | None:
    return split.removeprefix("column:") if split is not None and split.startswith("column:") else None


def _splitter(split: str | None, spec: StoreSpec, seed: int) -> Splitter | None:
    if split is None or _column(split) is not None:
        return None
    return block_split(split, spec.height, spec.width, seed)


def _digest(path: str | None) -> str | None:
    """Stands for a file's content, whatever it is called."""
    if path is None:
        return None
    if Path(path).is_dir():
        return Path(path).name
    return sha256(path)[:16]


def _short(words: Any) -> str:
    """Stands for a list of words in the plan."""
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]
