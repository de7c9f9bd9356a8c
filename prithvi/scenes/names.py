"""What the names of files and bands say: product, date, band. Never touches a pixel."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from prithvi.bands import PRODUCTS, WAVELENGTHS, band_id, common_name, family_of
from prithvi.catalog import Sensor
from prithvi.errors import BandError, SceneError, nearest


@dataclass(frozen=True)
class Named:
    """What a file name says; None where it says nothing."""

    sensor: str | None = None
    band: str | None = None
    """A band id such as B8A."""
    date: dt.date | None = None
    ancillary: bool = False
    """A file of a granule that holds no band: quality, angles."""
    nodata: float | None = None
    """The product's nodata value, where its version has its own (HLS 1.5)."""


_HLS = re.compile(
    r"^HLS\.(?P<product>[LS]30)\.T\w{5}\.(?P<date>\d{7})(?:T\d{6})?\.v(?P<version>\d+)\.\d+(?:\.(?P<band>\w+))?", re.I
)
_SENTINEL = re.compile(r"^T\d{2}[A-Z]{3}_(?P<date>\d{8})T\d{6}_(?P<band>B\d[\dA])", re.I)
_LANDSAT_C2 = re.compile(
    r"^L[COTE](?P<number>\d{2})_L2\w{2}_\d{6}_(?P<date>\d{8})_\d{8}_02_T\d_SR_(?P<band>B\d+)", re.I
)
_LANDSAT_ESPA = re.compile(r"^L[COTE](?P<number>\d)\d{6}(?P<date>\d{7})\w*?_sr_(?P<band>band\d+)", re.I)


_LANDSAT_SIDE = re.compile(
    r"^L[COTE]\d{2}_L2\w{2}_\d{6}_\d{8}_\d{8}_02_T\d_(QA|ST|SR_QA|SR_CLOUD|SR_ATMOS)"
    r"|^L[COTE]\d{14}.*_(cfmask|bqa|sr_cloud|sr_ipflag|sr_aerosol|cloud|fmask|pixel_qa)",
    re.IGNORECASE,
)


def _day(text: str, form: str, name: str) -> dt.date:
    try:
        day = dt.datetime.strptime(text, form).date()
        if day.strftime(form) != text:  # day 366 of a year with 365
            raise ValueError(text)
        return day
    except ValueError as error:
        raise SceneError(f"{name} names the day {text}, which does not exist: rename it, or give dates.") from error


def read_file_name(path: str | Path) -> Named:
    """What the names of HLS, Sentinel-2 and Landsat files say about them.

    Raises:
        SceneError: a name of such a form holds a day that does not exist.

    """
    name = PurePath(path).name
    if _LANDSAT_SIDE.match(name):
        return Named(ancillary=True)
    if match := _HLS.match(name):
        part = match["band"]
        identifier = band_id(part) if part else None
        is_tiff = part is not None and part.lower() in ("tif", "tiff", "hdf", "vrt")
        return Named(
            f"hls-{match['product'].lower()}",
            identifier,
            _day(match["date"], "%Y%j", name),
            ancillary=part is not None and identifier is None and not is_tiff,
            nodata=-1000 if match["version"] == "1" else None,
        )
    if match := _SENTINEL.match(name):
        return Named(None, band_id(match["band"]), _day(match["date"], "%Y%m%d", name))
    if match := _LANDSAT_C2.match(name):
        number = int(match["number"])
        sensor = f"landsat-{number}-c2-l2" if number in (8, 9) else "landsat-457-c2-l2"
        return Named(sensor, band_id(match["band"]), _day(match["date"], "%Y%m%d", name))
    if match := _LANDSAT_ESPA.match(name):
        sensor = "landsat-8-espa-sr" if match["number"] == "8" else "landsat-457-espa-sr"
        return Named(sensor, band_id(match["band"]), _day(match["date"], "%Y%j", name))
    return Named()


def variable_of(path: str) -> str | None:
    """The variable that a subdataset of a netCDF or HDF5 file is (`netcdf:scene.nc:blue`); None for other paths.

    `Band1` is a number that GDAL gives where a file had no names, and says nothing of a product's band 1.
    """
    match = re.match(r"^(?:netcdf|hdf5):.+[:/](?!Band\d+$)(\w+)$", path, re.IGNORECASE)
    return match[1] if match else None


_ISO_DATE = re.compile(r"[ _@:|-]*(\d{4}-\d{2}-\d{2})[ _@:|-]*")


def split_description(description: str) -> tuple[str, dt.date | None]:
    """`blue 2022-05-01` as its band name and date; the date is None where none stands there."""
    match = _ISO_DATE.search(description)
    if match is None:
        return description.strip(), None
    rest = (description[: match.start()] + " " + description[match.end() :]).strip()
    return rest, _day(match[1], "%Y-%m-%d", f"band {description!r}")


def common_names(names: Sequence[str | None], sensor: Sensor | None, where: str) -> list[str | None]:
    """Common names of bands by what a file calls them; None for a name that is no band (a mask, an angle).

    Raises:
        BandError: no name says anything, or ids such as B05 that need the product.

    """
    given = [name for name in names if name]
    product = sensor.product if sensor else family_of(given)
    found = [common_name(name, product) if name else None for name in names]
    unclear = [name for name, common in zip(names, found, strict=True) if name and common is None and band_id(name)]
    if unclear and product is None:
        ids = {band_id(name) for name in unclear}
        hls = (PRODUCTS["hls-l30"], PRODUCTS["hls-s30"])
        several = sorted(i for i in ids if i and len({table[i] for table in hls if i in table}) > 1)
        raise BandError(
            f"{where} names its bands {', '.join(unclear)}, and {several[0] if several else unclear[0]} is another "
            "band in each product: name the sensor (--sensor hls-l30, hls-s30, sentinel-2-l2a, ...) or the bands "
            "(--bands)."
        )
    if not any(found) and given:
        raise BandError(
            f"{where} names its bands {', '.join(given)}; the first is no known band: {nearest(given[0], WAVELENGTHS)}"
        )
    return found
