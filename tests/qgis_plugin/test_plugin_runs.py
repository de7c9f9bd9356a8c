"""The parts of the QGIS plugin that need no QGIS: finding prithvi, running and stopping it, its errors, the zip."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from configparser import ConfigParser
from pathlib import Path

import numpy as np
import pytest

import prithvi as package
from tests.conftest import ROOT, Answer
from tests.qgis_plugin.conftest import make_environment

from prithvi_qgis import commands, running  # isort: skip - tests.qgis_plugin.conftest puts it on the path
from prithvi_qgis.environment import NEEDED, NoPrithviError, check, child_environment, program_of  # isort: skip

PLUGIN = ROOT / "qgis" / "prithvi_qgis"


def run(program: Path, *words: str, **more: object) -> tuple[str, list[float], list[str]]:
    """What a run printed, its progress, and what it told."""
    shares: list[float] = []
    told: list[str] = []
    given = {"progress": shares.append, "say": told.append, "detail": told.append, "stopped": lambda: False, **more}
    printed = running.run([str(program), *words], child_environment(os.environ, program), **given)  # type: ignore[arg-type]
    return printed, shares, told


def script(folder: Path, code: str) -> Path:
    """A program of this Python code."""
    path = folder / "program"
    path.write_text(f"#!{sys.executable}\n{code}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def alive(process: int) -> bool:
    """Whether a process runs; one that only waits to be asked for its status does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def soon(true: Callable[[], bool], seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def test_the_program_of_an_environment_is_found_by_its_folder_or_itself(environment: Path, tmp_path: Path) -> None:
    program = environment / "bin" / "prithvi"
    assert program_of(str(environment)) == program_of(f" {program} ") == program
    windows = tmp_path / "Scripts" / "prithvi.exe"
    windows.parent.mkdir()
    windows.touch()
    assert program_of(str(tmp_path)) == windows
    check(program, child_environment(os.environ, program))


def test_an_environment_without_prithvi_is_told_in_a_sentence_that_says_what_to_do(tmp_path: Path) -> None:
    empty = make_environment(tmp_path / "empty", None)
    for given, sentence in (
        ("", "No environment with prithvi is named: name its folder under Settings"),
        (str(tmp_path / "none"), f"There is no {tmp_path / 'none'}: name the folder"),
        (str(tmp_path), f"{tmp_path} is no Python environment"),
        (str(empty), f"without prithvi: '{empty / 'bin' / 'python'}' -m pip install FOLDER"),
    ):
        with pytest.raises(NoPrithviError) as error:
            program_of(given)
        assert sentence in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (  # as typer's answer is in a prithvi that has no --version yet
            "import sys\nsys.exit('Usage: prithvi [OPTIONS]\\n\\nError: No such option: --version')",
            "is an older prithvi, which cannot tell its version: update it",
        ),
        ("print('prithvi 0.0.9')", "is prithvi 0.0.9: update it, since this plugin needs 0.1.0 or later"),
        ("import nothing_of_this_name", "said: ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("print('something else')", "does not run as prithvi does"),
    ],
)
def test_a_program_that_is_no_new_enough_prithvi_is_told_in_a_sentence(
    tmp_path: Path, code: str, sentence: str
) -> None:
    program = program_of(str(make_environment(tmp_path / "env", code)))
    with pytest.raises(NoPrithviError) as error:
        check(program, child_environment(os.environ, program))
    assert str(error.value).startswith(str(program))
    assert sentence in str(error.value)


def test_a_program_that_cannot_be_run_is_told_in_a_sentence(tmp_path: Path) -> None:
    broken = tmp_path / "prithvi"
    broken.write_text("#!/nowhere/python\n")
    broken.chmod(0o755)
    with pytest.raises(NoPrithviError, match=r"cannot be run \(No such file or directory\): name another"):
        check(broken, child_environment(os.environ, broken))


def test_the_settings_of_qgis_s_own_libraries_do_not_reach_the_environment(environment: Path, tmp_path: Path) -> None:
    program = environment / "bin" / "prithvi"
    of_qgis = dict.fromkeys(("PYTHONHOME", "PYTHONPATH", "GDAL_DATA", "PROJ_LIB", "PROJ_DATA"), str(tmp_path))
    given = {**os.environ, **of_qgis, "LD_LIBRARY_PATH": str(tmp_path), "GDAL_HTTP_TIMEOUT": "5"}
    broken = subprocess.run([str(program), "--version"], env=given, capture_output=True, check=False)
    assert broken.returncode != 0  # with them its Python does not start
    passed = child_environment(given, program)
    assert not (of_qgis.keys() | {"LD_LIBRARY_PATH"}) & passed.keys()
    assert passed["GDAL_HTTP_TIMEOUT"] == "5"  # the user's own
    assert passed["PATH"].split(os.pathsep)[0] == str(program.parent)
    check(program, passed)
    windows = tmp_path / "conda" / "Scripts" / "prithvi.exe"
    path = os.pathsep.join(["/osgeo/bin", "/elsewhere"])
    found = child_environment({"PATH": path, "OSGEO4W_ROOT": "/osgeo"}, windows)["PATH"].split(os.pathsep)
    assert found == [
        str(windows.parent), str(tmp_path / "conda" / "Library" / "bin"), str(tmp_path / "conda"), "/elsewhere"
    ]  # fmt: skip


