"""A kind of files that is fuzzed, and how one file among sound ones is changed."""

from __future__ import annotations

import functools
import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.fuzz.mutations import damaged, edits

BLOCK = 25
"""Documents that are made at one time."""


class WrongError(AssertionError):
    """It opened, and what it gave is not what stands in the file; or something was left behind."""


class OutsideError(Exception):
    """What opens the file is another library alone, and it refused."""


@dataclass(frozen=True)
class Kind:
    """A row of the table."""

    name: str
    cases: int
    make: Callable[[Path], None]
    """Writes sound files into a folder."""
    change: Callable[[Path, Path, int], Path]
    """(sound files, empty folder, number): puts a changed one there; what is to be opened."""
    look: Callable[[Path, Path, int], None]
    """(what is opened, folder for results, number): opens it and looks into it."""


@functools.cache
def documents(path: Path, block: int) -> list[Any]:
    plain = yaml.safe_load(path.read_text()) if path.suffix == ".yaml" else json.loads(path.read_text())
    return edits(plain, block, BLOCK)


def one_changed(sound: Path, work: Path, number: int, structured: tuple[str, ...] = ()) -> Path:
    """A copy of one of the sound files or folders with one file of it changed, or gone.

    Every other change of a file whose suffix is in `structured` is one of its structure; all others are of bytes.
    """
    chance = random.Random(number)
    bases = sorted(sound.iterdir())
    base = bases[number % len(bases)]
    target = work / base.name
    if base.is_dir():
        shutil.copytree(base, target, copy_function=os.link)
    else:
        os.link(base, target)
    files = sorted(file for file in target.rglob("*") if file.is_file()) if target.is_dir() else [target]
    # Small texts decide more than the many files of pixels.
    texts = [file for file in files if file.suffix in (".json", ".xml", ".yaml", ".geojson")]
    file = chance.choice(texts if texts and chance.random() < 0.6 else files)
    data, alone = file.read_bytes(), target.is_file()
    file.unlink()
    if file.suffix in structured and chance.random() < 0.7:
        source = base / file.relative_to(target) if base.is_dir() else base
        plain = documents(source, number // BLOCK)[number % BLOCK]
        dump = yaml.safe_dump(plain, allow_unicode=True) if file.suffix == ".yaml" else json.dumps(plain)
        file.write_text(dump, encoding="utf-8", errors="replace")
    elif alone or chance.random() < 0.9:
        file.write_bytes(damaged(data, chance))
    return target


def nothing_under_a_final_name(out: Path) -> None:
    left = [path.name for path in out.iterdir() if not path.name.startswith(".")] if out.is_dir() else []
    if left:
        raise WrongError(f"after an error {', '.join(left)} stand under their final names")


def of_documents(*suffixes: str) -> Callable[[Path, Path, int], Path]:
    return lambda sound, work, number: one_changed(sound, work, number, suffixes)
