"""One array written to a Zarr store from top to bottom; the store appears when it is whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr

from prithvi.errors import OutputError
from prithvi.files import atomic_folder

CHUNK = 64
"""Rows and columns of a chunk, which has all that stands in its places."""


@contextmanager
def zarr_writer(path: Path, blank: xr.Dataset, name: str) -> Iterator[ZarrWriter]:
    """Takes rows from top to bottom; a store that `publish` finished appears at its end.

    Zarr format 2 with consolidated metadata, which old and new readers (zarr-python 2.18 and 3, xarray, GDAL 3.10 and
    3.12) take alike; in format 3 consolidated metadata is no part of the specification yet, and older readers know
    nothing of it. The array names no fill value, because GDAL 3.12 does not open 16-bit floats whose fill value is NaN;
    and chunks of zeros are written, since zarr-python 2 would make up what a store without a fill value leaves out.

    Args:
        path: of the store, a folder; an older store stays until the new one is whole.
        blank: dataset whose coordinates and attributes are written, and the form of its array (..., y, x); lazy.
        name: of the array.

    Raises:
        OutputError: it cannot be written, or something else is there.

    """
    refuse_other(path)
    with atomic_folder(path) as work:
        blank, shape = blank.copy(), blank[name].shape
        chunks = (*shape[:-2], *(min(CHUNK, size) for size in shape[-2:]))
        # xarray would take NaN as the fill value. (`to_zarr(encoding=)` would drop what names the CRS.)
        blank[name].encoding |= {"chunks": chunks, "_FillValue": None}
        with zarr.config.set({"array.write_empty_chunks": True}):  # which an array keeps from when it was opened
            blank.to_zarr(work, compute=False, consolidated=True, zarr_format=2)
            array = zarr.open_array(work / name, mode="r+")
        yield ZarrWriter(work, name, array)


def refuse_other(path: Path) -> None:
    """Raises OutputError where something is at the path of a store that is no store."""
    if path.exists() and not any((path / file).exists() for file in (".zgroup", "zarr.json")):
        raise OutputError(f"{path} is there and is no Zarr store: choose another name.")


@dataclass
class ZarrWriter:
    """What `zarr_writer` gives; see `prithvi.mapping.engine.Writer`."""

    work: Path
    name: str
    array: Any
    start: int = 0
    rows: int = 0
    """That wait for their chunks to be whole."""
    waiting: list[npt.NDArray[Any]] = field(default_factory=list)

    def write(self, values: Mapping[str, npt.NDArray[Any]]) -> None:
        """Takes the next (..., rows, width) of the array."""
        self.waiting.append(values[self.name])
        self.rows += values[self.name].shape[-2]
        if self.rows >= CHUNK:
            self._write(self.rows // CHUNK * CHUNK)

    def _write(self, rows: int) -> None:
        """Writes the first of the waiting rows: whole chunks, but for the last."""
        together = np.concatenate(self.waiting, axis=-2)
        self.array[..., self.start : self.start + rows, :] = together[..., :rows, :]
        self.waiting = [together[..., rows:, :].copy()]
        self.start, self.rows = self.start + rows, self.rows - rows

    def keep(self) -> None:
        """Nothing is kept of a store that is not whole."""

    def tag(self, tags: Mapping[str, str]) -> None:
        """Adds attributes to the dataset."""
        if tags:
            zarr.open_group(self.work, mode="r+", use_consolidated=False).attrs.update(dict(tags))
            zarr.consolidate_metadata(self.work)

    def publish(self) -> None:
        """Writes what is left."""
        if self.rows:
            self._write(self.rows)
        assert self.start == self.array.shape[-2]
