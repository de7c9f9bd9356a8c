"""A filled series as one Zarr cube: the rows of some dates after others, and the store under its name when it is whole.

Rows are kept as those of files are (`prithvi.mapping.cog.RasterWriter`), so that a kill costs a row of windows; whole
dates go into the store, which lies in `.NAME.partial` until all its dates are there.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import dask.array as da
import numpy as np
import numpy.typing as npt
import rioxarray  # noqa: F401  (the .rio accessor)
import xarray as xr
from filelock import FileLock, Timeout

from prithvi.errors import OutputError
from prithvi.files import put_folder
from prithvi.mapping.cog import RasterWriter
from prithvi.mapping.result_files import FILLED, INT16_NODATA, NOTHING, OBSERVED, SCALE, Raster, SourceLayer
from prithvi.mapping.zarrfile import WIDE as CHUNK
from prithvi.mapping.zarrfile import attributes_of, check_format, counts_of, finish, lay_out, open_array, refuse_other
from prithvi.products.provenance import LEFT_OUT
from prithvi.scenes.grids import grid_of_array, write_grid


class SeriesCube:
    """Context manager: `writer` takes the rows of some dates, `publish` puts the store in place.

    Consolidated metadata; time by the CF conventions, the place by these (`spatial_ref`) and by GeoZarr. A chunk has
    all bands of one date. See `prithvi.mapping.zarrfile`.

    Args:
        path: of the store, a folder; an older store stays until the new one is whole.
        series: (time, band, y, x), whose place and units it has.
        times: (T,) of its dates.
        labels: what these are called.
        bands: names of its bands.
        uncertainty: whether it has any.
        key: what it depends on; None if it cannot be resumed.
        resume: keep what a run of the same key has finished.
        sources: of its dates, where the series has several sensors.
        zarr_format: see `prithvi.mapping.zarrfile.FORMATS`; overviews are in format 3.

    Attributes:
        made: whether the finished store of this key is there.

    Raises:
        OutputError: it cannot be written, something else is there, or another process is at it.
        ConfigError: another format.

    """

    def __init__(
        self,
        path: Path,
        series: xr.DataArray,
        times: npt.NDArray[np.datetime64],
        labels: Sequence[str],
        bands: Sequence[str],
        uncertainty: bool,
        key: Mapping[str, Any] | None,
        resume: bool,
        sources: SourceLayer | None = None,
        zarr_format: int = 2,
    ) -> None:
        check_format(zarr_format)
        refuse_other(path)
        self.path, self.grid, self.labels = path, series, list(labels)
        self.work = path.parent / f".{path.name}.partial"
        self.store, self.journal = self.work / "store", self.work / "run.json"
        self.kinds = ("image", "filled", "uncertainty")[: 2 + uncertainty] + ("source",) * (sources is not None)
        self.run = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16] if key else ""
        self.lock = FileLock(path.parent / f".{path.name}.lock", blocking=False)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.lock.acquire()
            self.made = bool(resume and self.run and attributes_of(path).get("PRITHVI_RUN") == self.run)
            # A kill may have left it empty.
            begun = self.journal.is_file() and self.journal.read_text(encoding="utf-8") == json.dumps(self.run)
            if not (self.made or (resume and self.run and begun)):
                shutil.rmtree(self.work, ignore_errors=True)
                blank = _blank(series, times, bands, self.kinds, sources)
                chunks = {str(name): tuple(map(int, each.data.chunksize)) for name, each in blank.data_vars.items()}
                lay_out(self.store, blank, zarr_format, chunks)
                self.journal.write_text(json.dumps(self.run), encoding="utf-8")  # last: the store is laid out
        except Timeout as error:
            raise OutputError(f"{path} is being made by another process.") from error
        except OSError as error:
            raise OutputError(f"{path} cannot be written ({error.strerror or error}).") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if not self.run:  # nobody can go on from it
            shutil.rmtree(self.work, ignore_errors=True)
        with suppress(OSError):
            Path(self.lock.lock_file).unlink(missing_ok=True)
        self.lock.release()

    @property
    def left_out(self) -> str:
        """What the finished store says of pixels that were treated as nodata."""
        return str(attributes_of(self.path).get(LEFT_OUT, ""))

    def writer(self, rasters: Sequence[Raster], key: Mapping[str, Any] | None, resume: bool) -> CubeWriter:
        """For the rows of some dates, given as `prithvi.mapping.result_files.series_rasters` has them."""
        return CubeWriter(self, rasters, key, resume)

    def publish(self, tags: Mapping[str, str]) -> None:
        """Puts the store in place, once all its dates are there.

        Raises:
            OutputError: it cannot be written.

        """
        told = [json.loads(mark.read_text(encoding="utf-8")) for mark in sorted(self.work.glob("*.done"))]
        left_out = " ".join(sorted(f"{day}: {text}" for each in told for day, text in each["left_out"].items()))
        facts = {
            **tags,
            **({LEFT_OUT: left_out} if left_out else {}),
            **({"PRITHVI_RUN": self.run} if self.run else {}),
        }
        try:
            finish(self.store, facts, "image")
            # Nobody goes on from here: a kill after the exchange leaves the earlier store in the place of the new one.
            self.journal.unlink()
            put_folder(self.store, self.path, self.work / "old")
            shutil.rmtree(self.work)
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written ({error.strerror or error}).") from error

    def counts(self) -> npt.NDArray[np.int64]:
        """(T, 256) pixels of each value of `filled`, by date."""
        return counts_of(self.path / "filled")


class CubeWriter(RasterWriter):
    """The rows of some dates, which go into a cube when all are there; see `RasterWriter`."""

    def __init__(
        self, cube: SeriesCube, rasters: Sequence[Raster], key: Mapping[str, Any] | None, resume: bool
    ) -> None:
        self.cube = cube
        self.mark = cube.work / f"{rasters[0].name}.done"
        super().__init__(cube.work, cube.grid, rasters, key, resume)

    def _is_made(self) -> bool:
        """Whether the store has these dates of this key."""
        try:
            return bool(self.run) and json.loads(self.mark.read_text(encoding="utf-8"))["run"] == self.run
        except (OSError, ValueError, KeyError, TypeError):  # damaged
            return False

    def publish(self) -> None:
        """Writes whole chunks, then the mark that says so."""
        self.keep()
        height, width = self.grid.sizes["y"], self.grid.sizes["x"]
        with self._told():
            for number, (raster, file) in enumerate(zip(self.rasters, self.files, strict=True)):
                file.close()
                label = self.rasters[number // len(self.cube.kinds) * len(self.cube.kinds)].name.removesuffix(".tif")
                place, kind = self.cube.labels.index(label), self.cube.kinds[number % len(self.cube.kinds)]
                shape, dtype = (height, len(raster.bands), width), np.dtype(raster.dtype).newbyteorder("<")
                rows = np.memmap(self._raw(raster), dtype, "r", shape=shape).swapaxes(0, 1)
                array = open_array(self.cube.store / kind)
                for first in range(0, height, CHUNK):
                    part = rows[:, first : first + CHUNK]
                    array[place, ..., first : first + CHUNK, :] = part[0] if kind in ("filled", "source") else part
            left_out = {
                raster.name.removesuffix(".tif"): raster.tags[LEFT_OUT]
                for raster in self.rasters[:: len(self.cube.kinds)]
                if LEFT_OUT in raster.tags
            }
            self.mark.write_text(json.dumps({"run": self.run, "left_out": left_out}), encoding="utf-8")
            shutil.rmtree(self.partial)


def _blank(
    series: xr.DataArray,
    times: npt.NDArray[np.datetime64],
    bands: Sequence[str],
    kinds: Sequence[str],
    sources: SourceLayer | None,
) -> xr.Dataset:
    """The cube's layout, with nothing in it."""
    sizes = {"time": len(times), "band": len(bands), "y": series.sizes["y"], "x": series.sizes["x"]}
    chunks = {"time": 1, "band": len(bands), "y": min(CHUNK, sizes["y"]), "x": min(CHUNK, sizes["x"])}
    stored = {"_FillValue": INT16_NODATA, "scale_factor": SCALE, "units": "1"}
    flags = {"flag_values": [OBSERVED, FILLED, NOTHING], "flag_meanings": "observed filled nothing"}
    forms: dict[str, tuple[tuple[str, ...], str, dict[str, Any]]] = {
        "image": (("time", "band", "y", "x"), "int16", {"long_name": "surface reflectance", **stored}),
        "filled": (("time", "y", "x"), "uint8", {"long_name": "what a pixel is", **flags}),
        "uncertainty": (("time", "band", "y", "x"), "int16", {"long_name": "standard error of reflectance", **stored}),
        "source": (("time", "y", "x"), "uint8", sources.flags if sources is not None else {}),
    }
    cube = xr.Dataset()
    for kind in kinds:
        dims, dtype, attrs = forms[kind]
        data = da.zeros([sizes[name] for name in dims], dtype=dtype, chunks=[chunks[name] for name in dims])
        cube[kind] = xr.DataArray(data, dims=dims, attrs=attrs)
    coords = {name: series.coords[name] for name in ("y", "x") if name in series.coords}
    cube = cube.assign_coords(time=times, band=list(bands), **coords)
    if sources is not None:
        cube = cube.assign_coords(sensor=("time", list(sources.dates)))
    cube["time"].encoding = {"units": "seconds since 1970-01-01", "calendar": "proleptic_gregorian", "dtype": "int64"}
    if series.rio.crs is not None:
        cube = cube.rio.write_crs(series.rio.crs)
    return write_grid(cube, grid_of_array(series))
