"""What fuzzing and the fault matrix found: each a kind of fault, by the smallest file that has it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
import xarray as xr
from affine import Affine

import prithvi
from prithvi.bands import PRITHVI_BANDS
from prithvi.catalog import data_catalog
from prithvi.chips import ChipStore, StoreSpec
from prithvi.chips.label_files import open_labels
from prithvi.cli.lightning import one_sentence
from prithvi.contract import Contract
from prithvi.errors import (
    CheckpointError,
    ConfigError,
    DatasetError,
    OutputError,
    PrithviError,
    SceneError,
    TrainingError,
)
from prithvi.evaluation.compare import read_comparison
from prithvi.files import atomic_folder, read_yaml
from prithvi.mapping import area_by_zone, fill_series
from prithvi.scenes import Area, open_scene
from prithvi.tasks.checkpoint_files import WholeCheckpoints
from tests.chips.conftest import CLASSES, sample_chips
from tests.hub_client import Client, forking
from tests.hub_server import serve_hub

Write = Callable[..., Path]
FLANDERS = data_catalog() / "samples" / "flanders"


def test_weights_that_changed_beside_their_config_are_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-5] + bytes([data[-5] ^ 1]) + data[-4:])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is not the file that its config\.json names"):
        prithvi.load(folder)


def test_a_band_name_that_is_no_text(write_tif: Write, six_bands: np.ndarray) -> None:
    path = write_tif(six_bands[:, :64, :64])
    path.write_bytes(path.read_bytes().replace(b"blue", b"\xf6lue"))
    with pytest.raises(SceneError, match="is damaged or of no known format"):
        open_scene(path)


def test_pixels_without_any_size(write_tif: Write, six_bands: np.ndarray) -> None:
    path = write_tif(six_bands[:, :64, :64], transform=Affine(10, 0, 600_000, 0, 0, 4_200_000))
    with pytest.raises(SceneError, match="has no geotransform"):
        open_scene(path)


@pytest.mark.parametrize(
    ("where", "value"),
    [("roles", [["data"]]), ("raster:bands", [5]), ("bands", [[1]]), ("type", 7), ("href", 7), ("eo:bands", {"a": 1})],
)
def test_a_stac_item_whose_entries_are_of_another_kind(where: str, value: Any, tmp_path: Path) -> None:
    plain = json.loads((FLANDERS / "2018-06-28.json").read_text())
    shutil.copy(FLANDERS / "2018-06-28.tif", tmp_path)
    for asset in plain["assets"].values():
        asset[where] = value
    path = tmp_path / "item.json"
    path.write_text(json.dumps(plain))
    with contextlib.suppress(PrithviError):  # it opens, or is an error of ours
        open_scene(path)


def square(side: float, **properties: Any) -> dict[str, Any]:
    ring = [[0, 0], [side, 0], [side, side], [0, side], [0, 0]]
    return {"type": "Feature", "properties": properties, "geometry": {"type": "Polygon", "coordinates": [ring]}}


def test_polygons_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "zones.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [square(1e30)]}))
    with pytest.raises(SceneError, match=r"holds the coordinate 1e\+30, and its coordinates are degrees"):
        Area.from_file(path)
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [square(1, kind={"a": 1})]}))
    with pytest.raises(DatasetError, match="column kind holds lists or tables"):
        open_labels(path, "kind")


def test_a_store_whose_metadata_were_altered(six_bands: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "chips.zarr"
    ChipStore.create(path, StoreSpec(32, 32, 2, classes=CLASSES, shard=4), sample_chips(six_bands, 4))
    about = path / "image" / "zarr.json"
    whole = about.read_text()
    for key, value, said in (
        ("codecs", [["bytes"]], "no readable Zarr array"), ("shape", [4, 10**9, 10**9], "do not fit into memory"),
        ("shape", "four", "no readable Zarr array"), ("data_type", "x", "no readable Zarr array"),
    ):  # fmt: skip
        about.write_text(json.dumps(json.loads(whole) | {key: value}))
        with pytest.raises(DatasetError, match=f"{said}.*prithvi data verify"):
            ChipStore(path).read([0])
    about.write_text(whole)
    root = json.loads((path / "zarr.json").read_text())
    for key, value in (("spec", {"height": 32}), ("samples", [1]), ("spec", None)):
        (path / "zarr.json").write_text(json.dumps({**root, "attributes": {**root["attributes"], key: value}}))
        with pytest.raises(DatasetError, match=r"zarr\.json states something that cannot be read"):
            ChipStore(path)


def test_a_shard_that_was_cut_within_a_number(six_bands: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "chips.zarr"
    ChipStore.create(path, StoreSpec(32, 32, 2, classes=CLASSES, shard=4), sample_chips(six_bands, 4))
    file = ChipStore(path).array("image").file(0)
    file.write_bytes(file.read_bytes()[:13])
    with pytest.raises(DatasetError, match=r"is damaged where sample 0 lies.*prithvi data verify"):
        ChipStore(path).read([0])


@pytest.mark.parametrize(
    ("field", "value"), [("mean", [[1.0]] * 6), ("std", "x"), ("scale", []), ("clip", ["a", 2]), ("clip", [1])]
)
def test_a_contract_of_what_are_no_numbers(field: str, value: Any) -> None:
    plain = {"bands": PRITHVI_BANDS, "mean": [0.0] * 6, "std": [1.0] * 6, field: value}
    with pytest.raises(ConfigError, match=r"the contract (states|has)"):
        Contract.from_dict(plain)


def test_options_of_a_comparison_that_are_no_table(tmp_path: Path) -> None:
    path = tmp_path / "compare.yaml"
    path.write_text("fit: a.yaml\nfigure: test/IoU\nmethods: {a: {}}\noptions: [1, 2]\n")
    with pytest.raises(ConfigError, match=r"options must be a table of settings; it is \[1, 2\]"):
        read_comparison(path)


def test_an_endless_word_is_cut() -> None:
    assert str(ConfigError(f"folders is {'x' * 100_000}: write a list.")) == (
        f"folders is {'x' * 200}...{('x' * 200)[:-1]}: write a list."
    )


@pytest.mark.parametrize("version", [2, 3])
def test_a_cube_of_our_own_opens_as_a_scene(
    version: int, write_tif: Write, six_bands: np.ndarray, tmp_path: Path
) -> None:
    files = [write_tif(six_bands[:, :32, :32], f"d{number}.tif") for number in range(2)]
    series = open_scene(files, dates=["2022-05-01", "2022-05-06"], sensor="hls-s30")
    fill_series(series, tmp_path / "cube.zarr", "linear", zarr_format=version)
    opened = open_scene(xr.open_zarr(tmp_path / "cube.zarr", decode_coords="all")["image"])
    assert list(opened["band"].values) == list(series["band"].values)


@pytest.mark.skipif(pd.__version__ < "3", reason="the index of older pandas holds Python's strings")
@pytest.mark.parametrize("opens", [open_scene, prithvi.fill])
@pytest.mark.parametrize(("name", "words"), [("band", ["red", "blue"]), ("time", ["2022-05-01", "2022-05-09"])])
def test_coordinates_whose_words_are_no_letters(
    opens: Callable[[xr.DataArray], Any], name: str, words: list[str], tmp_path: Path
) -> None:
    coords = {"time": np.array(["2022-05-01", "2022-05-09"], "datetime64[ns]"), "band": ["red", "blue"], name: words}
    series = xr.DataArray(np.full((2, 2, 32, 32), 500.0), dims=("time", "band", "y", "x"), coords=coords, name="image")
    series = series.rio.write_crs("EPSG:32631").rio.write_transform(Affine(10, 0, 600_000, 0, -10, 5_000_000))
    series.attrs |= {"gain": 1e-4, "bias": 0.0}
    series.to_zarr(tmp_path / "cube.zarr", zarr_format=2, encoding={name: {"compressors": None}})
    chunk = tmp_path / "cube.zarr" / name / "0"
    chunk.write_bytes(b"\xff\xff\xff\x7f" + chunk.read_bytes()[4:])
    stored = xr.open_zarr(tmp_path / "cube.zarr", decode_coords="all")["image"]
    with pytest.raises(SceneError, match=rf"the coordinate '{name}' of .* cannot be read \(.*assign_coords\({name}="):
        opens(stored)
    assert opens(stored.assign_coords({name: words})) is not None


ENGINEERING = 'LOCAL_CS["Undefined Cartesian SRS",UNIT["Meter",1]]'
"""What GeoPackage has for coordinates of no known system."""


def test_a_crs_without_a_place_on_earth(tmp_path: Path, write_tif: Write) -> None:
    corner = Affine(10, 0, 600_000, 0, -10, 5_000_000)
    shape = shapely.box(600_000, 4_999_000, 601_000, 5_000_000)
    frame = gpd.GeoDataFrame({"class": ["water"]}, geometry=[shape], crs=ENGINEERING)
    frame.to_file(tmp_path / "features.gpkg")
    said = r"coordinate reference system of .* is 'Undefined Cartesian SRS', which has no known place on Earth: write"
    with pytest.raises(DatasetError, match=said):
        open_labels(tmp_path / "features.gpkg", "class")
    with pytest.raises(SceneError, match=said):
        Area.from_file(tmp_path / "features.gpkg")
    scene = write_tif(np.ones((1, 50, 50), np.uint8), "map.tif", None, None, crs="EPSG:32631", transform=corner)
    for zones in (tmp_path / "features.gpkg", frame):
        with pytest.raises(DatasetError, match=said):
            area_by_zone(scene, zones)
    labels = write_tif(np.ones((1, 50, 50), np.uint8), "labels.tif", None, None, crs=ENGINEERING, transform=corner)
    with pytest.raises(DatasetError, match=r"labels.tif has no known place on Earth: write the right one \('rio edit-"):
        open_labels(labels)
    right = frame.set_crs("EPSG:32631", allow_override=True)
    with pytest.raises(SceneError, match=r"labels.tif has pixels where its .* has no place on Earth: look at its CRS"):
        area_by_zone(labels, right)
    # The remedies.
    with rasterio.open(labels, "r+") as raster:
        raster.crs = "EPSG:32631"
    assert open_labels(labels).near("EPSG:32631", shape.bounds)
    right.to_file(tmp_path / "right.gpkg")
    assert area_by_zone(scene, tmp_path / "right.gpkg")["area_m2"].sum() > 0
    assert open_labels(tmp_path / "right.gpkg", "class").near("EPSG:32631", shape.bounds)


def test_settings_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    for text in ("a: \0", "? {a: 1}\n: 2", "a: 2022-02-30", "[" * 5000):
        path.write_text(text)
        with pytest.raises(ConfigError) as stop:
            read_yaml(path)
        assert "\n" not in str(stop.value)


def test_a_checkpoint_is_whole_or_the_one_before(tmp_path: Path) -> None:
    writer, path = WholeCheckpoints(), tmp_path / "last.ckpt"
    writer.save_checkpoint({"step": 1}, path)
    assert writer.load_checkpoint(path)["step"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CheckpointError, match=r"last\.ckpt is no whole checkpoint"):
        writer.load_checkpoint(path)
    with pytest.raises(OutputError, match="cannot be written"):
        writer.save_checkpoint({"step": 2}, path / "inside.ckpt")


def write_folder(path: Path, text: str) -> None:
    with atomic_folder(path) as work:
        (work / "text").write_text(text)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no call that lets two folders change places")
@pytest.mark.parametrize("kind", ["folder", "cube"])
def test_a_folder_is_replaced_without_a_moment_in_which_there_is_none(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model folder, or a Zarr store of filled dates, was gone when the process was killed between two renamings."""
    path = tmp_path / "result.zarr"
    days = np.array(["2022-05-01", "2022-05-09"], "datetime64[ns]")
    series = xr.DataArray(np.full((2, 1, 32, 32), 500.0, "float32"), dims=("time", "band", "y", "x")).assign_coords(
        time=days, band=["red"]
    )
    series.attrs = {"gain": 1e-4, "bias": 0.0}

    def write(window: int) -> None:
        if kind == "folder":
            write_folder(path, str(window))
        else:
            fill_series(series, path, "linear", window=window)

    write(16)
    there, entries = [], set(os.listdir(path))
    for name in ("replace", "rename", "rmdir", "unlink"):
        plain = getattr(os, name)

        def noted(*words: Any, plain: Any = plain, **options: Any) -> Any:
            done = plain(*words, **options)
            there.append(set(os.listdir(path)) >= entries if path.exists() else False)
            return done

        monkeypatch.setattr(os, name, noted)
    write(32)
    assert there
    assert all(there)
    if kind == "folder":
        assert (path / "text").read_text() == "32"
    assert [file.name for file in tmp_path.iterdir()] == ["result.zarr"]


