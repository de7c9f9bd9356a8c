"""From a STAC API to a verified store, one command each, as a user types them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from prithvi.catalog import data_catalog
from prithvi.chips import ChipStore
from prithvi.hls import Granule
from tests.conftest import needs_search
from tests.http_files import serve_folder
from tests.pages import PAGES, blocks_of, printed_for
from tests.synthetic_hls import Archive, make_archive, serve_stac, tile_footprints


@contextmanager
def api_of(archive: Archive, folder: Path) -> Iterator[str]:
    """The address of a STAC API of an archive whose files lie on a server that speaks ranges."""
    with serve_folder(archive.root) as server:
        plain = (archive.root / "items.json").read_text().replace(archive.root.resolve().as_uri(), server.url)
        (folder / "api").mkdir()
        (folder / "api" / "items.json").write_text(plain)
        with serve_stac(Archive(folder / "api", archive.items, archive.catalog, archive.fields)) as address:
            yield address


@pytest.fixture
def published(archive: Archive, tmp_path: Path) -> Iterator[str]:
    with api_of(archive, tmp_path) as address:
        yield address


@needs_search
def test_search_choose_get_build_verify_show(
    archive: Archive, published: str, prithvi: Callable[..., Any], tmp_path: Path
) -> None:
    found, chosen, store = tmp_path / "found.parquet", tmp_path / "chosen.parquet", tmp_path / "s.zarr"
    answer = prithvi("data", "search", "--api", published, "--bbox", "0", "45", "10", "60", "--start", "2022-03",
                     "--end", "2022-04", "--max-cloud", "80", "-o", found, "-o", tmp_path / "found.json")  # fmt: skip
    assert answer.code == 0, answer.err
    assert "8 granules of 2 tiles" in answer.out
    assert json.loads((tmp_path / "found.json").read_text())["type"] == "FeatureCollection"

    frame = tile_footprints(["31UDS", "32ULC", "10SFE"]).assign(cover=["crops", "forest", "sea"])
    frame.to_parquet(tmp_path / "tiles.parquet")
    answer = prithvi("data", "choose", found, "-o", chosen, "--frames", "2", "--min-gap", "10", "--max-gap", "60",
                     "--tiles", tmp_path / "tiles.parquet", "--strata", "cover", "--validation", "0.5")  # fmt: skip
    assert answer.code == 0, answer.err
    assert "1 training and 1 validation tiles" in answer.out
    assert "entropy cover 0.69 -> 0.69" in answer.out
    assert "sequences after relaxing" in answer.out

    # Straight from the server, and from disk: the same store.
    options = ("--size", "64", "--frames", "2", "--good", "0.5", "--missing", "0.05", "--shard", "16")
    answer = prithvi("data", "build", chosen, "-o", store, *options)
    assert answer.code == 0, answer.err
    assert "chips (" in answer.out
    answer = prithvi("data", "get", chosen, "-o", tmp_path / "granules")
    assert answer.code == 0, answer.err
    local = tmp_path / "local.zarr"
    assert prithvi("data", "build", tmp_path / "granules" / "items.json", "-o", local, *options).code == 0
    assert (local / "SHA256SUMS").read_bytes() == (store / "SHA256SUMS").read_bytes()

    answer = prithvi("data", "verify", store)
    assert answer.code == 0, answer.err
    assert "all intact" in answer.out
    answer = prithvi("data", "show", store)
    assert answer.code == 0
    assert "31UDS, 32ULC" in answer.out
    assert json.loads(prithvi("data", "show", store, "--json").out)["parts"]

    opened = ChipStore(store)
    assert set(opened.attributes["samples"]) == {"train", "val"}
    for number, row in enumerate(opened.samples.itertuples()):
        image = opened.read([number], ["image"])["image"][0]
        for step, name in enumerate(row.granules):
            granule = Granule.parse(name)
            for place, band in enumerate(opened.spec.bands):
                with rasterio.open(archive.root / name / granule.file_name(band)) as raster:
                    column, line = ~raster.transform * (row.affine[2], row.affine[5])
                    true = raster.read(1, window=Window(round(column), round(line), 64, 64))
                known = true != -9999
                np.testing.assert_array_equal(image[step, place][known], true[known])

    (store / "image/c/0/0/0/0/0").unlink()
    answer = prithvi("data", "verify", store)
    assert answer.code == 1
    assert "image/c/0/0/0/0/0 (samples 0 to 15) is missing" in answer.out
    assert json.loads(prithvi("data", "verify", store, "--json").out)["problems"][0]["what"] == "missing"


@pytest.mark.slow
def test_what_the_page_prints_after_the_search_runs_on_what_a_search_wrote(
    prithvi: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/data.md, from the search of a server of ours to the finished store."""
    monkeypatch.chdir(tmp_path)
    archive = make_archive(tmp_path / "archive", ["31UDS", "32ULC"], dates=5, every_days=30, size=256)
    with api_of(archive, tmp_path) as address:
        for name in ("girona", "world"):
            place = ("--bbox", "0", "45", "10", "60", "--max-cloud", "50")
            answer = prithvi("data", "search", "--api", address, *place, "-o", f"{name}.parquet")
            assert answer.code == 0, answer.err
        chosen_to_built(prithvi)
        shutil.rmtree("granules")
        shutil.copytree("girona.zarr", "first.zarr")
        shutil.rmtree("girona.zarr")
        Path("places").mkdir()
        Path("girona.parquet").rename("places/girona.parquet")
        shutil.copy(archive.fields, "fields.gpkg")
        (block,) = [block for block in blocks_of(PAGES[0]) if "prithvi data choose" in block.code]
        search, *others = block.commands
        assert search[:3] == ["prithvi", "data", "search"]
        for words in others:
            if words[-2:] == ["--split", "block:5km"]:
                words = words[:-2]  # of which this archive, 8 km wide, has not two
            answer = prithvi(*words[1:])
            assert answer.code == 0, answer.err
        assert [entry.name for entry in ChipStore("girona.zarr").spec.classes] == ["maize", "wheat"]


