"""Any raster as a lazy (time, band, y, x) xarray object that knows its bands, scale, dates and place."""

from prithvi.scenes.area import Area, crop
from prithvi.scenes.conform import conform, read, transform_of
from prithvi.scenes.opening import open_scene, valid_mask
from prithvi.scenes.safe import scl_of

__all__ = ["Area", "conform", "crop", "open_scene", "read", "scl_of", "transform_of", "valid_mask"]
