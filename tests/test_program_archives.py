"""A program of others opens only where it is trusted, and one that is not what it says is refused."""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rasterio
import torch

from prithvi import load
from prithvi.errors import CheckpointError, ConfigError, ModelError
from prithvi.mapping.batch import opened
from prithvi.modelio import program
from prithvi.modelio.model_files import Trusted
from prithvi.modelio.predictor import FittedModel
from prithvi.modelio.program import largest_difference, open_program
from tests.conftest import SPAIN, Answer

newer_layout = pytest.mark.skipif(torch.__version__ < (2, 7), reason="writes the archives of newer torch anew")


def rewrite(path: Path, to: Path, change: Callable[[str, bytes], bytes], more: dict[str, bytes] | None = None) -> Path:
    """The archive with each of its files changed, written as torch's own writer does."""
    with zipfile.ZipFile(path) as archive:
        folder = archive.namelist()[0].partition("/")[0]
        files = {name.removeprefix(f"{folder}/"): archive.read(name) for name in archive.namelist()}
    writer = torch._C.PyTorchFileWriter(str(to))
    for name, content in {**{name: change(name, old) for name, old in files.items()}, **(more or {})}.items():
        if name not in (".data/version", ".data/serialization_id", "version", "byteorder"):
            writer.write_record(name, content, len(content))
    writer.write_end_of_file()
    return to


def in_graph(change: Callable[[dict[str, Any]], None]) -> Callable[[str, bytes], bytes]:
    def apply(name: str, content: bytes) -> bytes:
        if name != "models/model.json":
            return content
        plain = json.loads(content)
        change(plain)
        return json.dumps(plain).encode()

    return apply


def in_facts(**values: Any) -> Callable[[str, bytes], bytes]:
    def apply(name: str, content: bytes) -> bytes:
        if name != "extra/prithvi.json":
            return content
        plain = json.loads(content)
        for key, value in values.items():
            (plain if key in ("format", "torch") else plain["facts"])[key] = value
        return json.dumps(plain).encode()

    return apply


def as_it_is(name: str, content: bytes) -> bytes:
    return content


@pytest.mark.slow
def test_a_program_of_others_opens_where_it_is_trusted(program_file: Path, tmp_path: Path) -> None:
    same = rewrite(program_file, tmp_path / "same.pt2", as_it_is)
    for said in ({}, {"trust": False}):
        with pytest.raises(
            CheckpointError, match=r"same\.pt2 was not exported by you .*open it with --trust"
        ) as refused:
            load(same, **said)
        assert "\n" not in str(refused.value)
    assert load(same, trust=True).facts() == load(program_file).facts()
    travelled = pickle.loads(pickle.dumps(Trusted(same)))
    assert load(travelled).facts() == load(program_file).facts()
    assert opened(travelled).facts() == load(program_file).facts()
    with pytest.raises(CheckpointError, match="was not exported by you"):
        opened(str(same))  # the trust that was said once is not for the next
    with pytest.raises(CheckpointError, match="was not exported by you"):  # nothing of that is kept
        load(str(same))


def corner(to: Path, side: int) -> Path:
    """The upper left corner of the sample."""
    window = rasterio.windows.Window(0, 0, side, side)
    with (
        rasterio.open(SPAIN) as whole,
        rasterio.open(to, "w", **{**whole.profile, "width": side, "height": side}) as part,
    ):
        part.write(whole.read(window=window))
    return to


@newer_layout
def test_the_command_line_maps_with_a_trusted_program(
    prithvi: Callable[..., Answer], program_file: Path, tmp_path: Path
) -> None:
    same, scene = rewrite(program_file, tmp_path / "same.pt2", as_it_is), corner(tmp_path / "corner.tif", 64)
    answer = prithvi("map", same, scene, "-o", tmp_path / "no", "--bands", "2,3,4,9,12,13", "--scale", "10000")
    assert answer.code == 2
    assert "open it with --trust" in answer.err
    assert not (tmp_path / "no").exists()
    made = {}
    for name, file, more in (("own", program_file, ()), ("trusted", same, ("--trust",))):
        command = ("map", file, scene, "-o", tmp_path / name, "--bands", "2,3,4,9,12,13", "--scale", "10000")
        answer = prithvi(*command, *more)
        assert answer.code == 0, answer.err
        with rasterio.open(tmp_path / name / "corner.tif") as raster:
            made[name] = raster.read()
    assert (made["own"] == made["trusted"]).all()


