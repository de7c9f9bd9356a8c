"""Logins, signatures and headers that servers want: a login goes to the hosts it belongs to and to no other one."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import cache
from urllib.parse import urlparse

from prithvi.errors import ConfigError, HubError, first_line, needs
from prithvi.scenes.paths import shown

EARTHDATA = ("earthdatacloud.nasa.gov", "earthdata.nasa.gov")
"""Hosts (with all below them) that want NASA's Earthdata login."""
PLANETARY = ("blob.core.windows.net",)
"""Hosts whose addresses Microsoft's Planetary Computer signs."""

_PART = re.compile(r'(?:"(?:\\.|[^"\\])*(?:"|$)|[^,"])+')
"""What stands between commas, which quotes hold."""
_QUOTED = re.compile(r'"((?:\\.|[^"\\])*)(?:"|$)')
_HEADER = re.compile(r"([\w!#$%&'*+.^`|~-]+)\s*:(.*)", re.ASCII)


def belongs(url: str, hosts: Sequence[str]) -> bool:
    """Whether an https address's host is one of `hosts` or below one; plain http only on this machine."""
    parts = urlparse(url)
    host = parts.hostname or ""
    safe = parts.scheme == "https" or host in ("127.0.0.1", "localhost", "::1")
    return safe and any(host == known or host.endswith(f".{known}") for known in hosts)


def signed(href: str) -> str:
    """An address with the signature that its host wants, if any, for about an hour: sign at opening, never earlier.

    Raises:
        MissingExtraError, HubError: signing needs the extra `search`; the Planetary Computer gives no signature.

    """
    if not belongs(href, PLANETARY) or "sig=" in href:
        return href
    with needs("reading from the Planetary Computer", "search"):
        import planetary_computer
    try:
        return str(planetary_computer.sign(href))
    except OSError as error:  # of requests
        raise HubError(f"the Planetary Computer gives no signature for {shown(href)} ({first_line(error)}).") from error


def headers(url: str, hosts: Sequence[str] = EARTHDATA) -> dict[str, str]:
    """Request headers for one address: the login for the hosts that want it, nothing for any other."""
    return {"Authorization": f"Bearer {token()}"} if belongs(url, hosts) else {}


def said_headers() -> dict[str, str]:
    """Request headers that GDAL_HTTP_HEADERS names: a line each, or between commas, with quotes around what holds some.

    They go to all hosts but those of `headers`. GDAL takes a header after a comma and a space for the end of the one
    before it; here it is one of its own.

    Raises:
        ConfigError: a part of it is no header, or has letters that cannot be sent.

    """
    text, found = os.environ.get("GDAL_HTTP_HEADERS", ""), {}
    # Where lines end like this GDAL takes commas and quotes as they are.
    whole = text.strip().split("\r\n") if "\r\n" in text.strip() else None
    for part in whole or [part for line in text.splitlines() for part in _apart(line)]:
        header = _HEADER.fullmatch(part.strip())
        if header is None or not header[2].isprintable() or max(header[2], default=" ") > "\xff":
            raise ConfigError(
                "GDAL_HTTP_HEADERS holds what cannot be sent as a header: write NAME: VALUE in Latin letters, several "
                "between commas or a line each."
            )
        if header[2].strip():
            found[header[1]] = header[2].strip()
    return found


def _apart(line: str) -> list[str]:
    """Headers between commas; what does not begin with a name and a colon after one is of the value before it."""
    parts: list[str] = []
    for part in _PART.findall(line):
        plain = _QUOTED.sub(lambda quoted: re.sub(r"\\(.)", r"\1", quoted[1]), part)
        if parts and not _HEADER.match(plain.strip()):
            parts[-1] += f",{plain}"
        elif plain.strip():
            parts.append(plain)
    return parts


@cache
def token() -> str:
    """NASA's bearer token: EARTHDATA_TOKEN, or what earthaccess gets for a name and password.

    These stand in EARTHDATA_USERNAME and EARTHDATA_PASSWORD, or in ~/.netrc.

    Raises:
        HubError: there is no login, or it is refused.

    """
    if "EARTHDATA_TOKEN" in os.environ:
        return os.environ["EARTHDATA_TOKEN"]
    with needs("NASA's archive", "search"):
        from earthaccess import Auth
        from earthaccess.exceptions import LoginAttemptFailure, LoginStrategyUnavailable
    for strategy in ("environment", "netrc"):
        try:
            login = Auth().login(strategy=strategy)
        except LoginStrategyUnavailable:
            continue
        except (LoginAttemptFailure, OSError) as error:
            raise HubError(f"NASA's Earthdata login refused what {strategy} says ({first_line(error)}).") from error
        if login.authenticated and login.token:
            return str(login.token["access_token"])
    raise HubError(
        "NASA's archive wants an Earthdata login: set EARTHDATA_TOKEN (urs.earthdata.nasa.gov, Generate Token), or put "
        "'machine urs.earthdata.nasa.gov login NAME password WORD' into ~/.netrc."
    )
