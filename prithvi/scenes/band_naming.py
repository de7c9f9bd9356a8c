"""Which band is which, by the names of bands that stand side by side in one file or one by one in several."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from itertools import takewhile
from pathlib import PurePath

from prithvi.bands import PRITHVI_BANDS, PRODUCTS, Reading, common_name, family_of, read_name, what_it_means
from prithvi.catalog import SENSORS, Sensor
from prithvi.catalog import sensor as sensor_named
from prithvi.errors import BandError
from prithvi.scenes.info import Given
from prithvi.scenes.names import read_file_name, split_description


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
    if len(names) < 2:
        return list(names)
    # Words are compared from both ends until they differ; the last word left of the shortest name always stays.
    words = [re.split(r"([\s_.,:-]+)", name) for name in names]
    most = min(map(len, words)) - 1
    begin = min(most, _shared_words(words))
    end = min(most - begin, _shared_words([parts[::-1] for parts in words]))
    shared = "".join(words[0][:begin] + words[0][len(words[0]) - end :])
    if _NO_VALUES.search(shared):
        return list(names)
    return ["".join(parts[begin : len(parts) - end]) for parts in words]


def _shared_words(words: Sequence[Sequence[str]]) -> int:
    """How many words all begin with; they may be of different lengths."""
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*words, strict=False)))


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
    read = [readings[name] if name else Reading() for name in names]
    # With "Band 8A" among them, or where they are the product's, numbers are ids, else places.
    numbers = [reading.number for reading in read]
    numbered = any(str(number).endswith("A") for number in numbers) or (
        sensor is not None and tuple(numbers) == sensor.stack
    )
    ids = [
        next(iter(reading.ids), reading.number if numbered else None) if reading.understood else None
        for reading in read
    ]
    product = sensor.product if sensor else family_of(ids)
    for name, reading in zip(names, read, strict=True):
        if reading.contradicts(product):
            raise BandError(
                f"{where} names a band {name!r}, and {reading.ids[0]} is "
                f"{_meaning(reading.ids[0], product)}: say which bands are which (--bands)."
            )
    meant = [reading.candidates(product, numbered) for reading in read]
    found = [next(iter(bands)) if len(bands) == 1 else None for bands in meant]
    for place in _disputed(ids, sensor, product):
        found[place] = None
    unclear = [
        str(name) for name, i, common in zip(names, ids, found, strict=True) if i and common is None and product is None
    ]
    if unclear:
        hls = (PRODUCTS["hls-l30"], PRODUCTS["hls-s30"])
        several = sorted(i for i in set(ids) if i and len({table[i] for table in hls if i in table}) > 1)
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


def variable_of(path: str) -> str | None:
    """The variable that a subdataset of a netCDF or HDF5 file is (`netcdf:scene.nc:blue`); None for other paths.

    `Band1` is a number that GDAL gives where a file had no names, and says nothing of a product's band 1.
    """
    match = re.match(r"^(?:netcdf|hdf5):.+[:/](?!Band\d+$)(\w+)$", path, re.IGNORECASE)
    return match[1] if match else None


def labels_of_single_files(
    paths: Sequence[str], descriptions: Sequence[str | None], given: Given
) -> list[tuple[str | None, dt.date | None]]:
    """Common name and date of each file: what was said, its file name (of a known product, or what stands between the
    words that all have), or its band's description.

    Raises:
        BandError: a file's name and its band's description are of two bands.

    """
    # Three witnesses: the name of a known product, any other file name, and the band's description. The first is exact;
    # the other two may not contradict each other.
    named = [read_file_name(path) for path in paths]
    stems = [split_description(variable_of(path) or PurePath(path).stem) for path in paths]
    dates = [name.date or day for name, (_, day) in zip(named, stems, strict=True)]
    if isinstance(given.bands, dict):
        numbers = {number: name for name, number in given.bands.items()}
        return [(numbers.get(place), date) for place, date in enumerate(dates, start=1)]
    if given.bands is not None:
        if len(given.bands) != len(paths):
            raise BandError(f"{len(paths)} single-band files and {len(given.bands)} band names were given.")
        return list(zip(given.names, dates, strict=True))
    # What all names have in common says nothing of any one of them ('site3_clipped_B02.tif', 'site3_clipped_B03.tif').
    free = iter(without_shared_words([stem for name, (stem, _) in zip(named, stems, strict=True) if name.band is None]))
    texts = [name.band or next(free) for name in named]
    described = [split_description(text or "") for text in descriptions]
    # Each file by its own product: S30 and L30 granules of one place may lie side by side.
    own = [sensor_named(name.sensor) if name.sensor else given.sensor for name in named]
    labels: list[tuple[str | None, dt.date | None]] = [(None, None)] * len(paths)
    for product in dict.fromkeys(own):
        places = [place for place, other in enumerate(own) if other == product]
        folder = str(PurePath(paths[places[0]]).parent)
        by_file = _read_all([texts[place] for place in places], product, folder)
        by_band = (
            [common_name(described[place][0], product.product if product else None) for place in places]
            if all(by_file)
            else _read_all([described[place][0] for place in places], product, folder)
        )
        for place, file_says, band_says in zip(places, by_file, by_band, strict=True):
            if file_says and band_says and file_says != band_says:
                raise BandError(
                    f"{paths[place]} is {file_says} by its name and {band_says} by its band's description "
                    f"({described[place][0]!r}): say which bands are which (--bands)."
                )
            labels[place] = (file_says or band_says, dates[place] or described[place][1])
    return labels


def _read_all(texts: Sequence[str], sensor: Sensor | None, where: str) -> list[str | None]:
    """Common names of texts of which perhaps none says anything."""
    return [None] * len(texts) if are_unnamed(texts) else read_names(texts, sensor, where)


def ask_for_bands(
    names: Sequence[str | None] | None, count: int, sensor: Sensor | None, where: str
) -> list[str | None]:
    """Common names of `count` bands out of their names or the sensor's own order.

    Raises:
        BandError: neither says it; the message lists what was found and the three ways to say it.

    """
    if names is not None and not are_unnamed(names):
        return common_names(list(names), sensor, where)
    if sensor is not None and count == len(sensor.stack):
        return [common_name(identifier, sensor.product) for identifier in sensor.stack]
    if sensor is not None and count > 1:
        raise BandError(
            f"{where} has {count} bands without names; {sensor.name} has {len(sensor.stack)} "
            f"({', '.join(sensor.stack)}): say --bands with the numbers in the file of {', '.join(PRITHVI_BANDS)}, or "
            "name them in the file."
        )
    refuse_unnamed(where, count)
    return []


def refuse_unnamed(where: str, count: int) -> None:
    """Raises the BandError about bands without names, with the ways to say which they are."""
    if count == 1:
        raise BandError(
            f"{where} has 1 band without a name: if the others lie beside it, give their folder, or all files as one "
            "scene (of map and mask --together, in Python a list); else say which it is with --bands."
        )
    sensors = [sensor for sensor in SENSORS.values() if len(sensor.stack) == count]
    ways = [
        f"--sensor {' or '.join(sensor.name for sensor in sensors if sensor.stack == stack)} if they are its "
        f"{', '.join(stack)} in this order"
        for stack in dict.fromkeys(sensor.stack for sensor in sensors)
    ]
    raise BandError(
        f"{where} has {count} bands without names; say which are "
        f"{', '.join(PRITHVI_BANDS)}: --bands with the number in the file of each (from 1) or the names of all, "
        f"{', or '.join([*ways, 'name them in the file'])}."
    )
