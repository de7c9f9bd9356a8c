"""Rasters written row by row, which a kill cannot spoil, and made Cloud-Optimized GeoTIFFs when they are whole.

Rows go to plain files whose bytes lie where the row says, and a journal beside them says how many are finished. A
GDAL VRT describes the plain file (names, colours, nodata), and GDAL's COG driver makes the product from it. What is
whole is moved to its final name.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.shutil
import xarray as xr
from filelock import FileLock, Timeout
from rasterio.errors import RasterioError, RasterioIOError

from prithvi.errors import ConfigError, OutputError, PrithviError
from prithvi.mapping.result_files import NODATA, Raster, write_vrt
from prithvi.products.classmap import GDAL_CACHE
from prithvi.products.provenance import Provenance
from prithvi.scenes.block_cache import room_for


class RasterWriter:
    """Context manager: rows are written from top to bottom, `make` makes the products, `publish` puts them in place.

    The work lies in `.NAME.partial` beside the products until they are published. It is kept when something goes
    wrong after the first finished row, and a writer with the same `key` and `resume` continues there.

    Args:
        folder: of the products.
        grid: (..., y, x) whose place and size all of them have.
        rasters: the files; the first gives the work its name.
        key: what the rows depend on; None if they cannot be resumed.
        resume: keep finished rows of the same key.
        added: what of the key was decided by the run itself; kept in the journal, for `kept_facts`.

    Attributes:
        start: the first row that is not written yet.
        made: True if a published result with this key exists and `resume` is True.
        kept: rows that would survive this process, and be resumed from.
        work: a folder for files that are to be published together with the rasters.

    Raises:
        OutputError: the folder cannot be written, another process is at it, or the disk is full.

    """

    def __init__(
        self,
        folder: Path,
        grid: xr.DataArray,
        rasters: Sequence[Raster],
        key: Mapping[str, Any] | None = None,
        resume: bool = False,
        added: Mapping[str, str] | None = None,
    ) -> None:
        self.added = dict(added or {})
        self.folder, self.grid, self.rasters = folder, grid, tuple(rasters)
        self.partial = folder / f".{rasters[0].name}.partial"
        self.work = self.partial / "made"
        self.run = _run_of(key) if key is not None else ""
        self.start = self.kept = 0
        self.lock = FileLock(folder / f".{rasters[0].name}.lock", blocking=False)
        self.files: list[Any] = []
        try:
            # Before this process has the lock, an error leaves everything as it is: the rows of an interrupted run, and
            # the lock of another process.
            folder.mkdir(parents=True, exist_ok=True)
            for raster in self.rasters:
                if (folder / raster.name).is_dir():
                    raise IsADirectoryError(errno.EISDIR, f"{raster.name} is a folder")
            self.lock.acquire()
            try:
                self._open(resume)
            except OSError:
                self._end()
                raise
        except Timeout as error:
            raise OutputError(f"{folder / rasters[0].name} is being made by another process.") from error
        except OSError as error:
            raise OutputError(f"{folder / rasters[0].name} cannot be written ({error.strerror}).") from error

    def _open(self, resume: bool) -> None:
        """Opens the files of rows, after those that an interrupted run of the same key has finished."""
        # Three states are met: rows of an interrupted run of the same key (these are kept), a published result of the
        # same key (nothing is to be done), and anything else (which is started anew).
        if resume and self.partial.is_dir():
            self.start = self.kept = self._finished()
        self.made = resume and not self.partial.exists() and self._is_made()
        if self.start == 0:
            shutil.rmtree(self.partial, ignore_errors=True)
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        for raster in self.rasters:
            if self.start == 0:
                self._raw(raster).touch()
            file = self._raw(raster).open("r+b", buffering=0)
            self.files.append(file)
            file.truncate(self.start * self._row_bytes(raster))
            file.seek(0, os.SEEK_END)

    def _raw(self, raster: Raster) -> Path:
        return self.partial / f"{raster.name}.raw"

    def _row_bytes(self, raster: Raster) -> int:
        return len(raster.bands) * self.grid.sizes["x"] * np.dtype(raster.dtype).itemsize

    def _finished(self) -> int:
        """Rows that all files hold, if they were made of the same."""
        try:
            plain = json.loads((self.partial / "journal.json").read_text(encoding="utf-8"))
            rows, same = int(plain["rows"]), bool(self.run) and plain["run"] == self.run
            whole = all(self._raw(raster).stat().st_size >= rows * self._row_bytes(raster) for raster in self.rasters)
        except (OSError, ValueError, KeyError, TypeError):  # damaged
            return 0
        return rows if whole and same else 0

    def _is_made(self) -> bool:
        """Whether the first file, which is published last, says that it comes from the same."""
        try:
            with rasterio.open(self.folder / self.rasters[0].name) as raster:
                return bool(self.run) and raster.tags().get("PRITHVI_RUN") == self.run
        except RasterioError:
            return False

    def __enter__(self) -> Self:
        return self

    def write(self, values: Mapping[str, npt.NDArray[Any]]) -> None:
        """Writes the next rows of every raster, out of the named arrays of a result."""
        for file, raster in zip(self.files, self.rasters, strict=True):
            array = raster.encode(values)
            # xarray makes floats of whole numbers where it puts NaN among them (`where`, `reindex`).
            if array.dtype.kind == "f" and np.dtype(raster.dtype).kind != "f":
                array = np.nan_to_num(array, nan=raster.nodata)
            stack = array.reshape(-1, *array.shape[-2:])
            rows = np.ascontiguousarray(stack.swapaxes(0, 1), dtype=np.dtype(raster.dtype).newbyteorder("<"))
            view = rows.data.cast("B")
            with self._told():
                while len(view):
                    view = view[file.write(view) :]
        self.start += rows.shape[0]

    def tag(self, tags: Mapping[str, str], start: str = "") -> None:
        """Adds tags to the rasters whose names begin with `start`, before they are made."""
        self.rasters = tuple(
            replace(raster, tags={**raster.tags, **tags}) if raster.name.startswith(start) else raster
            for raster in self.rasters
        )

    def keep(self) -> None:
        """Notes in the journal that all rows so far are finished."""
        if not self.run:
            return
        journal = self.partial / "journal.json"
        with self._told():
            for file in self.files:
                os.fsync(file.fileno())
            plain = {"rows": self.start, "run": self.run, **({"added": self.added} if self.added else {})}
            journal.with_suffix(".new").write_text(json.dumps(plain), encoding="utf-8")
            os.replace(journal.with_suffix(".new"), journal)
        self.kept = self.start

    def make(self) -> list[Path]:
        """Makes the products in `work`."""
        assert self.start == self.grid.sizes["y"]
        self.keep()
        made = []
        for raster, file in zip(self.rasters, self.files, strict=True):
            file.close()
            path = self.work / raster.name
            options = {"BLOCKSIZE": _block_of(raster), **({"NBITS": 16} if raster.half else {})}
            signed = replace(raster, tags={**raster.tags, "PRITHVI_RUN": self.run}) if self.run else raster
            with self._told():
                vrt = write_vrt(self.partial / f"{raster.name}.vrt", self._raw(raster), self.grid, signed)
                with room_for(GDAL_CACHE), rasterio.Env(GDAL_NUM_THREADS="ALL_CPUS"):
                    rasterio.shutil.copy(
                        vrt, path, driver="COG", COMPRESS="DEFLATE", OVERVIEW_RESAMPLING=raster.resampling,
                        BIGTIFF="IF_SAFER", **options,
                    )  # fmt: skip
                    check_whole(path)
            made.append(path)
        return made

    def publish(self) -> None:
        """Moves all that is left in `work` to its final name, the rasters last and the first of them last of all."""
        if not any(self.work.iterdir()):
            self.make()
        # All of it reaches the disk first. The first raster is moved last: with its tag PRITHVI_RUN it says that
        # everything else is in place, whenever the process dies.
        names = sorted(path.name for path in self.work.iterdir())
        last = [raster.name for raster in reversed(self.rasters) if raster.name in names]
        with self._told():
            for name in names:
                with (self.work / name).open("rb") as file:
                    os.fsync(file.fileno())
            for name in last:  # what GDAL or QGIS noted beside an older file
                if f"{name}.aux.xml" not in names:
                    (self.folder / f"{name}.aux.xml").unlink(missing_ok=True)
            for name in [*(name for name in names if name not in last), *last]:
                os.replace(self.work / name, self.folder / name)
            shutil.rmtree(self.partial)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Raises what a disk or GDAL says as an OutputError."""
        try:
            yield
        except (RasterioError, OSError) as error:
            reason = "GDAL could not write all of it" if isinstance(error, RasterioError) else error.strerror or error
            path = self.folder / self.rasters[0].name
            raise OutputError(f"{path} cannot be written ({reason}): is the disk full?") from error

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, PrithviError):
            kept = f" The first {self.kept:,} rows are kept: --resume goes on from there." if self.kept else ""
            error.args = (str(error).replace(str(self.work), str(self.folder)) + kept,)
        self._end()

    def _end(self) -> None:
        """Closes all; the work is kept if there are finished rows."""
        for file in self.files:
            file.close()
        if self.kept == 0:
            shutil.rmtree(self.partial, ignore_errors=True)
        with suppress(OSError):  # while it is held, so that nobody waits for a file that goes
            Path(self.lock.lock_file).unlink(missing_ok=True)
        self.lock.release()


