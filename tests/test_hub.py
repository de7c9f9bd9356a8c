"""Weights from the hub, against a local server that answers as the hub does."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from prithvi.models import build

REPOSITORY = "ibm-nasa-geospatial/Prithvi-EO-2.0-tiny-TL"
COMMIT = "a" * 40


class Hub(http.server.BaseHTTPRequestHandler):
    """The part of the hub's protocol that hf_hub_download speaks: HEAD and GET of /REPO/resolve/REVISION/FILE."""

    files: dict[str, bytes]

    def _answer(self, body: bool) -> None:
        if self.path.startswith("/private/"):
            return self._error(401, "RepoNotFound")
        repository, _, rest = self.path.lstrip("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        if repository != REPOSITORY:
            return self._error(404, "RepoNotFound")
        if revision not in ("main", COMMIT):
            return self._error(404, "RevisionNotFound")
        if name not in self.files:
            return self._error(404, "EntryNotFound")
        content = self.files[name]
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def _error(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    torch.manual_seed(4)
    buffer = io.BytesIO()
    torch.save(build("prithvi_eo_v2_tiny_tl").state_dict(), buffer)
    Hub.files = {"Prithvi_EO_V2_tiny_TL.pt": buffer.getvalue()}
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def load(source: str, endpoint: str, cache: Path, **environment: str) -> dict[str, str]:
    """`prithvi.load` in a process of its own, where the hub's settings are read."""
    code = """
import json, sys, prithvi
try:
    model = prithvi.load(sys.argv[1])
    print(json.dumps({"sum": f"{float(model.encoder.cls_token.sum().detach()):.6f}"}))
except prithvi.PrithviError as error:
    print(json.dumps({"error": f"{type(error).__name__}: {error}"}))
"""
    settings = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1", **environment}
    settings.pop("HF_TOKEN", None)
    done = subprocess.run(
        [sys.executable, "-c", code, source], env=settings, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_a_name_and_a_hub_id_load_the_published_file_and_then_offline(endpoint: str, tmp_path: Path) -> None:
    torch.manual_seed(4)
    expected = f"{float(build('prithvi_eo_v2_tiny_tl').encoder.cls_token.sum().detach()):.6f}"
    assert load("prithvi_eo_v2_tiny_tl", endpoint, tmp_path)["sum"] == expected
    assert load(REPOSITORY, endpoint, tmp_path, HF_HUB_OFFLINE="1")["sum"] == expected


def test_what_the_hub_lacks_is_one_sentence(endpoint: str, tmp_path: Path) -> None:
    assert "the hub has no nobody/nothing, or it is private" in load("nobody/nothing", endpoint, tmp_path)["error"]
    assert "the hub has no private/model, or it is private" in load("private/model", endpoint, tmp_path)["error"]
    renamed = load("prithvi_eo_v2_300", endpoint, tmp_path)["error"]
    assert "the hub has no ibm-nasa-geospatial/Prithvi-EO-2.0-300M" in renamed
    offline = load("prithvi_eo_v2_300", endpoint, tmp_path, HF_HUB_OFFLINE="1")["error"]
    assert "Prithvi_EO_V2_300M.pt of ibm-nasa-geospatial/Prithvi-EO-2.0-300M is not in the local cache" in offline
    unreachable = load("prithvi_eo_v2_300", "http://127.0.0.1:9", tmp_path)["error"]
    assert "not in the local cache and the hub cannot be reached" in unreachable
