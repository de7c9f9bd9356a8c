from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pystac
import pytest

from prithvi.errors import ConfigError
from prithvi.service.settings import settings_of
from prithvi.service.staged import sources
from tests.conftest import ROOT, SPAIN, Answer
from tests.pages import printed_for


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no model was given"),
        (["none"], "there is no model folder none"),
        (["water", "water"], "two models are called water: say NAME=FOLDER"),
        (["a b=water"], "'a b' cannot stand in an address"),
        (["water", "--folder", "none"], "there is no such folder"),
        (["water", "--workers", "0"], "the least is 1"),
        (["water", "--url", "maps.org"], "say the address that clients use"),
        (["water", "--config", "wrong.yml"], "a service has no 'folder': did you mean folders"),
        (["water", "--config", "list.yml"], r"folders is 'scenes': write a list \(\[scenes\]\)"),
        (["water", "prithvi_hls_tiny", "--cwl", "a.cwl"], "a package is of one model, and 2 were given"),
        (["prithvi_hls_tiny", "--cwl", "a.cwl"], "is a pretrained model, and packages map"),
    ],
)
def test_what_cannot_be_served_is_refused(
    words: list[str], said: str, prithvi: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import re

    monkeypatch.chdir(tmp_path)
    Path("wrong.yml").write_text("folder: [scenes]\n")
    Path("list.yml").write_text("folders: scenes\n")
    answer = prithvi("serve", *words)
    assert answer.code == 2
    assert re.search(said, answer.err), answer.err


def test_options_count_more_than_the_file(tmp_path: Path) -> None:
    (tmp_path / "service.yml").write_text("models: [water]\nport: 8000\nqueue: 3\nprivate_hosts: [stac.local]\n")
    made = settings_of([], tmp_path / "service.yml", {"port": 9000, "queue": None})
    assert (made.port, made.queue, made.address) == (9000, 3, "http://127.0.0.1:9000")
    assert made.hosts == ("stac.local",)
    assert [model.name for model in made.models] == ["water"]


def test_folders_may_be_called_by_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("2022").mkdir()
    Path("service.yml").write_text("models: [water]\nfolders: [2022]\n")
    assert [folder.resolve() for folder in settings_of([], Path("service.yml"), {}).folders] == [tmp_path / "2022"]
    Path("service.yml").write_text("models: [water]\nfolders: [2022, null]\n")
    with pytest.raises(ConfigError, match=r"folders holds None: write a list of words"):
        settings_of([], Path("service.yml"), {})


def test_the_printed_file_is_read(tmp_path: Path, model_folder: Path) -> None:
    block, _ = printed_for("tests/service/test_service_settings.py", "serving.md")
    (tmp_path / "scenes").mkdir()
    text = block.code.replace("/models/crops", str(model_folder)).replace("/data/scenes", str(tmp_path / "scenes"))
    (tmp_path / "service.yml").write_text(text)
    made = settings_of([], tmp_path / "service.yml", {})
    assert [model.name for model in made.models] == ["water", "crops"]
    assert (made.address, made.queue, made.private_hosts) == ("https://maps.example.org", 20, ("stac.local",))


@pytest.fixture
def package(tmp_path: Path, prithvi: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch) -> Path:
    _, block = printed_for("tests/service/test_service_settings.py", "serving.md")
    monkeypatch.chdir(tmp_path)
    answer = prithvi(*block.commands[0][1:])
    assert answer.code == 0, answer.err
    return tmp_path / "water.cwl"


def test_a_package_is_valid_and_runs(package: Path, tmp_path: Path) -> None:
    """By the reference implementation, on a scene staged in with its catalog."""
    cwltool = shutil.which("cwltool")
    if cwltool is None:
        pytest.skip("needs cwltool on the PATH (pip install cwltool, in an environment of its own)")
    checked = subprocess.run([cwltool, "--validate", package], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}:$PYTHONPATH" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    scene = staged_in(tmp_path)
    how = ["--no-container", "--preserve-entire-environment", "--outdir", tmp_path / "out", f"{package}#water"]
    words = [cwltool, *how, "--scene", scene, "--confidence"]
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path})
    assert done.returncode == 0, done.stderr
    catalog = pystac.Catalog.from_file(str(tmp_path / "out" / "result" / "catalog.json"))
    (item,) = catalog.get_items()
    assert {"classes", "confidence"} <= set(item.assets)
    assert all(Path(asset.get_absolute_href() or "").is_file() for asset in item.assets.values())


def staged_in(folder: Path) -> Path:
    """A catalog with one item, and its file, as platforms make it."""
    import datetime as dt

    catalog = pystac.Catalog("catalog", "of one scene")
    item = pystac.Item("spain-2019-09-18", None, None, dt.datetime(2019, 9, 18), {})
    edges = ("rededge071", "rededge075", "rededge078")
    names = ("coastal", "blue", "green", "red", *edges, "nir", "nir08", "nir09", "cirrus", "swir16", "swir22")
    told = {"bands": [{"name": name} for name in names], "raster:scale": 0.0001}
    item.add_asset("data", pystac.Asset("./scene.tif", media_type="image/tiff", extra_fields=told))
    catalog.add_item(item)
    catalog.normalize_and_save(str(folder / "staged"), pystac.CatalogType.SELF_CONTAINED)
    shutil.copy(SPAIN, Path(item.self_href).parent / "scene.tif")
    return folder / "staged"


def test_what_is_staged_in_is_found(tmp_path: Path) -> None:
    found = sources(staged_in(tmp_path))
    assert [Path(path).name for path in found] == ["spain-2019-09-18.json"]
    assert sources(tmp_path) == [str(tmp_path)]
