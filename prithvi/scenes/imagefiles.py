"""An image file of a dataset as pixels that are read as a map reads them: for training, and for chip stores."""

from __future__ import annotations

import datetime as dt
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window

from prithvi.bands import read_name
from prithvi.catalog import DatasetLayout, Sensor
from prithvi.catalog import sensor as sensor_named
from prithvi.errors import BandError, DatasetError
from prithvi.scenes.band_naming import are_unnamed, read_names
from prithvi.scenes.grids import difference
from prithvi.scenes.info import ask_for_offset, settle
from prithvi.scenes.layout import Layout
from prithvi.scenes.names import read_file_name, split_description
from prithvi.scenes.open_files import of_file
from prithvi.scenes.pixels import ScenePixels, pixels_of
from prithvi.scenes.raster_files import File, header, plane_of, without_alpha


@dataclass(frozen=True)
class ImageFile:
    """An image whose header was read."""

    pixels: ScenePixels
    """Bands as they were asked for; NaN where there is no data or none that could be reflectance."""
    gain: float
    """Reflectance = value x gain + bias."""
    bias: float
    dtype: str
    """In which its values are stored."""
    transform: Affine
    wkt: str
    """Empty where it does not say where it lies."""
    dates: tuple[dt.date, ...] | None

    def read(self, rows: slice, columns: slice) -> npt.NDArray[np.floating[Any]]:
        """(time, band, y, x) of a part.

        Raises:
            SceneError: it is damaged where it is read.

        """
        return self.pixels[:, :, rows, columns]


def open_image(
    path: str | Path,
    layout: DatasetLayout,
    bands: Sequence[str],
    dates: Sequence[dt.date] | None = None,
    check: Callable[[rasterio.DatasetReader], None] | None = None,
) -> ImageFile:
    """Reads an image's header and decides what its bands and values are.

    A file of one date that names its bands is read by these names, any other one in the order that the layout says. Of
    a folder of one's own the values mean what the user says, else what each band's tags say, else what the sensor
    usually has; of a published dataset they mean what its layout says.

    Args:
        path: the file.
        layout: what its dataset's files hold.
        bands: common names of the bands to read, in this order.
        dates: of its images; None looks into its name and its bands' names.
        check: looks at the open file, and raises what it finds wrong.

    Raises:
        SceneError: it cannot be opened.
        BandError: it lacks a band, or has another number of bands than the layout says.
        DatasetError: a Sentinel-2 image of which nobody says whether it carries the 1,000 of 2022.

    """
    name = str(path)

    def question(raster: rasterio.DatasetReader) -> File:
        if check is not None:
            check(raster)
        return header(name, raster, placed=False)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        file, product = of_file(name, question), sensor_named(layout.sensor)
    # From here as `open_scene` goes: bands by name where the file has names, nodata of each band, one scale for all.
    file = without_alpha(file, None if any(file.descriptions) else list(layout.bands), product)
    numbers, days = _band_numbers(file, layout, bands)
    dates = tuple(dates) if dates is not None else days
    planes = [[plane_of(file, number, *layout.nodata, product=product) for number in row] for row in numbers]
    scene = Layout([dict(zip(bands, row, strict=True)) for row in planes], {name: file}, None, product, name)
    # A published dataset's values mean what its paper says, whatever its tags say; a folder of one's own is settled
    # like a scene.
    gain, bias = layout.gain, layout.bias
    if layout.user_scale_offset is not None:
        info = settle(scene, *layout.user_scale_offset)
        assert info.gain is not None
        assert info.bias is not None
        gain, bias = info.gain, info.bias
        if product.product == "sentinel-2" and info.offset is None:
            where, last = (layout.name, None) if dates is None else (name, max(dates))
            ask_for_offset(where, last, "data.folder.offset:", refused=DatasetError)
    pixels = pixels_of(scene).without_impossible(gain, bias)
    return ImageFile(pixels, gain, bias, scene.dtype, file.transform, file.wkt, dates)


def _band_numbers(
    file: File, layout: DatasetLayout, bands: Sequence[str]
) -> tuple[list[list[int]], tuple[dt.date, ...] | None]:
    """Number in the file of each band, by date; and the date that names say, of a file of one."""
    named = read_file_name(file.path).date if layout.frames == 1 else None
    if layout.frames == 1:
        split = [split_description(text or "") for text in file.descriptions]
        texts = [text for text, _ in split]
        product = sensor_named(layout.sensor)
        names = [] if are_unnamed(texts) else read_names(texts, product, file.path)
        names = _settled(names, texts, product, layout.bands) if any(names) else names
        if any(names):
            missing = [band for band in bands if band not in names]
            if missing:
                raise BandError(f"{file.path} lacks {', '.join(missing)}; it has {', '.join(n for n in names if n)}.")
            found = [names.index(band) + 1 for band in bands]
            days = {split[number - 1][1] for number in found} - {None}
            named = named or (days.pop() if len(days) == 1 else None)
            return [found], (named,) if named else None
    if file.count != layout.frames * len(layout.bands):
        held = f"{layout.frames} dates" if layout.frames > 1 else "one date"
        raise BandError(
            f"{file.path} has {file.count} bands; a file of {layout.name} has {held} of {', '.join(layout.bands)}."
        )
    lacking = [band for band in bands if band not in layout.bands]
    if lacking:
        raise BandError(f"{layout.name} has no {', '.join(lacking)}; its bands are {', '.join(layout.bands)}.")
    rows = [[layout.file_band(time, band) for band in bands] for time in range(layout.frames)]
    return rows, (named,) if named else None


def _settled(
    names: Sequence[str | None], texts: Sequence[str], product: Sensor, bands: Sequence[str]
) -> list[str | None]:
    """`names`, and for a text that leaves open what it is (NIR of Sentinel-2) the one of a dataset's bands that it, and
    no other text, may mean.
    """
    free = set(bands) - set(names)
    meant = [
        read_name(text).candidates(product.product) & free if name is None else frozenset[str]()
        for name, text in zip(names, texts, strict=True)
    ]
    once = {band for band in free if sum(band in some for some in meant) == 1}
    return [
        next(iter(some)) if len(some) == 1 and some <= once else name for name, some in zip(names, meant, strict=True)
    ]


def read_label(
    raster: rasterio.DatasetReader, layout: DatasetLayout, window: Window | None = None
) -> npt.NDArray[np.int64] | npt.NDArray[np.float32]:
    """(y, x) class numbers of an open label file, `prithvi.contract.IGNORE` where it says nothing; or the values of its
    quantity, NaN there.

    Raises:
        DatasetError: see `DatasetLayout.class_numbers`.

    """
    stored = raster.read(1, window=window)
    if layout.quantity is None:
        return layout.class_numbers(stored, raster.nodata, raster.name)
    silent = np.isin(stored, layout.ignore)
    if raster.nodata is not None:
        silent |= stored == raster.nodata
    return np.where(silent, np.nan, stored).astype(np.float32)


def refuse_other_grid(id: str, image: GeoBox, label: GeoBox, path: Path | str) -> None:
    """Raises DatasetError where the label of a chip, at `path`, lies on another grid than its image."""
    differs = difference(image, label)
    if differs is not None:
        raise DatasetError(f"chip {id}: image and label do not lie on one grid: {differs} ({path}).")
