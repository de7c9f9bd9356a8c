"""A folder over HTTP with ranges, each answer some milliseconds late, in a process of its own.

    python benchmarks/slow_server.py FOLDER --delay 0.05

prints its port. GET /__count answers with what was asked since the last time: requests, bytes of files sent, and the
most requests that were being answered at once. The delay is that of an answer's first byte: the line itself is as fast
as the machine, so what is measured is waiting and not bandwidth.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import unquote

COUNT = "/__count"


@dataclass
class Count:
    """What was asked since somebody looked."""

    requests: int = 0
    sent: int = 0
    """Bytes of files."""
    at_once: int = 0
    """Most requests in flight at one time."""


class Server:
    """Answers GET and HEAD of files, whole or one range."""

    def __init__(self, root: Path, delay: float) -> None:
        self.root, self.delay, self.count, self.now = root, delay, Count(), 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, request after request."""
        try:
            while request := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = request.decode("latin-1").split("\r\n")
                method, target, _ = first.split(" ")
                fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                if target == COUNT:
                    answer = json.dumps(asdict(self.count)).encode()
                    self.count = Count(at_once=self.now)
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)
                else:
                    self.count.requests += 1
                    self.now += 1
                    self.count.at_once = max(self.count.at_once, self.now)
                    await asyncio.sleep(self.delay)
                    self.now -= 1
                    self._answer(writer, method, target, fields.get("range"))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _answer(self, writer: asyncio.StreamWriter, method: str, target: str, wanted: str | None) -> None:
        file = self.root / unquote(target.partition("?")[0]).lstrip("/")
        if not file.is_file():
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        size, begin, status, more = file.stat().st_size, 0, "200 OK", ""
        end = size
        if wanted is not None:
            low, _, high = wanted.removeprefix("bytes=").partition("-")
            begin, end = int(low), min(int(high) + 1 if high else size, size)
            status, more = "206 Partial Content", f"Content-Range: bytes {begin}-{end - 1}/{size}\r\n"
        length = end - begin
        head = f'HTTP/1.1 {status}\r\nAccept-Ranges: bytes\r\nETag: "{size}"\r\n{more}Content-Length: {length}\r\n\r\n'
        writer.write(head.encode())
        if method == "GET":
            with file.open("rb") as stream:
                stream.seek(begin)
                writer.write(stream.read(length))
            self.count.sent += length


async def _run(root: Path, delay: float) -> None:
    server = await asyncio.start_server(Server(root, delay).serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def slow_server(root: Path, delay: float = 0.05) -> Iterator[str]:
    """The address of a server of a folder, until the context ends."""
    command = [sys.executable, __file__, str(root), "--delay", str(delay)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def count_of(address: str) -> Count:
    """What a server was asked since the last time; counting begins anew."""
    with urllib.request.urlopen(address + COUNT) as answer:
        return Count(**json.load(answer))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--delay", type=float, default=0.05)
    given = parser.parse_args()
    asyncio.run(_run(given.folder, given.delay))
