"""From a source by name to a finished store: what `prithvi data build` does, as functions.

Granules are cut tile by tile (`prithvi.chips.tile_units`); a public dataset, and any folder of images and masks, comes
in units of some files each.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from prithvi.catalog import dataset
from prithvi.catalog import sensor as sensor_named
from prithvi.catalog.datasets import ChipFiles, DatasetLayout
from prithvi.chips.build import Running, build
from prithvi.chips.date_plan import SEQUENCES, SPLIT, choose_dates
from prithvi.chips.filters import Recipe
from prithvi.chips.journal import CONTENTS
from prithvi.chips.label_files import RasterLabels, VectorLabels, open_labels
from prithvi.chips.spec import UNLABELLED, Chip, Sample, StoreSpec, crs_name, to_int16
from prithvi.chips.splits import block_split
from prithvi.chips.store import ChipStore
from prithvi.chips.tile_units import tile_units
from prithvi.errors import ConfigError, DatasetError, one_of
from prithvi.files import sha256
from prithvi.hls.items import read_items
from prithvi.scenes.grids import grid_of
from prithvi.scenes.imagefiles import open_image, read_label, refuse_other_grid

__all__ = ["Recipe", "store_of_dataset", "store_of_granules"]

_ADDED = ("ignore", "keep", "label_product")
"""Fields of a recipe that older stores' plans do not have: left out of the plan where they are empty."""
_TOGETHER = 64
"""Files of a unit."""
_END = 2**16
"""Bytes at each end of an image that the plan knows it by."""


