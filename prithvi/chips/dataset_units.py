"""Public datasets, and any folder of images and masks, as units of a store."""

from __future__ import annotations

import datetime as dt
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from prithvi.catalog import sensor as sensor_named
from prithvi.catalog.datasets import ChipFiles, DatasetLayout
from prithvi.chips.filters import to_int16
from prithvi.chips.spec import UNLABELLED, Chip, Sample, StoreSpec, crs_name
from prithvi.errors import DatasetError, SceneError
from prithvi.scenes.grids import difference, grid_of
from prithvi.scenes.imagefiles import open_image

_TOGETHER = 64
"""Files of a unit."""


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
            image, affine, crs = _read_image(files, self.layout, spec)
            height, width = image.shape[2:]
            grid = GeoBox((height, width), affine, crs or None)
            label = _read_label(files, self.layout, grid) if self.layout.label is not None else None
            if height < spec.height or width < spec.width:
                raise DatasetError(
                    f"{files.image} has {height} x {width} pixels, fewer than a sample of {spec.height} x {spec.width}."
                )
            days = [dt.datetime.combine(day, dt.time(), dt.UTC) for day in files.dates or ()]
            # Whole windows from the upper left; what remains at the right and lower edges is left out.
            for row in range(0, height - spec.height + 1, spec.height):
                for column in range(0, width - spec.width + 1, spec.width):
                    here = (slice(row, row + spec.height), slice(column, column + spec.width))
                    part = label[here] if label is not None else None
                    whole = (spec.height, spec.width) == (height, width)
                    sample = Sample.at(
                        affine * Affine.translation(column, row),
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
    layout: DatasetLayout, root: Path, *, size: int | None = None, splits: Sequence[str] | None = None, **options: Any
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
    # Units of 64 files: enough work to be worth a task, little enough to lose when a build is killed.
    units = []
    for split in splits or layout.splits:
        files = layout.chips(root, split)
        for number, first in enumerate(range(0, len(files), _TOGETHER)):
            some = tuple(files[first : first + _TOGETHER])
            units.append(FileUnit(f"{layout.name}-{split}-{number:05d}", some, split, layout))
    if not units:
        raise DatasetError(f"{layout.name}: there is no file under {root}.")
    if size is None:
        with _opened(units[0].files[0].image) as raster:
            height, width = raster.shape
    else:
        height = width = size
    spec = StoreSpec(
        height, width, layout.frames, layout.contract.bands, fmask=False, level=sensor_named(layout.sensor).level,
        classes=layout.classes if layout.label is not None else (), **options,
    )  # fmt: skip
    return spec, units


def _opened(path: Path) -> rasterio.DatasetReader:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            return rasterio.open(path)
        except RasterioError as error:
            raise DatasetError(f"{path} cannot be read ({error}).") from error


def _read_image(files: ChipFiles, layout: DatasetLayout, spec: StoreSpec) -> tuple[npt.NDArray[np.int16], Affine, str]:
    """(time, band, y, x), its affine and its CRS (empty for none)."""
    image = open_image(files.image, layout, spec.bands, files.dates)
    try:
        values = image.read(slice(None), slice(None))
    except SceneError as error:
        raise DatasetError(str(error)) from error
    crs = crs_name(CRS.from_wkt(image.wkt)) if image.wkt else ""
    return to_int16(values, image.gain, (), spec.gain, image.bias), image.transform, crs


def _read_label(files: ChipFiles, layout: DatasetLayout, grid: GeoBox) -> npt.NDArray[np.uint8]:
    """(y, x) class numbers, `UNLABELLED` where the label says nothing."""
    if files.label is None:
        return np.full(grid.shape, UNLABELLED, np.uint8)
    with _opened(files.label) as raster:
        try:
            stored = raster.read(1)
        except RasterioError as error:
            raise DatasetError(f"{files.label} is damaged or cut short.") from error
        here = grid_of(raster) if raster.crs is not None else GeoBox(raster.shape, grid.affine, None)
        differs = difference(grid, here)
        if differs is not None:
            raise DatasetError(f"chip {files.id}: image and label do not lie on one grid: {differs} ({files.label}).")
        classes = layout.class_numbers(stored, raster.nodata, files.label)
    return np.where(classes < 0, UNLABELLED, classes).astype(np.uint8)
