"""Fenced blocks of the README and docs/: run by tests/test_printed_code.py, or marked before the block with the test
that runs it as it is printed (`<!-- run: tests/... -->`) or with why none does (`<!-- not run: reason -->`).
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCED = re.compile(
    r"(?:^<!-- (?P<mark>run|not run): (?P<why>[^\n]*?) -->\n+)?^```(?P<kind>\w*)\n(?P<code>.*?)^```$",
    flags=re.M | re.S,
)


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    kind: str
    code: str
    mark: str | None
    """Whether another test runs it (`run`) or none (`not run`)."""
    why: str | None
    """Which one does, or why none."""

    @property
    def commands(self) -> list[list[str]]:
        lines = self.code.replace("\\\n", " ").splitlines()
        return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = [Block(match["kind"], match["code"], match["mark"], match["why"]) for match in FENCED.finditer(text)]
    assert len(found) * 2 == len(re.findall(r"^```", text, flags=re.M)), f"{page.name}: a fence that is not closed"
    return found


def printed_for(test: str, page: str) -> list[Block]:
    """The blocks of a page that a test file is said to run."""
    found = [block for block in blocks_of(ROOT / "docs" / page) if (block.mark, block.why) == ("run", test)]
    assert found, f"{page} has no block for {test}"
    return found
