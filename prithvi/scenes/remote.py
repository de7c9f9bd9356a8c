"""Rasters on servers: logins, signatures, and asking again where a connection breaks, in whichever thread.

Secrets go to the hosts they belong to and to no other one. GDAL repeats single requests that a server refuses for the
moment. It gives up on connections that break, and remembers for good what failed; so a file is opened anew here, under
another name for the same address, with the same options each time.
"""

from __future__ import annotations

import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import unquote, urlparse

import rasterio
from rasterio.errors import RasterioError

from prithvi.errors import HubError, SceneError, first_line, needs
from prithvi.scenes.hdf4 import Hdf4Raster, is_hdf4

EARTHDATA = ("earthdatacloud.nasa.gov", "earthdata.nasa.gov")
"""Hosts (with all below them) that want NASA's Earthdata login."""
PLANETARY = ("blob.core.windows.net",)
"""Hosts whose addresses Microsoft's Planetary Computer signs."""
_GDAL = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    # Headers of large files with small blocks are longer than the 16 kB that GDAL asks for first.
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
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
DAMAGED = "is damaged or cut short: it opens, but pixels cannot be read."
"""End of the sentence about a file that opens and cannot be read."""
_TRIES, _PATIENCE = 3, 10.0
"""Tries, and seconds after which no further one begins."""
_SERVERS = re.compile(r"^(https?|s3|gs|az|adl|oss|swift|ftp)://|^/vsi(curl|s3|gs|az|adls|oss|swift)", re.IGNORECASE)
_failures: dict[str, int] = {}
"""Address to how often it failed: each time it gets a name that GDAL has no memory of."""
Answer = TypeVar("Answer")


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
    """An asset's address as `ask` takes it: local paths plain, addresses of servers not signed yet."""
    path = local_path(href)
    return href if path is None else str(path)


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
    others = [href for href in remote if not belongs(href, hosts)]
    if len(others) < len(remote):
        if others:
            other = urlparse(others[0]).hostname
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


def is_remote(path: str) -> bool:
    """Whether GDAL reads a path from a server."""
    return _SERVERS.match(path) is not None


def shown(path: str) -> str:
    """An address as messages and files may hold it: without what stands behind a question mark, such as signatures."""
    if not is_remote(path):
        return path
    return re.sub(r"(?<=://)[^/@]*@", "", path.partition("?")[0])


class Kept(Protocol):
    """Rasters that stay open between questions."""

    def take(self, path: str) -> rasterio.DatasetReader | None:
        """Gives one away, if there is one."""

    def keep(self, path: str, raster: rasterio.DatasetReader) -> None:
        """Takes one back."""


def ask(
    path: str,
    question: Callable[[rasterio.DatasetReader], Answer],
    kept: Kept | None = None,
    options: Mapping[str, str] | None = None,
) -> Answer:
    """What an open raster answers.

    Args:
        path: a local file or an address; it is signed here, where its host wants that.
        question: is put to the open raster, and maybe again to another one after a failure.
        kept: where open rasters come from and stay; None opens and closes one.
        options: of GDAL for a server; None takes those of `gdal_environment`.

    Raises:
        SceneError: a file on a server cannot be opened or read.
        RasterioError: a local one cannot.

    """
    if not is_remote(path):
        old = kept.take(path) if kept is not None else None
        if old is None:
            hdf4 = path.lower().endswith(".hdf") and is_hdf4(path)
            old = Hdf4Raster(path) if hdf4 else rasterio.open(path)
        return _answer(old, path, question, kept)
    opened = False
    for _ in _tries():
        try:
            # The raster that a thread has open is asked first; should that fail, it is opened anew and asked again.
            # The options hold in this thread. None of another thread's headers may reach this server.
            own = gdal_environment([path]) if options is None else options
            with rasterio.Env(**{"GDAL_HTTP_HEADERS": os.environ.get("GDAL_HTTP_HEADERS", ""), **own}):
                old = kept.take(path) if kept is not None else None
                if old is not None:
                    opened = True
                    try:
                        return _answer(old, path, question, kept)
                    except RasterioError:  # its signature may have ended: a new one counts as the first
                        _failures[path] = _failures.get(path, 0) + 1
                raster = rasterio.open(_name(path))
                opened = True
                return _answer(raster, path, question, kept)
        except RasterioError as error:
            _failures[path] = _failures.get(path, 0) + 1
            trouble, said = error, _chain(error)
        if _for_good(said):
            break
    raise SceneError(_sentence(path, said, opened)) from trouble


