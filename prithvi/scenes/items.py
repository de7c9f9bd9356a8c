"""STAC items as scenes: which asset is which band, and what its values mean, by what the item says.

A band is told by its id where the item's product is known (`B8A` of Sentinel-2), then by its common name (STAC's
extension eo, or `bands` of STAC 1.1), then by the asset's key. Scale, offset and nodata stand in the extension raster.
Whether Sentinel-2 values still carry the +1,000 of processing baseline 04.00 is taken from Earth Search's
`boa_offset_applied`, the baseline, or an offset that the item states, in this order. Where the pixels lie is asked of
the files.
"""

from __future__ import annotations

import datetime as dt
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from affine import Affine

from prithvi.bands import PRODUCTS, WAVELENGTHS, band_id, check_names, common_name
from prithvi.catalog import SENSORS, Sensor
from prithvi.errors import BandError, SceneError
from prithvi.scenes.layout import OFFSET_SINCE, File, FileBand, Layout, inspect_all
from prithvi.scenes.names import read_file_name
from prithvi.scenes.remote import shown
from prithvi.scenes.stac import PRODUCT, address, read_stac

if TYPE_CHECKING:
    import pystac

_COMMON = {
    "nir": "nir_broad",
    "nir09": "water_vapour",
    "rededge071": "red_edge_1",
    "rededge075": "red_edge_2",
    "rededge078": "red_edge_3",
    "pan": "panchromatic",
    "lwir11": "thermal_1",
    "lwir12": "thermal_2",
}
"""STAC's common names beside those that `prithvi.bands` knows; `rededge` alone may be any of four."""
_LEFT_OUT = ("panchromatic", "thermal_1", "thermal_2", "cirrus")
"""Bands of another pixel size or unit, which come along only when named."""
_NO_BANDS = {"visual", "preview", "rendered_preview", "overview", "thumbnail", "tilejson", "browse", "index"}
_COLLECTIONS = (
    (re.compile(r"^hls-?l30|^hls2-l30|^HLS\.L30\.", re.I), "hls-l30"),
    (re.compile(r"^hls-?s30|^hls2-s30|^HLS\.S30\.", re.I), "hls-s30"),
    (re.compile(r"^sentinel-2-(\w+-){0,2}l2a|^sentinel-s2-l2a", re.I), "sentinel-2-l2a"),
    (re.compile(r"^sentinel-2-(\w+-){0,2}l1c|^sentinel-s2-l1c", re.I), "sentinel-2-l1c"),
    (re.compile(r"^landsat-(ot-)?c2-?l2", re.I), "landsat"),
)
"""Collections (or ids) of the large catalogs, and what we call their product."""


@dataclass(frozen=True)
class _Asset:
    """One band of an item, before its file is opened."""

    path: str
    index: int
    band: str
    scale: float | None
    offset: float | None
    nodata: tuple[float, ...]
    rank: tuple[bool, bool, bool]
    """Lower is better where several assets hold the same band."""


