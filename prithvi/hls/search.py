"""Searching for granules: in any STAC API or in local items, with the same filters."""

from __future__ import annotations

import datetime as dt
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd
import pystac
from shapely import union_all
from shapely.geometry import mapping, shape
from shapely.geometry.base import BaseGeometry

from prithvi import guard
from prithvi.errors import AddressError, ConfigError, DatasetError, HubError, SceneError, counted, needs
from prithvi.hls.granules import Granule, is_granule_name
from prithvi.hls.items import cloud_cover, in_order, read_items
from prithvi.scenes.catalog_hrefs import check, from_server
from prithvi.scenes.paths import shown
from prithvi.scenes.polygons import box_in_degrees, in_degrees, sound
from prithvi.scenes.vector_files import read_vectors

APIS = {
    "lpcloud": "https://cmr.earthdata.nasa.gov/stac/LPCLOUD",
    "planetary-computer": "https://planetarycomputer.microsoft.com/api/stac/v1",
}
"""Name to address."""
SPELLINGS = {"L30": ("HLSL30_2.0", "HLSL30.v2.0", "hls2-l30"), "S30": ("HLSS30_2.0", "HLSS30.v2.0", "hls2-s30")}
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
    if bbox is not None and area is not None:
        raise ConfigError("a box and an area were given: one of them says where.")
    try:
        place = union_all(box_in_degrees(*bbox)) if bbox is not None else area
    except SceneError as error:
        raise ConfigError(str(error)) from error
    first, last = days(start, end)
    unknown = sorted(set(products) - SPELLINGS.keys())
    if unknown or not products:
        raise ConfigError(f"there is no product {', '.join(unknown) or '(none)'}: L30 (Landsat) and S30 (Sentinel-2).")
    remote = api in APIS or "://" in api
    found = _ask(APIS.get(api, api), place, first, last, products) if remote else read_items(api)
    # An API may have ignored a filter, so that all are applied here, too; the counts say which of them left nothing.
    since, until = first or dt.date.min, last or dt.date.max
    left = in_order(item for item in found if is_granule_name(item.id))
    tests: dict[str, Callable[[pystac.Item], Any]] = {
        "of these products": lambda item: Granule.parse(item.id).product in products,
        "in the place": lambda item: place is None or (item.geometry and shape(item.geometry).intersects(place)),
        "in the time": lambda item: since <= Granule.parse(item.id).time.date() <= until,
    }
    if max_cloud is not None:
        title = f"with at most {max_cloud:g} % clouds"
        tests[title] = lambda item: (cloud_cover(item) or 0) <= max_cloud
    counts = [counted(len(left), "granule")]
    for title, keep in tests.items():
        left = [item for item in left if keep(item)]
        counts.append(f"{len(left)} {title}")
    if not left:
        raise DatasetError(f"nothing was found in {shown(api)}: {', '.join(counts)}.")
    silent = sum(cloud_cover(item) is None for item in left)
    if max_cloud is not None and silent:
        warnings.warn(f"{silent} of {len(left)} granules do not state their clouds and are kept.", stacklevel=2)
    return left[:limit]


def days(start: str | None, end: str | None) -> tuple[dt.date | None, dt.date | None]:
    """First and last day of a period such as 2022-03 to 2022-10.

    Raises:
        ConfigError: a word is no year, month or day, or the end lies before the start.

    """
    first = _period(start)[0] if start is not None else None
    final = _period(end)[1] if end is not None else None
    if first is not None and final is not None and final < first:
        raise ConfigError(f"the search would end ({end}) before it starts ({start}).")
    return first, final


def _period(text: str) -> tuple[dt.date, dt.date]:
    """First and last day of a year, month or day."""
    try:
        if not re.fullmatch(r"\d{4}(-\d{2}(-\d{2})?)?", text.strip()):
            raise ValueError(text)
        period = pd.Period(text.strip())
        return period.start_time.date(), period.end_time.date()
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


def _of_server(address: str) -> Any:
    """How pystac_client asks a STAC API: by the guard, and no link of it leads to files or private addresses."""
    from pystac_client.stac_api_io import StacApiIO

    class Asked(StacApiIO):
        def request(self, href: str, *args: Any, **more: Any) -> str:
            check(href, address)
            return str(super().request(href, *args, **more))

        def read_text(self, source: Any, *args: Any, **more: Any) -> str:
            if not isinstance(source, pystac.Link):
                check(str(source), address)  # it would open a file
            return str(super().read_text(source, *args, **more))

    asked, by = Asked(timeout=60), guard.way([address])
    if by is not None:
        asked.session.proxies = {"http": by, "https": by}
    return asked


def _ask(
    address: str, place: BaseGeometry | None, first: dt.date | None, last: dt.date | None, products: Sequence[str]
) -> list[pystac.Item]:
    """All HLS items of a STAC API for a place and a time; clouds are filtered later, as not every API can."""
    with needs("searching an archive", "search"):
        import pystac_client
        import requests
        from pystac_client.exceptions import APIError
    if place is None:
        raise ConfigError("an archive is only searched for a place: give --bbox WEST SOUTH EAST NORTH or --area FILE.")
    try:
        client = pystac_client.Client.open(address, stac_io=_of_server(address))
        there = {collection.id for collection in client.get_collections()}
        wanted = [name for product in products for name in SPELLINGS[product] if name in there]
        if not wanted:
            known = ", ".join(name for product in products for name in SPELLINGS[product])
            raise DatasetError(f"{shown(address)} has none of the collections {known}; it has {len(there)} others.")
        when = f"{f'{first}T00:00:00Z' if first else '..'}/{f'{last}T23:59:59Z' if last else '..'}"
        asked = client.search(
            method="POST",
            collections=wanted,
            intersects=mapping(place),
            limit=250,
            datetime=when if first or last else None,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the API's own items lack is looked at below
            return [
                from_server(item, f"{shown(address).rstrip('/')}/collections/{item.collection_id}/items/{item.id}")
                for item in asked.items()
            ]
    except (DatasetError, AddressError):
        raise
    except (APIError, requests.RequestException, pystac.STACError, ValueError, KeyError, TypeError) as error:
        # The whole answer on one line: its first line alone may be a bracket.
        detail = re.sub(r"\s+", " ", str(error)).strip()[:160] or type(error).__name__
        if refused := guard.reason_in(str(error)):
            raise HubError(f"{shown(address)} leads elsewhere: {refused}") from error
        if (status := getattr(error, "status_code", None) or 0) >= 500:
            raise HubError(f"{shown(address)} answers with status {status}: try later.") from error
        if "Max retries exceeded" in detail:  # urllib3's account of where it stopped is no help
            raise HubError(f"{shown(address)} cannot be reached: check the address and the network.") from error
        message = f"{shown(address)} does not answer as a STAC API does ({detail}): check the address and the network."
        raise HubError(message) from error