@pytest.mark.slow
def test_a_run_tells_its_progress_and_gives_what_it_printed(
    environment: Path, write_tif: Callable[..., Path], six_bands: np.ndarray, tmp_path: Path
) -> None:
    scene = write_tif(six_bands[:, :128, :160])
    printed, shares, told = run(
        environment / "bin" / "prithvi", "map", "water", str(scene), "-o", str(tmp_path / "maps"), "--json"
    )
    (made,) = json.loads(printed)
    assert made["map"] == str(tmp_path / "maps" / "scene.tif")
    assert shares == sorted(shares)
    assert len(shares) > 3
    assert shares[-1] == 100.0
    assert not any("progress" in line for line in told)


@pytest.mark.slow
def test_an_error_of_prithvi_is_its_own_sentence(environment: Path) -> None:
    program = environment / "bin" / "prithvi"
    with pytest.raises(running.RunError) as error:
        run(program, "map", "watr", "scene.tif", "-o", "maps")
    assert str(error.value) == "there is no model, file, folder or hub id 'watr': did you mean water?"
    with pytest.raises(running.RunError, match=r"^No such option: --ocean"):
        run(program, "map", "water", "scene.tif", "-o", "maps", "--ocean")


@pytest.mark.parametrize(
    ("code", "sentence", "shown"),
    [
        ("1 / 0", "prithvi met an error that it does not know (ZeroDivisionError: division by zero): the log", True),
        ("import os\nos.kill(os.getpid(), 9)", "The system ended prithvi (signal 9), most often because memory", False),
        ("import os\nos.kill(os.getpid(), 11)", "prithvi was ended by signal 11", False),
        ("import sys\nsys.exit(3)", "prithvi ended with status 3: it said nothing.", False),
        (
            "import sys\nsys.exit('2 scenes\\nb failed: it has no bands.')",
            "b failed: it has no bands.", True,
        ),
    ],
)  # fmt: skip
def test_what_is_no_error_of_prithvi_becomes_a_sentence_too(
    tmp_path: Path, code: str, sentence: str, shown: bool
) -> None:
    told: list[str] = []
    with pytest.raises(running.RunError) as error:
        run(script(tmp_path, code), detail=told.append, say=told.append)
    assert str(error.value).startswith(sentence)
    assert "\n" not in str(error.value)
    assert bool(told) == shown


def test_a_stopped_run_ends_with_all_that_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "GRACE", 1.0)
    numbers = tmp_path / "numbers"
    # Neither it nor its child minds an interrupt.
    program = script(
        tmp_path,
        "import os, signal, subprocess, sys, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(numbers)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}\\n')\ntime.sleep(600)",
    )
    with pytest.raises(running.StoppedError):
        run(program, stopped=lambda: numbers.exists() and "\n" in numbers.read_text())
    assert soon(lambda: not any(alive(int(number)) for number in numbers.read_text().split()), 10)


def visible(folder: Path) -> list[str]:
    """Files under a name of their own; rows for --resume wait in a hidden folder."""
    return [file.name for file in folder.iterdir() if not file.name.startswith(".")] if folder.is_dir() else []


def big_scene(write_tif: Callable[..., Path], six_bands: np.ndarray) -> Path:
    """One that takes a minute to map."""
    return write_tif(np.tile(six_bands, (1, 4, 4)), "big.tif")


@pytest.mark.slow
def test_a_stopped_map_leaves_nothing_under_a_final_name(
    environment: Path, write_tif: Callable[..., Path], six_bands: np.ndarray, tmp_path: Path
) -> None:
    scene, maps, shares = big_scene(write_tif, six_bands), tmp_path / "maps", [0.0]
    with pytest.raises(running.StoppedError):
        run(
            environment / "bin" / "prithvi", "map", "water", str(scene), "-o", str(maps), "--json",
            progress=shares.append, stopped=lambda: shares[-1] > 2,
        )  # fmt: skip
    assert 2 < shares[-1] < 60
    assert visible(maps) == []


def test_a_run_whose_qgis_dies_ends_by_itself(
    environment: Path, write_tif: Callable[..., Path], six_bands: np.ndarray, tmp_path: Path
) -> None:
    scene, maps, seen = big_scene(write_tif, six_bands), tmp_path / "maps", tmp_path / "seen"
    program = environment / "bin" / "prithvi"
    caller = script(
        tmp_path,
        f"import os, sys\nsys.path.insert(0, {str(ROOT / 'qgis')!r})\nfrom pathlib import Path\n"
        "from prithvi_qgis import environment, running\n"
        f"program = Path({str(program)!r})\n"
        f"running.run([str(program), 'map', 'water', {str(scene)!r}, '-o', {str(maps)!r}],"
        "environment.child_environment(os.environ, program), say=print, detail=print, stopped=lambda: False,"
        f"progress=lambda share: Path({str(seen)!r}).touch())",
    )
    process = subprocess.Popen([str(caller)], stdout=subprocess.DEVNULL)
    assert soon(seen.exists, 120)
    (child,) = map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert alive(child)
    assert soon(lambda: not alive(child), 30)
    assert visible(maps) == []