def lay_out_items(
    source: Any,
    bands: Sequence[str] | None,
    told: Sensor | None,
    dates: Sequence[dt.date] | None,
    scale: float | None,
    offset: float | None,
    nodata: float | None,
) -> Layout:
    """Finds (date, band) in the assets of items; see `prithvi.open_scene` for the arguments.

    Coarser bands are repeated onto the grid of the finest one used, where both have one origin.

    Raises:
        SceneError: no item, two of one date, other grids, an offset that nobody knows, or a file that does not open.
        BandError: an item lacks a band.

    """
    items = read_stac(source)
    where = shown(items[0].id if len(items) == 1 else f"{items[0].id} and {len(items) - 1} more items")
    days = _days(items, dates, where)
    twice = sorted({str(day) for day in days if days.count(day) > 1})
    if twice:
        same = ", ".join(item.id for item, day in zip(items, days, strict=True) if str(day) == twice[0])
        raise SceneError(f"{same} are of the same date ({twice[0]}): a scene has one item a date, of one tile.")
    order = sorted(range(len(items)), key=lambda number: days[number])
    items, days = [items[number] for number in order], [days[number] for number in order]
    sensors = [_sensor(item, told) for item in items]
    tables = [_bands(item, sensor) for item, sensor in zip(items, sensors, strict=True)]
    names = _wanted(bands, tables, items)
    chosen = [{name: table[name] for name in names} for table in tables]
    files = inspect_all(list(dict.fromkeys(asset.path for table in chosen for asset in table.values())))
    repeat = _repeats(files, where)
    scaling: dict[FileBand, tuple[float, float] | None] = {}
    offsets: dict[str, float | None] = {}
    said: set[float | None] = set()
    missing: dict[str, tuple[float, ...]] = {}
    for item, sensor, table in zip(items, sensors, chosen, strict=True):
        for asset in table.values():
            file = files[asset.path]
            own = (1.0 / scale, 0.0) if scale is not None else _scaling(asset, sensor, file)
            if own is not None and sensor is not None and sensor.product == "sentinel-2":
                known = _left_in(item, asset, sensor, offset)
                offsets[item.id] = known
                said.add(0.0 if (_baseline(item) or 4) < 4 else _said_offset(item, asset, sensor))
                own = own[0], (known or 0.0) * own[0]
            scaling[FileBand(asset.path, asset.index)] = own
            declared = (nodata, file.nodata, *asset.nodata, sensor.nodata if sensor else None)
            values = (*missing.get(asset.path, ()), *declared, read_file_name(asset.path).nodata)
            missing[asset.path] = tuple(dict.fromkeys(value for value in values if value is not None))
    steps = [{name: FileBand(asset.path, asset.index) for name, asset in table.items()} for table in chosen]
    of_one = _one_sensor(sensors)
    common = _common_offset([offsets.get(item.id) for item in items], days) if offsets else None
    if offset is not None and offsets:
        _tell_of_offset(offset, common, said, where)
    elif offsets and common is None and max(days) < OFFSET_SINCE and PRODUCT in items[-1].properties:
        warnings.warn(
            f"{where} has no metadata beside it; its values are taken not to carry the +1,000 that the archive's "
            "reprocessing (collection 1) puts into every date (say --offset 0, or -1000 if it is of that).",
            stacklevel=3,
        )
    stated = scaling[next(iter(steps[-1].values()))]
    adjust: dict[FileBand, tuple[float, float]] = {}
    if len(set(scaling.values())) > 1:
        if stated is None or None in scaling.values():
            raise SceneError(
                f"{where}: some bands or dates state their scale and some do not: say --scale, or --sensor."
            )
        # Values of all dates and bands are brought to what the last date's mean.
        adjust = {
            entry: (own[0] / stated[0], (own[1] - stated[1]) / stated[0]) for entry, own in scaling.items() if own
        }
    first = files[next(iter(steps[0].values())).path]
    return Layout(
        steps, files, days, of_one, missing, where, first.dtype,
        repeat=repeat, stated=stated, adjust=adjust,
        offset=common,
    )  # fmt: skip


def _days(items: Sequence[pystac.Item], dates: Sequence[dt.date] | None, where: str) -> list[dt.date]:
    """The date of each item, as it says itself or as it was given."""
    if dates is not None and len(dates) != len(items):
        raise SceneError(f"{where} has {len(items)} dates and {len(dates)} were given.")
    days = []
    for number, item in enumerate(items):
        when = item.datetime or item.common_metadata.start_datetime
        given = dates[number] if dates is not None else None
        day = when.date() if when is not None else given
        if day is None:
            raise SceneError(f"{item.id} has no date: say --date (dates=[...]).")
        if given not in (None, day):
            raise SceneError(f"{item.id} is of {day}, and {given} was given as its date: leave the date out.")
        days.append(day)
    return days


def _sensor(item: pystac.Item, told: Sensor | None) -> Sensor | None:
    """The product of an item, as it says itself or as it was told."""
    own = _own_sensor(item)
    if own is not None and told is not None and own != told:
        raise SceneError(f"{item.id} is of {own.name}, and {told.name} was given as its sensor: leave the sensor out.")
    return own or told


def _own_sensor(item: pystac.Item) -> Sensor | None:
    """Our name of an item's product, where its id, collection and platform leave no doubt."""
    platform = str(item.properties.get("platform", "")).lower()
    if PRODUCT in item.properties:
        return SENSORS[item.properties[PRODUCT]]
    for text in (item.id, item.collection_id or ""):
        for form, name in _COLLECTIONS:
            if form.match(text):
                if name != "landsat":
                    return SENSORS[name]
                number = re.search(r"landsat[-_ ]?0?(\d)", platform) or re.match(r"L[COTE]0(\d)_", item.id)
                if number is None:
                    return None
                return SENSORS[f"landsat-{number[1] if number[1] in '89' else '457'}-c2-l2"]
    return None


