"""Images and labels, or crops of them, as tensors, for any dataset whose layout the catalog describes.

Images are read by the same code as for mapping (`prithvi.scenes.imagefiles`), so that band names, tags, nodata, masks
and the range of valid reflectance mean the same in training and in mapping.
"""

from __future__ import annotations

import datetime as dt
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

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
from prithvi.scenes.grids import grid_of
from prithvi.scenes.imagefiles import ImageFile, open_image, read_label, refuse_other_grid

OpenLabel = Callable[[], rasterio.DatasetReader]
"""Opens a chip's label file, the first time."""


@dataclass(frozen=True)
class Chip:
    """An image and its label, or a rectangle of both."""

    id: str
    image: Path
    label: Path | int
    """A label file, or the class number of the whole chip."""
    rows: tuple[int, int] | None = None
    """First row, and the row after the last one; None for all rows."""
    columns: tuple[int, int] | None = None
    """First column, and the column after the last one; None for all columns."""
    dates: tuple[dt.date, ...] | None = None
    """Acquisition dates, in the image's order; None if unknown."""


class ChipDataset(Dataset[dict[str, Any]]):
    """Chips as samples, read on access.

    A sample holds:

    - `image` (band, T, Y, X) in the units of the layout's contract, and `valid` (T, Y, X) bool;
    - `label` (Y, X) int64 class numbers, `prithvi.contract.IGNORE` where unlabelled, or one number for the whole chip;
      for a quantity instead `target` (Y, X) float32 in its unit, NaN where unlabelled;
    - `temporal_coords` (T, 2) float32 year and day of year from 0, and `location_coords` (2) float32 latitude and
      longitude in degrees, NaN where unknown;
    - `id`.

    Args:
        chips: the chips.
        layout: meaning of their pixels and labels.
        crop: side in pixels of a random square to cut from each sample; None for whole chips.
        samples: length of the dataset, which then cycles through the chips; None for one sample per chip.
        keep: read each chip once and keep it in memory, for few chips that are cropped many times.

    """

    def __init__(
        self,
        chips: Sequence[Chip],
        layout: DatasetLayout,
        crop: int | None = None,
        samples: int | None = None,
        keep: bool = False,
    ) -> None:
        if not chips:
            raise DatasetError(f"{layout.name}: a split without any chip was asked for.")
        self.chips = list(chips)
        self.layout = layout
        self.crop = crop
        self.samples = samples or len(self.chips)
        self.keep = keep
        self._images: dict[int, ImageFile] = {}
        self._kept: dict[int, dict[str, Tensor]] = {}

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
                with ExitStack() as files:
                    # Opened when it is first asked for, and once.
                    return self._sample(number, cache(lambda: files.enter_context(rasterio.open(chip.label))))
            except (RasterioError, SceneError) as error:
                raise DatasetError(f"chip {chip.id} cannot be read ({error}): {chip.image}, {chip.label}.") from error

    def _image(self, number: int, label: OpenLabel) -> ImageFile:
        """The image of a chip, whose header is read only once; its label must have the same grid."""
        if number not in self._images:
            chip, bands = self.chips[number], self.layout.contract.bands

            def check(image: rasterio.DatasetReader) -> None:
                if not isinstance(chip.label, int):
                    refuse_other_grid(chip.id, grid_of(image), grid_of(label()), label().name)

            self._images[number] = open_image(chip.image, self.layout, bands, chip.dates, check)
        return self._images[number]

    @property
    def identity(self) -> str:
        """A text that identifies the samples: files with size and modification time, and how they are read."""
        files = [path for chip in self.chips for path in (chip.image, chip.label) if isinstance(path, Path)]
        stats = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        return repr((self.chips, stats, self.layout, self.samples))

    def _sample(self, number: int, label: OpenLabel) -> dict[str, Any]:
        chip, image = self.chips[number], self._image(number, label)
        size = image.pixels.shape[2:]
        (top, bottom), (left, right) = chip.rows or (0, size[0]), chip.columns or (0, size[1])
        whole = Window(left, top, right - left, bottom - top)
        window = whole if self.crop is None else self._crop(chip, whole, self.crop)
        sample = {
            "id": chip.id,
            "temporal_coords": torch.from_numpy(year_and_day(image.dates or [None] * self.layout.frames)),
            "location_coords": _middle(image, window),
        }
        if not self.keep:
            return sample | self._read(chip, image, window, label)
        if number not in self._kept:
            self._kept[number] = self._read(chip, image, whole, label)
        row, column = window.row_off - top, window.col_off - left
        inside = (..., slice(row, row + window.height), slice(column, column + window.width))
        return sample | {name: values[inside] if values.ndim else values for name, values in self._kept[number].items()}

    def _crop(self, chip: Chip, whole: Window, side: int) -> Window:
        """A random square."""
        if side > min(whole.height, whole.width):
            pixels = f"{whole.height} x {whole.width} pixels"
            raise DatasetError(f"chip {chip.id} has {pixels}, fewer than a crop of {side}.")
        # torch's generator, which DataLoader seeds differently in each worker.
        row = int(torch.randint(whole.row_off, whole.row_off + whole.height - side + 1, ()))
        column = int(torch.randint(whole.col_off, whole.col_off + whole.width - side + 1, ()))
        return Window(column, row, side, side)

    def _read(self, chip: Chip, image: ImageFile, window: Window, label: OpenLabel) -> dict[str, Tensor]:
        """What a sample holds of a window's pixels."""
        values, valid = self._pixels(image, window)
        read = {"image": torch.from_numpy(values).transpose(0, 1), "valid": torch.from_numpy(valid)}
        if isinstance(chip.label, int):
            return read | {"label": torch.tensor(chip.label)}
        # Labels are read with the same window as the image; `_image` has checked that both have the same grid.
        name = "label" if self.layout.quantity is None else "target"
        return read | {name: torch.from_numpy(read_label(label(), self.layout, window))}

    def _pixels(self, image: ImageFile, window: Window) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """(T, band, Y, X) pixels in contract units, 0 at nodata, and (T, Y, X) whether all bands have data.

        Pixels are int16 if the stored values are in contract units already, else float32.
        """
        # int16 halves what workers pass to the main process; the device converts to float32 in `Standardise`.
        contract = self.layout.contract
        rows, columns = window.toslices()
        values = contract.from_reflectance(image.read(rows, columns), image.gain, image.bias)
        valid = np.isfinite(values).all(axis=1)
        if not valid.all():
            np.nan_to_num(values, copy=False)
        plain = abs(image.gain * contract.scale - 1) < 1e-9 and image.bias == 0.0 and image.dtype == "int16"
        adjusted = any(plane.adjust != (1.0, 0.0) for step in image.pixels.planes for plane in step)
        return values.astype(np.int16 if plain and not adjusted else np.float32, copy=False), valid


