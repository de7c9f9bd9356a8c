"""Cloud masks of a series, one raster a date."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rioxarray
import xarray as xr
from rasterio.errors import RasterioError

from prithvi.errors import SceneError
from prithvi.hls import good
from prithvi.scenes import transform_of


def clear_of(masks: Sequence[str | Path], series: xr.DataArray) -> xr.DataArray:
    """(time, y, x) lazy bool, False under clouds.

    Args:
        masks: a raster for each date, in the order of the series: HLS's Fmask (a name that ends in Fmask.tif), where
            cloud and cloud shadow count; or any other, where every value but 0 does.
        series: whose grid they have.

    Raises:
        SceneError: another number of masks than dates, one that cannot be read or lies on another grid.

    """
    if len(masks) != series.sizes["time"]:
        raise SceneError(f"{len(masks)} cloud masks for {series.sizes['time']} dates: give one for each, in order.")
    found = []
    for path in map(Path, masks):
        try:
            mask = rioxarray.open_rasterio(path, chunks={"y": 512, "x": -1})
        except (RasterioError, OSError) as error:
            raise SceneError(f"the cloud mask {path} cannot be read ({error}).") from error
        assert isinstance(mask, xr.DataArray)
        here, there = mask.rio.transform(), transform_of(series)
        if mask.shape[1:] != (series.sizes["y"], series.sizes["x"]) or not here.almost_equals(there, precision=1e-6):
            raise SceneError(
                f"the cloud mask {path} has {mask.shape[1]} x {mask.shape[2]} pixels from {here.c:g}, {here.f:g}; the "
                f"series has {series.sizes['y']} x {series.sizes['x']} from {there.c:g}, {there.f:g}: they do not lie "
                "on one grid."
            )
        values = mask.isel(band=0, drop=True)
        is_fmask = path.name.lower().endswith("fmask.tif")
        found.append(xr.apply_ufunc(good if is_fmask else _zero, values, dask="parallelized", output_dtypes=[bool]))
    together: xr.DataArray = xr.concat(found, dim="time").transpose("time", "y", "x")
    return together.assign_coords(time=series["time"]) if "time" in series.coords else together


def _zero(values: np.ndarray) -> np.ndarray:
    return np.asarray(values == 0)
