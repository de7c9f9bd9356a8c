"""One image and its label, or a part of both, as tensors. Any dataset whose layout the catalog describes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.transform
import torch
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.warp import transform as project
from rasterio.windows import Window
from torch import Tensor
from torch.utils.data import Dataset

from prithvi.catalog import DatasetLayout, sensor
from prithvi.errors import BandError, DatasetError
from prithvi.scenes.layout import ask_for_bands


@dataclass(frozen=True)
class Chip:
    """An image file, its label file and, for a part of them, the pixels that count."""

    id: str
    image: Path
    label: Path
    rows: tuple[int, int] | None = None
    """First row and the row after the last; None for all."""
    columns: tuple[int, int] | None = None


class ChipDataset(Dataset[dict[str, Any]]):
    """Chips as samples, read when asked for.

    A sample holds `image` (band, T, Y, X) in the units of the layout's contract, `valid` (T, Y, X) bool, `label`
    (Y, X) int64 class numbers with `prithvi.contract.IGNORE` where there is none, `temporal_coords` (T, 2) and
    `location_coords` (2) float32, NaN where unknown, and `id`.

    Args:
        chips: the chips.
        layout: what their pixels and labels mean.
        crop: draw a random square of that many pixels from each sample; None gives whole chips.
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

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.samples:
            raise IndexError(index)
        chip = self.chips[index % len(self.chips)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            try:
                with rasterio.open(chip.image) as image, rasterio.open(chip.label) as label:
                    return self._sample(chip, image, label)
            except RasterioError as error:
                raise DatasetError(f"chip {chip.id} cannot be read ({error}): {chip.image}, {chip.label}.") from error

    def _sample(self, chip: Chip, image: rasterio.DatasetReader, label: rasterio.DatasetReader) -> dict[str, Any]:
        if label.shape != image.shape or not label.transform.almost_equals(image.transform, precision=1e-6):
            raise DatasetError(f"chip {chip.id}: image {image.shape} and label {label.shape} do not lie on one grid.")
        window = self._window(chip, image)
        values, valid = self._pixels(image, window)
        classes = self.layout.class_numbers(label.read(1, window=window), label.nodata, chip.label)
        return {
            "id": chip.id,
            "image": torch.from_numpy(values).unsqueeze(1),
            "valid": torch.from_numpy(valid).unsqueeze(0),
            "label": torch.from_numpy(classes),
            "temporal_coords": torch.full((1, 2), torch.nan),
            "location_coords": _middle(image, window),
        }

    def _window(self, chip: Chip, image: rasterio.DatasetReader) -> Window:
        top, bottom = chip.rows or (0, image.height)
        left, right = chip.columns or (0, image.width)
        if self.crop is None:
            return Window(left, top, right - left, bottom - top)
        if self.crop > min(bottom - top, right - left):
            raise DatasetError(
                f"chip {chip.id} has {bottom - top} x {right - left} pixels, fewer than a crop of {self.crop}."
            )
        row = int(torch.randint(top, bottom - self.crop + 1, ()))
        column = int(torch.randint(left, right - self.crop + 1, ()))
        return Window(column, row, self.crop, self.crop)

    def _pixels(self, image: rasterio.DatasetReader, window: Window) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """(band, y, x) in contract units, int16 where they are that already, and where all bands have data (y, x)."""
        contract, product = self.layout.contract, sensor(self.layout.sensor)
        names = ask_for_bands(image.descriptions, image.count, product, str(image.name))
        missing = [band for band in contract.bands if band not in names]
        if missing:
            raise BandError(f"{image.name} lacks {', '.join(missing)}; it has {', '.join(n for n in names if n)}.")
        stored = image.read([names.index(band) + 1 for band in contract.bands], window=window)
        nodata = [value for value in (image.nodata, product.nodata) if value is not None]
        valid = np.isfinite(stored).all(axis=0)
        for value in nodata:
            valid &= (stored != value).all(axis=0)
        exact = product.gain * contract.scale == 1.0 and product.bias == 0.0
        if exact and stored.dtype == np.int16:
            return stored, valid
        return contract.from_reflectance(stored.astype(np.float32), product.gain, product.bias), valid


def _middle(image: rasterio.DatasetReader, window: Window) -> Tensor:
    """(lat, lon) of the middle of a window, NaN for an image without a place."""
    if image.crs is None:
        return torch.full((2,), torch.nan)
    row, column = window.row_off + window.height / 2, window.col_off + window.width / 2
    x, y = rasterio.transform.xy(image.transform, row, column, offset="ul")
    longitude, latitude = project(image.crs, "EPSG:4326", [x], [y])
    return torch.tensor([latitude[0], longitude[0]], dtype=torch.float32)
