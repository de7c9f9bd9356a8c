"""How much code each room holds, in two checkouts: lines that are no blank, comment, docstring or re-export, and files.

    git worktree add ../old COMMIT
    python benchmarks/code_lines.py ../old .

Comments count where they explain: not those for ruff, mypy and formatters. `moved.py`, a table of old names for one
release, is left out.
"""

from __future__ import annotations

import argparse
import ast
import tokenize
from collections import defaultdict
from pathlib import Path

TOOLS = ("noqa", "fmt:", "type:", "pragma")
NO_CODE = (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER, tokenize.COMMENT)


def counted(path: Path) -> tuple[int, int]:
    """Lines of code and of explaining comments of a module."""
    tree = ast.parse(path.read_bytes())
    left_out: set[int] = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        texts = [line for line in body if _is_text(line)] if isinstance(body, list) else []
        if path.name == "__init__.py" and isinstance(node, ast.ImportFrom):
            texts.append(node)
        for line in texts:
            left_out.update(range(line.lineno, line.end_lineno + 1))
    lines: set[int] = set()
    comments = 0
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.COMMENT:
                comments += not any(word in token.string for word in TOOLS)
            elif token.type not in NO_CODE and token.type != tokenize.ENCODING:
                lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - left_out), comments


def _is_text(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)


def rooms(checkout: Path) -> dict[str, list[int]]:
    """Lines of code, files and comments by room."""
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for path in sorted((checkout / "prithvi").rglob("*.py")):
        if path.name == "moved.py":
            continue
        parts = path.relative_to(checkout / "prithvi").parts
        code, comments = counted(path)
        for room in (parts[0] if len(parts) > 1 else "(top)", "all"):
            for index, number in enumerate((code, 1, comments)):
                found[room][index] += number
    return found


def main() -> None:
    """Prints a table, a room a row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    said = parser.parse_args()
    old, new = rooms(said.old), rooms(said.new)
    print("| room | code, old | new | files, old | new | comments a 100 lines, old | new |")
    print("|---" * 7 + "|")
    for room in sorted(old.keys() | new.keys(), key=lambda name: (name == "all", name)):
        dense = [f"{100 * comments / code:.1f}" if code else "" for code, _, comments in (old[room], new[room])]
        (code, files, _), (code_now, files_now, _) = old[room], new[room]
        print(f"| {room} | {code:,} | {code_now:,} | {files} | {files_now} | {' | '.join(dense)} |")


if __name__ == "__main__":
    main()
