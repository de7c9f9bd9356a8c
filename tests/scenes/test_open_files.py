"""How many files stay open: as many as their blocks leave room for."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from prithvi.scenes import open_files
from prithvi.scenes.open_files import _Handles, of_file

BLOCK = 4 * 16 * 16 * 2
"""Bytes of a block of all four bands."""


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], list[str]]:
    def write(interleave: str) -> list[str]:
        paths = [str(tmp_path / f"{interleave}{number}.tif") for number in range(6)]
        for path in paths:
            with rasterio.open(
                path, "w", driver="GTiff", width=20, height=20, count=4, dtype="int16", tiled=True, blockxsize=16,
                blockysize=16, interleave=interleave, crs="EPSG:32631", transform=from_origin(0, 0, 10, 10),
            ) as raster:  # fmt: skip
                raster.write(np.ones((4, 20, 20), np.int16))
        return paths

    return write


@pytest.mark.parametrize(
    ("interleave", "room", "stay"),
    [("pixel", 3 * BLOCK, 3), ("pixel", BLOCK // 2, 1), ("pixel", 100 * BLOCK, 6), ("band", BLOCK, 6)],
)
def test_the_last_ones_stay_open(
    interleave: str, room: int, stay: int, written: Callable[[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file whose bands lie together holds a block of all of them; the one that was read last always stays."""
    paths, handles = written(interleave), _Handles()
    monkeypatch.setattr(open_files, "_handles", handles)
    monkeypatch.setattr(open_files, "_HELD", room * len(open_files._threads))
    for path in [*paths, *paths]:
        assert of_file(path, lambda raster: raster.read(1)).sum() == 400
    assert [path for path, _ in handles.open] == paths[-stay:]
    assert not any(raster.closed for raster in handles.open.values())
    assert handles.open.keys() <= handles.held.keys()
    assert len(handles.held) == stay


def test_threads_share_the_room_as_long_as_they_live(
    written: Callable[[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, before = written("pixel"), len(open_files._threads)
    found = []

    def read() -> None:
        of_file(paths[0], lambda raster: raster.read(1))
        found.append(len(open_files._threads))

    of_file(paths[0], lambda raster: raster.read(1))
    for _ in range(2):
        thread = Thread(target=read)
        thread.start()
        thread.join()
    here = len(open_files._threads)
    assert here >= before
    assert found == [here + 1, here + 1]


@pytest.mark.parametrize("kind", ["file", "vrt", "vrt of a vrt", "archive"])
def test_a_file_whose_tiles_or_archive_were_written_anew_is_opened_anew(
    kind: str, written: Callable[[str], list[str]], tmp_path: Path
) -> None:
    """As in a notebook, where a mosaic is made anew between two maps of it."""
    tile, other = map(Path, written("band")[:2])
    with rasterio.open(other, "r+") as raster:
        raster.write(np.full((4, 20, 20), 7, np.int16))
    path, changed, new = str(tile), tile, other
    if kind == "archive":
        for file in (tile, other):
            with zipfile.ZipFile(file.with_suffix(".zip"), "w") as archive:
                archive.write(file, "a.tif")
        changed, new = tile.with_suffix(".zip"), other.with_suffix(".zip")
        path = f"/vsizip/{changed}/a.tif"
    for name in ("inner.vrt", "outer.vrt")[: kind.count("vrt")]:
        band = f"<SimpleSource><SourceFilename>{path}</SourceFilename><SourceBand>1</SourceBand></SimpleSource>"
        path = str(tmp_path / name)
        Path(path).write_text(
            '<VRTDataset rasterXSize="20" rasterYSize="20"><GeoTransform>0,10,0,0,0,-10</GeoTransform>'
            f'<VRTRasterBand dataType="Int16" band="1">{band}</VRTRasterBand></VRTDataset>'
        )
    for _ in range(2):
        assert of_file(path, lambda raster: raster.read(1)).sum() == 400
    os.replace(new, changed)
    os.utime(changed, ns=(2 * 10**18, 2 * 10**18))
    assert of_file(path, lambda raster: raster.read(1)).sum() == 7 * 400


@pytest.mark.parametrize("count", [1, 12])
def test_a_mosaic_that_names_other_tiles_is_read_from_these(
    count: int, written: Callable[[str], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where there are many, which are looked at once a second."""
    monkeypatch.setattr("prithvi.scenes.open_files.time.monotonic", iter(range(0, 1000, 2)).__next__)
    first, second = written("band")[:2]
    mosaic = tmp_path / "mosaic.vrt"

    def name(tile: str, time: int) -> None:
        copies = [Path(shutil.copy(tile, tmp_path / f"{number}_{Path(tile).name}")) for number in range(count)]
        one = "".join(
            f"<SimpleSource><SourceFilename>{copy}</SourceFilename><SourceBand>1</SourceBand></SimpleSource>"
            for copy in copies
        )
        mosaic.write_text(
            '<VRTDataset rasterXSize="20" rasterYSize="20"><GeoTransform>0,10,0,0,0,-10</GeoTransform>'
            f'<VRTRasterBand dataType="Int16" band="1">{one}</VRTRasterBand></VRTDataset>'
        )
        os.utime(mosaic, ns=(time * 10**18, time * 10**18))

    def sum_of() -> int:
        return int(of_file(str(mosaic), lambda raster: raster.read(1)).sum())

    name(first, 1)
    assert [sum_of(), sum_of()] == [400, 400]
    name(second, 2)
    assert sum_of() == 400
    for copy in tmp_path.glob(f"*_{Path(second).name}"):
        with rasterio.open(copy, "r+") as raster:
            raster.write(np.full((4, 20, 20), 7, np.int16))
        os.utime(copy, ns=(3 * 10**18, 3 * 10**18))
    assert sum_of() == 7 * 400
