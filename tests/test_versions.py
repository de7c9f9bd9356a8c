"""tools/matrix.py: what tests of a cell said, and what ran again after a mend, come into its result and its page."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.pages import ROOT

TESTS = """
import pytest
def test_fine(): pass
@pytest.mark.skip(reason="needs the moon")
def test_skipped(): pass
@pytest.mark.parametrize("number", [1, 2])
def test_number(number): assert number == 1
"""


@pytest.fixture
def matrix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The tool, with this environment for the cell 'core' and folders of its own."""
    spec = importlib.util.spec_from_file_location("matrix_tool", ROOT / "tools" / "matrix.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "matrix_tool", tool)
    spec.loader.exec_module(tool)
    for name, place in (("PLACE", "matrix"), ("RESULTS", "results"), ("PAGE", "versions.md")):
        monkeypatch.setattr(tool, name, tmp_path / place)
    monkeypatch.setattr(tool, "environment", lambda cell, log: (Path(sys.executable), ""))
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    # Other plugins take longer to import than these tests to run.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p xdist.plugin")
    (tmp_path / "test_some.py").write_text(TESTS)
    (tmp_path / "test_broken.py").write_text("import nowhere_to_be_found\n")
    return tool


def call(tool: ModuleType, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["matrix.py", "run", "core", "--workers", "0", *words])
    code: int = tool.main()
    return code


def test_what_failed_runs_again_and_the_result_says_so(
    matrix: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(matrix, monkeypatch, "--tests", "test_some.py") == 1
    result = tmp_path / "results" / "core.json"
    first = json.loads(result.read_text())
    assert (first["passed"], first["failed"], first["ended"]) == (2, ["test_some.py::test_number[2]"], "failed")
    assert first["skipped"] == {"needs the moon": 1}
    assert first["versions"]["pytest"]
    assert call(matrix, monkeypatch) == 0  # it has a result
    assert "done before" in capsys.readouterr().out

    (tmp_path / "test_some.py").write_text(TESTS.replace("number == 1", "number in (1, 2)"))
    assert call(matrix, monkeypatch, "--failed") == 0
    second = json.loads(result.read_text())
    assert (second["passed"], second["failed"], second["ended"]) == (3, [], "passed")
    assert second["rerun"][0]["tests"] == first["failed"]
    page = (tmp_path / "versions.md").read_text()
    assert "1 failed, and at" in page
    assert "Without a result so far: Python 3.11" in page


def test_a_file_that_cannot_be_collected_runs_again_whole(
    matrix: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(matrix, monkeypatch, "--tests", "test_broken.py") == 1
    result = tmp_path / "results" / "core.json"
    assert json.loads(result.read_text())["failed"] == [".py::test_broken"]
    (tmp_path / "test_broken.py").write_text("def test_one(): pass\ndef test_two(): pass\n")
    assert call(matrix, monkeypatch, "--failed") == 0
    assert json.loads(result.read_text())["passed"] == 2
