"""A raster written row by row, and made a Cloud-Optimized GeoTIFF when it is whole."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from xml.etree import ElementTree

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


class CogWriter:
    """Context manager: rows go to a scratch file beside the target, `finish` turns it into the product.

    The product has overviews and its nodata, and appears under its name only when whole.

    Args:
        path: of the product.
        scene: whose grid it has.
        names: of its bands.
        dtype: of its values.
        nodata: value of pixels without data.
        tags: of the file.
        scale: reflectance (or what else is meant) = value x scale; None writes none.
        resampling: of the overviews.

    Raises:
        OutputError: the folder cannot be written, or the disk is full.

    """

    def __init__(
        self,
        path: Path,
        scene: xr.DataArray,
        names: Sequence[str],
        dtype: str,
        nodata: float,
        tags: Mapping[str, str],
        scale: float | None = None,
        resampling: str = "AVERAGE",
    ) -> None:
        self.path, self.resampling = path, resampling
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
            count=len(names),
            dtype=dtype,
            crs=scene.rio.crs,
            transform=transform_of(scene),
            nodata=nodata,
            tiled=True,
            compress="deflate",
            bigtiff="if_safer",
        )
        for number, name in enumerate(names, start=1):
            self.scratch.set_band_description(number, name)
        if scale is not None:
            self.scratch.scales = [scale] * len(names)
        self.scratch.update_tags(**tags)

    def __enter__(self) -> Self:
        return self

    def write(self, start: int, values: npt.NDArray[Any]) -> None:
        """Writes (rows, width) values, or (band, rows, width) of several bands, from row `start` on."""
        stack = values if values.ndim == 3 else values[None]
        try:
            self.scratch.write(stack, window=Window(0, start, stack.shape[2], stack.shape[1]))
        except RasterioError as error:
            raise OutputError(f"{self.path} cannot be written ({error}): is the disk full?") from error

    def finish(self) -> None:
        """Makes the product out of the scratch file."""
        try:
            self.scratch.close()
            made = self.work / self.path.name
            rasterio.shutil.copy(
                self._named(self.work / "scratch.tif"), made, driver="COG", COMPRESS="DEFLATE",
                OVERVIEW_RESAMPLING=self.resampling, BIGTIFF="IF_SAFER",
            )  # fmt: skip
            for file in (made.with_name(made.name + ".aux.xml"), made):  # what stands beside first, the product last
                if file.is_file():
                    file.replace(self.path.parent / file.name)
        except (RasterioError, OSError) as error:
            raise OutputError(f"{self.path} cannot be written ({error}): is the disk full?") from error

    def _named(self, scratch: Path) -> Path:
        """What the product is copied from."""
        return scratch

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.scratch.closed:
            self.scratch.close()
        shutil.rmtree(self.work, ignore_errors=True)


class ClassCogWriter(CogWriter):
    """The product of class numbers has a colour table, category names (in the .aux.xml beside it, where GDAL keeps
    them, and in the tags), nodata 255, and overviews by majority.
    """

    def __init__(self, path: Path, scene: xr.DataArray, classes: Sequence[ClassEntry], tags: Mapping[str, str]) -> None:
        names = {f"CLASS_{entry.value}": entry.name for entry in classes}
        super().__init__(path, scene, ["class"], "uint8", NODATA, {**tags, **names}, resampling="MODE")
        self.classes = classes
        colors = {entry.value: (*rgb(entry.color), 255) for entry in classes}
        self.scratch.write_colormap(1, {**colors, NODATA: (0, 0, 0, 0)})

    def _named(self, scratch: Path) -> Path:
        named = scratch.with_name("named.vrt")
        rasterio.shutil.copy(scratch, named, driver="VRT")
        self._name_categories(named)
        return named

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
