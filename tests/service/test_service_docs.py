"""docs/serving.md as it is printed, on another port."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.pages import printed_for
from tests.service_client import Service


def test_the_page_is_run_as_printed(
    tmp_path: Path, write_tif: Callable[..., Path], six_bands: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pygeoapi", reason="needs pygeoapi: pip install 'prithvi[serve]'")
    pytest.importorskip("owslib", reason="needs OWSLib, a client")
    start, wait, later, client = printed_for("tests/service/test_service_docs.py", "serving.md")
    (tmp_path / "scenes").mkdir()
    write_tif(six_bands[:, :64, :64], "scenes/scene.tif")
    assert start.commands[0][:2] == ["prithvi", "serve"]
    service = Service(tmp_path, start.commands[0][2:]).start()

    def shell(code: str) -> str:
        words = ["bash", "-euc", code.replace("http://127.0.0.1:5000", service.url)]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout

    try:
        assert set(json.loads(shell(wait.code))) >= {"map", "item", "polygons", "summary"}
        head, _, rest = shell(later.code).partition("\n\n")
        assert " 201 " in head.splitlines()[0]
        assert '"status": "accepted"' in rest
        assert rest.count('"jobID"') >= 3
        exec(client.code.replace("http://127.0.0.1:5000", service.url), {})
        told = capsys.readouterr().out
        assert "'map-water', 'embed-prithvi_hls_tiny', 'fill-prithvi_hls_tiny'" in told
        assert "'water': " in told
    finally:
        service.kill()
