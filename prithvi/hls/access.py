"""Access to archives, as `prithvi.scenes.access` has it."""

from prithvi.scenes.access import EARTHDATA, belongs, gdal_environment, headers, readable, signed, token

__all__ = ["EARTHDATA", "belongs", "gdal_environment", "headers", "readable", "signed", "token"]