def _bands(item: pystac.Item, sensor: Sensor | None) -> dict[str, _Asset]:
    """Common name to the asset that holds it."""
    found: dict[str, _Asset] = {}
    for key, asset in item.assets.items():
        roles = set(asset.roles or ())
        if key.lower() in _NO_BANDS or roles & {"visual", "overview", "thumbnail", "metadata"}:
            continue
        kind = (asset.media_type or "").lower()
        path = address(item, asset.href)
        suffix = Path(urlparse(path).path).suffix.lower()
        raster = kind.startswith(("image/tiff", "image/jp2", "image/vnd.stac.geotiff", "application/x-hdf"))
        if not raster and (kind or suffix not in (".tif", ".tiff", ".jp2", ".vrt")):
            continue
        entries = _described(asset.extra_fields)
        for index, entry in enumerate(entries, start=1):
            name = _common(key if len(entries) == 1 else "", entry, sensor)
            if name is None:
                continue
            rank = (len(entries) > 1, "jp2" in kind or suffix == ".jp2", path.startswith("s3://"))
            nodata = _numbers(entry.get("nodata"))
            own = _Asset(
                path, index, name, _number(entry.get("raster:scale", entry.get("scale"))),
                _number(entry.get("raster:offset", entry.get("offset"))), nodata, rank,
            )  # fmt: skip
            if name not in found or own.rank < found[name].rank:
                found[name] = own
    return found


