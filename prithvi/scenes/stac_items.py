"""STAC items from files, servers, and what users hold in hand."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from prithvi.errors import SceneError
from prithvi.scenes.access import local_path
from prithvi.scenes.remote import fetch_text, is_remote, shown

if TYPE_CHECKING:
    import pystac

PRODUCT = "prithvi:product"
"""Property of items that were made of a product on disk: its sensor's name. What they state, they state in earnest."""
_ITEM_ADDRESS = re.compile(r"\.(geo)?json$|/items/[^/]+/?$", re.IGNORECASE)


def is_items(source: object) -> TypeGuard[Any]:
    """Whether a source is a STAC item, its file or address, or several of these."""
    if isinstance(source, (str, Path)):
        name = str(source).partition("?")[0]
        return bool(_ITEM_ADDRESS.search(name)) and (is_remote(name) or not Path(name).is_dir())
    if isinstance(source, Sequence) or type(source).__module__.startswith("pystac"):
        if not isinstance(source, Sequence) and type(source).__name__ not in ("Item", "ItemCollection"):
            raise SceneError(f"a STAC {type(source).__name__} is no scene: give one of its items, or a list of them.")
        parts = [source] if type(source).__name__ == "Item" else list(source)  # type: ignore[call-overload]
        found = [type(part).__name__ == "Item" or (isinstance(part, (str, Path)) and is_items(part)) for part in parts]
        if any(found) and not all(found):
            raise SceneError("STAC items and files were given together: give items, or files.")
        return bool(found) and all(found)
    return False


def read_stac(source: Any) -> list[pystac.Item]:
    """The items of a file, address, item, collection of items, or list of any of these.

    Raises:
        SceneError: a file is no STAC item, or cannot be read.

    """
    import pystac

    if isinstance(source, pystac.Item):
        return [source]
    if isinstance(source, (str, Path)):
        return _from_json(str(source))
    found = [item for part in source for item in read_stac(part)]
    if not found:
        raise SceneError("no STAC item was given.")
    return found


def _from_json(name: str) -> list[pystac.Item]:
    import pystac

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
    except (ValueError, KeyError, TypeError, AttributeError, OSError, pystac.STACError, pystac.STACTypeError) as error:
        if isinstance(error, SceneError):
            raise
        raise SceneError(f"{shown(name)} cannot be read as a STAC item ({error}).") from error
    for item in items:
        # Relative addresses are those beside the file, wherever it says that it once was.
        item.remove_links("self")
        item.set_self_href(name)
    return items


def address(item: pystac.Item, href: str) -> str:
    """An asset's address as GDAL opens it; relative ones lie beside the item."""
    from pystac.utils import make_absolute_href

    here = item.get_self_href()
    absolute = href if is_remote(href) or here is None else str(make_absolute_href(href, here))
    path = local_path(absolute)
    return absolute if path is None else str(path)


def band_entries(fields: Mapping[str, Any]) -> list[dict[str, Any]]:
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
