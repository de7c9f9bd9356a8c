"""Which band is which, of bands that stand side by side in one file or one by one in several."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import PurePath

from prithvi.bands import PRITHVI_BANDS, common_name
from prithvi.catalog import SENSORS, Sensor
from prithvi.catalog import sensor as sensor_named
from prithvi.errors import BandError
from prithvi.scenes.info import Given
from prithvi.scenes.names import (
    are_unnamed,
    common_names,
    read_file_name,
    read_names,
    split_description,
    variable_of,
    without_shared_words,
)


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
    free = without_shared_words([stem for name, (stem, _) in zip(named, stems, strict=True) if name.band is None])
    texts = [name.band or free.pop(0) for name in named]
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


def _read_all(texts: Sequence[str], told: Sensor | None, where: str) -> list[str | None]:
    """Common names of texts of which perhaps none says anything."""
    return [None] * len(texts) if are_unnamed(texts) else read_names(texts, told, where)


def ask_for_bands(names: Sequence[str | None] | None, count: int, told: Sensor | None, where: str) -> list[str | None]:
    """Common names of `count` bands out of their names or the sensor's own order.

    Raises:
        BandError: neither says it; the message lists what was found and the three ways to say it.

    """
    if names is not None and not are_unnamed(names):
        return common_names(list(names), told, where)
    if told is not None and count == len(told.stack):
        return [common_name(identifier, told.product) for identifier in told.stack]
    if told is not None:
        raise BandError(
            f"{where} has {count} bands without names; {told.name} has {len(told.stack)} ({', '.join(told.stack)}): "
            f"say --bands with the numbers in the file of {', '.join(PRITHVI_BANDS)}, or name them in the file."
        )
    refuse_unnamed(where, count)
    return []


def refuse_unnamed(where: str, count: int) -> None:
    """Raises the BandError about bands without names, with the ways to say which they are."""
    stacks: dict[tuple[str, ...], list[str]] = {}
    for sensor in SENSORS.values():
        if len(sensor.stack) == count:
            stacks.setdefault(sensor.stack, []).append(sensor.name)
    ways = [
        f"--sensor {' or '.join(names)} if they are its {', '.join(stack)} in this order"
        for stack, names in stacks.items()
    ]
    raise BandError(
        f"{where} has {count} {'band' if count == 1 else 'bands'} without names; say which are "
        f"{', '.join(PRITHVI_BANDS)}: --bands with the number in the file of each (from 1), "
        f"{', or '.join([*ways, 'name them in the file'])}."
    )
