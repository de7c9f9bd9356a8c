"""Which of our files a small run enters, from the verb to the written byte: how far does somebody have to read?

    python benchmarks/entered_files.py [map fill embed build] [--model demo/model] [--list]

A file counts when one of its functions is called (in threads, too). Not counted are module and class bodies, `models/`,
`__init__`, errors, bands and contract, which whoever reads any verb knows.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
import threading
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import prithvi
from prithvi.cli import app
from tests.synthetic_hls import make_archive

PACKAGE = Path(prithvi.__file__).parent
KNOWN = ("errors.py", "bands.py", "contract.py", "__init__.py", "__main__.py")
SAMPLES = PACKAGE.parent / "data_catalog"
SCENE = SAMPLES / "sen1floods11" / "samples" / "S2Hand" / "Spain_7370579_S2Hand.tif"
DAYS = ("2018-06-13", "2018-07-08", "2018-08-14")


def entered(words: list[str]) -> list[str]:
    """The files, in the order in which they are entered first."""
    seen: dict[str, None] = {}

    def note(frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        # A body of a module or a class has no parameters and its name says what it is.
        if event == "call" and code.co_filename.startswith(str(PACKAGE)) and code.co_flags & 2:
            seen.setdefault(code.co_filename)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            app(words, standalone_mode=False)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    files = [Path(name).relative_to(PACKAGE) for name in seen]
    return [file.as_posix() for file in files if file.name not in KNOWN and file.parts[0] != "models"]


def commands(model: str, folder: Path) -> dict[str, list[str]]:
    """The words after `prithvi` of each verb."""
    series = SAMPLES / "samples" / "flanders"
    fill = ["fill", "prithvi_hls_tiny", *(str(series / f"{day}.tif") for day in DAYS), "-o", str(folder / "fill")]
    for day in DAYS:
        fill += ["--date", day, "--clouds", str(series / f"{day}_clouds.tif")]
    scene = [str(SCENE), "--sensor", "sentinel-2-l1c", "--date", "2019-09-18"]
    archive = str(make_archive(folder / "archive", ["31TCJ"], dates=2, size=366).root)
    return {
        "map": ["map", model, *scene, "--polygons", "none", "-o", str(folder / "map")],
        "fill": fill,
        "embed": ["embed", "prithvi_hls_tiny", *scene, "-o", str(folder / "embeddings.tif")],
        "build": [
            "data",
            "build",
            archive,
            "-o",
            str(folder / "chips.zarr"),
            "--size",
            "64",
            "--frames",
            "1",
            "--good",
            "0.5",
        ],
    }


def main() -> None:
    """Prints the number of files by verb, and with --list their names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verbs", nargs="*", default=["map", "fill", "embed", "build"])
    parser.add_argument("--model", default="demo/model")
    parser.add_argument("--list", action="store_true")
    said = parser.parse_args()
    if len(said.verbs) > 1:  # each in a process of its own, so that nothing is remembered from the one before
        for verb in said.verbs:
            more = ["--list"] if said.list else []
            subprocess.run([sys.executable, __file__, verb, "--model", said.model, *more], check=True)
        return
    warnings.simplefilter("ignore")
    (verb,) = said.verbs
    with tempfile.TemporaryDirectory() as folder:
        files = entered(commands(said.model, Path(folder))[verb])
    print(f"{verb}: {len(files)} files", *(files if said.list else []), sep="\n  ")


if __name__ == "__main__":
    main()
