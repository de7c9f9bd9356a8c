"""Results written to a Zarr store from top to bottom; the store appears when it is whole."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr
from zarr.errors import ZarrUserWarning

from prithvi.errors import ConfigError, OutputError
from prithvi.files import atomic_folder, read_json, table
from prithvi.mapping.result_files import NODATA
from prithvi.mapping.zarr_overviews import add_overviews
from prithvi.scenes.geozarr import grid_attributes
from prithvi.scenes.grids import grid_of_array, write_grid

FORMATS = (2, 3)
"""Of Zarr. 2 is what all readers open (zarr-python 2.18 and 3, xarray, GDAL from 3.6, zarrita); it has no place for
nodata of whole numbers that xarray would leave whole. In 3 there is one, and overviews, which GDAL shows from 3.13 on;
GDAL opens it from 3.12 on."""
NARROW, WIDE = 64, 512
"""Rows and columns of a chunk, which has all that stands in its places: many features, or some bands."""


def check_format(zarr_format: int) -> None:
    """Raises ConfigError for a format that nothing is written in."""
    if zarr_format not in FORMATS:
        raise ConfigError(f"there is no Zarr format {zarr_format}: 2 (for every reader) or 3 (with overviews).")


def lay_out(store: Path, blank: xr.Dataset, zarr_format: int, chunks: Mapping[str, tuple[int, ...]]) -> None:
    """Writes a store's coordinates, attributes and empty arrays, its place by CF and by GeoZarr; no pixels.

    Nothing is left for a reader to make up: xarray states no fill value for floats of format 2, because GDAL 3.12 does
    not open 16-bit floats with NaN for one; and in format 3 the fill value, which GDAL takes for nodata, would be 0.

    Args:
        store: the folder.
        blank: dataset whose arrays (..., y, x) are lazy.
        zarr_format: one of `FORMATS`.
        chunks: of each array.

    """
    grid = grid_of_array(next(iter(blank.data_vars.values())))
    if blank.rio.crs is not None:  # for every array, also one that was added without
        blank = write_grid(blank.rio.write_crs(blank.rio.crs), grid)
    blank = blank.assign_attrs(grid_attributes(grid))
    if zarr_format == 3:  # strings of a fixed length are no part of the specification of format 3
        texts = {name: each.astype(object) for name, each in blank.coords.items() if each.dtype.kind == "U"}
        blank = blank.assign_coords(texts)
    for name, array in blank.data_vars.items():
        array.encoding["chunks"] = chunks[str(name)]
        if zarr_format == 3:
            array.encoding["fill_value"] = array.attrs.get("_FillValue", NODATA if array.dtype.kind == "u" else np.nan)
        elif "_FillValue" not in array.attrs:
            array.encoding["_FillValue"] = None
    # Chunks of zeros too, since zarr-python 2 would make up what a store without a fill value leaves out.
    # (`to_zarr(encoding=)` would drop what names the CRS.)
    with zarr.config.set({"array.write_empty_chunks": True}):
        blank.to_zarr(store, compute=False, consolidated=False, zarr_format=zarr_format)


def finish(store: Path, facts: Mapping[str, Any], pyramid: str | None) -> None:
    """Adds attributes to a store, and overviews to one of format 3; then all its metadata into one file.

    Format 3 has no word on metadata in one file yet; readers that do not know it read the single files.

    Args:
        store: its folder.
        facts: attributes of the whole.
        pyramid: the array that readers of one array take; None makes no overviews.

    """
    group = zarr.open_group(store, mode="r+", use_consolidated=False)
    group.attrs.update(dict(facts))
    if pyramid is not None and group.metadata.zarr_format == 3:
        add_overviews(store, pyramid)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ZarrUserWarning)
        zarr.consolidate_metadata(store)


@contextmanager
def zarr_writer(path: Path, blank: xr.Dataset, zarr_format: int = 2, pyramid: bool = False) -> Iterator[ZarrWriter]:
    """Takes rows from top to bottom; a store that `publish` finished appears at its end.

    Args:
        path: of the store, a folder; an older store stays until the new one is whole.
        blank: dataset whose coordinates and attributes are written, and the form of its arrays (..., y, x); lazy.
        zarr_format: one of `FORMATS`.
        pyramid: whether a store of format 3 has overviews.

    Raises:
        OutputError: it cannot be written, or something else is there.
        ConfigError: another format.

    """
    check_format(zarr_format)
    refuse_other(path)
    with atomic_folder(path) as work:
        blank = blank.copy()
        values = max(int(np.prod(array.shape[:-2])) for array in blank.data_vars.values())
        side = NARROW if values > 16 else WIDE
        sizes = {str(name): array.shape for name, array in blank.data_vars.items()}
        chunks = {name: (*size[:-2], *(min(side, each) for each in size[-2:])) for name, size in sizes.items()}
        lay_out(work, blank, zarr_format, chunks)
        yield ZarrWriter(work, {name: open_array(work / name) for name in sizes}, side, pyramid)


def open_array(path: Path) -> Any:
    """An array to write to, whose chunks of fill values are written too."""
    with zarr.config.set({"array.write_empty_chunks": True}):  # which an array keeps from when it was opened
        return zarr.open_array(path, mode="r+")


def refuse_other(path: Path) -> None:
    """Raises OutputError where something is at the path of a store that is no store."""
    if path.exists() and not any((path / file).exists() for file in (".zgroup", "zarr.json")):
        raise OutputError(f"{path} is there and is no Zarr store: choose another name.")


def attributes_of(path: Path) -> dict[str, Any]:
    """Of a store of either format; empty where there is none that can be read."""
    for name in (".zattrs", "zarr.json"):
        if (path / name).is_file():
            with suppress(ConfigError):
                found = read_json(path / name)
                return found if name == ".zattrs" else table(name, found.get("attributes"))
    return {}


def counts_of(path: Path) -> npt.NDArray[np.int64]:
    """(..., 256) pixels of each value of an array (..., y, x) of uint8 at a path; of floats, 0 counts those with a
    value and `NODATA` those without.
    """
    array: Any = zarr.open_array(path, mode="r")
    found = np.zeros((*array.shape[:-2], 256), np.int64)
    for place in np.ndindex(array.shape[:-2]):
        for first in range(0, array.shape[-2], WIDE):
            values = np.asarray(array[(*place, slice(first, first + WIDE))])
            if values.dtype.kind == "f":
                values = np.where(np.isfinite(values), 0, NODATA)
            found[place] += np.bincount(values.ravel(), minlength=256)
    return found


@dataclass
class ZarrWriter:
    """What `zarr_writer` gives; see `prithvi.mapping.engine.Writer`."""

    work: Path
    arrays: dict[str, Any]
    side: int
    """Rows of a chunk."""
    pyramid: bool
    start: int = 0
    rows: int = 0
    """That wait for their chunks to be whole."""
    waiting: dict[str, list[npt.NDArray[Any]]] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)

    def write(self, values: Mapping[str, npt.NDArray[Any]]) -> None:
        """Takes the next (..., rows, width) of the arrays."""
        for name in self.arrays:
            self.waiting.setdefault(name, []).append(values[name])
        self.rows += values[next(iter(self.arrays))].shape[-2]
        if self.rows >= self.side:
            self._write(self.rows // self.side * self.side)

    def _write(self, rows: int) -> None:
        """Writes the first of the waiting rows: whole chunks, but for the last."""
        for name, array in self.arrays.items():
            together = np.concatenate(self.waiting[name], axis=-2)
            array[..., self.start : self.start + rows, :] = together[..., :rows, :]
            self.waiting[name] = [together[..., rows:, :].copy()]
        self.start, self.rows = self.start + rows, self.rows - rows

    def keep(self) -> None:
        """Nothing is kept of a store that is not whole."""

    def tag(self, tags: Mapping[str, str]) -> None:
        """Adds attributes to the dataset."""
        self.facts |= dict(tags)

    def publish(self) -> None:
        """Writes what is left."""
        if self.rows:
            self._write(self.rows)
        assert all(self.start == array.shape[-2] for array in self.arrays.values())
        finish(self.work, self.facts, next(iter(self.arrays)) if self.pyramid else None)