def _described(fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What an asset says of each of its bands: `bands`, `eo:bands` and `raster:bands`, and what holds for all."""
    lists = [fields[key] for key in ("bands", "eo:bands", "raster:bands") if isinstance(fields.get(key), list)]
    count = max((len(part) for part in lists), default=1) or 1
    whole = {
        key: fields[key]
        for key in ("nodata", "raster:scale", "raster:offset", "name", "eo:common_name")
        if key in fields
    }
    merged = [dict(whole) for _ in range(count)]
    for part in lists:
        for entry, more in zip(merged, part, strict=False):  # a shorter list tells of the first bands
            entry.update(more)
    return merged


def _common(key: str, entry: Mapping[str, Any], sensor: Sensor | None) -> str | None:
    """Our name of a band, by its id in the product, its common name, or its asset's key."""
    said = str(entry.get("eo:common_name", entry.get("common_name")) or "").lower()
    identifiers = [str(entry.get("name") or ""), key]
    if sensor is not None:
        for text in identifiers:
            identifier = band_id(re.sub(r"^(OLI|TM|ETM|TIRS|MSI)_", "", text, flags=re.I))
            if identifier is not None:
                return PRODUCTS[sensor.product].get(identifier)
    for text in (said, *(text.lower() for text in identifiers)):
        name = _COMMON.get(text) or common_name(text)
        if name is not None:
            # Catalogs call the near infrared of Landsat 4 to 7 nir08, which is a broad band.
            return "nir_broad" if name == "nir_narrow" and sensor and sensor.product == "landsat-457" else name
    return None


def _wanted(
    bands: Sequence[str] | None, tables: Sequence[Mapping[str, _Asset]], items: Sequence[pystac.Item]
) -> list[str]:
    """The bands to open: those named, or all reflective ones that every item has."""
    if bands is not None:
        names = list(check_names(bands))
        for item, table in zip(items, tables, strict=True):
            lacking = [name for name in names if name not in table]
            if lacking:
                raise BandError(f"{item.id} has no {', '.join(lacking)}; it has {', '.join(table) or 'no known band'}.")
        return names
    common = [name for name in WAVELENGTHS if all(name in table for table in tables) and name not in _LEFT_OUT]
    if not common:
        said = "; ".join(
            f"{item.id} has {', '.join(table) or 'none'}" for item, table in zip(items, tables, strict=True)
        )
        raise BandError(
            f"no band was recognised that all items have: {said}. Assets need common names (eo:bands, bands) or keys "
            "such as blue; or name the sensor."
        )
    return common


def _scaling(asset: _Asset, sensor: Sensor | None, file: File) -> tuple[float, float] | None:
    """Gain and bias of an asset's values: as the item says, as the product has it, or as the file declares."""
    if asset.scale is not None:
        return asset.scale, asset.offset or 0.0
    if sensor is not None:
        return sensor.gain, sensor.bias
    declared = file.scaling[asset.index - 1]
    return declared if declared != (1.0, 0.0) else None


def _left_in(item: pystac.Item, asset: _Asset, sensor: Sensor, told: float | None) -> float | None:
    """What is to be added to Sentinel-2 values; None where neither item nor user (`told`) say it.

    Values of a baseline before 04.00 never carry the 1,000, and what the user says is for the others.
    """
    baseline, said = _baseline(item), _said_offset(item, asset, sensor)
    if baseline is not None and baseline < 4:
        return 0.0
    if told is None and said is None and baseline is not None:
        raise SceneError(
            f"{item.id} is of processing baseline {baseline:05.2f}, whose values are 1,000 too high unless that was "
            "taken out, and the item does not say: say --offset -1000 if it was not (the archive's files), --offset 0 "
            "if it was."
        )
    return said if told is None else told


def _baseline(item: pystac.Item) -> float | None:
    names = ("s2:processing_baseline", "processing:version", "sentinel:processing_baseline")
    numbers = (_number(item.properties.get(name)) for name in names)
    return next((number for number in numbers if number is not None), None)


def _said_offset(item: pystac.Item, asset: _Asset, sensor: Sensor) -> float | None:
    """What an item says itself that is to be added to Sentinel-2 values."""
    said = item.properties
    applied = said.get("earthsearch:boa_offset_applied", said.get("sentinel:boa_offset_applied"))
    if applied is not None:
        return 0.0 if applied else -1000.0
    if asset.offset is None or (asset.offset == 0 and PRODUCT not in said):  # in catalogs 0 says nothing
        return None
    return float(round(asset.offset / (asset.scale or sensor.gain)))


def _common_offset(offsets: Sequence[float | None], days: Sequence[dt.date]) -> float | None:
    """What the last date's values need, in a series whose dates are known to need it; None where that is not known.

    A date before 2022 of which nothing is said is taken for one without the 1,000. Where it stands alone its values
    are looked at too: the archive's reprocessing (collection 1) put the 1,000 into older dates.
    """
    unsaid = [day for offset, day in zip(offsets, days, strict=True) if offset is None]
    if unsaid and (len(unsaid) == len(days) or max(unsaid) >= OFFSET_SINCE):
        return None
    return offsets[-1] or 0.0


def _tell_of_offset(told: float, used: float | None, said: set[float | None], where: str) -> None:
    """Warns where --offset is not what the metadata of all dates say."""
    if said and None not in said and told not in said:
        words = " and ".join(f"{offset:g}" for offset in sorted(value for value in said if value is not None))
        verdict = "is used instead" if used == told else "is not used, as values of such a baseline never carry it"
        warnings.warn(f"{where} states an offset of {words} itself; --offset {told:g} {verdict}.", stacklevel=4)


def _repeats(files: Mapping[str, File], where: str) -> dict[str, int]:
    """How often each file's pixels are repeated to lie on the finest grid."""
    fine = min(files.values(), key=lambda file: abs(file.transform.determinant))
    found = {}
    for file in files.values():
        if file.wkt != fine.wkt:
            raise SceneError(
                f"{shown(file.path)} and {shown(fine.path)} of {where} lie in other coordinate reference systems (UTM "
                "zones): a scene has one; open the items one by one, or bring the files onto one grid with gdalwarp."
            )
        ratio = round(abs(file.transform.determinant / fine.transform.determinant) ** 0.5)
        grid = file.transform @ Affine.scale(1 / ratio)
        size = max(abs(fine.transform.a), abs(fine.transform.b))
        rows, columns = file.shape[0] * ratio - fine.shape[0], file.shape[1] * ratio - fine.shape[1]
        if not grid.almost_equals(fine.transform, precision=1e-3 * size) or not (
            0 <= rows < ratio and 0 <= columns < ratio
        ):
            raise SceneError(
                f"{shown(file.path)} {file.shape} and {shown(fine.path)} {fine.shape} of {where} do not begin at the "
                "same corner with pixels that divide each other: bring them onto one grid first ('gdalbuildvrt "
                "-separate -resolution highest scene.vrt FILES', 'gdalwarp')."
            )
        found[file.path] = ratio
    return found


def _one_sensor(sensors: Sequence[Sensor | None]) -> Sensor | None:
    """The product of all items; of the two HLS products, whose values mean the same, the first by name."""
    known = {sensor.name: sensor for sensor in sensors if sensor is not None}
    kinds = {(sensor.gain, sensor.bias, sensor.level, sensor.resolution) for sensor in known.values()}
    return known[min(known)] if None not in sensors and len(kinds) == 1 else None


def _number(value: object) -> float | None:
    try:
        return float(value) if value is not None else None  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def _numbers(value: object) -> tuple[float, ...]:
    number = _number(value)
    return () if number is None else (number,)
