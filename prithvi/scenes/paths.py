"""Paths and addresses: which are on this machine, which on a server, and how they are shown."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlparse

_SERVERS = re.compile(r"^(https?|s3|gs|az|adl|oss|swift|ftp)://|^/vsi(curl|s3|gs|az|adls|oss|swift)", re.IGNORECASE)


def local_path(href: str) -> Path | None:
    """The path of a file address or of a plain path; None for an address of a server."""
    parts = urlparse(href)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return Path(href) if parts.scheme == "" or len(parts.scheme) == 1 else None


def readable(href: str) -> str:
    """An asset's address as `ask` takes it: local paths plain, addresses of servers not signed yet."""
    path = local_path(href)
    return href if path is None else str(path)


def is_remote(path: str) -> bool:
    """Whether GDAL reads a path from a server."""
    return _SERVERS.match(path) is not None


def is_http(path: str) -> bool:
    """Whether a path is an http or https address."""
    return path.lower().startswith(("http://", "https://"))


def shown(path: str) -> str:
    """An address as messages and files may hold it: without what stands behind a question mark, such as signatures."""
    if not is_remote(path):
        return path
    return re.sub(r"(?<=://)[^/@]*@", "", path.partition("?")[0])
