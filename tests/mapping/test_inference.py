"""Windows on several threads: the same answers, and only for modules that allow it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import prithvi as package
from prithvi import windows
from prithvi.contract import Contract
from prithvi.mapping import map_scene
from prithvi.mapping.inference import window_threads
from prithvi.modelio.predictor import FittedModel
from prithvi.models.heads import has_trait
from prithvi.scenes import open_scene
from tests.kill_runs import content

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class Tells(nn.Module):
    """Scores by pixels; notes who calls."""

    def __init__(self) -> None:
        super().__init__()
        self.callers: list[tuple[int, int]] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.callers.append((threading.get_ident(), len(images)))
        return images[:, :2, 0].nan_to_num()


def test_answers_come_in_order_and_torch_gets_its_threads_back() -> None:
    batch, begun = torch.arange(7.0)[:, None], []
    with window_threads(2, 2) as begin:
        assert torch.get_num_threads() == 1
        for first in range(0, 7, 2):
            begun.append(begin(lambda few, none: few * 10 if none is None else few, batch[first : first + 2], None))
            if len(begun) == 3:  # two threads, and the one whose answers are taken
                assert torch.equal(torch.stack(list(begun.pop(0))), batch[first - 4 : first - 2] * 10)
        assert torch.equal(torch.stack([answer for answers in begun for answer in answers]), batch[4:] * 10)
    assert torch.get_num_threads() == 2

    def fails(values: torch.Tensor) -> torch.Tensor:
        raise ValueError(f"{len(values)} windows")

    with pytest.raises(ValueError, match="2 windows"), window_threads(2, 2) as begin:
        list(begin(fails, batch[:2]))
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    ("window", "at_once", "few"), [(32, 32, 8), (64, 32, 8), (160, 16, 4), (224, 8, 2), (512, 8, 2)]
)
def test_small_windows_are_predicted_more_at_once(window: int, at_once: int, few: int) -> None:
    assert windows.at_once(window) == at_once
    assert windows.by_a_thread(window, at_once) == few
    assert [windows.by_a_thread(window, asked) for asked in (1, 2, 8)] == [1, 2, 2]  # what was asked for holds
    assert windows.by_a_thread(window, 1000) == few


def test_by_default_a_batch_has_the_pixels_of_eight_windows_of_224(write_tif: Write, six_bands: np.ndarray) -> None:
    module, scene = Tells(), open_scene(write_tif(six_bands[:, :100, :300]))
    contract = Contract(tuple(map(str, scene["band"].values)), (0.0,) * 6, (1.0,) * 6)
    package.map(scene.compute(), module, contract=contract, classes=["a", "b"], window=16, stride=8)
    assert len(windows.plan(100, 300, 16, 8).columns) == 37
    assert {number for _, number in module.callers} == {32, 5}
    module.callers.clear()
    package.map(scene.compute(), module, contract=contract, classes=["a", "b"], window=16, stride=8, batch_size=8)
    assert {number for _, number in module.callers} == {8, 5}


def test_a_module_of_somebody_else_is_called_from_one_thread(write_tif: Write, six_bands: np.ndarray) -> None:
    module = Tells()
    scene = open_scene(write_tif(six_bands[:, :100, :300]))
    contract = Contract(tuple(map(str, scene["band"].values)), (0.0,) * 6, (1.0,) * 6)
    package.map(scene.compute(), module, contract=contract, classes=["a", "b"], window=64, batch_size=4)
    assert {caller for caller, _ in module.callers} == {threading.get_ident()}
    assert max(number for _, number in module.callers) == 4


def test_a_map_has_the_same_bytes_on_one_thread_and_on_two(
    fitted: FittedModel, write_tif: Write, six_bands: np.ndarray, tmp_path: Path
) -> None:
    assert fitted.mappable().concurrent
    scene = open_scene(write_tif(six_bands[:, :150, :300]))
    for number in (1, 2):
        torch.set_num_threads(number)
        map_scene(fitted, scene, tmp_path / str(number) / "map.tif", stride=16)
        assert torch.get_num_threads() == number
    assert content(tmp_path / "1") == content(tmp_path / "2")


def test_heads_of_ours_may_be_called_at_once_and_others_are_asked_first() -> None:
    assert [name for name in ("light", "fcn", "detail", "unet", "UNetDecoder") if has_trait(name, "concurrent")] == [
        "light", "fcn", "detail", "unet",
    ]  # fmt: skip
