"""Modules under their old names are those under the new ones, and say so."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys

import pytest

from prithvi.moved import MOVED


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_an_old_name_gives_the_module_of_the_new_one(old: str, new: str) -> None:
    sys.modules.pop(f"prithvi.{old}", None)
    with pytest.warns(DeprecationWarning, match=rf"prithvi\.{old} is now prithvi\.{new}") as told:
        found = importlib.import_module(f"prithvi.{old}")
    assert told[0].filename == importlib.__file__
    right = importlib.import_module(f"prithvi.{new}")
    assert found is right
    assert found.__name__ == found.__spec__.name == f"prithvi.{new}"


def test_a_name_that_never_was_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'prithvi\.mapping\.textfiles'"):
        importlib.import_module("prithvi.mapping.textfiles")


def test_pickles_of_old_names_open() -> None:
    old = b"cprithvi.mapping.textfile\nsha256\n."  # protocol 0, as its length is not written
    sys.modules.pop("prithvi.mapping.textfile", None)
    with pytest.warns(DeprecationWarning, match="is now"):
        found = pickle.loads(old)
    assert found is importlib.import_module("prithvi.files").sha256


def test_the_warning_points_at_the_line_that_imports() -> None:
    code = "from prithvi.jsontext import write_text"
    done = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, check=True)
    assert "<string>:1: DeprecationWarning: prithvi.jsontext is now prithvi.files" in done.stderr
