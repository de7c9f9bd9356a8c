"""A folder over HTTP on this machine, with ranges, bearer tokens and connections that break off."""

from __future__ import annotations

import hashlib
import http.server
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urlparse

import pytest

from prithvi.scenes import logins


@dataclass
class Served:
    """What the server does and saw."""

    url: str
    root: Path
    token: str | None = None
    signature: str | None = None
    """What `sig=` has to be in an address, as long as this holds it."""
    cut_after: int | None = None
    """Bytes after which each file's first answer breaks off."""
    failures: int = 0
    """How many requests more are answered with `status`."""
    status: int = 503
    drops: int = 0
    """How many connections more are closed without an answer."""
    broken: str = ""
    """Of files whose path holds this every request is answered with `status`."""
    delay: float = 0.0
    """Seconds before each answer."""
    now: int = 0
    """Requests that wait for their answer, and the most that did at one time."""
    most: int = 0
    ranges: bool = True
    """Whether parts of files are sent."""
    sent: int = 0
    """Bytes of files sent."""
    redirect: str | None = None
    """Where every request is sent on to, if anywhere."""
    moved: dict[str, str] = field(default_factory=dict)
    """Old path to the new one, where requests are sent on to on this host."""
    requests: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    """(path, Range, Authorization) of each GET."""
    cut: set[str] = field(default_factory=set)
    counting: threading.Lock = field(default_factory=threading.Lock)


def signed_by(monkeypatch: pytest.MonkeyPatch, server: Served) -> None:
    """Addresses on this machine are signed as the Planetary Computer's are: with what the server wants at that time."""
    monkeypatch.setattr(logins, "PLANETARY", ("127.0.0.1",))
    signer = SimpleNamespace(sign=lambda href: f"{href}?sig={server.signature}")
    monkeypatch.setitem(sys.modules, "planetary_computer", signer)


@contextmanager
def serving(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    """A server on this machine, and its address, until the context ends."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@contextmanager
def serve_folder(root: Path, **options: object) -> Iterator[Served]:
    """Serves a folder until the context ends."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            served.requests.append((self.path, self.headers.get("Range"), self.headers.get("Authorization")))
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            with served.counting:
                dropped, failing = served.drops > 0, served.failures > 0
                served.drops -= dropped
                served.failures -= failing and not dropped
                failing |= bool(served.broken) and served.broken in self.path
                served.now += 1
                served.most = max(served.most, served.now)
            time.sleep(served.delay)
            with served.counting:
                served.now -= 1
            if dropped:
                self.close_connection = True
                return
            if failing:
                self._plain(served.status, {})
                return
            if served.redirect is not None:
                self._plain(302, {"Location": served.redirect + self.path})
                return
            if self.path in served.moved:
                self._plain(301, {"Location": served.moved[self.path]})
                return
            if served.token is not None and self.headers.get("Authorization") != f"Bearer {served.token}":
                self._plain(401, {})
                return
            if served.signature is not None and f"sig={served.signature}" not in self.path.partition("?")[2].split("&"):
                self._plain(403, {})
                return
            file = served.root / unquote(urlparse(self.path).path).lstrip("/")
            if not file.is_file():
                self._plain(404, {})
                return
            data = file.read_bytes()
            etag = f'"{hashlib.md5(data).hexdigest()}"'
            headers = {"Accept-Ranges": "bytes", "ETag": etag} if served.ranges else {"ETag": etag}
            wanted = self.headers.get("Range")
            status = 200
            if served.ranges and wanted is not None and self.headers.get("If-Range", etag) == etag:
                first, _, last = wanted.removeprefix("bytes=").partition("-")
                begin, end = int(first), min(int(last or len(data) - 1), len(data) - 1)
                if begin >= len(data):
                    self._plain(416, {"Content-Range": f"bytes */{len(data)}"})
                    return
                headers["Content-Range"] = f"bytes {begin}-{end}/{len(data)}"
                status, data = 206, data[begin : end + 1]
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            if not body:
                return
            if served.cut_after is not None and self.path not in served.cut and len(data) > served.cut_after:
                served.cut.add(self.path)
                self.wfile.write(data[: served.cut_after])
                self.wfile.flush()
                self.close_connection = True
                self.connection.close()
                return
            with served.counting:
                served.sent += len(data)
            try:
                self.wfile.write(data)
            except OSError:  # the client had enough
                self.close_connection = True

        def _plain(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": "0"}.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with serving(Handler) as url:
        served = Served(url, root, **options)  # type: ignore[arg-type]
        yield served
