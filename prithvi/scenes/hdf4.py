"""HLS granules up to version 1.5, which are HDF4 files: GDAL in rasterio's wheels does not read them, pyhdf does.

Source: HLS user guide v1.4, and a granule of v1.5. `band01` ... (L30) or `B01` ... `B8A` (S30) hold the values, with
`_FillValue`, `scale_factor` and `add_offset`. The place stands in `StructMetadata.0`: HORIZONTAL_CS_NAME of L30
granules is that of the Landsat image, which may be of the next zone.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import MaskFlags
from rasterio.windows import Window

from prithvi.bands import band_id
from prithvi.errors import SceneError, needs

_ONE_AT_A_TIME = threading.RLock()
"""The HDF4 library keeps state of its own and may only be in one thread."""


def is_hdf4(path: str) -> bool:
    """Whether a local file is HDF4, by its first bytes."""
    with contextlib.suppress(OSError), Path(path).open("rb") as file:
        return file.read(4) == b"\x0e\x03\x13\x01"
    return False


class Hdf4Raster:
    """The bands of a granule, as far as `rasterio.DatasetReader` is used here.

    Raises:
        MissingExtraError: pyhdf is not installed.
        SceneError: a damaged file, or one that is no granule of HLS.

    """

    def __init__(self, path: str) -> None:
        with needs(f"{path} is HDF4, and reading it", "hdf4"):
            from pyhdf.error import HDF4Error
            from pyhdf.SD import SD, SDC
        # All that headers ask for is read at once, under the lock; values are read as they are asked for.
        with _ONE_AT_A_TIME:
            try:
                self._file = SD(path, SDC.READ)
                held = self._file.datasets()
                names = sorted(filter(band_id, held), key=lambda name: held[name][3])  # as they follow in the file
                self._bands = [self._file.select(name) for name in names]
                structure = str(self._file.attributes().get("StructMetadata.0", ""))
                said: list[dict[str, Any]] = [band.attributes() for band in self._bands]
                kinds = {band.info()[3] for band in self._bands}
            except HDF4Error as error:
                raise SceneError(f"{path} is damaged or cut short, or no HDF4 file ({error}).") from error
        if not names or kinds != {SDC.INT16}:
            raise SceneError(f"{path} is an HDF4 file, and no granule of HLS (band01 ... or B01 ... as int16).")
        self.crs, self.transform, self.shape = _place(path, structure)
        self.count = len(names)
        self.descriptions = tuple(band_id(name) for name in names)
        self.dtypes = ("int16",) * self.count
        self.nodatavals = tuple(float(tags["_FillValue"]) if "_FillValue" in tags else None for tags in said)
        self.nodata = self.nodatavals[0]
        self.scales = tuple(float(tags.get("scale_factor", 1)) for tags in said)
        self.offsets = tuple(float(tags.get("add_offset", 0)) for tags in said)
        self.block_shapes = [(1, self.shape[1])] * self.count
        self.mask_flag_enums = [[MaskFlags.nodata]] * self.count
        self.colorinterp: tuple[Any, ...] = ()
        self.subdatasets: list[str] = []

    def tags(self, ns: str | None = None) -> dict[str, str]:
        """None that rasterio would give."""
        return {}

    def read(self, indexes: Sequence[int], window: Window) -> npt.NDArray[np.int16]:
        """(band, y, x) int16; only the rows and columns of the window are read."""
        rows, columns = window.toslices()
        with _ONE_AT_A_TIME:
            return np.stack([self._bands[index - 1][rows, columns] for index in indexes])

    def close(self) -> None:
        """Closes the file."""
        with _ONE_AT_A_TIME:
            for band in self._bands:
                band.endaccess()
            self._file.end()


def _place(path: str, structure: str) -> tuple[CRS, Affine, tuple[int, int]]:
    """Where the grid lies: its CRS, transform, and rows and columns."""
    number = r"(-?\d+(?:\.\d+)?)"
    corners = rf"UpperLeftPointMtrs=\({number},{number}\)", rf"LowerRightMtrs=\({number},{number}\)"
    found = [re.search(form, structure) for form in (*corners, r"\bYDim=(\d+)", r"\bXDim=(\d+)", r"ZoneCode=(-?\d+)")]
    said = [text for match in found if match for text in match.groups()]
    if None in found or "GCTP_UTM" not in structure:
        raise SceneError(f"{path} does not say where it lies in UTM (StructMetadata.0), as granules of HLS do.")
    left, top, right, bottom = map(float, said[:4])
    rows, columns, zone = map(int, said[4:])
    # South of the equator HLS counts down from 0 in the northern zone; a false northing of 10,000 km is the other way.
    tile = re.search(r"\.T\d{2}([C-X])\w{2}\.", Path(path).name)
    south = zone < 0 or (tile is not None and tile[1] < "N")
    crs = CRS.from_epsg((32700 if south and top > 0 else 32600) + abs(zone))
    return crs, Affine((right - left) / columns, 0, left, 0, (bottom - top) / rows, top), (rows, columns)
