"""One image and its label, or a part of both, as tensors. Any dataset whose layout the catalog describes.

Images are read by the code that maps are made with (`prithvi.scenes.imagefiles`): names, tags, nodata, masks and what
cannot be reflectance mean the same in training as in mapping.
"""

from __future__ import annotations

import datetime as dt
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import torch
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window
from torch import Tensor
from torch.utils.data import Dataset

from prithvi.catalog import DatasetLayout
from prithvi.coords import latitude_longitude, year_and_day
from prithvi.errors import DatasetError, SceneError
from prithvi.scenes.grids import difference, grid_of
from prithvi.scenes.imagefiles import ImageFile, open_image


@dataclass(frozen=True)
class Chip:
    """An image file, its label and, for a part of them, the pixels that count."""

    id: str
    image: Path
    label: Path | int
    """A file, or the class number of the whole chip."""
    rows: tuple[int, int] | None = None
    """First row and the row after the last; None for all."""
    columns: tuple[int, int] | None = None
    dates: tuple[dt.date, ...] | None = None
    """Of its images; None where unknown."""


class ChipDataset(Dataset[dict[str, Any]]):
    """Chips as samples, read on access.

    A sample holds `image` (band, T, Y, X) in the units of the layout's contract, `valid` (T, Y, X) bool, `label`
    (Y, X) int64 class numbers with `prithvi.contract.IGNORE` elsewhere (or one number for the whole chip; or
    `target` (Y, X) float32 in the unit of the layout's quantity, NaN where there is none), `temporal_coords` (T, 2)
    year and day of the year counted from 0, `location_coords` (2) latitude and longitude, both float32 and NaN where
    unknown, and `id`.

    Args:
        chips: the chips.
        layout: what their pixels and labels mean.
        crop: draw a random square of that many pixels from each sample; None returns whole chips.
        samples: length of the dataset, chips taking turns; None for one sample a chip.

    """

    def __init__(
        self, chips: Sequence[Chip], layout: DatasetLayout, crop: int | None = None, samples: int | None = None
    ) -> None:
        if not chips:
            raise DatasetError(f"{layout.name}: a split without any chip was asked for.")
        self.chips = list(chips)
        self.layout = layout
        self.crop = crop
        self.samples = samples or len(self.chips)
        self._images: dict[int, ImageFile] = {}

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.samples:
            raise IndexError(index)
        number = index % len(self.chips)
        chip = self.chips[number]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            try:
                if isinstance(chip.label, int):
                    return self._sample(chip, self._image(number, None)) | {"label": torch.tensor(chip.label)}
                with rasterio.open(chip.label) as label:
                    return self._sample(chip, self._image(number, label), label)
            except (RasterioError, SceneError) as error:
                raise DatasetError(f"chip {chip.id} cannot be read ({error}): {chip.image}, {chip.label}.") from error

    def _image(self, number: int, label: rasterio.DatasetReader | None) -> ImageFile:
        """A chip's image, whose header is read once; its label has to lie on its grid."""
        if number not in self._images:
            chip, bands = self.chips[number], self.layout.contract.bands
            check = None if label is None else lambda image: _refuse_other_grid(chip, image, label)
            self._images[number] = open_image(chip.image, self.layout, bands, chip.dates, check)
        return self._images[number]

    @property
    def identity(self) -> str:
        """Names what the samples are made of: the files with their sizes and times of change, and how they are read."""
        files = [path for chip in self.chips for path in (chip.image, chip.label) if isinstance(path, Path)]
        stats = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        return repr((self.chips, stats, self.layout, self.samples))

    def _sample(self, chip: Chip, image: ImageFile, label: rasterio.DatasetReader | None = None) -> dict[str, Any]:
        window = self._window(chip, image.pixels.shape[2:])
        values, valid = self._pixels(image, window)
        sample = {
            "id": chip.id,
            "image": torch.from_numpy(values).transpose(0, 1),
            "valid": torch.from_numpy(valid),
            "temporal_coords": torch.from_numpy(year_and_day(image.dates or [None] * self.layout.frames)),
            "location_coords": _middle(image, window),
        }
        if label is None:
            return sample
        stored = label.read(1, window=window)
        if self.layout.quantity is not None:
            target = np.where(self._silent(stored, label.nodata), np.nan, stored).astype(np.float32)
            return sample | {"target": torch.from_numpy(target)}
        return sample | {"label": torch.from_numpy(self.layout.class_numbers(stored, label.nodata, label.name))}

    def _silent(self, stored: npt.NDArray[Any], nodata: float | None) -> npt.NDArray[np.bool_]:
        silent: npt.NDArray[np.bool_] = np.isin(stored, self.layout.ignore)
        return silent if nodata is None else silent | (stored == nodata)

    def _window(self, chip: Chip, size: tuple[int, int]) -> Window:
        top, bottom = chip.rows or (0, size[0])
        left, right = chip.columns or (0, size[1])
        if self.crop is None:
            return Window(left, top, right - left, bottom - top)
        if self.crop > min(bottom - top, right - left):
            raise DatasetError(
                f"chip {chip.id} has {bottom - top} x {right - left} pixels, fewer than a crop of {self.crop}."
            )
        row = int(torch.randint(top, bottom - self.crop + 1, ()))
        column = int(torch.randint(left, right - self.crop + 1, ()))
        return Window(column, row, self.crop, self.crop)

    def _pixels(self, image: ImageFile, window: Window) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """(time, band, y, x) in contract units, or int16 as stored if that is the same, 0 without data; and where all
        bands have data, (time, y, x).
        """
        contract = self.layout.contract
        rows, columns = window.toslices()
        values = contract.from_reflectance(image.read(rows, columns), image.gain, image.bias)
        valid = np.isfinite(values).all(axis=1)
        if not valid.all():
            np.nan_to_num(values, copy=False)
        plain = abs(image.gain * contract.scale - 1) < 1e-9 and image.bias == 0.0 and image.dtype == "int16"
        adjusted = any(plane.adjust != (1.0, 0.0) for step in image.pixels.planes for plane in step)
        return values.astype(np.int16 if plain and not adjusted else np.float32, copy=False), valid


def _refuse_other_grid(chip: Chip, image: rasterio.DatasetReader, label: rasterio.DatasetReader) -> None:
    differs = difference(grid_of(image), grid_of(label))
    if differs is not None:
        raise DatasetError(f"chip {chip.id}: image and label do not lie on one grid: {differs} ({chip.label}).")


def _middle(image: ImageFile, window: Window) -> Tensor:
    """(2) latitude and longitude of a window's centre; NaN for an image without a place."""
    row, column = window.row_off + window.height / 2, window.col_off + window.width / 2
    return torch.from_numpy(latitude_longitude(image.transform, image.wkt, [row], [column])[0]).float()
