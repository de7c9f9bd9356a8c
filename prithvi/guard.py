"""A proxy on this machine through which addresses are asked: each connection goes to a checked address.

GDAL resolves names and follows redirects itself. Through a proxy every hop asks here first, also one behind a redirect,
and the connection is made to the very address that was checked, whatever the name means a moment later.
"""

from __future__ import annotations

import asyncio
import os
import re
import threading
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from urllib.parse import urlsplit

from prithvi.errors import AddressError, PrithviError
from prithvi.hosts import ALLOW, addresses, allowed_private, are_public, matches

_HEAD = 65_536
_SECONDS = 15
_SECONDS_EACH = 2
"""For an address of a host that has further ones."""
_public: dict[str, bool] = {}
"""Whether a host's addresses were public when it was first asked: what was must stay so, while this process runs."""
_deciding = threading.Lock()


def way(urls: Iterable[str]) -> str | None:
    """The address of the proxy through which these http addresses are asked; None where it is asked without.

    No redirect leads to a private address then, but of a host among these which has one itself, or one that the user
    allowed. Without are names that have no address, so that whoever asks says so, and what the environment has another
    proxy for, whose rules hold instead.
    """
    private = set()
    proxies = urllib.request.getproxies_environment()
    for parts in map(urlsplit, urls):
        host = parts.hostname or ""
        if parts.scheme in proxies or "all" in proxies or "GDAL_HTTP_PROXY" in os.environ:
            return None
        try:
            if not is_public(host):
                private.add(host)
        except AddressError:
            return None
    return f"http://127.0.0.1:{_guard(frozenset(private)).port}"


def is_public(host: str) -> bool:
    """Whether a host has public addresses alone; what it was when it was first asked counts.

    Raises:
        AddressError: it has no address.

    """
    with _deciding:
        if host not in _public:
            _public[host] = are_public(addresses(host, 443))
        return _public[host]


@cache
def _guard(private: frozenset[str]) -> Guard:
    return Guard(partial(_reach, private))


def _reach(private: frozenset[str], host: str, port: int) -> list[str]:
    found = addresses(host, port)
    if not are_public(found) and not matches(host, (*private, *allowed_private())):
        raise AddressError(refusal(host))
    return found


def refusal(host: str) -> str:
    """Why a host is not asked to which a catalog or a redirect points."""
    return (
        f"{host} has an address of this machine or network, to which neither a catalog of another host nor a redirect "
        f"may point: if it should, prithvi --allow-private {host} ..., or {ALLOW}={host} in the environment."
    )


def reason_in(text: str) -> str:
    """The sentence of `refusal` that stands in the text of an error; empty without one."""
    found = re.search(rf"[^\s(]+ has an address of this machine or network, .*{ALLOW}=\S+ in the environment\.", text)
    return found[0] if found else ""


class Guard:
    """Runs in a thread of its own until the process ends.

    Args:
        reach: gives the addresses at which a host and port may be asked; it raises PrithviError where they may not, and
            AddressError where there is none.

    """

    def __init__(self, reach: Callable[[str, int], list[str]]) -> None:
        self.reach = reach
        self.refused: list[str] = []
        """Sentences of refusals since they were last taken."""
        self._ready, self.port = threading.Event(), 0
        threading.Thread(target=lambda: asyncio.run(self._serve()), name="guard", daemon=True).start()
        self._ready.wait()

    def environment(self) -> Mapping[str, str]:
        """Variables by which GDAL, urllib and requests ask the guard."""
        names = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "GDAL_HTTP_PROXY")
        return {**dict.fromkeys(names, f"http://127.0.0.1:{self.port}"), "no_proxy": "", "NO_PROXY": ""}

    def taken(self) -> list[str]:
        """The refusals so far, which are then forgotten."""
        found, self.refused = self.refused, []
        return found

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0, limit=_HEAD)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        async with server:
            await server.serve_forever()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _SECONDS)
            line, _, rest = head.partition(b"\r\n")
            method, target, version = line.decode("ascii").split(" ")
            tunnel = method == "CONNECT"
            parts = urlsplit(f"//{target}" if tunnel else target)
            host, port = parts.hostname or "", parts.port or 80
            if not tunnel and parts.scheme != "http":
                raise AddressError(f"{parts.scheme} addresses are not read.")
            far_reader, far_writer = await self._connect(host, port)
        except PrithviError as refused:
            self.refused = [*self.refused[-99:], str(refused)]
            await _refuse(writer, str(refused).encode("ascii", "replace"))
            return
        except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            writer.close()  # as the server would have
            return
        if tunnel:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
            far_writer.write(_for_once(f"{method} {path} {version}".encode(), rest))
        await asyncio.gather(_pass(reader, far_writer), _pass(far_reader, writer, whole=tunnel))

    async def _connect(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Raises PrithviError, OSError, TimeoutError."""
        found = (await asyncio.to_thread(self.reach, host, port))[:4]
        trouble: OSError = ConnectionError("no address")
        for address in found:
            try:
                seconds = _SECONDS if address == found[-1] else _SECONDS_EACH
                return await asyncio.wait_for(asyncio.open_connection(address, port, limit=_HEAD), seconds)
            except OSError as error:
                trouble = error
        raise trouble


def _for_once(line: bytes, fields: bytes) -> bytes:
    """The head of a request or an answer, changed so that its connection ends with it.

    So that the next request, to whichever host, is looked at too. Not every server says that it closes, and a client
    that is not told sends its next request into a connection that is about to end.
    """
    kept = [
        each for each in fields.split(b"\r\n")
        if not each.lower().startswith((b"proxy-", b"connection:", b"keep-alive:"))
    ]  # fmt: skip
    return b"\r\n".join([line, b"Connection: close", *kept])


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, whole: bool = True) -> None:
    """Bytes from one to the other until either ends; of an answer (not `whole`) with its head changed."""
    try:
        if not whole:
            line, _, fields = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")
            writer.write(_for_once(line, fields))
        while data := await reader.read(_HEAD):
            writer.write(data)
            await writer.drain()
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass
    finally:
        writer.close()


async def _refuse(writer: asyncio.StreamWriter, sentence: bytes) -> None:
    """Answers with the sentence as the reason and as the text: clients tell the one or the other, and GDAL neither."""
    head = b"HTTP/1.1 403 %b\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
    try:
        writer.write(head % (sentence, len(sentence), sentence))
        await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()
