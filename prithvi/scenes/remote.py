"""Rasters on servers: asked by the guard, and again where a connection breaks, in whichever thread.

GDAL repeats single requests that a server refuses for the moment. It gives up on connections that break, and remembers
for good what failed; so a file is opened anew here, under another name for the same address, with the same options each
time.
"""

from __future__ import annotations

import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar
from urllib.parse import urlparse

import rasterio
from rasterio.errors import RasterioError

from prithvi import guard
from prithvi.errors import HubError, SceneError, first_line
from prithvi.scenes.hdf4 import Hdf4Raster, is_hdf4
from prithvi.scenes.logins import EARTHDATA, belongs, headers, said_headers, signed, token
from prithvi.scenes.paths import is_http, is_remote, local_path, shown

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
_NAMING_OTHERS = ("VRT", "GTI", "STACTA", "STACIT", "WMS")
"""Formats of GDAL whose files name other files and addresses."""
_TRIES, _PATIENCE = 3, 10.0
"""Tries, and seconds after which no further one begins."""
_failures: dict[str, int] = {}
"""Address to how often it failed: each time it gets a name that GDAL has no memory of."""
Answer = TypeVar("Answer")


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
    by = guard.way(remote) if all(is_http(href) for href in remote) else None
    if by is not None:
        options["GDAL_HTTP_PROXY"] = by
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
            with rasterio.Env(**{"GDAL_HTTP_HEADERS": _lines(said_headers()), **own}):
                old = kept.take(path) if kept is not None else None
                if old is not None:
                    opened = True
                    try:
                        return _answer(old, path, question, kept)
                    except RasterioError:  # its signature may have ended: a new one counts as the first
                        _failures[path] = _failures.get(path, 0) + 1
                raster = rasterio.open(_name(path))
                opened = True
                if raster.driver in _NAMING_OTHERS and not path.partition("?")[0].lower().endswith(".vrt"):
                    raster.close()
                    raise SceneError(f"{shown(path)} names further files, which its name does not say: it is not read.")
                return _answer(raster, path, question, kept)
        except RasterioError as error:
            _failures[path] = _failures.get(path, 0) + 1
            trouble, said = error, _chain(error)
        if _for_good(said):
            break
    raise SceneError(_sentence(path, said, opened)) from trouble


def _lines(fields: Mapping[str, str]) -> str:
    """Request headers as GDAL takes each as it is: where a line ends, commas and quotes are of the values."""
    return "".join(f"{name}: {value}\r\n" for name, value in fields.items())


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
    if not is_http(path):
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
    # The same where the guard may have refused, who gives the reason to this.
    status, curl = _status(said), re.search(r"CURL error: ([^/]+(?:/[^/ ]+)*)", said)
    silent = status is None and curl is None
    if is_http(path) and (silent or status == 403 or "CONNECT" in said):
        try:
            _first_bytes(path, 1, 5, Range="bytes=0-0")
        except ConnectionError as error:
            if refused := guard.reason_in(str(error)):
                return f"{where} is not read, as it leads elsewhere: {refused}"
            if silent:
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


class _SameHost(urllib.request.HTTPRedirectHandler):
    """Takes a login along where a redirect stays with its host, and leaves it behind where not."""

    def redirect_request(self, req: urllib.request.Request, *answer: Any) -> urllib.request.Request | None:
        request = super().redirect_request(req, *answer)
        if request is not None and urlparse(request.full_url)[:2] == urlparse(req.full_url)[:2]:
            for name, value in req.unredirected_hdrs.items():
                request.add_unredirected_header(name, value)
        return request


def _first_bytes(address: str, limit: int, timeout: float = 10, **fields: str) -> bytes:
    """What a server sends first, asked with these header fields.

    Raises:
        ConnectionError: it sends nothing, and why in GDAL's words.
        HubError: it wants a login.

    """
    request = urllib.request.Request(signed(address), headers=fields)
    by = guard.way([address])
    proxy = [urllib.request.ProxyHandler({"http": by, "https": by})] if by else []
    asked = urllib.request.build_opener(_SameHost, *proxy)
    for name, value in (headers(address) or said_headers()).items():
        request.add_unredirected_header(name, value)  # a login stays with its host
    try:
        with asked.open(request, timeout=timeout) as answer:
            return bytes(answer.read(limit))
    except urllib.error.HTTPError as error:
        error.close()
        raise ConnectionError(f"HTTP response code: {error.code} ({error.reason})") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise ConnectionError(f"CURL error: {guard.reason_in(str(reason)) or first_line(reason)}") from error