def _answer(
    raster: rasterio.DatasetReader, path: str, question: Callable[[rasterio.DatasetReader], Answer], kept: Kept | None
) -> Answer:
    """What a raster answers; it is closed if it fails or nobody keeps it."""
    try:
        answer = question(raster)
    except BaseException:
        raster.close()
        raise
    if kept is None:
        raster.close()
    else:
        kept.keep(path, raster)
    return answer


def fetch_text(address: str, limit: int = 64_000_000) -> str:
    """A text file from a server.

    Raises:
        SceneError: it cannot be fetched.

    """
    for _ in _tries():
        try:
            return _first_bytes(address, limit).decode("utf-8")
        except UnicodeDecodeError as error:
            raise SceneError(f"{shown(address)} is no text.") from error
        except ConnectionError as error:
            trouble = error
        if _for_good(str(trouble)):
            break
    raise SceneError(_sentence(address, str(trouble), opened=False)) from trouble


def _tries() -> Iterator[int]:
    """Numbers of the tries, each after a longer pause; none begins once patience has ended."""
    begun = time.monotonic()
    for number in range(_TRIES):
        if time.monotonic() - begun <= _PATIENCE:
            time.sleep(0.5 * number)
            yield number


def _name(path: str) -> str:
    """The address as GDAL opens it, signed where it has to be; a fragment is sent to no server, and renames it."""
    if not path.lower().startswith(("http://", "https://")):
        return path
    return f"/vsicurl/{signed(path)}" + (f"#{_failures[path]}" if path in _failures else "")


def _chain(error: BaseException | None) -> str:
    return "" if error is None else f"{error} / {_chain(error.__cause__ or error.__context__)}"


def _status(said: str) -> int | None:
    found = re.search(r"HTTP response code:? ?(?:on [^:]*: )?(\d{3})", said)
    return int(found[1]) if found else None


def _for_good(said: str) -> bool:
    """Whether asking again is of no use."""
    status = _status(said)
    return (
        (status is not None and 400 <= status < 500 and status not in (408, 429))
        or "Range downloading not supported" in said
        or "Could not resolve host" in said
    )


def _sentence(path: str, said: str, opened: bool) -> str:
    where, host = shown(path), urlparse(path).netloc.rpartition("@")[2]
    if "Range downloading not supported" in said:
        return f"{where} can only be had as a whole, as {host} sends no parts of files: download it and open the copy."
    # GDAL's words hold the server's status or curl's reason, unless another thread's failure is remembered: then one
    # byte is asked for to learn them.
    status, curl = _status(said), re.search(r"CURL error: ([^/]+(?:/[^/ ]+)*)", said)
    if status is None and curl is None and path.lower().startswith(("http://", "https://")):
        try:
            _first_bytes(path, 1, 5, Range="bytes=0-0")
        except ConnectionError as error:
            status, curl = _status(str(error)), re.search(r"CURL error: (.*)", str(error))
    if status in (401, 403):
        return f"{host} refuses {where} (status {status}): a login or signature is missing or has ended."
    if status in (404, 410):
        return f"{host} has no {where} (status {status}): check the address."
    failed = f"{where} could not be {'read' if opened else 'opened'}: {host}"
    if status is not None and status >= 400:
        return f"{failed} answers with status {status}, also when asked again; try later."
    if curl is not None:
        return (
            f"{failed} does not answer or breaks off ({curl[1].strip().rstrip('.')}), also when asked again; check the "
            "address and the network, or try later."
        )
    if opened:
        return f"{where} {DAMAGED}"
    return f"{where} cannot be opened as a raster: it is damaged or of no known format."


def _first_bytes(address: str, limit: int, timeout: float = 10, **fields: str) -> bytes:
    """What a server sends first, asked with these header fields.

    Raises:
        ConnectionError: it sends nothing, and why in GDAL's words.
        HubError: it wants a login.

    """
    request = urllib.request.Request(signed(address), headers=fields)
    for name, value in headers(address).items():
        request.add_unredirected_header(name, value)  # a login stays with its host
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return bytes(answer.read(limit))
    except urllib.error.HTTPError as error:
        error.close()
        raise ConnectionError(f"HTTP response code: {error.code}") from error
    except (OSError, http.client.HTTPException) as error:
        raise ConnectionError(f"CURL error: {first_line(getattr(error, 'reason', error))}") from error
