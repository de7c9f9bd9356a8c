"""Searching for granules: in any STAC API or in local items, with the same filters."""

from __future__ import annotations

import calendar
import datetime as dt
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import pystac
from shapely import union_all
from shapely.geometry import mapping, shape
from shapely.geometry.base import BaseGeometry

from prithvi.errors import ConfigError, DatasetError, HubError, MissingExtraError, SceneError
from prithvi.hls.granules import Granule, is_granule_name
from prithvi.hls.items import read_items
from prithvi.scenes.polygons import box_in_degrees, in_degrees, read_vectors, sound

APIS = {
    "lpcloud": "https://cmr.earthdata.nasa.gov/stac/LPCLOUD",
    "planetary-computer": "https://planetarycomputer.microsoft.com/api/stac/v1",
}
"""Name to address."""
SPELLINGS = {
    "L30": ("HLSL30_2.0", "HLSL30.v2.0", "hls2-l30"),
    "S30": ("HLSS30_2.0", "HLSS30.v2.0", "hls2-s30"),
}
"""Product to what archives call its collection."""


def search(
    api: str,
    *,
    bbox: Sequence[float] | None = None,
    area: BaseGeometry | None = None,
    start: str | None = None,
    end: str | None = None,
    max_cloud: float | None = None,
    products: Sequence[str] = ("L30", "S30"),
    limit: int | None = None,
) -> list[pystac.Item]:
    """Granules that touch a place within a time, by tile and time.

    Args:
        api: key of `APIS`, the address of a STAC API, or what `read_items` reads (a folder, a catalog, a result).
        bbox: west, south, east, north in degrees; west is greater than east in a box across the date line.
        area: geometry in longitude and latitude, instead of a box.
        start: first year, month or day (2022, 2022-03, 2022-03-15).
        end: last year, month or day, itself included.
        max_cloud: largest share of clouds in per cent; granules that do not state theirs are kept.
        products: `L30`, `S30` or both.
        limit: most granules.

    Raises:
        ConfigError: an argument that cannot be.
        HubError: the API does not answer, or not as a STAC API does.
        DatasetError: nothing was found; the message says which filter left nothing.

    Warns:
        UserWarning: granules that do not state their clouds are kept.

    """
    place = _place(bbox, area)
    first, last = days(start, end)
    unknown = sorted(set(products) - SPELLINGS.keys())
    if unknown or not products:
        raise ConfigError(
            f"there is no product {', '.join(unknown) or '(none given)'}: L30 (Landsat) and S30 (Sentinel-2)."
        )
    remote = api in APIS or "://" in api
    found = _ask(APIS.get(api, api), place, first, last, products) if remote else read_items(api)
    return _filter(found, place, first, last, max_cloud, products, limit, api)


def days(start: str | None, end: str | None) -> tuple[dt.date | None, dt.date | None]:
    """First and last day of a period such as 2022-03 to 2022-10.

    Raises:
        ConfigError: a word is no year, month or day, or the end lies before the start.

    """
    first = _day(start, last=False) if start is not None else None
    final = _day(end, last=True) if end is not None else None
    if first is not None and final is not None and final < first:
        raise ConfigError(f"the search would end ({end}) before it starts ({start}).")
    return first, final


