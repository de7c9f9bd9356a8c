"""Lists and tables as spreadsheets and shells write them, names that are none, and counts in words."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from prithvi.catalog.chip_lists import Split, listed_ids, tabled_ids
from prithvi.chips.label_files import open_labels
from prithvi.errors import CheckpointError, ConfigError, DatasetError, PrithviError, counted
from prithvi.evaluation.compare import Result, Trial, read_result, write_result
from prithvi.files import read_json, read_rows, refuse_inflated, refuse_unreachable
from prithvi.hls.items import read_items
from prithvi.mapping.inference import device_of
from prithvi.modelio import load
from prithvi.report import view
from prithvi.scenes import Area, open_scene
from tests.conftest import Answer


def test_a_list_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("a_image.tif,a_mask.tif\nb_image.tif,b_mask.tif\n", encoding="utf-8-sig")
    assert listed_ids(path, ["_image.tif"]) == ["a", "b"]
    path.write_text("id,part\nx,train\ny,test\n", encoding="utf-8-sig")
    assert tabled_ids(path, Split(column="id", where=(("part", "==", "train"),))) == ["x"]
    (tmp_path / "plain.json").write_text('{"a": 1}', encoding="utf-8-sig")
    assert read_json(tmp_path / "plain.json") == {"a": 1}


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_another_encoding_is_named(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "list.csv"
    path.write_text("id\nMünchen\n", encoding=encoding)
    for read in (lambda: listed_ids(path, []), lambda: tabled_ids(path, Split(column="id"))):
        with pytest.raises(DatasetError, match=r"list.csv is no text in UTF-8 .*: save it with this encoding"):
            read()


def test_rows_that_are_short_or_long(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("a,b\n1\n1,2,3\n")
    assert read_rows(path) == (["a", "b"], [{"a": "1", "b": ""}, {"a": "1", "b": "2", None: ["3"]}])
    path.write_text("a,b\n" + "x" * 200_000 + ",1\n")
    with pytest.raises(ConfigError, match=r"table\.csv is no CSV"):
        read_rows(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_rows(tmp_path / "none.csv")


@pytest.mark.parametrize("text", ["{", "[]", '{"settings": {}}', '{"settings": {}, "figures": {"a": "b"}}'])
def test_a_damaged_result_of_a_trial_is_named(tmp_path: Path, text: str) -> None:
    trial = Trial("m", 1.0, 0)
    write_result(tmp_path, Result(trial, {"test/mIoU": 0.5}, 1.0, 3), {})
    assert read_result(tmp_path, trial, {}) == Result(trial, {"test/mIoU": 0.5}, 1.0, 3)
    (path := tmp_path / trial.name / "result.json").write_text(text)
    with pytest.raises(ConfigError, match=r"result\.json is damaged \(.*\): remove it, and the trial runs again"):
        read_result(tmp_path, trial, {})
    path.unlink()  # as the message says
    assert read_result(tmp_path, trial, {}) is None


LONG = " ".join(f"scene_{number:03}.tif" for number in range(40))
DOORS: dict[str, Callable[[str], object]] = {
    "scene": open_scene, "items": read_items, "labels": open_labels, "model": load, "area": Area.from_file,
    "page": lambda name: view(name, "page.html"),
}  # fmt: skip


@pytest.mark.parametrize("door", DOORS)
def test_many_names_in_quotes_are_told_as_such(door: str) -> None:
    with pytest.raises(
        PrithviError, match=r"too long for the name of a file \(559 char.*: give several files as several"
    ):
        DOORS[door](LONG)


def test_the_command_line_says_it_too(prithvi: Callable[..., Answer]) -> None:
    answer = prithvi("map", "water", LONG, "-o", "out")
    assert answer.code == 2
    assert "give several files as several words" in answer.err


@pytest.mark.parametrize("door", DOORS)
def test_a_folder_that_may_not_be_entered_is_named(door: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As root, who may enter any, a file system says no by its own means."""
    plain = os.stat

    def stat(path: object, *more: object, **options: object) -> os.stat_result:
        if str(path).startswith(str(tmp_path / "closed")):
            raise PermissionError(13, "Permission denied", str(path))
        return plain(path, *more, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", stat)
    with pytest.raises(PrithviError, match=r"closed.* cannot be looked at \(Permission denied\): ask for access"):
        DOORS[door](str(tmp_path / "closed" / "scene.tif"))


def test_what_leads_nowhere_is_for_who_opens_it(tmp_path: Path) -> None:
    refuse_unreachable(tmp_path / "none")
    refuse_unreachable("a\0b")


def test_one_thing_is_counted_in_the_singular() -> None:
    assert [counted(number, "date") for number in (0, 1, 2, 1234)] == ["0 dates", "1 date", "2 dates", "1,234 dates"]


@pytest.mark.parametrize("data", [b"PK\3\4", b"PK\3\4" + bytes(200), b"PK\3\4" + b"cut short" * 9])
def test_what_begins_like_an_archive_is_looked_through_or_refused(tmp_path: Path, data: bytes) -> None:
    """torch would take it for one."""
    (path := tmp_path / "weights.pt").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"weights\.pt is damaged or cut short \(.*\): fetch it again"):
        refuse_inflated(path, CheckpointError)
    path.write_bytes(b"\x80\2" + data)
    refuse_inflated(path, CheckpointError)
    refuse_inflated(tmp_path / "none.pt", CheckpointError)


def test_a_device_that_is_full_is_not_called_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"there is no device 'nowhere': 'prithvi doctor'"):
        device_of("nowhere")
    for absent in ("cuda:99", "meta"):
        with pytest.raises(ConfigError, match=rf"the device '{absent}' cannot be used here \(.*\): 'prithvi doctor'"):
            device_of(absent)

    def full(*sizes: object, **options: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB.\nSee documentation")

    monkeypatch.setattr(torch, "zeros", full)
    with pytest.raises(ConfigError, match=r"cannot be used here \(CUDA out of memory\. Tried to allocate 2\.00 MiB\)"):
        device_of("cpu")
