"""Configurations name classes: those of known packages, and of others that the user trusts, before any is imported."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from prithvi.catalog import config_path
from tests.conftest import Answer

PACKAGE = """
from pathlib import Path
from lightning import Callback
Path({mark!r}).touch()
class Watch(Callback):
    pass
"""


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Is there once the package strangepkg was imported."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "strangepkg.py").write_text(PACKAGE.format(mark=str(tmp_path / "mark")))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("PRITHVI_TRUST_CLASSES", "")
    monkeypatch.delitem(sys.modules, "strangepkg", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "mark"


def config(**more: Any) -> dict[str, Any]:
    plain: dict[str, Any] = yaml.safe_load(config_path("flood").read_text())
    return {**plain, **more}


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"class_path": "strangepkg.Watch"}},
        {"data": {"class_path": "strangepkg.Watch", "init_args": {}}},
        {"trainer": {"callbacks": [{"class_path": "strangepkg.Watch"}]}},
        {"trainer": {"callbacks": ["strangepkg.Watch"]}},
        {"trainer": {"callbacks": "strangepkg.Watch"}},
        {"trainer": {"logger": "strangepkg.Watch"}},
        {"trainer": {"strategy": {"class_path": "strangepkg.Watch"}}},
        {"optimizer": {"class_path": "strangepkg.Watch"}},
        {"optimizer": "strangepkg.Watch"},
        {"lr_scheduler": {"class_path": "strangepkg.Watch"}},
    ],
)
@pytest.mark.parametrize("verb", [["fit"], ["test"], ["fit", "--print_config"]])
def test_classes_of_other_packages_are_not_imported(
    change: dict[str, Any], verb: list[str], mark: Path, prithvi: Callable[..., Answer]
) -> None:
    Path("strange.yaml").write_text(yaml.safe_dump(config(**change)))
    answer = prithvi(verb[0], "-c", "strange.yaml", *verb[1:])
    assert answer.code == 2
    assert "strange.yaml names strangepkg.Watch, and importing and making it runs code of the package" in answer.err
    assert "Traceback" not in answer.err
    assert not mark.exists()


def test_a_section_in_a_file_of_its_own_is_looked_at_too(mark: Path, prithvi: Callable[..., Answer]) -> None:
    Path("model.yaml").write_text("class_path: strangepkg.Watch\n")
    answer = prithvi("fit", "-c", "flood", "--model", "model.yaml")
    assert answer.code == 2
    assert "model.yaml names strangepkg.Watch" in answer.err
    assert not mark.exists()


def test_a_package_that_the_user_trusts_is_imported(mark: Path, prithvi: Callable[..., Answer]) -> None:
    callbacks = [{"class_path": "strangepkg.Watch"}]
    Path("own.yaml").write_text(
        yaml.safe_dump(config(trainer={"max_epochs": 1, "logger": False, "callbacks": callbacks}))
    )
    answer = prithvi("--trust-classes", "strangepkg", "fit", "-c", "own.yaml", "--data.root", "nowhere")
    assert "runs code" not in answer.err
    assert mark.exists()
    assert answer.code == 2  # there is no such data


def test_what_the_user_types_is_the_users(mark: Path, prithvi: Callable[..., Answer]) -> None:
    answer = prithvi("fit", "-c", "flood", "--trainer.callbacks+=strangepkg.Watch", "--data.root", "nowhere")
    assert "runs code" not in answer.err
    assert mark.exists()


@pytest.mark.parametrize(
    "kind", ["!!python/object/apply:os.mkdir [harm]", "!!python/name:os.system", "!!python/module:os"]
)
def test_a_yaml_tag_makes_no_object(kind: str, mark: Path, prithvi: Callable[..., Answer]) -> None:
    Path("tagged.yaml").write_text(f"model: {kind}\n")
    answer = prithvi("fit", "-c", "tagged.yaml")
    assert answer.code == 2
    assert "is not YAML" in answer.err
    assert not Path("harm").exists()
