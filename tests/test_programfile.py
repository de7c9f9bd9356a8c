"""A program file that could run code, or is not what it says, is refused before torch opens it."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from prithvi import load
from prithvi.errors import CheckpointError, ConfigError, ModelError
from prithvi.exported import largest_difference, open_program
from prithvi.fitted import FittedModel


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


def test_the_same_file_written_anew_opens(program_file: Path, tmp_path: Path) -> None:
    open_program(rewrite(program_file, tmp_path / "same.pt2", as_it_is))


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.mark),))


def torch_file(content: Any, folder: Path) -> bytes:
    torch.save(content, folder / "content.pt")
    return (folder / "content.pt").read_bytes()


def test_a_pickle_that_would_run_code_is_not_run(program_file: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    bomb = torch_file({"weight": Bomb(mark)}, tmp_path)
    for name in ("data/sample_inputs/model.pt", "data/constants/model.pt", "data/weights/model.pt"):
        path = rewrite(
            program_file, tmp_path / "bad.pt2", lambda n, old, at=name: bomb if n == at else old, {name: bomb}
        )
        with pytest.raises(CheckpointError, match=r"holds (posix|nt)\.mkdir in data/.*it was not opened"):
            load(path)
    # The pickled weights and objects of a torch program, which torch loads without asking.
    plain = pickle.dumps(Bomb(mark))

    def pickled(name: str, content: bytes) -> bytes:
        if name.endswith("weights_config.json"):
            return content.replace(b'"use_pickle": false', b'"use_pickle": true', 1)
        return bomb if name == "data/weights/weight_0" else content

    with pytest.raises(CheckpointError, match="has pickled tensors, which could run code; it was not opened"):
        load(rewrite(program_file, tmp_path / "bad.pt2", pickled))
    for name in ("data/constants/opaque_obj_0", "data/constants/custom_obj_0", "data/aotinductor/model/lib.so"):
        with pytest.raises(CheckpointError, match=f"holds a file '{name}'.*it was not opened"):
            load(rewrite(program_file, tmp_path / "bad.pt2", as_it_is, {name: plain}))
    assert not mark.exists()
    # Torch itself would have run it.
    with contextlib.suppress(Exception):
        torch.export.load(rewrite(program_file, tmp_path / "bad.pt2", pickled))
    assert mark.exists()


def _first_node(plain: dict[str, Any]) -> dict[str, Any]:
    nodes: list[dict[str, Any]] = plain["graph_module"]["graph"]["nodes"]
    return nodes[0]


CODE: list[tuple[str, Callable[[dict[str, Any]], Any], str]] = [
    ("a function of torch", lambda p: _first_node(p).update(target="torch.os.system"), "has target 'torch.os.system'"),
    ("a file", lambda p: _first_node(p).update(target="torch.ops.aten.from_file.default"), "has target"),
    ("a module", lambda p: _first_node(p).update(target="torch.ops.aten.add.__init__.__globals__"), "has target"),
    ("an operator's insides", lambda p: _first_node(p).update(target="torch.ops.aten.__class__.mro"), "has target"),
    ("another's operator", lambda p: _first_node(p).update(target="torch.ops.mine.run.default"), "has target"),
    ("source in a name", lambda p: _first_node(p).update(name="a = __import__('os')"), "has name"),
    ("source in guards", lambda p: p.update(guards_code=["__import__('os')"]), "has guards_code"),
    ("what nodes remember", lambda p: _first_node(p).update(metadata={"custom": "{}"}), "has metadata"),
    (
        "a size that calls",
        lambda p: p["graph_module"]["graph"]["sym_int_values"].update(
            s={"as_expr": {"expr_str": "exec('x')", "hint": None}}
        ),
        "has expr_str",
    ),
    (
        "a tree that imports",
        lambda p: p["graph_module"]["module_call_graph"][0]["signature"].update(
            in_spec=json.dumps([1, {"type": "collections.defaultdict", "context": "{}", "children_spec": []}])
        ),
        "has in_spec",
    ),
    ("an object", lambda p: _first_node(p)["inputs"][0].update(arg={"as_custom_obj": {}}), "has as_custom_obj"),
    ("another graph", lambda p: _first_node(p)["inputs"][0].update(arg={"as_graph": {}}), "has as_graph"),
]


@pytest.mark.parametrize(("change", "message"), [case[1:] for case in CODE], ids=[case[0] for case in CODE])
def test_a_graph_that_is_more_than_arithmetic_is_not_opened(
    change: Callable[[dict[str, Any]], Any], message: str, program_file: Path, tmp_path: Path
) -> None:
    path = rewrite(program_file, tmp_path / "bad.pt2", in_graph(change))
    with pytest.raises(CheckpointError, match=message) as refused:
        load(path)
    assert "not opened" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"format": "prithvi-program/9"}, "has the format 'prithvi-program/9'; this version reads 'prithvi-program/1'"),
        ({"torch": None}, "does not say the torch that wrote it"),
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
        ({"contract": None}, "not complete"),
        ({"more": 1}, "not complete"),
    ],
)  # fmt: skip
def test_a_record_that_is_not_the_programs_is_refused(
    values: dict[str, Any], message: str, program_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as refused:
        load(rewrite(program_file, tmp_path / "bad.pt2", in_facts(**values)))
    assert "bad.pt2" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_is_no_program_is_one_sentence(program_file: Path, tmp_path: Path) -> None:
    bad, whole = tmp_path / "bad.pt2", program_file.read_bytes()
    for content in (b"", b"a table", whole[:-1000], whole[: len(whole) // 2], whole[5000:], b"PK\x05\x06" + bytes(18)):
        bad.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"bad\.pt2 (is no program file|has no models|holds|is damaged)"):
            load(bad)
    torch.save({"a": torch.zeros(3)}, bad)
    with pytest.raises(CheckpointError, match="it is not a program that 'prithvi export' wrote"):
        load(bad)
    with zipfile.ZipFile(bad, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("serialized_exported_program.json", bytes(10_000_000))
    with pytest.raises(CheckpointError, match="holds compressed or repeated files"):
        load(bad)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(tmp_path / "absent.pt2")
    with pytest.raises(ModelError, match="is opened as it is"):
        load(program_file, bands=["blue"])


def test_damage_and_another_torch_are_one_sentence(program_file: Path, tmp_path: Path) -> None:
    newer = rewrite(
        program_file, tmp_path / "newer.pt2", in_graph(lambda plain: plain["schema_version"].update(major=99))
    )
    with pytest.raises(CheckpointError, match=r"was written by torch .* cannot open it \(") as refused:
        load(newer)
    assert "\n" not in str(refused.value)
    whole = program_file.read_bytes()
    with zipfile.ZipFile(program_file) as archive:
        place = next(e for e in archive.infolist() if e.filename.endswith("weight_7")).header_offset + 5000
    (tmp_path / "flipped.pt2").write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
    with pytest.raises(CheckpointError, match=r"flipped\.pt2 is damaged \(.*weight_7\)"):
        load(tmp_path / "flipped.pt2")


def old_layout(path: Path, to: Path, folder: Path, **replaced: bytes) -> Path:
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
            archive.writestr(name, replaced.get(name.partition(".")[0], content))
    return to


def test_the_layout_of_torch_2_6_opens_and_is_looked_through(
    fitted: FittedModel, program_file: Path, tmp_path: Path
) -> None:
    path = old_layout(program_file, tmp_path / "old.pt2", tmp_path)
    assert largest_difference(fitted.mappable(), open_program(path)) <= 1e-5
    bomb = torch_file({"weight": Bomb(tmp_path / "ran")}, tmp_path)
    with pytest.raises(CheckpointError, match=r"mkdir in serialized_state_dict\.pt"):
        load(old_layout(program_file, tmp_path / "bad.pt2", tmp_path, serialized_state_dict=bomb))
    assert not (tmp_path / "ran").exists()