def _run_of(key: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]


def kept_facts(path: Path, key: Mapping[str, Any], tags: Mapping[str, str]) -> tuple[dict[str, str] | None, bool]:
    """What an earlier run had decided for itself and added to its key, which was otherwise this one.

    Args:
        path: the first raster.
        key: what the rows depend on, but for that.
        tags: in which tag of a published file each such fact stands.

    Returns:
        The facts, None where there is no such run, and whether it was interrupted.

    """
    with suppress(OSError, ValueError, KeyError, AttributeError, TypeError):
        plain = json.loads((path.parent / f".{path.name}.partial" / "journal.json").read_text(encoding="utf-8"))
        added = {name: str(value) for name, value in plain.get("added", {}).items()}
        return (added, True) if plain["run"] == _run_of({**key, **added}) else (None, False)
    with suppress(RasterioError), rasterio.open(path) as raster:
        told = raster.tags()
        added = {name: told[tag] for name, tag in tags.items() if tag in told}
        if told.get("PRITHVI_RUN") == _run_of({**key, **added}):
            return added, False
    return None, False


def _block_of(raster: Raster) -> int:
    """Side of a file's blocks, 512 as long as GDAL's cache holds two of them: each has the pixels of all bands."""
    pixels = GDAL_CACHE / 2 / (len(raster.bands) * np.dtype(raster.dtype).itemsize)
    return next((side for side in (512, 256) if side * side <= pixels), 128)  # GDAL takes none below 128


