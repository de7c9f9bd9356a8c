"""The wheel holds all that a checkout gives at run time, and works where no checkout is."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import prithvi
from tests.pages import ROOT

pytestmark = pytest.mark.slow
ALSO = ("configs", "data_catalog")
"""Folders beside the package that come along within it."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    # Out of the tracked files: what else lies in a checkout is in no release.
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "hatchling" in done.stderr and done.returncode:
        pytest.skip(f"hatchling cannot be had: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


def of_checkout() -> set[str]:
    """Files that a wheel has to hold, under their names there."""
    listed = subprocess.run(["git", "ls-files", "prithvi", *ALSO], cwd=ROOT, capture_output=True, text=True, check=True)
    names = listed.stdout.splitlines()
    return {name if name.startswith("prithvi/") else f"prithvi/{name}" for name in names if (ROOT / name).is_file()}


def test_the_wheel_holds_the_files_of_the_checkout_and_no_others(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        text = archive.read(next(name for name in archive.namelist() if name.endswith("METADATA"))).decode()
    assert of_checkout() - held == set()
    assert {name for name in held - of_checkout() if not name.endswith(".pyc")} == set()
    assert f"\nVersion: {prithvi.__version__}\n" in text
    assert wheel.name == f"prithvi-{prithvi.__version__}-py3-none-any.whl"
    assert wheel.stat().st_size < 20_000_000


CODE = """
import sys
from pathlib import Path
import prithvi
from prithvi.catalog import config_path, data_catalog, dataset_names
site = Path(sys.argv[1])
assert Path(prithvi.__file__).is_relative_to(site), prithvi.__file__
assert data_catalog().is_relative_to(site) and config_path("flood").is_relative_to(site)
assert len(dataset_names()) >= 6
assert prithvi.load("water").classes and prithvi.load("prithvi_hls_tiny")
sample = data_catalog() / "sen1floods11" / "samples" / "S2Hand" / "Spain_7370579_S2Hand.tif"
scene = prithvi.open_scene(sample, sensor="sentinel-2-l1c", dates=["2019-09-18"])
assert prithvi.map(scene, "water")["class"].values.any()
assert len(list((data_catalog() / "samples" / "flanders").glob("*_clouds.tif"))) > 5
print("all there")
"""


def test_it_works_where_no_checkout_is(wheel: Path, tmp_path: Path) -> None:
    """With the packages of this environment, as a fresh one takes minutes; and a home of its own."""
    site, home = tmp_path / "site", tmp_path / "home"
    home.mkdir()
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(site), "HOME": str(home), "PYTHONSAFEPATH": "1"}

    def run(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, *words], cwd=home, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "all there" in run("-c", CODE, str(site))
    assert prithvi.__version__ in run("-m", "prithvi", "--version")
    assert "water" in run("-m", "prithvi", "models", "list")
    run("-m", "prithvi", "demo")
    assert (home / "demo" / "flood.tif").is_file()