def test_another_process_of_this_user_opens_what_was_exported(
    program_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(program, "_exported", set())
    load(program_file)
    monkeypatch.setattr("huggingface_hub.constants.HF_ASSETS_CACHE", str(tmp_path / "of another"))
    with pytest.raises(CheckpointError, match="was not exported by you"):
        load(program_file)
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("huggingface_hub.constants.HF_ASSETS_CACHE", str(tmp_path / "file"))
    with pytest.raises(CheckpointError, match="was not exported by you"):
        load(program_file)


@newer_layout
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"format": "prithvi-program/9"}, "has the format 'prithvi-program/9'; this version reads 'prithvi-program/1'"),
        ({"classes": [{"value": 0, "name": "land", "color": "E8E4D0"}]}, "speaks of 6 x 1 x 32 x 32, 1 x 32 x 32"),
        ({"classes": [{"value": 0, "name": "land", "color": "pale"}]}, "classes is"),
        ({"classes": []}, "either classes or a quantity"),
        ({"classes": "land"}, "classes is 'land'"),
        ({"window": 64}, "holds a program from and to 6 x 1 x 32 x 32, 2 x 32 x 32"),
        ({"window": True}, "window is 'True'"),
        ({"frames": 3}, "speaks of 6 x 3 x 32 x 32"),
        ({"coordinates": True}, "speaks of 6 x 1 x 32 x 32, 1 x 2, 2, 2 x 32 x 32"),
        ({"temperature": float("nan")}, "temperature is 'nan'"),
        ({"quantity": {"name": "x", "mean": 0, "std": 1, "unit": ""}}, "either classes or a quantity"),
        ({"contract": {"bands": ["blue"]}}, "the contract lacks mean, std"),
        ({"contract": {"bands": ["blue"], "mean": ["?"], "std": [1]}}, "could not convert"),
        ({"contract": None}, "contract is 'None'"),
        ({"more": 1}, "not complete"),
    ],
)  # fmt: skip
def test_a_record_that_is_not_the_programs_is_refused(
    values: dict[str, Any], message: str, program_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as refused:
        load(rewrite(program_file, tmp_path / "bad.pt2", in_facts(**values)), trust=True)
    assert "bad.pt2" in str(refused.value)
    assert "\n" not in str(refused.value)


@newer_layout
def test_what_is_no_program_is_one_sentence(program_file: Path, tmp_path: Path) -> None:
    bad, whole = tmp_path / "bad.pt2", program_file.read_bytes()
    for content in (b"", b"a table", whole[:-1000], whole[: len(whole) // 2], whole[5000:], b"PK\x05\x06" + bytes(18)):
        bad.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"bad\.pt2 (is no program file|has no prithvi\.json|is damaged)"):
            load(bad)
    torch.save({"a": torch.zeros(3)}, bad)
    with pytest.raises(CheckpointError, match="it is not a program that 'prithvi export' wrote"):
        load(bad)
    with zipfile.ZipFile(bad, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("serialized_exported_program.json", bytes(10_000_000))
    with pytest.raises(CheckpointError, match="holds compressed files, as none that torch wrote"):
        load(bad)
    with pytest.raises(ModelError, match=r"there is no model, file, folder or hub id '.*absent\.pt2'"):
        load(tmp_path / "absent.pt2")
    with pytest.raises(CheckpointError, match="cannot be read"):
        open_program(tmp_path / "absent.pt2")


@pytest.mark.parametrize(
    "options",
    [
        {"bands": ["blue"]}, {"num_frames": 3}, {"img_size": 64}, {"mean": [0.0]}, {"std": [1.0]}, {"scale": 1.0},
        {"new_bands": True}, {"architecture": "prithvi_hls_tiny"}, {"config": "flood.yaml"}, {"revision": "v1"},
    ],
    ids=lambda options: next(iter(options)),
)  # fmt: skip
def test_an_option_that_would_change_nothing_is_refused(
    options: dict[str, Any], program_file: Path, model_folder: Path
) -> None:
    told = "which is opened as it is: leave out all but its name"
    with pytest.raises(ModelError, match=rf"flood\.pt2 is an exported program, {told}"):
        load(program_file, **options)
    with pytest.raises(ModelError, match=rf"model is a fine-tuned model, {told}"):
        load(model_folder, **options)


@newer_layout
def test_damage_and_another_torch_are_one_sentence(program_file: Path, tmp_path: Path) -> None:
    newer = rewrite(
        program_file, tmp_path / "newer.pt2", in_graph(lambda plain: plain["schema_version"].update(major=99))
    )
    with pytest.raises(CheckpointError, match=r"was written by torch .* cannot open it \(") as refused:
        load(newer, trust=True)
    assert "\n" not in str(refused.value)
    whole = program_file.read_bytes()
    with zipfile.ZipFile(program_file) as archive:
        place = next(e for e in archive.infolist() if e.filename.endswith("weight_7")).header_offset + 5000
    (tmp_path / "flipped.pt2").write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
    with pytest.raises(CheckpointError, match=r"flipped\.pt2 is damaged \(.*weight_7\)"):
        load(tmp_path / "flipped.pt2")


def old_layout(path: Path, to: Path) -> Path:
    """A program as torch 2.6 lays it out."""
    from torch._export.serde.serialize import serialize

    extra = {"prithvi.json": ""}
    program = torch.export.load(path, extra_files=extra)
    program.example_inputs = None
    artifact = serialize(program)
    graph = json.loads(artifact.exported_program)
    for node in graph["graph_module"]["graph"]["nodes"]:
        node["metadata"] = {}
    files = {
        "version": ".".join(map(str, (graph["schema_version"]["major"], graph["schema_version"]["minor"]))).encode(),
        "serialized_exported_program.json": json.dumps(graph).encode(),
        "serialized_state_dict.pt": artifact.state_dict,
        "serialized_constants.pt": artifact.constants,
        "serialized_example_inputs.pt": artifact.example_inputs,
        "extra_files/prithvi.json": extra["prithvi.json"].encode(),
    }
    with zipfile.ZipFile(to, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return to


@newer_layout
def test_the_layout_of_torch_2_6_opens(fitted: FittedModel, program_file: Path, tmp_path: Path) -> None:
    path = old_layout(program_file, tmp_path / "old.pt2")
    assert largest_difference(fitted.mappable(), open_program(path, trust=True)) <= 1e-5