def test_words_are_those_one_would_type() -> None:
    options = {"output": "o", "date": ["2022-05-31", "2022-06-02"], "json": True, "aoi": "", "resume": False, "x": None}
    assert commands.words_of("map", ["water", "a b.tif"], options, "--overlap .5 --title 'a map'") == [
        "map", "water", "a b.tif", "--output", "o", "--date", "2022-05-31", "--date", "2022-06-02", "--json",
        "--overlap", ".5", "--title", "a map",
    ]  # fmt: skip
    assert commands.listed(" 2022-05-31, 2022-06-02;20220603\n") == ["2022-05-31", "2022-06-02", "20220603"]


def test_a_layer_is_opened_by_its_file() -> None:
    assert commands.source_of("gdal", "/d/a.tif", {"path": "/d/a.tif"}) == "/d/a.tif"
    remote = "/vsicurl/https://example.com/a.tif"
    assert commands.source_of("gdal", remote, {"path": remote}) == "https://example.com/a.tif"
    part = 'NETCDF:"/d/a.nc":red'
    assert commands.source_of("gdal", part, {"path": "/d/a.nc", "layerName": "red"}) == part
    assert commands.source_of("wms", "url=https://example.com", {}) is None


def test_options_in_a_sentence_are_told_by_the_names_that_qgis_shows() -> None:
    told = commands.in_words_of_qgis("say --date or --scale.", {"--date": "'Dates'"})
    assert told == "say --date or --scale. (Here --date is 'Dates', --scale is one of the further options.)"
    assert commands.in_words_of_qgis("did you mean water?", {}) == "did you mean water?"


def test_the_program_tells_its_version_and_refuses_another_progress(
    prithvi: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch, write_tif: Callable[..., Path],
    six_bands: np.ndarray, tmp_path: Path,
) -> None:  # fmt: skip
    assert prithvi("--version").out == f"prithvi {package.__version__}\n"
    monkeypatch.setenv("PRITHVI_PROGRESS", "yaml")
    answer = prithvi("map", "water", write_tif(six_bands[:, :64, :64]), "-o", tmp_path / "maps")
    assert answer.code == 2
    assert answer.err == "Error: PRITHVI_PROGRESS is not bar or json, but 'yaml': known are bar, json.\n"


def test_filling_tells_its_files_as_json(
    prithvi: Callable[..., Answer], write_tif: Callable[..., Path], six_bands: np.ndarray, tmp_path: Path
) -> None:
    dates = [write_tif(six_bands[:, :64, n : n + 64], f"2022-0{n + 5}-01.tif") for n in range(3)]
    given = [word for n in range(3) for word in ("--date", f"2022-0{n + 5}-01")]
    answer = prithvi("fill", *dates, *given, "--method", "linear", "-o", tmp_path / "filled", "--json")
    assert answer.code == 0, answer.err
    told = json.loads(answer.out)
    assert told["files"] == [str(tmp_path / "filled" / f"{date}.tif") for date in told["dates"]]
    assert all(Path(file).is_file() for file in told["files"])
    assert (told["observed"] + told["filled"] + told["empty"]) == 3 * 64 * 64


def test_the_zip_holds_the_plugin_alone_and_fits_this_prithvi(tmp_path: Path) -> None:
    for name in "ab":
        subprocess.run([sys.executable, str(ROOT / "qgis" / "zip_plugin.py"), str(tmp_path / name)], check=True)
    made = tmp_path / "a" / "prithvi_qgis.zip"
    assert made.read_bytes() == (tmp_path / "b" / "prithvi_qgis.zip").read_bytes()
    with zipfile.ZipFile(made) as archive:
        names = {Path(name) for name in archive.namelist()}
        stated = ConfigParser()
        stated.read_string(archive.read("prithvi_qgis/metadata.txt").decode())
    assert {name.parts[0] for name in names} == {"prithvi_qgis"}
    assert {name.name for name in names} >= {"LICENSE", "__init__.py", "metadata.txt", "icon.svg", "map.py"}
    assert {name.suffix for name in names} == {"", ".py", ".txt", ".svg"}
    assert stated["general"]["version"] == package.__version__
    assert stated["general"]["hasProcessingProvider"] == "yes"
    assert tuple(map(int, re.findall(r"\d+", package.__version__))) >= NEEDED


@pytest.mark.parametrize("file", sorted(PLUGIN.glob("*.py")), ids=lambda file: file.name)
def test_the_plugin_reads_as_python_3_9_and_imports_nothing_that_qgis_has_not(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"), feature_version=(3, 9))
    imported = [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
    imported += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) if not node.level]
    foreign = {name.partition(".")[0] for name in imported} - set(sys.stdlib_module_names) - {"qgis", "processing"}
    assert not foreign
