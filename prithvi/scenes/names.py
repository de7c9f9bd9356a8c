"""What the names of files and bands say: product, date, band. Never touches a pixel."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from prithvi.bands import PRODUCTS, Reading, band_id, family_of, read_name, what_it_means
from prithvi.catalog import SENSORS, Sensor
from prithvi.errors import BandError, SceneError


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


_DSWX = re.compile(r"^(OPERA_L3_)?DSWx[-_]HLS_", re.IGNORECASE)
"""Layers of the water product that OPERA makes of an HLS granule, which often lie beside it."""


def day_of(text: str, form: str, name: str) -> dt.date:
    """The day that a name states in some form of `strptime`.

    Raises:
        SceneError: there is no such day.

    """
    try:
        day = dt.datetime.strptime(text, form).date()
        if day.strftime(form) != text:  # day 366 of a year with 365
            raise ValueError(text)
        return day
    except ValueError as error:
        raise SceneError(f"{name} names the day {text}, which does not exist: rename it.") from error


def read_file_name(path: str | Path) -> Named:
    """What the names of HLS, Sentinel-2 and Landsat files say about them.

    Raises:
        SceneError: a name of such a form holds a day that does not exist.

    """
    name = PurePath(path).name
    if _LANDSAT_SIDE.match(name) or _DSWX.match(name):
        return Named(ancillary=True)
    if match := _HLS.match(name):
        part = match["band"]
        identifier = band_id(part) if part else None
        is_tiff = part is not None and part.lower() in ("tif", "tiff", "hdf", "vrt")
        return Named(
            f"hls-{match['product'].lower()}",
            identifier,
            day_of(match["date"], "%Y%j", name),
            ancillary=part is not None and identifier is None and not is_tiff,
            nodata=-1000 if match["version"] == "1" else None,
        )
    if match := _SENTINEL.match(name):
        return Named(None, band_id(match["band"]), day_of(match["date"], "%Y%m%d", name))
    if match := _LANDSAT_C2.match(name):
        number = int(match["number"])
        sensor = f"landsat-{number}-c2-l2" if number in (8, 9) else "landsat-457-c2-l2"
        return Named(sensor, band_id(match["band"]), day_of(match["date"], "%Y%m%d", name))
    if match := _LANDSAT_ESPA.match(name):
        sensor = "landsat-8-espa-sr" if match["number"] == "8" else "landsat-457-espa-sr"
        return Named(sensor, band_id(match["band"]), day_of(match["date"], "%Y%j", name))
    return Named()


def variable_of(path: str) -> str | None:
    """The variable that a subdataset of a netCDF or HDF5 file is (`netcdf:scene.nc:blue`); None for other paths.

    `Band1` is a number that GDAL gives where a file had no names, and says nothing of a product's band 1.
    """
    match = re.match(r"^(?:netcdf|hdf5):.+[:/](?!Band\d+$)(\w+)$", path, re.IGNORECASE)
    return match[1] if match else None


_DATE = re.compile(
    r"(?<!\d)(?P<iso>\d{4}-\d{2}-\d{2})(?!\d)(?:T[\d:.]+Z?)?"
    r"|(?<![0-9A-Za-z])(?P<compact>(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01]))(?:T\d{6}(?:\d{3})?)?"
    r"(?![0-9A-Za-z])"
)


def split_description(description: str) -> tuple[str, dt.date | None]:
    """`blue 2022-05-01` or `20220501_B02` as its band name and date; the date is None where none stands there, or
    several (the day of the image and the day of its making).

    Raises:
        SceneError: the day does not exist.

    """
    days = {
        day_of(match["iso"] or match["compact"], "%Y-%m-%d" if match["iso"] else "%Y%m%d", f"band {description!r}")
        for match in _DATE.finditer(description)
    }
    rest = [part.strip(" _@:|-") for part in _DATE.sub("\0", description).split("\0")]
    return " ".join(part for part in rest if part), days.pop() if len(days) == 1 else None


def are_unnamed(names: Sequence[str | None]) -> bool:
    """Whether the names of a file's bands are no names: none at all, or the bands' own places behind one word, as
    programs write them ("Band 1", "Layer_2", "scene_3", "4").
    """
    parts = [re.fullmatch(r"(.*?)0*(\d{1,3})", (name or "").strip()) for name in names]
    # 'Band 1', 'Band 2', ... in the order of the file are no names; 'B02', 'B03' are, which do not count from the
    # first.
    places = [int(part[2]) if part else -1 for part in parts]
    counted = places in (list(range(1, len(names) + 1)), list(range(len(names))))
    words = {part[1].lower() for part in parts if part}
    # "sur_refl_b01" is an id of a product that is not known here.
    alike = len(words) == 1 and not re.search(r"refl|(^|[^a-z])b[\s_]?$", min(words))
    return not any(names) or (counted and alike and not any(_says_something(read_name(str(name))) for name in names))


def _says_something(reading: Reading) -> bool:
    return reading.understood and bool(reading.ids or reading.names)


_NO_VALUES = re.compile(
    r"(?<![a-z])(std|stdev|stddev|sd|var|variance|unc|uncertainty|err|error|min|max|count|nobs|masks?|qa|clouds?|angles?"
    r"|diff|difference|anomaly|refl)(?![a-z])",
    re.IGNORECASE,
)
"""Words that make something else of a band's values, or of its id (`sur_refl_b01` is MODIS's)."""


def without_shared_words(names: Sequence[str]) -> list[str]:
    """`names` less the words with which all of them begin and end (a site, "clipped")."""
    # Words are compared from both ends until they differ; the last word left of the shortest name always stays.
    words = [re.split(r"([\s_.,:-]+)", name) for name in names]
    shortest = min(map(len, words), default=0)
    begin = end = 0
    while len(words) > 1 and begin < shortest - 1 and len({parts[begin] for parts in words}) == 1:
        begin += 1
    while len(words) > 1 and end < shortest - 1 - begin and len({parts[-1 - end] for parts in words}) == 1:
        end += 1
    shared = "".join(words[0][:begin] + words[0][len(words[0]) - end :]) if words else ""
    if _NO_VALUES.search(shared):
        return list(names)
    return ["".join(parts[begin : len(parts) - end]) for parts in words]


def common_names(names: Sequence[str | None], sensor: Sensor | None, where: str) -> list[str | None]:
    """`read_names` of bands some of which must be known.

    Raises:
        BandError: no name says anything, and what `read_names` raises.

    """
    found = read_names(names, sensor, where)
    if not any(found):
        given = [name for name in names if name]
        raise BandError(
            f"{where} names its bands {', '.join(given)}, which says of none what it is: say which are which "
            f"(--bands), or rename them. {what_it_means(given[0])}"
        )
    return found


def read_names(names: Sequence[str | None], sensor: Sensor | None, where: str) -> list[str | None]:
    """Common names of bands by what a file calls them; None for a name that is no band (a mask, an angle) or leaves
    open which (`NIR` of Sentinel-2).

    Raises:
        BandError: a name says two bands at once, or ids such as B05 need the product.

    """
    given = [name for name in names if name]
    # Each name is read by itself first, then all of them together decide what is still open: the product (by ids that
    # only one has), and whether numbers are ids or places.
    readings = {name: read_name(name) for name in given}
    if not any(map(_says_something, readings.values())):
        readings = dict(zip(given, map(read_name, without_shared_words(given)), strict=True))
    read = [readings[name] if name else None for name in names]
    # With "Band 8A" among them, or where they are the product's, numbers are ids, else places.
    numbers = [reading.number if reading else None for reading in read]
    numbered = any(str(number).endswith("A") for number in numbers) or (
        sensor is not None and tuple(numbers) == sensor.stack
    )
    ids = [
        next(iter(reading.ids), reading.number if numbered else None) if reading and reading.understood else None
        for reading in read
    ]
    product = sensor.product if sensor else family_of(ids)
    for name, reading in zip(names, read, strict=True):
        if reading and reading.contradicts(product):
            raise BandError(
                f"{where} names a band {name!r}, and {reading.ids[0]} is "
                f"{_meaning(reading.ids[0], product)}: say which bands are which (--bands)."
            )
    found = []
    for reading in read:
        candidates = reading.candidates(product, numbered) if reading else frozenset()
        found.append(next(iter(candidates)) if len(candidates) == 1 else None)
    for place in _disputed(ids, sensor, product):
        found[place] = None
    unclear = [
        str(name) for name, i, common in zip(names, ids, found, strict=True) if i and common is None and product is None
    ]
    if unclear:
        unknown = {i for i in ids if i}
        hls = (PRODUCTS["hls-l30"], PRODUCTS["hls-s30"])
        several = sorted(i for i in unknown if len({table[i] for table in hls if i in table}) > 1)
        raise BandError(
            f"{where} names its bands {', '.join(unclear)}, and {several[0] if several else unclear[0]} is another "
            "band in each product: name the sensor (--sensor hls-l30, hls-s30, sentinel-2-l2a, ...) or the bands "
            "(--bands)."
        )
    return found


def _meaning(identifier: str, product: str | None) -> str:
    tables = [PRODUCTS[product]] if product else list(PRODUCTS.values())
    return " or ".join(dict.fromkeys(table[identifier] for table in tables if identifier in table))


def _disputed(ids: Sequence[str | None], sensor: Sensor | None, product: str | None) -> list[int]:
    """Places of ids that may be no ids: B1 to B13 are the thirteen bands of Sentinel-2 counted through, B8A included,
    as soon as the product has so many bands and the ids do not name them.
    """
    if product is None or list(ids) != [f"B{place:02d}" for place in range(1, len(ids) + 1)]:
        return []
    sensors = [sensor] if sensor else [known for known in SENSORS.values() if known.product == product]
    stacks = [known.stack for known in sensors if len(known.stack) == len(ids)]
    return [place for place, i in enumerate(ids) if any(stack[place] != i for stack in stacks)]
