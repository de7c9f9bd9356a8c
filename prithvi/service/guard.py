"""A proxy on this machine through which a worker reaches the network: each connection goes to a checked address.

GDAL resolves names and follows redirects itself. Through a proxy every hop asks here first, also one behind a redirect,
and the connection is made to the very address that was checked, whatever the name means a moment later.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from urllib.parse import urlsplit

from prithvi.service.places import Places, addresses
from prithvi.service.settings import RefusedError

_HEAD = 65_536
_SECONDS = 15
_PORTS = (80, 443)
"""Of public hosts; one that may be private is asked on any."""


class Guard:
    """Runs in a thread of its own until the process ends."""

    def __init__(self, places: Places) -> None:
        self.places = places
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
                raise RefusedError(f"{parts.scheme} addresses are not read.")
            far_reader, far_writer = await self._connect(host, port)
        except RefusedError as refusal:
            self.refused.append(str(refusal))
            await _say(writer, f"HTTP/1.1 403 Forbidden\r\nX-Refused: {host}\r\n")
            return
        except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            await _say(writer, "HTTP/1.1 502 Bad Gateway\r\n")
            return
        if tunnel:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            # One request a connection, so that the next one, to whichever host, is looked at too.
            path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
            kept = [each for each in rest.split(b"\r\n") if not each.lower().startswith((b"proxy-", b"connection:"))]
            far_writer.write(b"\r\n".join([f"{method} {path} {version}".encode(), b"Connection: close", *kept]))
        await asyncio.gather(_pass(reader, far_writer), _pass(far_reader, writer))

    async def _connect(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Raises RefusedError, OSError, TimeoutError."""
        self.places.check_host(host)
        private = self.places.may_be_private(host)
        if not private and port not in _PORTS:
            raise RefusedError(f"{host} is asked on port {port}, and this service asks on 80 and 443.")
        found = await asyncio.to_thread(addresses, host, port, private)
        trouble: OSError = ConnectionError("no address")
        for address in found[:4]:
            try:
                return await asyncio.wait_for(asyncio.open_connection(address, port), _SECONDS)
            except OSError as error:
                trouble = error
        raise trouble


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Bytes from one to the other until either ends."""
    try:
        while data := await reader.read(_HEAD):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def _say(writer: asyncio.StreamWriter, head: str) -> None:
    try:
        writer.write(f"{head}Content-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()
