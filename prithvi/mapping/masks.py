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
from prithvi.scenes.grids import difference, grid_of_array


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
        differs = difference(grid_of_array(mask), grid_of_array(series))
        if differs is not None:
            raise SceneError(f"the cloud mask {path} and the series do not lie on one grid: {differs}.")
        values = mask.isel(band=0, drop=True)
        is_fmask = path.name.lower().endswith("fmask.tif")
        found.append(xr.apply_ufunc(good if is_fmask else _zero, values, dask="parallelized", output_dtypes=[bool]))
    together: xr.DataArray = xr.concat(found, dim="time", join="override").transpose("time", "y", "x")
    return together.assign_coords(time=series["time"]) if "time" in series.coords else together


def _zero(values: np.ndarray) -> np.ndarray:
    return np.asarray(values == 0)
