"""Embeddings as files: 16-bit floats or whole numbers with a scale, checked, and a row a patch beside them.

Whole numbers need the largest value before the first is written, and a second file needs all rows again: they are kept
in a hidden file of rows meanwhile, so that memory goes with the width of a scene and not with its height.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import shapely
import xarray as xr

from prithvi.errors import ConfigError, OutputError
from prithvi.mapping.cog import RasterWriter
from prithvi.mapping.embedding_checks import COARSE, Checks
from prithvi.mapping.engine import Progress, Run, Target, left_out, write
from prithvi.mapping.engine import Writer as Rows
from prithvi.mapping.result_files import Raster, embedding_raster
from prithvi.mapping.zarrfile import ZarrWriter, zarr_writer
from prithvi.products.provenance import Provenance
from prithvi.products.vectorfiles import write_vectors
from prithvi.scenes.grids import grid_of_array

DTYPES = ("float16", "int8")
NODATA, LARGEST = -128, 127
"""Of whole numbers: vector = number x scale."""
_BATCH = 64
"""Rows of patches in a batch of the file beside."""


def write_embeddings(
    run: Run, target: Target, path: Path, origin: Provenance, dtype: str, patches: bool, zarr_format: int,
    progress: Progress | None,
) -> None:  # fmt: skip
    """Computes embeddings and writes them; what `prithvi.mapping.embed_scene` says.

    Warns:
        UserWarning: something is wrong with the vectors, see `Checks.faults`.

    """
    result = run.outputs(target)
    array = result["embedding"]
    checks = Checks(target.part.plan, target.part.cell, array.shape[0] * array.shape[1])
    with ExitStack() as stack:
        if dtype == "float16" and not patches:
            writer = stack.enter_context(_writer(path, result, target.grid, zarr_format))
            tally = write(run, target, Watched(writer, checks), progress)
            scale = 0.0
        else:
            kept = stack.enter_context(KeptRows(path, array))
            tally = write(run, target, Watched(kept, checks), progress)
            scale = scale_of(checks) if dtype == "int8" else 0.0
            if scale:
                result["embedding"] = array.astype(np.int8).assign_attrs(_FillValue=np.int8(NODATA), scale_factor=scale)
            writer = stack.enter_context(_writer(path, result, target.grid, zarr_format, scale))
            for values in kept.again():
                writer.write({"embedding": whole_numbers(values, scale) if scale else values})
            if patches:
                write_vectors(path.with_suffix(".parquet"), patch_frames(kept, result, target.grid, scale), origin)
        told, faults = _verdict(checks, scale)
        writer.tag({**left_out(tally, target.scene, run.contract, 5), "PRITHVI_CHECKED": told})
        writer.publish()
    for fault in faults:  # when the file is there, whatever becomes of warnings
        warnings.warn(fault, stacklevel=3)


def _writer(
    path: Path, result: xr.Dataset, grid: xr.DataArray, zarr_format: int, scale: float = 0.0
) -> AbstractContextManager[ZarrWriter | RasterWriter]:
    if path.suffix.lower() == ".zarr":
        return zarr_writer(path, result, zarr_format)
    raster: Raster = embedding_raster(path.name, result)
    if scale:
        raster = replace(raster, dtype="int8", nodata=NODATA, scale=scale, half=False, encode=itemgetter("embedding"))
    return RasterWriter(path.parent, grid, [raster])


def _verdict(checks: Checks, scale: float) -> tuple[str, list[str]]:
    """What was seen, in words, and what of it is wrong."""
    faults, told = checks.faults(), checks.sentence()
    spread = checks.deviations[checks.deviations > 0]
    if scale and spread.size:
        step = scale / spread
        told += f" A step of the whole numbers is at most {step.max():.3f} standard deviations of a feature."
        if step.max() > COARSE:
            faults.append(
                f"{int((step > COARSE).sum())} of {len(step)} features vary little beside the largest value, so that "
                "whole numbers say too little of them: take float16 (--dtype float16)."
            )
    return " ".join([told, *(fault[0].upper() + fault[1:] for fault in faults)]), faults


def scale_of(checks: Checks) -> float:
    """What a step of whole numbers stands for, so that the largest value is `LARGEST`."""
    largest = np.max(np.abs([checks.low, checks.high])) if checks.vectors else 0.0
    return float(largest / LARGEST) or 1.0


def whole_numbers(values: npt.NDArray[np.floating], scale: float) -> npt.NDArray[np.int8]:
    """Values of any shape in steps of `scale`, `NODATA` where they are no numbers."""
    known = np.isfinite(values)
    steps = np.rint(np.where(known, values, 0).astype(np.float32) / scale).clip(-LARGEST, LARGEST)
    return np.where(known, steps, NODATA).astype(np.int8)


def patch_frames(kept: KeptRows, result: xr.Dataset, grid: xr.DataArray, scale: float) -> Iterator[gpd.GeoDataFrame]:
    """Batches of a row a patch and step: its place, its date where it is known, and its vector.

    Args:
        kept: rows of all vectors.
        result: what `prithvi.embed` gives, for dates.
        grid: (y, x) of the patches.
        scale: of whole numbers; 0 for floats.

    """
    at, days = grid_of_array(grid).affine, result["time"].values if "time" in result.coords else None
    first, found = 0, False
    for values in kept.again(_BATCH):
        known = np.isfinite(values).all(axis=1)
        step, row, column = np.nonzero(known)
        corners = [(row + first + down, column + along) for down, along in ((0, 0), (0, 1), (1, 1), (1, 0))]
        xs, ys = (np.stack([corner[axis] for corner in corners], axis=1) for axis in (1, 0))
        outlines = shapely.polygons(np.stack([at.a * xs + at.b * ys + at.c, at.d * xs + at.e * ys + at.f], axis=-1))
        vectors: npt.NDArray[Any] = values[step, :, row, column]
        vectors = whole_numbers(vectors, scale) if scale else vectors.astype(np.float32)
        columns: dict[str, Any] = {"step": step, "row": row + first, "column": column}
        if days is not None:
            columns["time"] = days[step]
        frame = gpd.GeoDataFrame({**columns, "embedding": list(vectors)}, geometry=outlines, crs=grid.rio.crs)
        first += values.shape[-2]
        if len(frame) or (first == grid.sizes["y"] and not found):
            found = True
            yield frame


@dataclass
class Watched:
    """A writer whose rows are looked at as they pass."""

    writer: Rows
    checks: Checks

    @property
    def start(self) -> int:
        """See `prithvi.mapping.engine.Writer`."""
        return self.writer.start

    def write(self, values: Mapping[str, npt.NDArray[Any]]) -> None:
        """Takes the next rows."""
        self.checks.add(values["embedding"])
        self.writer.write(values)

    def keep(self) -> None:
        """See `prithvi.mapping.engine.Writer`."""
        self.writer.keep()


class KeptRows:
    """Rows of vectors in a hidden file beside the result, which goes when the block ends.

    Args:
        path: of the result.
        array: (step, feature, y, x), whose form the rows have.

    Raises:
        OutputError: it cannot be written.

    """

    start = 0

    def __init__(self, path: Path, array: xr.DataArray) -> None:
        self.path, self.shape = path, array.shape

    def __enter__(self) -> KeptRows:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = tempfile.TemporaryFile(prefix=f".{self.path.stem}-", dir=self.path.parent)
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written ({error.strerror or error}).") from error
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, values: Mapping[str, npt.NDArray[Any]]) -> None:
        """Takes the next (step, feature, rows, width)."""
        rows = np.ascontiguousarray(np.moveaxis(values["embedding"], -2, 0), np.float16)
        try:
            self.file.write(rows.data.cast("B"))
        except OSError as error:
            raise OutputError(
                f"{self.path} cannot be written ({error.strerror or error}): is the disk full?"
            ) from error

    def keep(self) -> None:
        """Nothing is kept of embeddings that are not whole."""

    def again(self, rows: int = 16) -> Iterator[npt.NDArray[np.float16]]:
        """(step, feature, rows, width) from top to bottom."""
        steps, features, height, width = self.shape
        self.file.seek(0)
        for first in range(0, height, rows):
            number = min(rows, height - first)
            raw = self.file.read(2 * number * steps * features * width)
            yield np.moveaxis(np.frombuffer(raw, np.float16).reshape(number, steps, features, width), 0, -2)


def check_form(path: Path, dtype: str) -> None:
    """Raises ConfigError for files that are not made of any vectors."""
    if path.suffix.lower() not in (".tif", ".tiff", ".zarr"):
        raise ConfigError(f"embeddings are written as .tif or .zarr, and {path} is neither.")
    if dtype not in DTYPES:
        raise ConfigError(f"embeddings are stored as float16 or int8, and not as {dtype}.")


def check_patches(cell: int, grid: xr.DataArray) -> None:
    """Raises ConfigError where vectors of so many pixels a side on a grid have no outlines."""
    if cell == 1:
        raise ConfigError("a row a patch is written of patches and windows: leave out patches, or pixels.")
    if grid.rio.crs is None:
        raise ConfigError("patches are polygons, and the scene has no coordinate reference system: leave out patches.")