def test_where_folders_cannot_change_places_the_older_one_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prithvi.files._exchanged", lambda *_: False)
    path, plain = tmp_path / "model", os.replace
    for text in ("first", "second"):
        write_folder(path, text)
        assert (path / "text").read_text() == text

    def refusing(source: Any, target: Any) -> None:
        if Path(source).name == "new":
            raise PermissionError(13, "Permission denied")
        plain(source, target)

    monkeypatch.setattr(os, "replace", refusing)
    with pytest.raises(OutputError, match=r"model cannot be written \(Permission denied\)"):
        write_folder(path, "third")
    assert (path / "text").read_text() == "second"
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def killed() -> None:
    """What is raised while torch's error is handled may come instead of it."""
    with one_sentence():
        try:
            raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")
        finally:
            raise RuntimeError("Please call `iter(combined_loader)` first.")


def test_a_loading_process_that_is_killed_is_one_sentence() -> None:
    with pytest.raises(TrainingError, match="a process that loads batches was killed"):
        killed()
    with pytest.raises(RuntimeError, match="anything else"), one_sentence():
        raise RuntimeError("anything else")


@pytest.mark.slow
def test_what_the_hub_has_and_could_not_be_fetched_is_no_whole_model(folder: Path, tmp_path: Path) -> None:
    words = ("models", "pull", "me/model")
    with serve_hub() as hub, forking() as process:
        commit = hub.add("me/model", {file.name: file.read_bytes() for file in folder.iterdir()})
        client = Client(process, hub.url, tmp_path / "home")
        whole = Path(client.run(*words).out.strip())
        hub.asked.clear()
        again = client.run("models", "pull", f"me/model@{commit}", HF_HUB_DISABLE_TELEMETRY="1")
        assert again.out.strip() == str(whole)
        assert hub.asked == []  # not for what that commit lacks either
        client.endpoint = "http://127.0.0.1:9"
        offline = client.run(*words, HF_HUB_OFFLINE="1")
        assert (offline.code, offline.out.strip()) == (0, str(whole))  # that the hub has no metrics.json is known
        (whole / "README.md").unlink()
        refused = client.run(*words, HF_HUB_OFFLINE="1")
        assert refused.code == 2
        assert "README.md of me/model at " in refused.err
        assert "is not in the local cache and the hub cannot be reached: connect once" in refused.err
        assert client.run("models", "show", "me/model", HF_HUB_OFFLINE="1").code == 0
        client.endpoint = hub.url
        assert client.run(*words).code == 0
        assert (whole / "README.md").is_file()