@dataclass(frozen=True)
class LayoutSource:
    """Chips in the files of a dataset layout."""

    layout: DatasetLayout
    """File names, and meaning of pixels and labels."""
    root: Path
    """Folder of the dataset."""
    splits: Path | None = None
    """Folder with split lists that replace the official ones of the same file names; None for those."""

    def dataset(self, split: str, crop: int | None = None) -> ChipDataset:
        """The chips of a split; checks that their files exist, but reads no pixels.

        Raises:
            DatasetError: the dataset has no labels, or files are missing.

        """
        layout = self.layout
        if layout.label is None and layout.table is None:
            raise DatasetError(f"{layout.name} has images without labels, which is nothing to learn from.")
        chips = []
        for files in layout.chips(self.root, split, self.splits):
            label = files.label if files.label is not None else cast("int", files.number)
            chips.append(Chip(files.id, files.image, label, dates=files.dates))
        return ChipDataset(chips, layout, crop)


def _middle(image: ImageFile, window: Window) -> Tensor:
    """(2) latitude and longitude of a window centre in degrees; NaN if the image is not georeferenced."""
    row, column = window.row_off + window.height / 2, window.col_off + window.width / 2
    return torch.from_numpy(latitude_longitude(image.transform, image.wkt, [row], [column])[0]).float()
