"""Fenced blocks of the README and docs/: run, or marked with why not (`<!-- not run: reason -->` before the block)."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shutil import copy, copytree
from typing import Any

import matplotlib
import numpy as np
import pytest
import yaml

from tests.conftest import SPAIN, Answer
from tests.test_docs import PAGES, home  # noqa: F401 - a fixture

FENCED = re.compile(
    r"(?:^<!-- not run: (?P<why>[^\n]*?) -->\n+)?^```(?P<kind>\w*)\n(?P<code>.*?)^```$", flags=re.M | re.S
)
APART = ("mapping.md", "areas.md", "products.md")
"""Pages whose code is run by tests of their own, which look at what comes out."""


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    kind: str
    code: str
    why: str | None
    """Why it is not run."""

    @property
    def commands(self) -> list[list[str]]:
        lines = self.code.replace("\\\n", " ").splitlines()
        return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = [Block(match["kind"], match["code"], match["why"]) for match in FENCED.finditer(text)]
    assert len(found) * 2 == len(re.findall(r"^```", text, flags=re.M)), f"{page.name}: a fence that is not closed"
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_block_is_run_or_says_why_not(page: Path) -> None:
    for block in blocks_of(page):
        if block.why is not None:
            assert len(block.why.split()) >= 3, f"{page.name}: {block.why!r} is no reason"
        elif block.kind == "yaml":
            assert yaml.safe_load(block.code), f"{page.name}: {block.code}"
        elif block.kind != "python":
            assert block.kind in ("", "sh"), f"{page.name}: nothing runs a block of {block.kind}"
            assert all(words[0] == "prithvi" for words in block.commands), f"{page.name}: nothing runs {block.code}"


@pytest.fixture
def desk(
    home: Path,  # noqa: F811
    prithvi: Callable[..., Answer],
    six_bands: np.ndarray,
    write_tif: Callable[..., Path],
) -> Path:
    """Where the pages' examples lie: those of `home`, my_scene.tif with 13 bands, three dates with their clouds,
    demo/model, and a map with polygons.
    """
    copy(SPAIN, home / "my_scene.tif")
    copytree(home / "runs" / "flood" / "model", home / "demo" / "model")
    for number, name in enumerate("abc"):
        write_tif(six_bands[:, :64, number : number + 64], f"{name}.tif")
        cloud = np.zeros((1, 64, 64), np.uint8)
        cloud[0, 20 * number : 20 * number + 15, 10:40] = 1
        write_tif(cloud, f"{name}_clouds.tif", None, None)
    made = prithvi("map", "demo/model", "scene.tif", "-o", "maps", "--date", "2022-05-31")
    assert made.code == 0, made.err
    return home


@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive", "ignore:More than 20 figures")
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.name not in APART and any(block.why is None for block in blocks_of(page))],
    ids=lambda page: page.name,
)
def test_code_runs_as_printed(page: Path, desk: Path, prithvi: Callable[..., Answer]) -> None:
    matplotlib.use("Agg")
    names: dict[str, Any] = {"__name__": "printed"}
    for block in blocks_of(page):
        if block.why is None and block.kind == "python":
            exec(compile(block.code, page.name, "exec"), names)
        elif block.why is None and block.kind in ("", "sh"):
            for words in block.commands:
                answer = prithvi(*words[1:])
                assert answer.code == 0, f"{page.name}: {' '.join(words)}: {answer.err}"
    matplotlib.pyplot.close("all")
    if page.name == "getting_started.md":
        assert (desk / "maps" / "flood.tif").is_file()
    if page.name == "gis.md":
        assert set(np.unique(names["classes"])) <= {0, 1, 255}
        assert set(names["names"].values()) == {"land", "water"}
