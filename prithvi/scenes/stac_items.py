"""STAC items as scenes: which asset is which band, and what its values mean, by what the item says.

A band is told by its id where the item's product is known (`B8A` of Sentinel-2), then by its common name (STAC's
extension eo, or `bands` of STAC 1.1), then by the asset's key. Scale, offset and nodata stand in the extension raster.
Whether Sentinel-2 values still carry the +1,000 of processing baseline 04.00 is taken from Earth Search's
`boa_offset_applied`, the baseline, or an offset that the item states, in this order. Where the pixels lie is asked of
the files.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from prithvi.bands import PRODUCTS, THERMAL, WAVELENGTHS, band_id, check_names, common_name
from prithvi.catalog import SENSORS, Sensor
from prithvi.errors import MALFORMED, BandError, SceneError, counted, first_line, states_nonsense
from prithvi.scenes.catalog_hrefs import asset_address
from prithvi.scenes.in_flight import in_order
from prithvi.scenes.info import OFFSET_SINCE, Given, Scales, number_in, offset_of_item
from prithvi.scenes.layout import Layout, on_finest
from prithvi.scenes.names import agree, as_time, granules_named, moments
from prithvi.scenes.paths import is_remote, local_path, readable, shown
from prithvi.scenes.raster_files import Plane, inspect_all, plane_of
from prithvi.scenes.remote import fetch_text

if TYPE_CHECKING:
    import pystac

PRODUCT = "prithvi:product"
"""Property of items that were made of a product on disk: its sensor's name. Their offsets come from product metadata,
so 0 really means 0.
"""
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
_LEFT_OUT = ("panchromatic", *THERMAL, "cirrus")
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
    """Band of the file, counted from 1."""
    scale: float | None
    offset: float | None
    nodata: float | None
    rank: tuple[bool, bool, bool]
    """Lower is better where several assets hold the same band."""


@dataclass(frozen=True)
class _Step:
    """One date of a scene: its item, and which asset holds which band."""

    item: pystac.Item
    day: dt.date
    sensor: Sensor | None
    assets: Mapping[str, _Asset]


def read_stac(source: Any) -> list[pystac.Item]:
    """The items of a file, address, item, collection of items, or list of any of these.

    Raises:
        SceneError: a file is no STAC item, or cannot be read.

    """
    import pystac

    if isinstance(source, pystac.Item):
        return [source]
    if not isinstance(source, (str, Path)):
        parts = list(source)
        plain = all(isinstance(part, (str, Path)) for part in parts) and any(is_remote(str(part)) for part in parts)
        read = in_order(partial(read_stac, part) for part in parts) if plain else map(read_stac, parts)
        found = [item for several in read for item in several]
        if not found:
            raise SceneError("no STAC item was given.")
        return found
    name = str(source)
    if not is_remote(name):
        path = local_path(name) or Path(name)
        if not path.is_file():
            raise SceneError(f"there is no file {path}.")
        name = str(path.resolve())
    try:
        plain = json.loads(fetch_text(name) if is_remote(name) else Path(name).read_text(encoding="utf-8"))
        kind = plain.get("type")
        if kind not in ("Feature", "FeatureCollection"):
            raise SceneError(f"{shown(name)} is no STAC item (its type is {kind!r}): give one of its items.")
        features = plain["features"] if kind == "FeatureCollection" else [plain]
        items = [pystac.Item.from_dict(feature) for feature in features]
        for item in items:
            # Relative addresses are those beside the file, wherever it says that it once was.
            item.remove_links("self")
            item.set_self_href(name)
    except SceneError:
        raise
    except (*MALFORMED, OSError, pystac.STACError, pystac.STACTypeError) as error:
        raise SceneError(f"{shown(name)} cannot be read as a STAC item ({first_line(error)}).") from error
    return items


def lay_out_items(source: Any, given: Given) -> Layout:
    """Finds (date, band) in the assets of items; see `prithvi.open_scene` for what is given.

    Coarser bands are repeated onto the grid of the finest one used, where both have one origin.

    Raises:
        SceneError: no item, two of one date, other grids, an offset that nobody knows, or a file that does not open.
        BandError: an item lacks a band.
        AddressError: an item from a server points where it may not, see `prithvi.scenes.catalog_hrefs`.

    """
    if isinstance(given.bands, dict):
        raise BandError(
            "assets of STAC items and of products have names and no numbers: name the bands (blue, green, ...)."
        )
    items, offset = read_stac(source), given.offset
    names = [str(item.id) for item in items]
    where = granules_named(names) or shown(names[0] + (f" and {len(names) - 1} more items" if len(names) > 1 else ""))
    if given.dates is not None and len(given.dates) != len(items):
        raise SceneError(f"{where} has {counted(len(items), 'date')} and {len(given.dates)} were given.")
    times, found = moments(names), []
    days_given: Sequence[dt.date | None] = given.dates or [None] * len(items)
    for item, said in zip(items, days_given, strict=True):
        with states_nonsense(str(item.id), SceneError):
            when, sensor = item.datetime or item.common_metadata.start_datetime, _sensor(item, given.sensor)
            day = agree(as_time(when).date() if when is not None else None, said, item.id)
            if day is None:
                raise SceneError(f"{item.id} has no date: say --date (dates=[...]).")
            found.append(_Step(item, times.get(item.id, day), sensor, _bands(item, sensor)))
    found.sort(key=lambda step: as_time(step.day))
    days = [step.day for step in found]
    if twice := sorted({str(day) for day in days if days.count(day) > 1}):
        same = ", ".join(step.item.id for step in found if str(step.day) == twice[0])
        raise SceneError(f"{same} are of the same date ({twice[0]}): a scene has one item a date, of one tile.")
    wanted = _wanted(given.bands, found)
    # Only the files of bands that are used are opened, for their headers: an item lists a dozen assets more.
    paths = dict.fromkeys(step.assets[name].path for step in found for name in wanted)
    files = on_finest(inspect_all(list(paths)), where)
    # Values mean what the item says; where it is silent, what the file's tags say; then what the product has. The same
    # holds for nodata, but there every value that anybody names counts.
    steps: list[dict[str, Plane]] = [{} for _ in found]
    for planes, step in zip(steps, found, strict=True):
        for name in wanted:
            asset, usual = step.assets[name], step.sensor.nodata if step.sensor else None
            plane = plane_of(files[asset.path], asset.index, given.nodata, asset.nodata, usual, product=step.sensor)
            planes[name] = replace(plane, stated_scale=_scales(step, asset, plane.stated_scale, offset))
    steps = _with_offsets(steps, found, offset, where)
    return Layout(steps, files, days, _one_sensor([step.sensor for step in found]), where)


def _with_offsets(
    steps: list[dict[str, Plane]], found: Sequence[_Step], offset: float | None, where: str
) -> list[dict[str, Plane]]:
    """The steps with the offset of Sentinel-2 dates of which nothing is said, where the other dates tell it."""
    every = [plane for planes in steps for plane in planes.values()]
    unsaid = {
        plane: step.day
        for planes, step in zip(steps, found, strict=True)
        for plane in planes.values()
        if plane.stated_scale.offset is None and step.sensor is not None and step.sensor.product == "sentinel-2"
    }
    if offset and all(plane.stated_scale.offset_is_final for plane in every):
        warnings.warn(
            f"{where}: --offset {offset:g} is not used, as values of its processing baseline never carry the 1,000.",
            stacklevel=5,
        )
    if max(unsaid.values(), default=OFFSET_SINCE) >= OFFSET_SINCE:
        return steps
    if len(unsaid) < len(every):
        # A date before 2022 of which nothing is said, among others that say it, is taken for one without the 1,000.
        # Alone, its values are looked at too: the archive's reprocessing put the 1,000 into older dates.
        known = {plane: replace(plane, stated_scale=replace(plane.stated_scale, offset=0.0)) for plane in unsaid}
        return [{name: known.get(plane, plane) for name, plane in planes.items()} for planes in steps]
    # The archive processed everything anew as collection 1, so that even images from before 2022 may carry the 1,000.
    # Of a product on disk whose metadata were lost nobody can tell: the user is told what was assumed.
    if offset is None and PRODUCT in found[-1].item.properties:
        warnings.warn(
            f"{where} has no metadata beside it; its values are taken not to carry the +1,000 that the archive's "
            "reprocessing (collection 1) puts into every date (say --offset 0, or -1000 if it is of that).",
            stacklevel=5,
        )
    return steps


def _sensor(item: pystac.Item, given: Sensor | None) -> Sensor | None:
    """The product of an item: as its id, collection and platform say, where they leave no doubt, or as it was given."""
    texts = (item.id, item.collection_id or "")
    known = (name for text in texts for form, name in _COLLECTIONS if form.match(text))
    name: str | None = item.properties.get(PRODUCT) or next(known, None)
    if name == "landsat":
        platform = str(item.properties.get("platform", "")).lower()
        number = re.search(r"landsat[-_ ]?0?(\d)", platform) or re.match(r"L[COTE]0(\d)_", item.id)
        name = f"landsat-{number[1] if number[1] in '89' else '457'}-c2-l2" if number else None
    own = SENSORS[name] if name else None
    if own is not None and given is not None and own != given:
        raise SceneError(f"{item.id} is of {own.name}, and {given.name} was given as its sensor: leave the sensor out.")
    return own or given


def _bands(item: pystac.Item, sensor: Sensor | None) -> dict[str, _Asset]:
    """Common name to the asset that holds it."""
    found: dict[str, _Asset] = {}
    for key, asset in item.assets.items():
        # Pictures and metadata are no bands. Without a media type the suffix has to be that of a raster.
        roles = set(asset.roles or ())
        if key.lower() in _NO_BANDS or roles & {"visual", "overview", "thumbnail", "metadata"}:
            continue
        kind = (asset.media_type or "").lower()
        path = readable(asset_address(item, asset))
        suffix = Path(urlparse(path).path).suffix.lower()
        raster = kind.startswith(("image/tiff", "image/jp2", "image/vnd.stac.geotiff", "application/x-hdf"))
        if not raster and (kind or suffix not in (".tif", ".tiff", ".jp2", ".vrt")):
            continue
        entries = _band_entries(asset.extra_fields)
        for index, entry in enumerate(entries, start=1):
            name = _common(key if len(entries) == 1 else "", entry, sensor)
            if name is None:
                continue
            # One band may be in several assets: a file of its own is preferred to a stack, GeoTIFF to JPEG 2000 (which
            # decodes far slower), and https to s3, which needs credentials.
            rank = (len(entries) > 1, "jp2" in kind or suffix == ".jp2", path.startswith("s3://"))
            scale = number_in(entry.get("raster:scale", entry.get("scale")))
            offset = number_in(entry.get("raster:offset", entry.get("offset")))
            own = _Asset(path, index, scale, offset, number_in(entry.get("nodata")), rank)
            if name not in found or own.rank < found[name].rank:
                found[name] = own
    return found


def _band_entries(fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What an asset says of each of its bands: `bands`, `eo:bands` and `raster:bands`, and what holds for all."""
    # STAC 1.1 has one list `bands`; 1.0 has one for each extension, in the same order. They are laid over each other,
    # above what the asset says of all of its bands at once.
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
    # Where the product is known its band ids are exact, and common names are not (`nir` of Sentinel-2 is B08 or B8A).
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


