"""A service in a process of its own, asked over HTTP."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Reply:
    """What was answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Service:
    """`prithvi serve` with these words; `start` may be called again after `kill`."""

    folder: Path
    words: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> Service:
        command = [sys.executable, "-m", "prithvi", "serve", *self.words, "--port", str(self.port)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=log, env={**os.environ, **self.environment}
            )
        for _ in range(240):
            if self.process.poll() is not None:
                break
            try:
                self.get("/health")
            except OSError:
                time.sleep(0.25)
            else:
                return self
        raise AssertionError((self.folder / "log").read_text())

    def kill(self, how: int = signal.SIGKILL) -> None:
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait(30)

    def ask(self, method: str, path: str, plain: Any = None, **headers: str) -> Reply:
        data = plain if isinstance(plain, bytes) or plain is None else json.dumps(plain).encode()
        told = {"Content-Type": "application/json", "Accept": "application/json"}
        told |= {name.replace("_", "-"): value for name, value in headers.items()}
        address = path if path.startswith("http") else self.url + path
        asked = urllib.request.Request(address, data, told, method=method)
        try:
            with urllib.request.urlopen(asked, timeout=120) as answer:
                return Reply(answer.status, dict(answer.headers), answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.code, dict(error.headers), error.read())

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask("GET", path, **headers)

    def execute(self, process: str, inputs: Any, later: bool = False, **more: Any) -> Reply:
        prefer = {"Prefer": "respond-async"} if later else {}
        return self.ask("POST", f"/processes/{process}/execution", {"inputs": inputs, **more}, **prefer)

    def ended(self, job: str, seconds: float = 120) -> dict[str, Any]:
        """The status of a job once it has ended."""
        until = time.monotonic() + seconds
        while True:
            status: dict[str, Any] = self.get(f"/jobs/{job}?f=json").json
            if status["status"] not in ("accepted", "running"):
                return status
            assert time.monotonic() < until, status
            time.sleep(0.1)
