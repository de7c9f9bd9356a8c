"""Files that were made to do harm: refused in one sentence before anything of them runs, is built or is written."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from prithvi.catalog import stac_catalog
from prithvi.errors import CheckpointError, ConfigError, DatasetError, ModelError, PrithviError, SceneError
from prithvi.modelio import load
from prithvi.models.config import ModelConfig
from prithvi.scenes import open_scene
from tests.conftest import Answer


class Harm:
    """Pickled as a call: who unpickles it makes a folder."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.place),)


@pytest.mark.parametrize("name", ["model.pt", "model.ckpt", "model.bin"])
def test_code_in_a_pickle_does_not_run(name: str, tmp_path: Path) -> None:
    path, place = tmp_path / name, tmp_path / "harm"
    torch.save({"state_dict": {"encoder.cls_token": torch.zeros(1)}, "hyper_parameters": Harm(place)}, path)
    with pytest.raises(CheckpointError, match=r"posix.mkdir, which is code and not weights; it was not run"):
        load(path, architecture="prithvi_eo_v2_tiny_tl")
    assert not place.exists()
    torch.load(path, weights_only=False)  # it would have
    assert place.exists()


def test_code_in_the_weights_of_a_published_folder_does_not_run(prithvi: Callable[..., Answer], tmp_path: Path) -> None:
    folder, place = tmp_path / "model", tmp_path / "harm"
    folder.mkdir()
    (folder / "config.json").write_text('{"architecture": "prithvi_eo_v2_tiny_tl"}')
    torch.save(Harm(place), folder / "model.pt")
    answer = prithvi("map", folder, "a.tif", "-o", tmp_path / "maps")
    assert answer.code == 2
    assert "which is code and not weights" in answer.err
    assert "Traceback" not in answer.err
    assert not place.exists()


@pytest.mark.parametrize("name", ["model.pt", "model.ckpt"])
def test_weights_that_unpack_to_a_thousand_times_their_size_are_not_unpacked(name: str, tmp_path: Path) -> None:
    plain, path = tmp_path / "plain.pt", tmp_path / name
    torch.save({"state_dict": {"encoder.cls_token": torch.zeros(25_000_000)}}, plain)
    with zipfile.ZipFile(plain) as read, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as written:
        for entry in read.infolist():
            written.writestr(entry.filename, read.read(entry))
    assert path.stat().st_size < plain.stat().st_size / 500
    assert torch.load(path, weights_only=True)["state_dict"]  # torch would unpack it
    with pytest.raises(CheckpointError, match="holds compressed files, as none that torch wrote does"):
        load(path, architecture="prithvi_eo_v2_tiny_tl")


def test_a_product_whose_metadata_unpack_to_more_than_any_has_is_not_unpacked(tmp_path: Path) -> None:
    name = "S2A_MSIL2A_20190918T105031_N0213_R051_T30SUH_20190918T125642"
    image = f"{name}.SAFE/GRANULE/L2A_T30SUH_A022138_20190918T105431/IMG_DATA/R10m/T30SUH_20190918T105031_B02_10m.jp2"
    with zipfile.ZipFile(tmp_path / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(image, b"")
        archive.writestr(f"{name}.SAFE/MTD_MSIL2A.xml", bytes(70_000_000))
    with pytest.raises(SceneError, match=r"MTD_MSIL2A\.xml of 70,000,000 bytes, as no product does"):
        open_scene(tmp_path / f"{name}.zip")


def test_an_archive_larger_than_the_disk_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "hls_burn_scars.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(member("training/a.tif", size=5000), io.BytesIO(bytes(5000)))
    monkeypatch.setattr(stac_catalog.hub, "fetch", lambda *_: path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=4999))
    with pytest.raises(DatasetError, match=r"holds 5,000 bytes unpacked, and 4,999 are free in .*data"):
        stac_catalog.fetch_dataset("hls_burn_scars", tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []


def sparse(path: Path, begin: bytes, size: int) -> Path:
    """A file of that many bytes, of which the disk keeps only the first."""
    with path.open("wb") as file:
        file.write(begin)
        file.truncate(size)
    return path


@pytest.mark.parametrize("size", [1_000, 3 * 2**30])
def test_a_safetensors_header_of_two_gigabytes_is_not_read(size: int, tmp_path: Path) -> None:
    """Neither of a file that lies about it nor of one that is as long."""
    path = sparse(tmp_path / "model.safetensors", struct.pack("<Q", 2 * 2**30) + b"{", size)
    started = time.process_time()
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load(path, architecture="prithvi_eo_v2_tiny_tl")
    assert time.process_time() - started < 2  # two gigabytes are not parsed in that


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"depth": 10**6}, "depth is 1000000; at most 1000 blocks"),
        ({"decoder_depth": 10**6}, "decoder_depth is 1000000; at most 1000 blocks"),
        ({"embed_dim": 2**20, "num_heads": 16}, "numbers, and the file holds"),
        ({"img_size": [10**6, 10**6]}, "numbers, and the file holds"),
        ({"num_frames": 10**9}, "numbers, and the file holds"),
        ({"patch_size": [1, 2**20, 2**20], "img_size": [2**20, 2**20]}, "numbers, and the file holds"),
    ],
)
@pytest.mark.parametrize("kind", ["fine-tuned", "pretrained"])
def test_a_config_that_asks_for_a_giant_builds_nothing(
    kind: str, change: dict[str, Any], told: str, model_folder: Path, tmp_path: Path
) -> None:
    shipped = Path(stac_catalog.__file__).parents[1] / "weights" / "prithvi_hls_tiny"
    folder = Path(shutil.copytree(model_folder if kind == "fine-tuned" else shipped, tmp_path / "model"))
    plain = json.loads((folder / "config.json").read_text())
    plain["pretrained_cfg"] |= change
    (folder / "config.json").write_text(json.dumps(plain))
    started = time.process_time()
    with pytest.raises((ModelError, ConfigError), match=told):
        load(folder)
    assert time.process_time() - started < 2


