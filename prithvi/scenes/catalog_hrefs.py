"""Where a STAC item may point: one that was read from a server to servers alone, and to no private one but its own.

Whoever writes a catalog on the web would else have files of this machine, or what its network alone can see, read into
a map. Catalogs on this machine may point to its files. Redirects and what names mean are looked at by `prithvi.guard`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from prithvi.errors import AddressError
from prithvi.guard import is_public, refusal
from prithvi.hosts import ALLOW, allowed_private, matches
from prithvi.scenes.paths import local_path, shown

if TYPE_CHECKING:
    import pystac

FILES = "file:"
"""Among the hosts that a user allows: files of this machine."""
_STORES = re.compile(r"^(s3|gs|az|adl|oss|swift)://", re.IGNORECASE)
"""Whose servers the user's own settings name."""


def asset_address(item: pystac.Item, asset: pystac.Asset) -> str:
    """Address of an asset, absolute where the item has one.

    Raises:
        AddressError: the item is from a server, and points to this machine or to a private address of another host.

    """
    href, origin = str(asset.get_absolute_href() or asset.href), item.get_self_href() or ""
    if urlsplit(origin).scheme.lower() in ("http", "https"):
        check(href, origin)
    return href


def check(href: str, origin: str) -> None:
    """Whether what was read from `origin`, on a server, may point to `href`, which is absolute.

    Raises:
        AddressError: it may not.

    """
    parts, host = urlsplit(href), urlsplit(origin).hostname or ""
    if _STORES.match(href):
        return
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
        if local_path(href) is not None and FILES in allowed_private():
            return
        raise AddressError(
            f"{shown(origin)} points to {href}, and what comes from a server may name http and https addresses and "
            f"those of object stores alone: if it may name files of this machine, prithvi --allow-private {FILES} ..., "
            f"or {ALLOW}={FILES} in the environment."
        )
    if urlsplit(href).path.lower().endswith(".vrt"):
        raise AddressError(
            f"{shown(origin)} points to {shown(href)}, a file that names further files: give its address yourself, if "
            "you trust it."
        )
    if parts.hostname == host or matches(parts.hostname, allowed_private()):
        return
    try:
        public = is_public(parts.hostname)
    except AddressError:
        return  # a name without an address: reading says so
    if not public:
        raise AddressError(f"{shown(origin)} points to {shown(href)}, but {refusal(parts.hostname)}")


def from_server(item: pystac.Item, address: str) -> pystac.Item:
    """An item that a server gave, at `address`, after a look at all of its assets; the item itself is changed.

    Raises:
        AddressError: see `asset_address`.

    """
    # What an item says of its own place is the server's word too: relative addresses start there only on that host.
    if urlsplit(item.get_self_href() or "").hostname != urlsplit(address).hostname:
        item.remove_links("self")
    item.set_self_href(address)
    for asset in item.assets.values():
        asset_address(item, asset)
    return item