def chosen_to_built(prithvi: Callable[..., Any]) -> None:
    tiles = tile_footprints(["31UDS", "32ULC", "10SFE"]).assign(landcover=["crops", "forest", "sea"])
    tiles.to_file("tiles.gpkg")
    seen = []
    for block in printed_for("tests/end_to_end/test_hls_to_store.py", "data.md"):
        for words in block.commands:
            answer = prithvi(*words[1:])
            assert answer.code == 0, answer.err
            seen.append(words[2])
    assert seen == ["choose", "choose", "get", "build"]
    store = ChipStore("girona.zarr")
    assert store.spec.frames == 3
    assert len(store.samples) >= 1
    assert prithvi("data", "verify", "girona.zarr").code == 0


def test_labels_and_a_block_split_on_the_command_line(
    archive: Archive, prithvi: Callable[..., Any], tmp_path: Path
) -> None:
    answer = prithvi("data", "build", archive.root, "-o", tmp_path / "s.zarr", "--size", "64", "--frames", "2",
                     "--min-gap", "10", "--good", "0.5", "--missing", "0.05", "--labels", archive.fields,
                     "--class-column", "crop", "--split", "block:500m:side=3km", "--codec", "lz4")  # fmt: skip
    assert answer.code == 0, answer.err
    store = ChipStore(tmp_path / "s.zarr")
    assert {"train", "val", "test"} <= set(store.attributes["samples"])
    assert "0 maize" in prithvi("data", "show", tmp_path / "s.zarr").out


def test_a_dataset_by_name_and_its_description(prithvi: Callable[..., Any], tmp_path: Path) -> None:
    samples = data_catalog() / "sen1floods11" / "samples"
    root = tmp_path / "sen1floods11"
    for folder in ("S2Hand", "LabelHand"):
        (root / folder).mkdir(parents=True)
        for file in (samples / folder).iterdir():
            (root / folder / file.name).write_bytes(file.read_bytes())
    answer = prithvi("data", "build", "sen1floods11", "--root", root, "-o", tmp_path / "f.zarr")
    assert answer.code == 2
    assert "504 of the 504 files of the train split of sen1floods11 are not under" in answer.err
    answer = prithvi("data", "show", "sen1floods11")
    assert answer.code == 0
    assert "252 chips" in answer.out
    assert "sen1floods11" in prithvi("data", "show").out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("search", "--api", "nowhere.json"), "there is no file or folder nowhere.json"),
        (("search", "--api", "x", "--start", "soon"), "'soon' is no date"),
        (("build", "nowhere", "-o", "s.zarr"), "there is no file or folder nowhere, and no dataset of that name"),
        (("build", "sen1floods11", "-o", "s.zarr"), "say where its archive was unpacked (--root DIR)"),
        (("verify", "nowhere.zarr"), "there is no chip store at nowhere.zarr"),
        (("show", "sen1flods11"), "did you mean sen1floods11?"),
        (("choose", "x", "-o", "y.parquet", "--count", "3"), "there is no file or folder x"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: tuple[str, ...],
    sentence: str,
    prithvi: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = prithvi("data", *arguments)
    assert answer.code == 2
    assert sentence in answer.err
    assert "\n" not in answer.err.strip()  # rich before 15 ends a bar that never showed with an empty line
    assert list(tmp_path.iterdir()) == []
