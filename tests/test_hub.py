"""Weights from the hub, against a local server that answers as the hub does."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from prithvi.catalog.stac import collection
from prithvi.models import build

REPOSITORY = "ibm-nasa-geospatial/Prithvi-EO-2.0-tiny-TL"
COMMIT = "a" * 40
BURN_SCARS = collection("hls_burn_scars")["prithvi:hub"]


class Hub(http.server.BaseHTTPRequestHandler):
    """The part of the hub's protocol that hf_hub_download speaks: HEAD and GET of /REPO/resolve/REVISION/FILE."""

    files: dict[str, bytes]
    datasets: dict[str, bytes]
    """Of the repository of burn scars, by name."""
    asked: list[str]

    def _answer(self, body: bool) -> None:
        if self.path.startswith("/private/"):
            return self._error(401, "RepoNotFound")
        repository, _, rest = self.path.lstrip("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        self.asked.append(name)
        files = {REPOSITORY: self.files, f"datasets/{BURN_SCARS['repo_id']}": self.datasets}.get(repository)
        if files is None:
            return self._error(404, "RepoNotFound")
        if revision not in ("main", COMMIT, BURN_SCARS["revision"]):
            return self._error(404, "RevisionNotFound")
        if name not in files:
            return self._error(404, "EntryNotFound")
        content = files[name]
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
    Hub.datasets, Hub.asked = {}, []
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


def archive(names: list[str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = len(name)
            tar.addfile(entry, io.BytesIO(name.encode()))
    return buffer.getvalue()


def test_a_dataset_is_fetched_verified_and_unpacked_once(endpoint: str, tmp_path: Path) -> None:
    def get(*arguments: object, sha256: str | None = None) -> subprocess.CompletedProcess[str]:
        code = """
import sys
from prithvi.catalog import fetching
from prithvi.cli import main
sum, sys.argv = sys.argv[1], ["prithvi", "data", "get", *sys.argv[2:]]
plain = fetching.collection
def known(name):  # the true archive's checksum is not that of this test's
    entry = plain(name)
    if sum != "-" and entry.get("prithvi:hub"):
        entry = {**entry, "prithvi:hub": {**entry["prithvi:hub"], "sha256": {"hls_burn_scars.tar.gz": sum}}}
    return entry
fetching.collection = known
main()
"""
        settings = {
            **os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": "1",
        }  # fmt: skip
        settings.pop("HF_TOKEN", None)
        words = [sys.executable, "-c", code, sha256 or "-", *map(str, arguments)]
        return subprocess.run(words, env=settings, capture_output=True, text=True, check=False)

    names = ["training/a_merged.tif", "training/a.mask.tif", "validation/b_merged.tif"]
    content = archive(names)
    Hub.datasets = {"hls_burn_scars.tar.gz": content}
    wrong = get("hls_burn_scars", "-o", tmp_path / "data")
    assert wrong.returncode == 2
    assert "hls_burn_scars.tar.gz of ibm-nasa-geospatial/hls_burn_scars has the SHA-256" in wrong.stderr
    assert not (tmp_path / "data").exists()
    right = hashlib.sha256(content).hexdigest()
    (tmp_path / "data" / "training").mkdir(parents=True)
    (tmp_path / "data" / "training" / "mine.txt").write_text("mine")
    done = get("hls_burn_scars", "-o", tmp_path / "data", sha256=right)
    assert done.returncode == 0, done.stderr
    assert f"--data.root {tmp_path / 'data'}" in done.stdout
    assert (tmp_path / "data" / "training" / "mine.txt").read_text() == "mine"
    assert all((tmp_path / "data" / name).read_text() == name for name in names)
    Hub.asked.clear()
    assert get("hls_burn_scars", "-o", tmp_path / "data", sha256=right).returncode == 0
    assert not Hub.asked  # it is there
    outside = archive(["../outside.tif"])
    Hub.datasets = {"hls_burn_scars.tar.gz": outside}
    shutil.rmtree(tmp_path / "cache")
    refused = get("hls_burn_scars", "-o", tmp_path / "other", sha256=hashlib.sha256(outside).hexdigest())
    assert refused.returncode == 2
    assert "cannot be unpacked" in refused.stderr
    assert not (tmp_path / "outside.tif").exists()
    elsewhere = get("cloud_gaps", "-o", tmp_path / "gaps")
    assert elsewhere.returncode == 2
    assert "cloud_gaps is not on the hub: fetch chip_catalog.csv, " in elsewhere.stderr
    assert "source.coop" in elsewhere.stderr