def store_of_granules(
    source: str | Path,
    output: str | Path,
    recipe: Recipe,
    *,
    split: str | None = None,
    codec: str = "zstd",
    shard: int = 64,
    sharding: bool = True,
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
        sharding: see `StoreSpec.sharding`.
        seed: of every draw.
        note: called with sentences for the user: tiles whose rule of dates was relaxed.
        running: scheduler, workers, append and progress; see `prithvi.chips.build.Running`.

    Raises:
        PrithviError: see `prithvi.chips.build.build`, `prithvi.chips.date_plan.choose_dates` and `open_labels`.

    """
    items = read_items(source)
    labels = _labels(recipe, note)
    classes = labels.classes if labels is not None else ()
    packed: dict[str, Any] = {"shard": shard, "codec": codec, "sharding": sharding}
    spec = StoreSpec(recipe.size, recipe.size, recipe.frames, recipe.bands, classes=classes, **packed)
    column = split.removeprefix("column:") if split is not None and split.startswith("column:") else None
    if column is not None:
        if not isinstance(labels, VectorLabels):
            raise ConfigError(f"--split {split} names a column of the label file: give one (--labels FILE).")
        one_of(column, labels.columns, f"{labels.path} has no column", DatasetError)
    if not any(SEQUENCES in item.properties for item in items):
        rule = dataclasses.replace(recipe.dates, frames=recipe.frames)
        stages = running.get("progress")
        items = choose_dates(items, rule, progress=stages("looking for clear dates") if stages else None, note=note)
    units = tile_units(items, recipe, seed, labels, column)
    # The plan is all that the bytes of the store depend on: granules by their names, labels and area by their content.
    # It is kept in the store: the same command run again finds it finished, and another one is refused instead of
    # mixing two recipes.
    known = {key: value for key, value in dataclasses.asdict(recipe).items() if value or key not in _ADDED}
    plan = {
        "recipe": {**known, "labels": _digest(recipe.labels), "area": _digest(recipe.area)},
        "split": split,
        "granules": _short(
            f"{item.id} {item.properties.get(SEQUENCES)} {item.properties.get(SPLIT)}" for item in items
        ),
    }
    parts = block_split(split, recipe.size, recipe.size, seed) if split is not None and column is None else None
    build(Path(output), spec, units, plan=plan, split=parts, per_unit=recipe.per_tile, seed=seed, **running)
    return ChipStore(output)


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
    sharding: bool = True,
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
        sharding: see `StoreSpec.sharding`.
        seed: of the order and of drawn parts.
        running: scheduler, workers, append and progress; see `prithvi.chips.build.Running`.

    Raises:
        PrithviError: see `prithvi.chips.build.build` and `layout_units`.

    """
    layout = dataset(source) if isinstance(source, str) else source
    if split is not None and split.startswith("column:"):
        raise ConfigError(f"{layout.name} has official parts; --split column is for label files.")
    spec, units = layout_units(layout, Path(root), size, splits, shard=shard, codec=codec, sharding=sharding)
    # As for granules. Chips of two folders may have the same names: what is in the files counts, and how it is read.
    scale, offset = layout.user_scale_offset or (1 / layout.gain, layout.bias / layout.gain)
    plan = {
        "dataset": layout.name,
        "splits": list(splits) if splits else None,
        "split": split,
        "files": _short(f"{unit.key} {file.id}" for unit in units for file in unit.files),
        CONTENTS: {unit.key: _short(map(_content, unit.files)) for unit in units},
        "sensor": layout.sensor,
        "order": layout.order if layout.frames > 1 else None,
        "scale": None if scale is None else float(scale),
        "offset": None if offset is None else float(offset),
        "nodata": sorted({str(float(value)) for value in layout.nodata}),
        "ignore": sorted({str(float(value)) for value in layout.ignore}),
    }
    parts = block_split(split, spec.height, spec.width, seed) if split is not None else None
    build(Path(output), spec, units, plan=plan, split=parts, seed=seed, **running)
    return ChipStore(output)


def _labels(recipe: Recipe, note: Callable[[str], None]) -> VectorLabels | RasterLabels | None:
    about = {name: getattr(recipe, name) for name in ("class_column", "background", *_ADDED)}
    if recipe.labels is None:
        stray = next((name for name, value in about.items() if value), None)
        if stray is not None:
            raise ConfigError(f"--{stray.replace('_', '-')} is about a file of labels: give one (--labels FILE).")
        return None
    labels = open_labels(recipe.labels, **about)
    note(f"Labels of {labels.summary}" if isinstance(labels, VectorLabels) else f"Labels: {labels.summary}")
    return labels


def _digest(path: str | None) -> str | None:
    """Stands for a file's content, whatever its name is; for a folder that is its name."""
    return path and (Path(path).name if Path(path).is_dir() else sha256(path)[:16])


def _content(files: ChipFiles) -> str:
    """Stands for what a chip's files hold, at once: all of the label, the image's size and both its ends.

    A GeoTIFF has its directory at one of its ends, with the length of every compressed block.
    """
    size = files.image.stat().st_size
    with files.image.open("rb") as file:
        ends = file.read(_END)
        file.seek(max(_END, size - _END))
        ends += file.read()
    label = sha256(files.label) if files.label is not None else None
    return f"{files.dates} {size} {hashlib.sha256(ends).hexdigest()} {label}"


def _short(words: Iterable[str]) -> str:
    """Stands for a list of words in the plan."""
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class FileUnit:
    """Some image files of a dataset with their labels."""

    key: str
    files: tuple[ChipFiles, ...]
    split: str
    layout: DatasetLayout

    def chips(self, spec: StoreSpec) -> Iterator[Chip]:
        """Windows of each file, row by row, as many as fit whole.

        Raises:
            DatasetError: a file cannot be read, an image and its label differ in size, or a label is unknown.
            BandError: a file has another number of bands than the layout says.

        """
        for files in self.files:
            image, grid, crs = _read_image(files, self.layout, spec)
            height, width = grid.shape
            label = _read_label(files.id, files.label, self.layout, grid) if files.label is not None else None
            if height < spec.height or width < spec.width:
                raise DatasetError(
                    f"{files.image} has {height} x {width} pixels; a sample has {spec.height} x {spec.width}."
                )
            days = [dt.datetime.combine(day, dt.time(), dt.UTC) for day in files.dates or ()]
            # Whole windows from the upper left; what remains at the right and lower edges is left out.
            for row in range(0, height - spec.height + 1, spec.height):
                for column in range(0, width - spec.width + 1, spec.width):
                    here = (slice(row, row + spec.height), slice(column, column + spec.width))
                    part = label[here] if label is not None else None
                    whole = (spec.height, spec.width) == (height, width)
                    sample = Sample.at(
                        grid.affine * Affine.translation(column, row),
                        crs,
                        (spec.height, spec.width),
                        name=files.id if whole else f"{files.id}_{row}_{column}",
                        times=tuple(days) or (None,) * spec.frames,
                        granules=(files.image.name,) * spec.frames,
                        split=self.split,
                        good=(1.0,) * spec.frames,
                        filled=(0,) * spec.frames,
                        labelled=float((part != UNLABELLED).mean()) if part is not None else 0.0,
                    )
                    yield Chip(np.ascontiguousarray(image[:, :, *here]), sample, None, part)


def layout_units(
    layout: DatasetLayout, root: Path, size: int | None, splits: Sequence[str] | None, **options: Any
) -> tuple[StoreSpec, list[FileUnit]]:
    """The form of a store of a dataset, and the units that fill it, official parts kept.

    Args:
        layout: where its files lie and what they mean.
        root: folder that the archive was unpacked into.
        size: side of a sample in pixels; None keeps the images whole, which then have one size.
        splits: parts to import; None takes all.
        options: further fields of `StoreSpec`.

    Raises:
        DatasetError: no such part, or files are missing.

    """
    if layout.quantity is not None and layout.label is not None:
        raise DatasetError(
            f"the labels of {layout.name} are a quantity ({layout.quantity.name}), and a store holds classes: train on "
            "its files themselves (data.folder), or leave the labels out of the layout for a store of images alone."
        )
    # Units of 64 files: enough work to be worth a task, little enough to lose when a build is killed.
    units = []
    for split in splits or layout.splits:
        files = layout.chips(root, split)
        for first in range(0, len(files), _TOGETHER):
            key = f"{layout.name}-{split}-{first // _TOGETHER:05d}"
            units.append(FileUnit(key, tuple(files[first : first + _TOGETHER]), split, layout))
    if not units:
        raise DatasetError(f"{layout.name}: there is no file under {root}.")
    height = width = size or 0
    if size is None:
        with _opened(units[0].files[0].image) as raster:
            height, width = raster.shape
    classes = layout.classes if layout.label is not None else ()
    level = sensor_named(layout.sensor).level
    form = (height, width, layout.frames, layout.contract.bands)
    return StoreSpec(*form, fmask=False, level=level, classes=classes, **options), units


def _opened(path: Path) -> rasterio.DatasetReader:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            return rasterio.open(path)
        except RasterioError as error:
            raise DatasetError(f"{path} cannot be read ({error}).") from error


def _read_image(files: ChipFiles, layout: DatasetLayout, spec: StoreSpec) -> tuple[npt.NDArray[np.int16], GeoBox, str]:
    """(time, band, y, x), its grid, and its CRS as samples name it (empty for none)."""
    image = open_image(files.image, layout, spec.bands, files.dates)
    values = image.read(slice(None), slice(None))
    crs = crs_name(CRS.from_wkt(image.wkt)) if image.wkt else ""
    grid = GeoBox(values.shape[2:], image.transform, crs or None)
    return to_int16(values, image.gain, (), spec.gain, image.bias), grid, crs


def _read_label(id: str, path: Path, layout: DatasetLayout, grid: GeoBox) -> npt.NDArray[np.uint8]:
    """(y, x) class numbers, `UNLABELLED` where the label says nothing."""
    with _opened(path) as raster:
        here = grid_of(raster) if raster.crs is not None else GeoBox(raster.shape, grid.affine, None)
        refuse_other_grid(id, grid, here, path)
        try:
            classes = read_label(raster, layout)
        except RasterioError as error:
            raise DatasetError(f"{path} is damaged or cut short.") from error
    return np.where(classes < 0, UNLABELLED, classes).astype(np.uint8)
