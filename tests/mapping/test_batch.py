"""Many scenes in one command: which files are one scene, what becomes of those that fail, and the same on a cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import distributed  # noqa: F401 - its settings are there before one is changed
import numpy as np
import pandas as pd
import pytest
import rasterio

from prithvi.errors import ConfigError, OutputError
from prithvi.mapping.batch import MANIFEST, map_files, opened
from prithvi.modelio import save
from prithvi.products.jobs import jobs_of
from tests.clusters import cluster
from tests.conftest import Answer, small_task
from tests.kill_runs import content
from tests.mapping.kill_mapper import OPENING, OPTIONS

Cli = Callable[..., Answer]
Write = Callable[..., Path]
REPOSITORY = Path(__file__).resolve().parents[2]
L30, S30 = "HLS.L30.T31TDF.2022100T105000.v2.0", "HLS.S30.T31TDF.2022105T105000.v2.0"


def maps(*sources: str, together: bool = False) -> dict[str, list[str]]:
    """Name of each map to its sources."""
    return {Path(job.path).name: list(job.sources) for job in jobs_of(sources, "out", together)}


@pytest.mark.parametrize(
    ("granule", "files"),
    [
        (L30, [f"in/{L30}.{band}.tif" for band in ("B02", "B03", "B06", "Fmask", "SZA")]),
        (S30, [f"in/{S30}.{band}.tif" for band in ("B02", "B8A", "B11", "Fmask")]),
        (
            "T31TDF_20220410T105031",
            ["in/R10m/T31TDF_20220410T105031_B02_10m.jp2", "in/R20m/T31TDF_20220410T105031_B8A_20m.jp2"],
        ),
        ("T31TDF_20220410T105031", [f"in/T31TDF_20220410T105031_{band}.jp2" for band in ("B02", "B12")]),
        (
            "LC08_L2SP_198029_20220410_20220412_02_T1",
            [f"in/LC08_L2SP_198029_20220410_20220412_02_T1_{end}.TIF" for end in ("SR_B2", "SR_B7", "QA_PIXEL")],
        ),
        ("LC80340322016189LGN00", [f"in/LC80340322016189LGN00_{end}.tif" for end in ("sr_band2", "sr_band7", "bqa")]),
        (L30, [f"https://example.org/{L30}/{L30}.{band}.tif?signature=a/b.c" for band in ("B02", "B03")]),
    ],
)  # fmt: skip
def test_the_files_of_a_granule_are_one_scene(granule: str, files: list[str]) -> None:
    assert maps(*files) == {f"{granule}.tif": files}
    assert maps(*files, "in/other.tif") == {f"{granule}.tif": files, "other.tif": ["in/other.tif"]}


def test_each_granule_and_each_other_source_is_a_scene() -> None:
    bands = [f"in/{granule}.{band}.tif" for band in ("B02", "B03") for granule in (L30, S30)]
    folders = ["in/first/", "in/T31TDF_20220410T105031.SAFE", "in/item.json", "https://example.org/a/x.tif?key=s/t.u"]
    assert maps(*bands, *folders) == {
        f"{L30}.tif": bands[::2], f"{S30}.tif": bands[1::2], "first.tif": folders[:1],
        "T31TDF_20220410T105031.tif": folders[1:2], "item.tif": folders[2:3], "x.tif": folders[3:],
    }  # fmt: skip
    assert maps("in/a.tif", "in/b.tif", together=True) == {"a.tif": ["in/a.tif", "in/b.tif"]}
    assert maps(*bands, together=True) == {f"{L30}.tif": bands}
    assert "s/t" not in jobs_of(folders[3:], "out")[0].name


def test_maps_that_would_replace_each_other_or_a_scene(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"in/b/x\.vrt and in/a/x\.tif would both become out/x\.tif: map them into"):
        maps("in/a/x.tif", "in/b/x.vrt")
    for name in ("scene.tif", "item.json"):
        file = tmp_path / name
        file.write_text("")
        (tmp_path / "link").symlink_to(tmp_path)
        with pytest.raises(OutputError, match=f"{name} is one of the inputs: choose another name or folder"):
            jobs_of([str(file)], tmp_path / "link")
        (tmp_path / "link").unlink()


@pytest.fixture
def ten(write_tif: Write, six_bands: np.ndarray, tmp_path: Path) -> list[Path]:
    """Ten scenes of 96 x 80 pixels, the fourth cut short."""
    files = []
    for number in range(10):
        pixels = six_bands[:, 40 * number : 40 * number + 96, 300:380]
        files.append(write_tif(pixels, f"s{number}.tif", compress="deflate"))
    files[3].write_bytes(files[3].read_bytes()[: files[3].stat().st_size // 2])
    return files


def manifest(folder: Path) -> dict[str, Any]:
    table = pd.read_parquet(folder / MANIFEST)
    assert list(table) == ["scene", "map", "state", "error", "pixels", "seconds"]
    return {Path(row["scene"]).name: row for row in table.to_dict("records")}


def test_one_that_fails_is_named_and_the_others_are_mapped(
    prithvi: Cli, ten: list[Path], model_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    answer = prithvi("map", model_folder, *ten, "-o", out, "--polygons", "none")
    assert answer.code == 1, answer
    assert f"10 scenes: 9 done, 1 failed ({out}/manifest.parquet names them)" in answer.out
    failures = [line for line in answer.err.splitlines() if "failed: " in line]
    assert len(failures) == 1
    assert failures[0].startswith("s3.tif failed: ")
    assert "damaged" in failures[0]
    assert "Traceback" not in answer.err
    rows = manifest(out)
    assert list(rows) == [f"s{number}.tif" for number in range(10)]
    for name, row in rows.items():
        assert (row["state"], row["map"]) == ("failed" if name == "s3.tif" else "done", str(out / name))
        if row["state"] == "done":
            with rasterio.open(out / name) as made:
                assert made.shape == (96, 80)
                counts = np.bincount(made.read(1).ravel(), minlength=2)
            assert json.loads(row["pixels"]) == {"land": counts[0], "water": counts[1]}
            assert row["error"] == ""
    assert "damaged" in rows["s3.tif"]["error"]
    assert not (out / "s3.tif").exists()
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def test_resume_maps_what_is_missing_or_failed(
    prithvi: Cli, ten: list[Path], model_folder: Path, six_bands: np.ndarray, write_tif: Write, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ["map", model_folder, *ten[:5], "-o", out, "--polygons", "none"]
    assert prithvi(*words).code == 1
    ten[3].unlink()
    write_tif(six_bands[:, 120:216, 300:380], "s3.tif")  # fetched again
    (out / "s1.tif").unlink()
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.tif")}
    answer = prithvi(*words, "--resume", "--json")
    assert answer.code == 0, answer
    after = {path.name: path.stat().st_mtime_ns for path in out.glob("*.tif")}
    assert set(after) == {f"s{number}.tif" for number in range(5)}
    assert {name: after[name] for name in before} == before
    found = json.loads(answer.out)
    assert [Path(one["map"]).name for one in found] == [f"s{number}.tif" for number in range(5)]
    assert all(one["error"] is None and sum(one["pixels"].values()) == 96 * 80 for one in found)
    assert all(Path(file).is_file() for one in found for file in one["files"])
    assert {row["state"] for row in manifest(out).values()} == {"done"}


def test_json_names_what_failed(prithvi: Cli, ten: list[Path], model_folder: Path, tmp_path: Path) -> None:
    answer = prithvi("map", model_folder, *ten[2:4], "-o", tmp_path / "out", "--polygons", "none", "--json")
    assert answer.code == 1
    good, bad = json.loads(answer.out)
    assert (good["scene"], good["error"]) == ([str(ten[2])], None)
    assert (bad["scene"], bad["map"], bad["pixels"], bad["files"]) == ([str(ten[3])], None, None, [])
    assert "damaged" in bad["error"]


def test_a_scene_that_comes_in_time_is_tried_again(
    ten: list[Path], model_folder: Path, six_bands: np.ndarray, write_tif: Write, tmp_path: Path
) -> None:
    """Between two tries its file is mended."""
    jobs, seen = jobs_of([str(path) for path in ten[2:5]], tmp_path / "out"), []

    def mend(done: int, whole: int) -> None:
        seen.append((done, whole))
        if done == 3:
            ten[3].unlink()
            write_tif(six_bands[:, 120:216, 300:380], "s3.tif")

    for retries, state in ((0, "failed"), (1, "done")):
        ten[3].write_bytes(ten[3].read_bytes()[:2000])
        options = {"stride": 32, "command": "here"}
        outcomes = map_files(str(model_folder), jobs, tmp_path / "out", {}, options, retries=retries, progress=mend)
        assert [bool(outcome.result) for outcome in outcomes] == [True, state == "done", True]
        assert manifest(tmp_path / "out")["s3.tif"]["state"] == state
    assert seen[-1] == (3, 3)


def test_a_model_that_was_written_anew_is_opened_anew(tmp_path: Path) -> None:
    folder = save(small_task().fitted(seed=0), tmp_path / "model")
    first = opened(str(folder))
    assert opened(str(folder)) is first
    save(small_task(head="fcn").fitted(seed=1), folder)
    assert opened(str(folder)).sha256 != first.sha256


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_makes_the_same_bytes(
    ten: list[Path], model_folder: Path, tmp_path: Path
) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    script = [sys.executable, REPOSITORY / "tests" / "mapping" / "kill_mapper.py", model_folder, there, "together"]
    path = {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(word) for word in (*script, *ten)], capture_output=True, text=True, env=os.environ | path, timeout=300
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["killed"]
    assert list(told["failed"]) == ["s3.tif"]
    assert "damaged" in told["failed"]["s3.tif"]
    assert told["progress"][-1] == [10, 10]
    jobs = jobs_of([str(path) for path in ten], here)
    outcomes = map_files(str(model_folder), jobs, here, OPENING, {**OPTIONS, "command": "together"})
    assert [outcome.job.name for outcome in outcomes if outcome.result is None] == ["s3.tif"]
    found, expected = content(there), content(here)
    assert {name: row["state"] for name, row in manifest(there).items()} == {
        name: row["state"] for name, row in manifest(here).items()
    }
    del found[MANIFEST], expected[MANIFEST]
    assert len(expected) == 9 * 6  # map, its .aux.xml, confidence, polygons, item, style
    assert found == expected


@pytest.mark.slow
@pytest.mark.filterwarnings("default:the Dask scheduler at .* has no worker")
def test_a_map_whose_cluster_has_no_worker_left_ends_and_goes_on_with_one(
    prithvi: Cli, ten: list[Path], model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    monkeypatch.chdir(tmp_path)
    with cluster(workers=1) as made:  # in another working folder
        words = ("map", model_folder, *ten[4:], "-o", out.name, "--stride", "8", "--scheduler", made.address)
        first = made.workers[0].pid
        killed = threading.Thread(target=lambda: (until(out, "s*.tif"), made.kill(first)), daemon=True)
        killed.start()
        with dask.config.set({"distributed.scheduler.no-workers-timeout": "20s"}):
            answer = prithvi(*words)
        killed.join(10)
        assert answer.code == 2, answer
        lines = [line for line in answer.err.splitlines() if line.startswith("Error: ")]
        assert lines == [line for line in lines if "has had no worker for 20 seconds: start some" in line] != []
        assert "Traceback" not in answer.err
        made.add()
        assert prithvi(*words).code == 0
    assert {row["state"] for row in manifest(out).values()} == {"done"}


@pytest.mark.slow
def test_a_folder_of_maps_is_not_taken_for_the_package_s_model_of_its_name(
    prithvi: Cli, ten: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten seconds, in which a scheduler is looked for that is not there: model and scenes were accepted then."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "water").mkdir()
    scheduler = ("--scheduler", "tcp://127.0.0.1:9")
    answer = prithvi("map", "water", *ten[4:6], "-o", "water", "--date", "2022-05-31", *scheduler)
    assert answer.code == 2
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in answer.err


def until(folder: Path, pattern: str) -> None:
    while not list(folder.glob(pattern)):
        time.sleep(0.001)