def test_every_published_shape_is_let_through() -> None:
    """The estimate that refuses giants stays below what a model of that shape really has."""
    from prithvi.models import PrithviMAE
    from prithvi.models.zoo import VARIANTS

    for variant in VARIANTS.values():
        with torch.device("meta"):
            held = sum(value.numel() for value in PrithviMAE(variant.config).state_dict().values())
        assert 0.1 * held < variant.config.at_least < held
    assert ModelConfig(depth=1000).depth == 1000


def member(name: str, **fields: Any) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(entry, key, value)
    return entry


HOSTILE = {
    "a path upwards": member("../outside.tif"),
    "a path upwards inside": member("training/../../outside.tif"),
    "an absolute path": member("/tmp/prithvi-outside.tif"),
    "a symbolic link": member("training/link.tif", type=tarfile.SYMTYPE, linkname="../../outside.tif"),
    "a symbolic link inside": member("training/link.tif", type=tarfile.SYMTYPE, linkname="a.tif"),
    "a hard link": member("training/link.tif", type=tarfile.LNKTYPE, linkname="/etc/hostname"),
    "a device": member("training/device", type=tarfile.CHRTYPE),
    "a pipe": member("training/pipe", type=tarfile.FIFOTYPE),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_an_archive_that_reaches_out_of_its_folder_is_not_unpacked_at_all(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "hls_burn_scars.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        good = member("training/a.tif", size=4)
        tar.addfile(good, io.BytesIO(b"good"))
        tar.addfile(HOSTILE[kind])
    monkeypatch.setattr(stac_catalog.hub, "fetch", lambda *_: path)
    before = set(tmp_path.rglob("*"))
    if kind == "an absolute path":  # unpacked below the folder, as tar does
        stac_catalog.fetch_dataset("hls_burn_scars", tmp_path / "data")
        assert (tmp_path / "data" / "tmp" / "prithvi-outside.tif").is_file()
        assert not Path("/tmp/prithvi-outside.tif").exists()
        return
    with pytest.raises(DatasetError, match=r"hls_burn_scars.tar.gz cannot be unpacked"):
        stac_catalog.fetch_dataset("hls_burn_scars", tmp_path / "data")
    assert {entry for entry in set(tmp_path.rglob("*")) - before if entry != tmp_path / "data"} == set()


def test_a_config_that_is_not_what_it_should_be_is_one_sentence(model_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model_folder, tmp_path / "model"))
    whole = json.loads((folder / "config.json").read_text())
    for hostile in (
        whole | {"pretrained_cfg": whole["pretrained_cfg"] | {"depth": "x" * 100}},
        whole | {"pretrained_cfg": whole["pretrained_cfg"] | {"embed_dim": -64}},
        whole | {"pretrained_cfg": whole["pretrained_cfg"] | {"num_heads": 0}},
        whole | {"head": {"name": "os.system", "options": {"command": "true"}}},
        whole | {"head": {"name": "light", "options": {"__class__": "x"}}},
        whole | {"window": 10**12},
        whole | {"classes": [{"value": 0, "name": {"a": 1}, "color": None}]},
    ):
        (folder / "config.json").write_text(json.dumps(hostile))
        with pytest.raises(PrithviError) as stop:
            load(folder)
        assert "\n" not in str(stop.value)
    (folder / "config.json").write_text("[" * 100_000)
    with pytest.raises(ConfigError, match="is not JSON"):
        load(folder)
