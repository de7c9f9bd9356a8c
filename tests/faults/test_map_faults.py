"""What breaks off a map: kills, full disks, servers, Ctrl-C. No half map is left, and --resume ends in the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from shapely.geometry import box

from prithvi.errors import ConfigError, OutputError, SceneError
from prithvi.mapping import Products, map_scene
from prithvi.modelio.predictor import FittedModel
from prithvi.scenes import Area, open_scene
from tests.conftest import Answer, small_task
from tests.faults.test_bad_input import refused
from tests.http_files import Served, serve_folder
from tests.kill_runs import content

Cli = Callable[..., Answer]
Write = Callable[..., Path]
REPOSITORY = Path(__file__).resolve().parents[2]
RUN = "from prithvi.cli import main; main()"
HEARS = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
"""What a shell starts in the background does not hear Ctrl-C, and hands that on to what it starts."""
ALWAYS = 10**6
ALL = Products(True, "uint8", "parquet", item=True, style=True)
SIZE, LARGE = (400, 140), (700, 300)


@pytest.fixture
def scene(write_tif: Write, six_bands: np.ndarray) -> Path:
    """400 x 140 pixels in tiles, a hole in them."""
    pixels = six_bands[:, : SIZE[0], 100 : 100 + SIZE[1]].copy()
    pixels[:, 200:230, 40:90] = -9999
    return write_tif(pixels, nodata=-9999, tiled=True, blockxsize=64, blockysize=64)


@pytest.fixture
def large(write_tif: Write, six_bands: np.ndarray) -> Path:
    """700 x 300 pixels: its products outgrow its rows."""
    pixels = np.tile(six_bands, (1, 2, 1))[:, : LARGE[0], 100 : 100 + LARGE[1]]
    return write_tif(pixels, tiled=True, blockxsize=64, blockysize=64)


@pytest.fixture
def tall(write_tif: Write, six_bands: np.ndarray) -> Path:
    """3,200 x 140 pixels: nine squares of 256 are looked at before a map begins, none in its last rows."""
    pixels = np.tile(six_bands, (1, 7, 1))[:, :3200, 100:240]
    return write_tif(pixels, tiled=True, blockxsize=64, blockysize=64)


@pytest.fixture
def zones(tmp_path: Path) -> Path:
    path = tmp_path / "zones.geojson"
    shapes = [box(600_100, 4_194_000, 600_700, 4_199_000), box(600_700, 4_194_000, 604_000, 4_199_000)]
    gpd.GeoDataFrame({"farm": ["a", "b"]}, geometry=shapes, crs="EPSG:32630").to_crs(4326).to_file(path)
    return path


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}


def command(*words: object, before: str = "") -> subprocess.CompletedProcess[str]:
    """A run in a process of its own, after some lines of Python; on one thread, as all whose bytes are compared."""
    code = [sys.executable, "-c", f"{before}\n{RUN}", *map(str, words)]
    return subprocess.run(code, capture_output=True, text=True, env=environment(), timeout=300)


@contextmanager
def begun(out: Path, *words: object) -> Iterator[subprocess.Popen[str]]:
    """A run of its own that has finished its first rows."""
    code = [sys.executable, "-c", f"{HEARS}\n{RUN}", *map(str, words), "-o", str(out)]
    traced = {**environment(), "PYTHONFAULTHANDLER": "1"}
    with subprocess.Popen(code, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=traced) as process:
        try:
            until = time.monotonic() + 120
            while not list(out.glob(".*.partial/journal.json")):
                if process.poll() is not None or time.monotonic() > until:
                    process.send_signal(signal.SIGABRT)  # says where it stands
                    raise AssertionError(process.communicate()[1])
                time.sleep(0.01)
            yield process
        finally:
            process.kill()


def interrupted(process: subprocess.Popen[str]) -> str:
    """What a run says after Ctrl-C; where it stands, if it does not end."""
    process.send_signal(signal.SIGINT)
    try:
        return process.communicate(timeout=30)[1]
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        return process.communicate()[1]


def stop_at(share: float, seen: list[tuple[int, int]]) -> Callable[[int, int], None]:
    """A progress that presses Ctrl-C."""

    def progress(done: int, whole: int) -> None:
        seen.append((done, whole))
        if done >= share * whole:
            raise KeyboardInterrupt

    return progress


def pixels_of(path: Path) -> np.ndarray:
    with rasterio.open(path) as raster:
        values: np.ndarray = raster.read()
    return values


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
@pytest.mark.parametrize("count", [3, 10])
def test_a_killed_map_goes_on_and_ends_in_the_same_bytes(
    count: int, scene: Path, zones: Path, model_folder: Path, tmp_path: Path
) -> None:
    words = ["map", model_folder, scene, "--date", "2019-09-18", "--stride", 6, "--zones", zones, "--confidence"]
    words += ["--probabilities", "float32"]
    kills = [sys.executable, REPOSITORY / "tests" / "kill_runs.py", tmp_path / "work", count, count, *words]
    done = subprocess.run([str(word) for word in kills], capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["code"] == 0
    ends = (".json", ".parquet", ".qml", ".tif", ".tif.aux.xml", "_confidence.tif", "_probabilities.tif", "_zones.csv")
    assert found["files"] == sorted(f"scene{end}" for end in (*ends, "_zones.parquet"))
    assert len(found["runs"]) == count
    assert any(".scene.tif.partial/journal.json" in run["left"] for run in found["runs"])
    for run in found["runs"]:
        assert "scene.tif" not in run["left"] or set(found["files"]) <= set(run["left"]), run
        assert run["code"] == 0
        assert run["differ"] == []


def other_model() -> FittedModel:
    return small_task(head="fcn").fitted(seed=3)


@pytest.mark.parametrize("change", ["nothing", "stride", "model", "input", "bands", "area", "products"])
def test_only_a_run_of_the_same_goes_on(change: str, scene: Path, fitted: FittedModel, tmp_path: Path) -> None:
    first: dict[str, Any] = {"stride": 32, "products": ALL}
    out, fresh, seen = tmp_path / "out" / "map.tif", tmp_path / "fresh" / "map.tif", []
    with pytest.raises(KeyboardInterrupt):
        map_scene(fitted, open_scene(scene), out, progress=stop_at(0.5, []), **first)
    assert [path.name for path in out.parent.iterdir()] == [".map.tif.partial"]
    model, opened, then = fitted, open_scene(scene), dict(first)
    if change == "stride":
        then["stride"] = 24
    elif change == "model":
        model = other_model()
    elif change == "input":
        os.utime(scene, ns=(1, 1))
        opened = open_scene(scene)
    elif change == "bands":
        opened = open_scene(scene, bands=[6, 5, 4, 3, 2, 1])
    elif change == "area":
        then["area"] = Area.box(-1.86, 37.88, -1.85, 37.92)
    elif change == "products":
        then["products"] = Products(True)
    map_scene(model, opened, out, resume=True, progress=lambda *at: seen.append(at), **then)
    assert (seen[0][0] > 0.2 * seen[0][1]) == (change == "nothing"), seen[0]
    assert seen[-1][0] == seen[-1][1]
    map_scene(model, opened, fresh, **then)
    assert content(out.parent) == content(fresh.parent)


@pytest.mark.parametrize("name", ["map.tif", ".map.tif.lock"])
def test_an_error_before_the_run_begins_leaves_the_finished_rows(
    name: str, scene: Path, fitted: FittedModel, tmp_path: Path
) -> None:
    out, seen = tmp_path / "out" / "map.tif", []
    with pytest.raises(KeyboardInterrupt):
        map_scene(fitted, open_scene(scene), out, progress=stop_at(0.5, []))
    kept = content(out.parent / ".map.tif.partial")
    assert kept
    (out.parent / name).mkdir()
    with pytest.raises(OutputError, match=r"map\.tif cannot be written"):
        map_scene(fitted, open_scene(scene), out, resume=True)
    assert content(out.parent / ".map.tif.partial") == kept
    (out.parent / name).rmdir()
    map_scene(fitted, open_scene(scene), out, resume=True, progress=lambda *at: seen.append(at))
    assert seen[0][0] > 0.2 * seen[0][1]


def test_a_map_of_other_pixels_is_never_taken_for_this_one(scene: Path, fitted: FittedModel, tmp_path: Path) -> None:
    """Pixels in memory are told apart by their values; those that are calculated lazily cannot be."""
    path = tmp_path / "out" / "map.tif"
    opened = open_scene(scene)
    first, second = opened.compute(), opened.where(opened["x"] > opened["x"][70])
    whole = map_scene(fitted, first, path, resume=True)
    when = path.stat().st_mtime_ns
    assert map_scene(fitted, open_scene(scene).compute(), path, resume=True).pixels == whole.pixels
    assert path.stat().st_mtime_ns == when
    with pytest.raises(ConfigError, match=r"leave resume out, or take it into memory \(\.compute\(\)\)\."):
        map_scene(fitted, second, path, resume=True)
    assert path.stat().st_mtime_ns == when
    half = map_scene(fitted, second.compute(), path, resume=True)
    assert half.without_data >= SIZE[0] * 71
    assert map_scene(fitted, second, tmp_path / "lazy.tif").pixels == half.pixels
    np.testing.assert_array_equal(pixels_of(path), pixels_of(tmp_path / "lazy.tif"))
    with rasterio.open(tmp_path / "lazy.tif") as raster:
        assert "PRITHVI_RUN" not in raster.tags()


def test_a_finished_map_is_left_and_one_that_lost_a_file_is_made_again(
    scene: Path, fitted: FittedModel, tmp_path: Path
) -> None:
    path = tmp_path / "out" / "map.tif"
    map_scene(fitted, open_scene(scene), path, products=ALL)
    whole, when = content(path.parent), path.stat().st_mtime_ns
    result = map_scene(fitted, open_scene(scene), path, products=ALL, resume=True)
    assert path.stat().st_mtime_ns == when
    assert [file.name for file in result.files] == [
        "map.tif", "map.tif.aux.xml", "map_confidence.tif", "map_probabilities.tif", "map.parquet", "map.qml",
    ]  # fmt: skip
    path.with_suffix(".parquet").unlink()
    map_scene(fitted, open_scene(scene), path, products=ALL, resume=True)
    assert content(path.parent) == whole


@pytest.mark.slow
def test_a_second_process_is_refused_and_ctrl_c_keeps_the_rows(
    prithvi: Cli, scene: Path, model_folder: Path, tmp_path: Path
) -> None:
    words, out = ["map", model_folder, scene, "--stride", 4, "--polygons", "none"], tmp_path / "out"
    with begun(out, *words) as process:
        refused(prithvi(*words, "-o", out), "out/scene.tif is being made by another process.")
        told = interrupted(process)
    assert process.returncode == 130, told
    assert told.splitlines()[-1] == "Stopped: --resume goes on from what is finished."
    assert "Traceback" not in told
    assert [path.name for path in out.iterdir()] == [".scene.tif.partial"]
    done = command(*words, "-o", out, "--resume")
    assert done.returncode == 0, done.stderr
    expected = content(out)
    assert command(*words, "-o", out).returncode == 0
    assert content(out) == expected


@pytest.mark.slow
def test_ctrl_c_ends_a_run_of_many(scene: Path, model_folder: Path, tmp_path: Path) -> None:
    other = scene.with_name("other.tif")
    other.write_bytes(scene.read_bytes())
    with begun(tmp_path / "out", "map", model_folder, scene, other, "--stride", 2) as process:
        told = interrupted(process)  # the whole map takes longer
    assert process.returncode == 130, told
    assert told.splitlines()[-1].startswith("Stopped: ")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".scene.tif.partial"]


LIMIT = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of POSIX")
def test_a_disk_that_fills_up(large: Path, model_folder: Path, tmp_path: Path) -> None:
    """First when rows are written, then when GDAL makes a product of them: a file may not grow above a limit."""
    out = tmp_path / "out"
    words = ["map", model_folder, large, "-o", out, "--probabilities", "float32", "--polygons", "none", "--stride", 16]
    assert command(*words).returncode == 0
    whole = content(out)
    raw, product = 2 * 4 * LARGE[0] * LARGE[1], len(whole["scene_probabilities.tif"])
    for file in out.iterdir():
        file.unlink()
    limits = [raw // 2, (raw + product) // 2]
    assert raw < product
    for limit, rows in zip(limits, (range(200, 400), range(LARGE[0], LARGE[0] + 1)), strict=True):
        done = command(*words, "--resume", before=LIMIT.format(limit))
        assert done.returncode == 2, done.stderr
        last = done.stderr.splitlines()[-1]
        assert last.startswith("Error: "), done.stderr
        assert "out/scene.tif cannot be written" in last
        assert "is the disk full?" in last
        assert int(last.partition("The first ")[2].split()[0]) in rows, last
        assert last.endswith("--resume goes on from there.")
        assert [path.name for path in out.iterdir()] == [".scene.tif.partial"]
    assert command(*words, "--resume").returncode == 0
    assert content(out) == whole


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of POSIX")
def test_a_disk_that_fills_up_with_polygons(
    write_tif: Write, six_bands: np.ndarray, model_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ["map", model_folder, write_tif(six_bands[:, :160, :160]), "-o", out]
    assert command(*words).returncode == 0
    whole = content(out)
    limit = len(whole["scene.parquet"]) - 1000
    assert limit > 4 * 160 * 160
    for file in out.iterdir():
        file.unlink()
    done = command(*words, before=LIMIT.format(limit))
    assert done.returncode == 2, done.stderr
    assert f"Error: {out}/scene.parquet cannot be written" in done.stderr.splitlines()[-1]
    assert "File too large" in done.stderr.splitlines()[-1]
    assert [path.name for path in out.iterdir()] == [".scene.tif.partial"]
    assert command(*words, "--resume").returncode == 0
    assert content(out) == whole


def test_what_a_map_is_made_of_is_not_written_over(
    prithvi: Cli, scene: Path, zones: Path, model_folder: Path, fitted: FittedModel, tmp_path: Path
) -> None:
    with pytest.raises(OutputError, match=r"scene\.tif is one of the inputs: choose another name or folder"):
        map_scene(fitted, open_scene(scene), scene)
    file = tmp_path / "out" / "scene.parquet"
    file.parent.mkdir()
    gpd.read_file(zones).to_parquet(file)
    before = file.read_bytes()
    refused(
        prithvi("map", model_folder, scene, "-o", file.parent, "--zones", file), "scene.parquet is one of the inputs"
    )
    assert file.read_bytes() == before


def test_places_that_cannot_be_written(prithvi: Cli, scene: Path, model_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "scene.tif").mkdir(parents=True)
    refused(prithvi("map", model_folder, scene, "-o", out), "cannot be written", "scene.tif is a folder")
    assert [path.name for path in out.iterdir()] == ["scene.tif"]
    (out / "scene.tif").rmdir()
    if os.name == "posix" and os.geteuid() != 0:  # root may write everywhere
        out.chmod(0o500)
        refused(prithvi("map", model_folder, scene, "-o", out), "cannot be written (Permission denied)")
        out.chmod(0o700)
    (out / ".scene.tif.partial").write_text("")
    refused(prithvi("map", model_folder, scene, "-o", out), "cannot be written")
    assert [path.name for path in out.iterdir()] == [".scene.tif.partial"]


@pytest.mark.parametrize("compress", ["none", "deflate"])
def test_a_scene_that_ends_in_a_tile(
    compress: str, prithvi: Cli, six_bands: np.ndarray, write_tif: Write, model_folder: Path, tmp_path: Path
) -> None:
    """It is mapped when it was fetched again."""
    path = write_tif(six_bands[..., :160], driver="COG", blocksize=128, compress=compress)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 7 // 10])
    out = tmp_path / "out"
    refused(prithvi("map", model_folder, path, "-o", out), "scene.tif is damaged or cut short")
    assert not out.exists() or [file.name for file in out.iterdir()] in ([], [".scene.tif.partial"])
    path.write_bytes(whole)
    assert prithvi("map", model_folder, path, "-o", out, "--resume").code == 0
    resumed = content(out)
    assert prithvi("map", model_folder, path, "-o", out).code == 0
    assert content(out) == resumed


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GDAL_HTTP_RETRY_DELAY", "0.05")
    with serve_folder(tmp_path) as server:
        yield server


def half_way(act: Callable[[], None]) -> Callable[[int, int], None]:
    """A progress that does something once in the middle."""
    done_it = []

    def progress(done: int, whole: int) -> None:
        if 2 * done >= whole and not done_it:
            done_it.append(act())

    return progress


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["failures", "drops"])
def test_a_server_that_fails_twice_changes_nothing(
    trouble: str, served: Served, tall: Path, fitted: FittedModel, tmp_path: Path
) -> None:
    served.status = 500
    local = map_scene(fitted, open_scene(tall), tmp_path / "local" / "map.tif", products=ALL, stride=32)
    remote = map_scene(
        fitted, open_scene(f"{served.url}/scene.tif"), tmp_path / "remote" / "map.tif", products=ALL, stride=32,
        progress=half_way(lambda: setattr(served, trouble, 2)),
    )  # fmt: skip
    assert (served.failures, served.drops) == (0, 0)  # it was asked, and failed
    assert remote.pixels == local.pixels
    for one, other in zip(local.files, remote.files, strict=True):
        if one.suffix == ".tif":
            np.testing.assert_array_equal(pixels_of(one), pixels_of(other))
    assert gpd.read_parquet(local.path.with_suffix(".parquet")).equals(
        gpd.read_parquet(remote.path.with_suffix(".parquet"))
    )


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["failures", "drops"])
def test_a_server_that_comes_back_another_day(
    trouble: str, served: Served, tall: Path, fitted: FittedModel, tmp_path: Path
) -> None:
    address, out = f"{served.url}/scene.tif", tmp_path / "out" / "map.tif"
    how: dict[str, Any] = {"products": ALL, "stride": 32}
    with pytest.raises(SceneError, match=r"scene\.tif could not be .*\. The first [\d,]+ rows are kept: --resume goes"):
        map_scene(fitted, open_scene(address), out, progress=half_way(lambda: setattr(served, trouble, ALWAYS)), **how)
    assert [path.name for path in out.parent.iterdir()] == [".map.tif.partial"]
    setattr(served, trouble, 0)
    seen: list[tuple[int, int]] = []
    map_scene(
        fitted, open_scene(f"{address}?signed=anew"), out, resume=True,
        progress=lambda *at: seen.append(at), **how,
    )  # fmt: skip
    assert seen[0][0] > 0
    whole = tmp_path / "whole" / "map.tif"
    map_scene(fitted, open_scene(address), whole, **how)
    assert content(out.parent) == content(whole.parent)
