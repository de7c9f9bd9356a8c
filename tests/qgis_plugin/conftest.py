"""An environment as a user's: a venv whose prithvi is the one under test."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "qgis"))


def make_environment(folder: Path, program: str | None) -> Path:
    """A venv, with a program `prithvi` of this Python code; None: without one."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    if program is not None:
        script = folder / "bin" / "prithvi"
        script.write_text(f"#!{folder / 'bin' / 'python'}\n{program}\n", encoding="utf-8")
        script.chmod(0o755)
    return folder


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment that runs the tests, under a prefix of its own."""
    if os.name == "nt":
        pytest.skip("environments are made here as on Linux and macOS")
    made = make_environment(tmp_path_factory.mktemp("environment") / "env", "from prithvi.cli import main\nmain()")
    (packages,) = made.glob("lib/python*/site-packages")
    paths = [str(ROOT), sysconfig.get_path("purelib")]
    (packages / "under_test.pth").write_text("\n".join(paths), encoding="utf-8")
    return made
