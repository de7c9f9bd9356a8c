"""Links of the pages to files of the repository that are no pages: they lead to where the repository is read."""

from __future__ import annotations

import re
from pathlib import Path

OUTSIDE = re.compile(r"\]\(\.\./([^)#]+)(#[^)]*)?\)")
ROOT = Path(__file__).parents[1]


def on_page_markdown(markdown: str, **_: object) -> str:
    """A link out of docs/ becomes the file's name, since the site has no such file; one that leads nowhere stays, and
    a strict build fails over it.
    """

    def named(found: re.Match[str]) -> str:
        path = found.group(1)
        return f"] (`{path}`)" if (ROOT / path).exists() else found.group(0)

    return re.sub(r"\[([^\]]+)\] \(`", r"\1 (`", OUTSIDE.sub(named, markdown))