def check_geotiff(path: str | Path) -> Path:
    """A path that a GeoTIFF can be written to.

    Raises:
        ConfigError: it has another suffix.

    """
    path = Path(path)
    if path.suffix.lower() not in (".tif", ".tiff"):
        raise ConfigError(f"a GeoTIFF is written here: name {path} .tif.")
    return path


def count_values(path: str | Path) -> npt.NDArray[np.int64]:
    """(256,) pixels of each value; of a file of floats, 0 counts those with a value and `NODATA` those without."""
    sums = np.zeros(256, np.int64)
    with rasterio.open(path) as raster:
        for _, window in raster.block_windows(1):
            values = raster.read(1, window=window)
            if values.dtype.kind == "f":
                values = np.where(np.isfinite(values), 0, NODATA).astype(np.uint8)
            sums += np.bincount(values.ravel(), minlength=256)
    return sums


def left_out_of(path: Path) -> tuple[str, ...]:
    """What a file's own tags say of pixels that were left out."""
    with rasterio.open(path) as raster:
        left_out = Provenance.from_tags(raster.tags()).left_out
    return (left_out,) if left_out else ()


def check_whole(path: Path) -> None:
    """Reads all of a new file back: GDAL takes a disk that fills up while it writes for a success.

    Raises:
        RasterioError: a block is missing or damaged.

    """
    with rasterio.open(path) as raster:
        levels = len(raster.overviews(1))
        for (row, column), part in raster.block_windows(1):
            if raster.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", 1) is None:
                raise RasterioIOError(f"{path} lacks a block")
            raster.read(window=part)
    for level in range(levels):
        with rasterio.open(path, OVERVIEW_LEVEL=level) as raster:
            for _, part in raster.block_windows(1):
                raster.read(window=part)
