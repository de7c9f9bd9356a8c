"""The house: every module has a name of its own and can be read in one go."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LONGEST = {"prithvi": 350, "tests": 450}
PACKAGE = sorted((ROOT / "prithvi").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))


def twice(files: Iterable[Path]) -> list[str]:
    places: dict[str, list[str]] = defaultdict(list)
    for file in files:
        places[file.name].append(file.relative_to(ROOT).as_posix())
    return [" and ".join(found) for found in places.values() if len(found) > 1]


def test_no_two_modules_have_one_name() -> None:
    own = [file for file in PACKAGE if file.name != "__init__.py" and "cli" not in file.parts]
    assert twice(own) == []


def test_no_two_test_modules_have_one_name() -> None:
    """pytest imports them by their base names."""
    assert twice(TESTS) == []


def test_no_module_beside_tests_hides_a_package() -> None:
    """pytest puts folders of tests first on sys.path: a `requests.py` there is imported in place of the library."""
    own = {file.stem for file in (ROOT / "tests").rglob("*.py") if file.parent != ROOT / "tests"} - {"conftest"}
    elsewhere = [place for place in sys.path if place and not Path(place).resolve().is_relative_to(ROOT / "tests")]
    assert [
        name
        for name in sorted(own)
        if getattr(PathFinder.find_spec(name, elsewhere), "origin", None) or name in sys.stdlib_module_names
    ] == []


@pytest.mark.parametrize("file", PACKAGE + TESTS, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_no_module_is_longer_than_one_can_read(file: Path) -> None:
    name, lines = file.relative_to(ROOT), len(file.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST[name.parts[0]], f"{name} has {lines} lines: give a part of it a module and a name"


def test_what_is_compiled_for_a_machine_is_no_part_of_the_project() -> None:
    """A map by OpenVINO with a model of the package keeps its compiled form in the checkout."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [name for name in listed.splitlines() if "/.compiled/" in name] == []
    kept = "prithvi/weights/water/.compiled/model.blob"
    assert subprocess.run(["git", "check-ignore", "--quiet", kept], cwd=ROOT, check=False).returncode == 0
