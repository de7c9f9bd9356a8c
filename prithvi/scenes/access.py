"""What archives want before bytes flow: signatures, logins, and how GDAL should ask.

Secrets go to the hosts they belong to and to no other one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlparse

from prithvi.errors import HubError, MissingExtraError

EARTHDATA = ("earthdatacloud.nasa.gov", "earthdata.nasa.gov")
"""Hosts (with all below them) that want NASA's Earthdata login."""
PLANETARY = ("blob.core.windows.net",)
"""Hosts whose addresses Microsoft's Planetary Computer signs."""
_GDAL = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_MULTIRANGE": "YES",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    # A server that always fails is given up after some seconds: GDAL tries thrice for each of a few requests.
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    "GDAL_HTTP_CONNECTTIMEOUT": "5",
    "GDAL_HTTP_LOW_SPEED_TIME": "20",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1",
    # One cache for all files, of 16 MB, and none beside it for each open one.
    "CPL_VSIL_CURL_CACHE_SIZE": "16000000",
    "VSI_CACHE": "FALSE",
}
"""How GDAL asks servers; a variable of that name in the environment counts more."""


def local_path(href: str) -> Path | None:
    """The path of a file address or of a plain path; None for an address of a server."""
    parts = urlparse(href)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return Path(href) if parts.scheme == "" or len(parts.scheme) == 1 else None


def belongs(url: str, hosts: Sequence[str]) -> bool:
    """Whether an https address's host is one of `hosts` or below one; plain http only on this machine."""
    parts = urlparse(url)
    host = parts.hostname or ""
    safe = parts.scheme == "https" or host in ("127.0.0.1", "localhost", "::1")
    return safe and any(host == known or host.endswith(f".{known}") for known in hosts)


def readable(href: str) -> str:
    """An asset's address as GDAL opens it: local paths plain, Planetary Computer addresses signed (for about an hour).

    Raises:
        MissingExtraError: signing needs the extra `search`.

    """
    path = local_path(href)
    if path is not None:
        return str(path)
    return signed(href)


def signed(href: str) -> str:
    """An address with the signature that its host wants, if any."""
    if not belongs(href, PLANETARY) or "sig=" in href:
        return href
    try:
        import planetary_computer
    except ImportError as error:
        raise MissingExtraError("reading from the Planetary Computer", "search") from error
    return str(planetary_computer.sign(href))


def gdal_environment(hrefs: Sequence[str], hosts: Sequence[str] = EARTHDATA) -> dict[str, str]:
    """GDAL options for reading these addresses; none for local files. A login is sent to its own hosts only.

    Args:
        hrefs: addresses, as `readable` gives them.
        hosts: hosts that want the Earthdata login.

    Raises:
        HubError: a login is wanted and there is none.

    """
    remote = [href for href in hrefs if local_path(href) is None]
    if not remote:
        return {}
    options = {name: os.environ.get(name, value) for name, value in _GDAL.items()}
    wanting = [href for href in remote if belongs(href, hosts)]
    if wanting:
        if len(wanting) < len(remote):
            other = urlparse(next(href for href in remote if href not in wanting)).hostname
            raise HubError(
                f"granules of NASA's archive and of {other} cannot be read together: a login would reach both."
            )
        options["GDAL_HTTP_HEADERS"] = f"Authorization: Bearer {token()}"
        # After a redirect to signed storage the header must stay behind.
        options["CPL_VSIL_CURL_AUTHORIZATION_HEADER_ALLOWED_IF_REDIRECT"] = "IF_SAME_HOST"
    return options


def headers(url: str, hosts: Sequence[str] = EARTHDATA) -> dict[str, str]:
    """Request headers for one address: the login for the hosts that want it, nothing for any other."""
    return {"Authorization": f"Bearer {token()}"} if belongs(url, hosts) else {}


@cache
def token() -> str:
    """NASA's bearer token: EARTHDATA_TOKEN, or what earthaccess gets for a name and password.

    These stand in EARTHDATA_USERNAME and EARTHDATA_PASSWORD, or in ~/.netrc.

    Raises:
        HubError: there is no login, or it is refused.

    """
    if "EARTHDATA_TOKEN" in os.environ:
        return os.environ["EARTHDATA_TOKEN"]
    try:
        from earthaccess import Auth
        from earthaccess.exceptions import LoginAttemptFailure, LoginStrategyUnavailable
    except ImportError as error:
        raise MissingExtraError("NASA's archive", "search") from error
    for strategy in ("environment", "netrc"):
        try:
            login = Auth().login(strategy=strategy)
        except LoginStrategyUnavailable:
            continue
        except (LoginAttemptFailure, OSError) as error:
            raise HubError(f"NASA's Earthdata login refused what {strategy} says ({_plain(error)}).") from error
        if login.authenticated and login.token:
            return str(login.token["access_token"])
    raise HubError(
        "NASA's archive wants an Earthdata login: set EARTHDATA_TOKEN (urs.earthdata.nasa.gov, Generate Token), or put "
        "'machine urs.earthdata.nasa.gov login NAME password WORD' into ~/.netrc."
    )


def _plain(error: Exception) -> str:
    return re.sub(r"\s+", " ", str(error)).strip()[:200]
