"""Rasters on servers: asked again where a connection breaks, in whichever thread.

GDAL repeats single requests that a server refuses for the moment. It gives up on connections that break, and remembers
for good what failed; so a file is opened anew here, under another name for the same address, with the same options
each time.
"""

from __future__ import annotations

import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar
from urllib.parse import urlparse

import rasterio
from rasterio.errors import RasterioError

from prithvi.errors import SceneError
from prithvi.scenes.access import gdal_environment, headers, signed
from prithvi.scenes.hdf4 import Hdf4Raster, is_hdf4

_TRIES = 3
_PATIENCE = 10.0
"""Seconds after which no further try begins."""
_SERVERS = re.compile(r"^(https?|s3|gs|az|adl|oss|swift|ftp)://|^/vsi(curl|s3|gs|az|adls|oss|swift)", re.IGNORECASE)
_failures: dict[str, int] = {}
"""Address to how often it failed: each time it gets a name that GDAL has no memory of."""
Answer = TypeVar("Answer")


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


def ask(path: str, question: Callable[[rasterio.DatasetReader], Answer], kept: Kept | None = None) -> Answer:
    """What an open raster answers.

    Args:
        path: a local file or an address.
        question: is put to the open raster, and maybe again to another one after a failure.
        kept: where open rasters come from and stay; None opens and closes one.

    Raises:
        SceneError: a file on a server cannot be opened or read.
        RasterioError: a local one cannot.

    """
    if not is_remote(path):
        old = kept.take(path) if kept is not None else None
        if old is None:
            old = Hdf4Raster(path) if is_hdf4(path) else rasterio.open(path)
        return _answer(old, path, question, kept)
    opened = False
    for _ in _tries():
        try:
            # The raster that a thread has open is asked first; should that fail, it is opened anew and asked again.
            # The options hold in this thread. None of another thread's headers may reach this server.
            options = {"GDAL_HTTP_HEADERS": os.environ.get("GDAL_HTTP_HEADERS", ""), **gdal_environment([path])}
            with rasterio.Env(**options):
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
            with urllib.request.urlopen(_request(address), timeout=10) as answer:
                return str(answer.read(limit).decode("utf-8"))
        except urllib.error.HTTPError as error:
            error.close()
            trouble: Exception = error
            said = f"HTTP response code: {error.code}"
        except (OSError, http.client.HTTPException) as error:
            trouble, said = error, f"CURL error: {_reason(error)}"
        except UnicodeDecodeError as error:
            raise SceneError(f"{shown(address)} is no text.") from error
        if _for_good(said):
            break
    raise SceneError(_sentence(address, said, opened=False)) from trouble


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
    number = _failures.get(path, 0)
    return f"/vsicurl/{signed(path)}" + (f"#{number}" if number else "")


def _chain(error: BaseException | None) -> str:
    texts = []
    while error is not None:
        texts.append(str(error))
        error = error.__cause__ or error.__context__
    return " / ".join(texts)


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
        probed = _probe(path)
        status, curl = _status(probed), re.search(r"CURL error: (.*)", probed)
    if status in (401, 403):
        return f"{host} refuses {where} (status {status}): a login or signature is missing or has ended."
    if status in (404, 410):
        return f"{host} has no {where} (status {status}): check the address."
    if status is not None and status >= 400:
        return (
            f"{where} could not be {'read' if opened else 'opened'}: {host} answers with status {status}, also when "
            "asked again; try later."
        )
    if curl is not None:
        return (
            f"{where} could not be {'read' if opened else 'opened'}: {host} does not answer or breaks off "
            f"({curl[1].strip().rstrip('.')}), also when asked again; check the address and the network, or try later."
        )
    if opened:
        return f"{where} is damaged or cut short: it opens, but pixels cannot be read."
    return f"{where} cannot be opened as a raster: it is damaged or of no known format."


def _probe(address: str) -> str:
    """What a server says to a request for one byte, in GDAL's words."""
    try:
        request = _request(address)
        request.add_header("Range", "bytes=0-0")
        with urllib.request.urlopen(request, timeout=5) as answer:
            answer.read(1)
    except urllib.error.HTTPError as error:
        error.close()
        return f"HTTP response code: {error.code}"
    except (OSError, http.client.HTTPException) as error:
        return f"CURL error: {_reason(error)}"
    return ""


def _request(address: str) -> urllib.request.Request:
    request = urllib.request.Request(signed(address))
    for name, value in headers(address).items():
        request.add_unredirected_header(name, value)  # a login stays with its host
    return request


def _reason(error: Exception) -> str:
    inner = getattr(error, "reason", error)
    return re.sub(r"\s+", " ", str(inner)).strip()[:200] or type(error).__name__