def _wanted(bands: Sequence[str] | None, steps: Sequence[_Step]) -> list[str]:
    """The bands to open: those named, or all reflective ones that every item has."""
    if bands is not None:
        names = list(check_names(bands))
        for step in steps:
            lacking = [name for name in names if name not in step.assets]
            if lacking:
                has = ", ".join(step.assets) or "no known band"
                raise BandError(f"{step.item.id} has no {', '.join(lacking)}; it has {has}.")
        return names
    common = [name for name in WAVELENGTHS if all(name in step.assets for step in steps) and name not in _LEFT_OUT]
    if not common:
        said = "; ".join(f"{step.item.id} has {', '.join(step.assets) or 'none'}" for step in steps)
        raise BandError(
            f"no band was recognised that all items have: {said}. Assets need common names (eo:bands, bands) or keys "
            "such as blue; or name the sensor."
        )
    return common


def _scales(step: _Step, asset: _Asset, own: Scales, given_offset: float | None) -> Scales:
    """What is said of an asset's values: by the item, else by the file (`own`); and what the product usually has."""
    item, sensor = step.item, step.sensor
    # The item's numbers replace the file's one by one: either may state only a scale, or only an offset.
    gain, bias = own.tag or (sensor.gain if sensor else None, 0.0)
    gain, bias = asset.scale or gain, bias if asset.offset is None else asset.offset
    if gain is not None and (asset.scale is not None or asset.offset is not None):
        own = replace(own, tag=(gain, bias), offset=bias / gain)
    if sensor is None or sensor.product != "sentinel-2":
        return own
    # An offset of 0 really means 0 in a product's own metadata, and nothing in catalogs.
    of_product = PRODUCT in item.properties and asset.offset is not None
    known, final = offset_of_item(item, own.offset if of_product else own.offset or None, given_offset)
    tag = own.tag and (own.tag[0], (known or 0.0) * own.tag[0])
    return replace(own, tag=tag, offset=known, offset_is_final=final)


def _one_sensor(sensors: Sequence[Sensor | None]) -> Sensor | None:
    """The product of all items; of the two HLS products, whose values mean the same, the first by name."""
    known = {sensor.name: sensor for sensor in sensors if sensor is not None}
    kinds = {(sensor.gain, sensor.bias, sensor.level, sensor.resolution) for sensor in known.values()}
    return known[min(known)] if None not in sensors and len(kinds) == 1 else None
