"""Whether two checkouts write the same bytes: a map and its sidecar files, a fill, embeddings, a store, a model.

    git worktree add ../old COMMIT
    python benchmarks/compare_products.py ../old . --model demo/model [--hashes FILE]

FILE gets the SHA-256 of every file of the old checkout, by command, as JSON. Status 1 where a file differs, or is
written by one of them alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.compare_checkouts import commands as timed
from benchmarks.entered_files import commands
from prithvi.files import sha256


def written(checkout: Path, words: list[str], folder: Path) -> dict[str, str]:
    """Name to SHA-256 of every file that a command leaves in a folder, in which it runs."""
    folder.mkdir(parents=True)
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "prithvi", *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{checkout}: {' '.join(command)}\n{done.stderr}")
    return {str(path.relative_to(folder)): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def main() -> None:
    """Prints, by command, how many files are equal, and the names of those that are not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--model", type=Path, required=True, help="folder of a fitted model")
    parser.add_argument("--hashes", type=Path)
    said = parser.parse_args()
    differ, kept = 0, {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Outputs are relative to the folder of each run, because commands stand in the files.
        todo = {verb: relative(words) for verb, words in commands(str(said.model.resolve()), folder).items()}
        todo["map"] = [word for word in todo["map"] if word not in ("--polygons", "none")] + ["--confidence"]
        epochs = {"20": "2", "10": "1"}
        fit = timed(["fit"], said.old, said.model.resolve(), folder)["fit"]
        todo["fit"] = [epochs.get(word, "out" if word == "OUT" else word) for word in fit]
        for verb, words in todo.items():
            old, new = (written(place, words, folder / side / verb)
                        for side, place in (("old", said.old), ("new", said.new)))  # fmt: skip
            kept[verb] = old
            others = sorted(file for file in old.keys() | new.keys() if old.get(file) != new.get(file))
            differ += len(others)
            print(f"{verb}: {len(old.keys() & new.keys()) - len(others)} files equal", *others, sep="\n  differs: ")
    if said.hashes is not None:
        said.hashes.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    sys.exit(bool(differ))


def relative(words: list[str]) -> list[str]:
    """The words with outputs named without the folder; inputs stay where they are."""
    return [Path(word).name if before == "-o" else word for before, word in zip(["", *words], words, strict=False)]


if __name__ == "__main__":
    main()
