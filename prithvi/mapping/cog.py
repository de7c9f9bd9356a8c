"""A raster of classes written row by row, and made a Cloud-Optimized GeoTIFF when it is whole."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.shutil
import xarray as xr
from rasterio.errors import RasterioError
from rasterio.windows import Window

from prithvi.errors import OutputError
from prithvi.fitted import ClassEntry
from prithvi.scenes import transform_of

NODATA = 255
"""Class number of a pixel without data."""


def rgb(color: str) -> tuple[int, int, int]:
    """`2B6CB0` as (43, 108, 176)."""
    return int(color[0:2], 16), int(color[2:4], 16), int(color[4:6], 16)


class ClassCogWriter:
    """Context manager: rows go to a scratch file beside the target, `finish` turns it into the product.

    The product has a colour table, category names (in the .aux.xml beside it, where GDAL keeps them, and in the tags),
    nodata 255, overviews by majority, and appears under its name only when whole.

    Raises:
        OutputError: the folder cannot be written, or the disk is full.

    """

    def __init__(self, path: Path, scene: xr.DataArray, classes: Sequence[ClassEntry], tags: Mapping[str, str]) -> None:
        self.path = path
        self.classes = classes
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.work = Path(tempfile.mkdtemp(prefix=f".{path.stem}-", dir=path.parent))
        except OSError as error:
            raise OutputError(f"{path} cannot be written ({error.strerror}).") from error
        self.scratch = rasterio.open(
            self.work / "scratch.tif",
            "w",
            driver="GTiff",
            width=scene.sizes["x"],
            height=scene.sizes["y"],
            count=1,
            dtype="uint8",
            crs=scene.rio.crs,
            transform=transform_of(scene),
            nodata=NODATA,
            tiled=True,
            compress="deflate",
            bigtiff="if_safer",
        )
        colors = {entry.value: (*rgb(entry.color), 255) for entry in classes}
        self.scratch.write_colormap(1, {**colors, NODATA: (0, 0, 0, 0)})
        self.scratch.set_band_description(1, "class")
        names = {f"CLASS_{entry.value}": entry.name for entry in classes}
        self.scratch.update_tags(**tags, **names)

    def __enter__(self) -> ClassCogWriter:
        return self

    def write(self, start: int, classes: npt.NDArray[np.uint8]) -> None:
        """Writes (rows, width) class numbers from row `start` on."""
        rows, width = classes.shape
        try:
            self.scratch.write(classes, 1, window=Window(0, start, width, rows))
        except RasterioError as error:
            raise OutputError(f"{self.path} cannot be written ({error}): is the disk full?") from error

    def finish(self) -> None:
        """Makes the product out of the scratch file."""
        try:
            self.scratch.close()
            named = self.work / "named.vrt"
            rasterio.shutil.copy(self.work / "scratch.tif", named, driver="VRT")
            self._name_categories(named)
            made = self.work / self.path.name
            rasterio.shutil.copy(
                named, made, driver="COG", COMPRESS="DEFLATE", OVERVIEW_RESAMPLING="MODE", BIGTIFF="IF_SAFER"
            )
            for file in (made.with_name(made.name + ".aux.xml"), made):  # the names first, the map last
                if file.is_file():
                    file.replace(self.path.parent / file.name)
        except (RasterioError, OSError) as error:
            raise OutputError(f"{self.path} cannot be written ({error}): is the disk full?") from error

    def _name_categories(self, vrt: Path) -> None:
        # rasterio has no call for category names; GDAL takes them from a VRT and keeps them beside the COG.
        tree = ElementTree.parse(vrt)
        band = tree.find("VRTRasterBand")
        assert band is not None
        table = ElementTree.Element("CategoryNames")
        named = {entry.value: entry.name for entry in self.classes}
        for value in range(max(named) + 1):
            ElementTree.SubElement(table, "Category").text = named.get(value, "")
        band.insert(0, table)
        tree.write(vrt)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.scratch.closed:
            self.scratch.close()
        shutil.rmtree(self.work, ignore_errors=True)
