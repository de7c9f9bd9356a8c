"""What maps of files that people have end in, in two checkouts: right, refused, told or silently wrong.

    git worktree add ../old COMMIT
    prithvi demo
    python benchmarks/compare_files.py ../old . --model demo/model [--table table.md]

Every input is one piece of the flood sample, stored in another way. Its map must be the map of the piece in its
plainest form, without the pixels that were emptied, or the command must refuse. Where it is another map, the table
quotes what was said about it. Status 1 if the second checkout is silently wrong about one, or ends in a traceback.
"""

from __future__ import annotations

import argparse
import os
import pickle
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks.awkward_files import Case, all_cases, write  # noqa: E402
from prithvi.bands import PRITHVI_BANDS  # noqa: E402

RUN = """
import contextlib, io, pickle, sys, warnings
from pathlib import Path
import numpy as np, rasterio
import prithvi
from prithvi.cli import app
from prithvi.errors import PrithviError
jobs, model, out = pickle.loads(Path(sys.argv[1]).read_bytes()), sys.argv[2], Path(sys.argv[3])
ends = []
for number, (source, options) in enumerate(jobs):
    said, folder, found = io.StringIO(), out / str(number), None
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(said))
        stack.enter_context(contextlib.redirect_stderr(said))
        seen = stack.enter_context(warnings.catch_warnings(record=True))
        warnings.simplefilter("always")
        try:
            if isinstance(source, (str, list)):
                words = ["map", model, *([source] if isinstance(source, str) else source), "-o", str(folder)]
                for key, value in options.items():
                    for one in value if isinstance(value, list) else [value]:
                        words += [f"--{key}", str(one)] if one is not True else [f"--{key}"]
                app(words, standalone_mode=False)
                (path,) = [path for path in folder.rglob("*.tif") if "confidence" not in path.name]
                with rasterio.open(path) as raster:
                    found = raster.read(1)
            else:
                scene = prithvi.open_scene(source, **options)
                found = prithvi.map(scene, prithvi.load(model)).compute()["class"].values
            end = "mapped"
        except PrithviError as error:
            end, _ = "refused", said.write(str(error))
        except Exception as error:
            end, _ = "traceback", said.write(f"{type(error).__name__}: {error}")
    notes = [str(one.message) for one in seen if issubclass(one.category, UserWarning)]
    ends.append((end, found, "\\n".join([*notes, said.getvalue()])))
Path(sys.argv[4]).write_bytes(pickle.dumps(ends))
"""


@dataclass(frozen=True)
class End:
    """How one input ended in one checkout."""

    word: str
    said: str


Jobs = list[tuple[Any, dict[str, Any]]]


def run(checkout: Path, jobs: Jobs, model: Path, folder: Path) -> list[tuple[str, Any, str]]:
    """What each of (source, options) ends in with the code of a checkout: (word, map, what was said)."""
    folder.mkdir()
    given, found = folder / "jobs.pkl", folder / "ends.pkl"
    given.write_bytes(pickle.dumps(jobs))
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", RUN, str(given), str(model.resolve()), str(folder / "maps"), str(found)]
    subprocess.run(command, cwd=checkout, env=environment, check=True)
    ends: list[tuple[str, Any, str]] = pickle.loads(found.read_bytes())
    return ends


def truths(checkout: Path, cases: list[Case], model: Path, folder: Path) -> list[Any]:
    """The map of each input's truth: six named bands, reflectance x 10,000 and its nodata as stated."""
    folder.mkdir()
    kept: dict[bytes, int] = {}
    jobs: Jobs = []
    for case in cases:
        pixels = np.where(np.isnan(case.truth).any(axis=0), np.nan, case.truth).astype(np.float32)
        if kept.setdefault(pixels.tobytes(), len(jobs)) == len(jobs):
            path = write(folder / f"{len(jobs)}.tif", pixels, PRITHVI_BANDS, nodata=np.nan, scales=[1e-4] * 6)
            jobs.append((str(path), {}))
    maps = run(checkout, jobs, model, folder / "run")
    for word, _, said in maps:
        if word != "mapped":
            raise SystemExit(f"The truth was not mapped: {said}")
    places = [np.where(np.isnan(case.truth).any(axis=0), np.nan, case.truth).astype(np.float32) for case in cases]
    return [maps[kept[pixels.tobytes()]][1] for pixels in places]


def judged(case: Case, truth: Any, word: str, found: Any, said: str) -> End:
    """Right, refused, told, silently wrong, or a traceback."""
    if word != "mapped":
        return End(word, said.strip().splitlines()[-1] if said.strip() else "")
    note = next((line.strip() for line in said.splitlines() if case.told and case.told in line), "")
    if found.shape == truth.shape and (found == truth).all():
        return End("right", note)
    if note:
        return End("told", note)
    water = (found == 1).sum() / max(1, (found != 255).sum())
    differs = f"{(found != truth).sum()} pixels differ" if found.shape == truth.shape else f"{found.shape} pixels"
    return End("silently wrong", f"{differs}, {100 * water:.1f} % water")


def main() -> None:
    """Prints how many inputs ended in what, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument(
        "--model", type=Path, required=True, help="folder of a fitted model, as 'prithvi demo' makes it"
    )
    parser.add_argument("--table", type=Path, help="a Markdown file to write")
    said = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = list(all_cases(folder / "inputs"))
        jobs = [(case.source, case.options) for case in cases]
        right = truths(said.new, cases, said.model, folder / "truths")
        both = [
            [
                judged(*pair, *end)
                for *pair, end in zip(cases, right, run(checkout, jobs, said.model, folder / part), strict=True)
            ]
            for checkout, part in ((said.old, "old"), (said.new, "new"))
        ]
    counts = [Counter(end.word for end in ends) for ends in both]
    for part, count in zip(("before", "after"), counts, strict=True):
        print(
            f"{part}: {len(cases)} inputs: " + ", ".join(f"{number} {word}" for word, number in sorted(count.items()))
        )
    for case, after in zip(cases, both[1], strict=True):
        if after.word in ("silently wrong", "traceback"):
            print(f"{after.word}: {case.line} {case.what}: {after.said}")
    if said.table is not None:
        said.table.write_text("".join(table(cases, *both)))
    sys.exit(bool(counts[1]["silently wrong"] + counts[1]["traceback"]))


def table(cases: list[Case], before: list[End], after: list[End]) -> Iterator[str]:
    """The lines of a Markdown table."""
    yield "| line | input | before | after | what is said now |\n| --- | --- | --- | --- | --- |\n"
    for case, old, new in zip(cases, before, after, strict=True):
        # Paths are of the run's own folder.
        said = re.sub(r"/\S*/", "", new.said).replace("|", "/")
        was = f"{old.word}: {old.said}" if old.word == "silently wrong" else old.word
        yield f"| {case.line} | {case.what} | {was} | {new.word} | {said} |\n"


if __name__ == "__main__":
    main()
