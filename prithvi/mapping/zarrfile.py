"""One array written to a Zarr store from top to bottom; the store appears when it is whole."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr

from prithvi.errors import OutputError

CHUNK = 64
"""Rows and columns of a chunk, which has all that stands in its places."""


class ZarrWriter:
    """Context manager: rows are written from top to bottom, `publish` puts the store in place.

    Zarr format 2 with consolidated metadata, which old and new readers (zarr-python 2 and 3, xarray, GDAL) take alike;
    in format 3 consolidated metadata is no part of the specification yet, and older readers know nothing of it.

    Args:
        path: of the store, a folder; an older store stays until the new one is whole.
        blank: dataset whose coordinates and attributes are written, and the form of its array (..., y, x); lazy.
        name: of the array.

    Raises:
        OutputError: it cannot be written, or something else is there.

    """

    def __init__(self, path: Path, blank: xr.Dataset, name: str) -> None:
        self.path, self.name, self.rows, self.start = path, name, 0, 0
        self.waiting: list[npt.NDArray[Any]] = []
        shape = blank[name].shape
        chunks = (*shape[:-2], *(min(CHUNK, size) for size in shape[-2:]))
        try:
            if path.exists() and not any((path / file).exists() for file in (".zgroup", "zarr.json")):
                raise OutputError(f"{path} is there and is no Zarr store: choose another name.")
            path.parent.mkdir(parents=True, exist_ok=True)
            self.work = Path(tempfile.mkdtemp(prefix=f".{path.stem}-", dir=path.parent))
        except OSError as error:
            raise self._full(error) from error
        try:
            blank = blank.copy()
            blank[name].encoding["chunks"] = chunks  # to_zarr's encoding= would drop what names the CRS
            blank.to_zarr(self.work / "new", compute=False, consolidated=True, zarr_format=2)
            self.array: Any = zarr.open_array(self.work / "new" / name, mode="r+")
        except OSError as error:
            shutil.rmtree(self.work, ignore_errors=True)
            raise self._full(error) from error

    def __enter__(self) -> Self:
        return self

    def write(self, values: Mapping[str, npt.NDArray[Any]]) -> None:
        """Takes the next (..., rows, width) of the array."""
        self.waiting.append(values[self.name])
        self.rows += values[self.name].shape[-2]
        if self.rows >= CHUNK:
            self._write(self.rows // CHUNK * CHUNK)

    def _write(self, rows: int) -> None:
        """Writes the first of the waiting rows: whole chunks, but for the last."""
        together = np.concatenate(self.waiting, axis=-2)
        try:
            self.array[..., self.start : self.start + rows, :] = together[..., :rows, :]
        except OSError as error:
            raise self._full(error) from error
        self.waiting = [together[..., rows:, :].copy()]
        self.start, self.rows = self.start + rows, self.rows - rows

    def keep(self) -> None:
        """Nothing is kept of a store that is not whole."""

    def tag(self, tags: Mapping[str, str]) -> None:
        """Adds attributes to the dataset."""
        if not tags:
            return
        try:
            zarr.open_group(self.work / "new", mode="r+", use_consolidated=False).attrs.update(dict(tags))
            zarr.consolidate_metadata(self.work / "new")
        except OSError as error:
            raise self._full(error) from error

    def publish(self) -> None:
        """Moves the store to its name."""
        if self.rows:
            self._write(self.rows)
        assert self.start == self.array.shape[-2]
        try:
            if self.path.exists():
                os.replace(self.path, self.work / "old")
            os.replace(self.work / "new", self.path)
        except OSError as error:
            raise self._full(error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.work, ignore_errors=True)

    def _full(self, error: OSError) -> OutputError:
        if isinstance(error, OutputError):
            return error
        return OutputError(f"{self.path} cannot be written ({error.strerror or error}).")