def _day(text: str, last: bool) -> dt.date:
    match = re.fullmatch(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?", text.strip())
    try:
        if match is None:
            raise ValueError(text)
        year, month, day = (int(part) if part else None for part in match.groups())
        month = month or (12 if last else 1)
        return dt.date(int(year or 0), month, day or (calendar.monthrange(int(year or 0), month)[1] if last else 1))
    except ValueError as error:
        raise ConfigError(f"{text!r} is no date: write 2022, 2022-03 or 2022-03-15.") from error


def read_area(path: str | Path) -> BaseGeometry:
    """All features of a vector file as one geometry in longitude and latitude, cut at the date line.

    Raises:
        DatasetError: the file cannot be read, is empty, or has no CRS.

    Warns:
        UserWarning: features cross or cover themselves and were mended; what is drawn twice counts once.

    """
    features = read_vectors(path)
    if features.crs is None or features.empty:
        raise DatasetError(f"{path} has no {'CRS' if len(features) else 'features'}.")
    shapes = gpd.GeoSeries(sound(features.geometry, str(path)), crs=features.crs)
    whole: BaseGeometry = union_all(in_degrees(shapes))
    return whole


def _place(bbox: Sequence[float] | None, area: BaseGeometry | None) -> BaseGeometry | None:
    if bbox is not None and area is not None:
        raise ConfigError("a box and an area were given: one of them says where.")
    if bbox is None:
        return area
    try:
        return union_all(box_in_degrees(*bbox))
    except SceneError as error:
        raise ConfigError(str(error)) from error


def _ask(
    address: str, place: BaseGeometry | None, first: dt.date | None, last: dt.date | None, products: Sequence[str]
) -> list[pystac.Item]:
    """All HLS items of a STAC API for a place and a time; clouds are filtered later, as not every API can."""
    try:
        import pystac_client
        import requests
        from pystac_client.exceptions import APIError
    except ImportError as error:
        raise MissingExtraError("searching an archive", "search") from error
    if place is None:
        raise ConfigError("an archive is only searched for a place: give --bbox WEST SOUTH EAST NORTH or --area FILE.")
    try:
        client = pystac_client.Client.open(address, timeout=60)
        there = {collection.id for collection in client.get_collections()}
        wanted = [name for product in products for name in SPELLINGS[product] if name in there]
        if not wanted:
            known = ", ".join(name for product in products for name in SPELLINGS[product])
            raise DatasetError(f"{address} has none of the collections {known}; it has {len(there)} others.")
        until = f"{last.isoformat()}T23:59:59Z" if last is not None else ".."
        when = f"{first.isoformat()}T00:00:00Z/{until}" if first is not None else f"../{until}"
        asked = client.search(
            method="POST", collections=wanted, intersects=mapping(place), limit=250,
            datetime=None if first is None and last is None else when,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the API's own items lack is looked at below
            return list(asked.items())
    except (APIError, requests.RequestException, pystac.STACError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, DatasetError):
            raise
        detail = re.sub(r"\s+", " ", str(error)).strip()[:160] or type(error).__name__
        raise HubError(
            f"{address} does not answer as a STAC API does ({detail}): check the address and the network."
        ) from error


def _filter(
    items: Sequence[pystac.Item],
    place: BaseGeometry | None,
    first: dt.date | None,
    last: dt.date | None,
    max_cloud: float | None,
    products: Sequence[str],
    limit: int | None,
    source: str,
) -> list[pystac.Item]:
    """The items that pass every filter; an API may have ignored some."""
    granules = {item.id: item for item in items if is_granule_name(item.id)}  # twice where two spellings hold it
    left = sorted(granules.values(), key=lambda item: Granule.parse(item.id))
    steps: list[tuple[str, Callable[[pystac.Item], Any]]] = [
        ("of these products", lambda item: Granule.parse(item.id).product in products),
        ("in the place", lambda item: place is None or (item.geometry and shape(item.geometry).intersects(place))),
        (
            "in the time",
            lambda item: (
                (first is None or Granule.parse(item.id).time.date() >= first)
                and (last is None or Granule.parse(item.id).time.date() <= last)
            ),
        ),
        (
            f"with at most {max_cloud:g} % clouds" if max_cloud is not None else "",
            lambda item: max_cloud is None or item.properties.get("eo:cloud_cover", -1) <= max_cloud,
        ),
    ]
    counts = [f"{len(left)} granules"]
    for name, keep in steps:
        left = [item for item in left if keep(item)]
        if name:
            counts.append(f"{len(left)} {name}")
    if not left:
        raise DatasetError(f"nothing was found in {source}: {', '.join(counts)}.")
    silent = sum("eo:cloud_cover" not in item.properties for item in left)
    if max_cloud is not None and silent:
        warnings.warn(f"{silent} of {len(left)} granules do not state their clouds and are kept.", stacklevel=3)
    return left if limit is None else left[:limit]
