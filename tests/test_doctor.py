"""`prithvi doctor` says what is there and what is missing, and shows no secret."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Answer
from tests.pages import ROOT

Cli = Callable[..., Answer]


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No login anywhere."""
    for name in ("EARTHDATA_TOKEN", "EARTHDATA_USERNAME", "EARTHDATA_PASSWORD", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def test_everything_has_a_line(prithvi: Cli) -> None:
    report = json.loads(prithvi("doctor", "--json").out)
    assert set(report) == {"versions", "devices", "extras", "hub", "credentials", "formats"}
    assert set(report["formats"].values()) == {"yes"}
    assert "free on its disk" in report["hub"]["cache"]
    assert report["credentials"]["Earthdata"].startswith("none; set EARTHDATA_TOKEN")
    text = prithvi("doctor").out
    for part in report.values():
        for key, value in part.items():
            assert key in text
            assert key == "hub" or str(value).partition(",")[0] in text


def test_every_extra_is_known_to_it_and_to_the_page_for_beginners(prithvi: Cli) -> None:
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    wanted = {name for name, packages in stated.items() if packages} - {"dev", "all"}
    assert set(json.loads(prithvi("doctor", "--json").out)["extras"]) == wanted
    page = (ROOT / "docs" / "getting_started.md").read_text("utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", page, flags=re.M)) == wanted


def test_a_missing_extra_comes_with_its_command(prithvi: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "peft" else found(name))
    extras = json.loads(prithvi("doctor", "--json").out)["extras"]
    assert extras["lora"] == "missing: pip install 'prithvi[lora]'"


@pytest.mark.parametrize("where", ["token", "name", "netrc"])
def test_a_login_is_found_and_not_shown(
    where: str, prithvi: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secret = "hush-hush"
    if where == "token":
        monkeypatch.setenv("EARTHDATA_TOKEN", secret)
    elif where == "name":
        monkeypatch.setenv("EARTHDATA_USERNAME", "me")
        monkeypatch.setenv("EARTHDATA_PASSWORD", secret)
    else:
        (tmp_path / "netrc").write_text(f"machine urs.earthdata.nasa.gov login me password {secret}\n")
    monkeypatch.setenv("HF_TOKEN", secret)
    answer = prithvi("doctor", "--json")
    credentials = json.loads(answer.out)["credentials"]
    assert credentials["Earthdata"].startswith("present")
    assert credentials["Hugging Face"] == "present"
    assert secret not in answer.out + answer.err


def test_a_broken_netrc_is_said(prithvi: Cli, tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text("machine\n")
    assert "cannot be read" in json.loads(prithvi("doctor", "--json").out)["credentials"]["Earthdata"]
