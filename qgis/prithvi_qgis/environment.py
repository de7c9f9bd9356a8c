"""The prithvi of an environment of the user's own: where its program is, what it inherits, whether it is new enough.

Nothing here imports QGIS. It runs on Python 3.9 and later, which is what QGIS brings along.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

NEEDED = (0, 1, 0)
"""The lowest version whose command line this plugin speaks."""

VARIABLE = "PRITHVI_ENVIRONMENT"

NO_WINDOW: int = getattr(subprocess, "CREATE_NO_WINDOW", 0)
"""On Windows a child process opens no console window with it."""

_INHERITED = (
    "PYTHON", "__PYVENV_LAUNCHER__", "VIRTUAL_ENV", "CONDA_", "GDAL_DATA", "GDAL_DRIVER_PATH", "GEOTIFF_CSV",
    "PROJ_LIB", "PROJ_DATA", "QT_PLUGIN_PATH", "LD_LIBRARY_PATH", "DYLD_",
)  # fmt: skip
"""How the names of variables begin that QGIS, or the script that starts it, sets for its own Python, GDAL and PROJ. An
environment has its own: with QGIS's PYTHONHOME its Python does not start, with QGIS's PROJ_LIB its PROJ refuses the
database or computes by another."""


class NoPrithviError(Exception):
    """There is no prithvi to run: one sentence with what was found, where, and what to do."""


def program_of(environment: str) -> Path:
    """The program `prithvi` of an environment.

    Args:
        environment: the folder of a venv or conda environment, or the program itself.

    Raises:
        NoPrithviError: there is none.

    """
    if not environment.strip():
        raise NoPrithviError(
            "No environment with prithvi is named: name its folder under Settings, Options, Processing, Providers, "
            f"prithvi, in the algorithm's parameter ENVIRONMENT, or in the variable {VARIABLE}."
        )
    path = Path(environment.strip()).expanduser()
    if path.is_file():
        return path
    if not path.is_dir():
        raise NoPrithviError(f"There is no {path}: name the folder of the environment that prithvi is installed in.")
    # Windows has Scripts\prithvi.exe in a venv and in a conda environment alike.
    programs = [path / "bin" / "prithvi", path / "Scripts" / "prithvi.exe"]
    for program in programs:
        if program.is_file():
            return program
    pythons = path / "bin" / "python", path / "Scripts" / "python.exe", path / "python.exe"
    python = next((python for python in pythons if python.is_file()), None)
    if python is None:
        raise NoPrithviError(
            f"{path} is no Python environment, since it holds neither bin/python nor python.exe: name the folder of "
            "the one that prithvi is installed in."
        )
    raise NoPrithviError(
        f"{path} is a Python environment without prithvi: '{python}' -m pip install FOLDER puts it there, where FOLDER "
        "is a clone of prithvi; or name another environment."
    )


def child_environment(given: Mapping[str, str], program: Path) -> dict[str, str]:
    """The variables that the program inherits: the user's own, without those that QGIS set for itself.

    Args:
        given: those of this process.
        program: it and its libraries come first on PATH.

    """
    kept = {name: value for name, value in given.items() if not name.upper().startswith(_INHERITED)}
    # Windows looks for libraries along PATH, on which QGIS's installer has put its own; a conda environment that nobody
    # activated needs its Library\bin there.
    installed = given.get("OSGEO4W_ROOT", "")
    others = [
        entry
        for entry in given.get("PATH", "").split(os.pathsep)
        if entry and not (installed and os.path.normcase(entry).startswith(os.path.normcase(installed)))
    ]
    folder = program.parent
    own = [folder, folder.parent / "Library" / "bin", folder.parent] if folder.name == "Scripts" else [folder]
    kept["PATH"] = os.pathsep.join([*map(str, own), *others])
    kept["PRITHVI_PROGRESS"] = "json"
    kept["PYTHONIOENCODING"] = "utf-8"  # of the pipes: on Windows they else have the code page of the system
    return kept


def check(program: Path, variables: Mapping[str, str]) -> None:
    """Checks that the program is a prithvi that is new enough, once for each file.

    Args:
        program: of `program_of`.
        variables: of `child_environment`.

    Raises:
        NoPrithviError: it is not.

    """
    _version_of(program, program.stat().st_mtime_ns, tuple(sorted(variables.items())))


@functools.lru_cache(maxsize=8)
def _version_of(program: Path, changed: int, variables: tuple[tuple[str, str], ...]) -> tuple[int, ...]:
    try:
        answer = subprocess.run(
            [str(program), "--version"], env=dict(variables), capture_output=True, encoding="utf-8", errors="replace",
            stdin=subprocess.DEVNULL, timeout=120, creationflags=NO_WINDOW,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = getattr(error, "strerror", None) or "it gave no answer within two minutes"
        raise NoPrithviError(
            f"{program} cannot be run ({reason}): name another environment, or make this one anew."
        ) from error
    wanted = ".".join(map(str, NEEDED))
    newer = f"update it, since this plugin needs {wanted} or later; or name another environment."
    found = re.fullmatch(r"prithvi (\d+(?:\.\d+)*)\S*", answer.stdout.strip())
    if found is None and "No such option: --version" in answer.stderr:
        raise NoPrithviError(f"{program} is an older prithvi, which cannot tell its version: {newer}")
    if found is None:
        last = (answer.stderr.strip().splitlines() or ["nothing"])[-1][:160].rstrip(".")
        raise NoPrithviError(
            f"{program} does not run as prithvi does (it said: {last}): install prithvi there anew, or name another "
            "environment."
        )
    version = tuple(map(int, found[1].split(".")))
    if version < NEEDED:
        raise NoPrithviError(f"{program} is prithvi {found[1]}: {newer}")
    return version
