"""What any TerraTorch 1.2 wrote opens with any other: the option `scale_modules` and the neck that took its place."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import prithvi
from prithvi.errors import CheckpointError, ModelError
from prithvi.modelio import save
from prithvi.modelio.predictor import FittedModel
from prithvi.models.heads import build_head
from tests.terratorch.conftest import their_warnings
from tests.terratorch.layouts import LAYOUTS, PYRAMID, has_scale_modules, images, write

FILES = Path(os.environ.get("PRITHVI_LAYOUTS", Path(__file__).parent / "files"))
"""Files of several versions, one folder each: the few kept here, or all that `make matrix` wrote."""
WRITTEN = [name for name in LAYOUTS if has_scale_modules() or "scaled" not in name]


def opened(path: Path) -> FittedModel:
    with their_warnings():
        model = prithvi.load(path, mean=[1000.0] * 6, std=[500.0] * 6)
    assert isinstance(model, FittedModel)
    return model


def scores(model: FittedModel) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.model.double()(images())
    return found


def same(path: Path, expected: Path) -> FittedModel:
    """The model, when its scores are those that TerraTorch gave."""
    model = opened(path)
    wanted = torch.load(expected, weights_only=True)
    assert wanted.std() > 0.01  # not the same everywhere, which would be equal for nothing
    assert (scores(model) - wanted).abs().max() <= 1e-9
    return model


@pytest.mark.parametrize("path", sorted(FILES.rglob("*.ckpt")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_files_of_other_versions_open_with_this_one(path: Path) -> None:
    same(path, path.with_suffix(".pt"))


@pytest.mark.parametrize("name", WRITTEN)
def test_files_of_this_version_open_and_stay_the_same_as_a_folder(name: str, tmp_path: Path) -> None:
    path = write(name, tmp_path)
    model = same(path, tmp_path / f"{name}.pt")
    again = prithvi.load(save(opened(path), tmp_path / "model"))
    assert isinstance(again, FittedModel)
    assert torch.equal(scores(again), scores(model))


def change(path: Path, folder: Path, edit: Callable[[dict[str, Any], dict[str, Any]], None]) -> Path:
    """The checkpoint after `edit` of its arguments and its weights."""
    content = torch.load(path, weights_only=True)
    edit(content["hyper_parameters"]["model_args"], content["state_dict"])
    torch.save(content, folder / "changed.ckpt")
    return folder / "changed.ckpt"


def rename(old: str, new: str) -> Callable[[dict[str, Any]], None]:
    def edit(state: dict[str, Any]) -> None:
        moved = [key for key in state if key.startswith(old)]
        assert len(moved) == 11  # two convolutions up and a norm, one convolution up
        for key in moved:
            state[key.replace(old, new)] = state.pop(key)

    return edit


def old_weights(args: dict[str, Any], state: dict[str, Any]) -> None:
    rename("model.neck.2.fpn", "model.decoder.fpn")(state)


def old_layout(args: dict[str, Any], state: dict[str, Any]) -> None:
    old_weights(args, state)
    args["necks"].pop()
    args["decoder_scale_modules"] = True


def old_option(args: dict[str, Any], state: dict[str, Any]) -> None:
    args["necks"].pop()
    args["decoder_scale_modules"] = True


@pytest.mark.parametrize("edit", [old_weights, old_layout, old_option])
def test_option_and_neck_stand_for_one_another(
    edit: Callable[[dict[str, Any], dict[str, Any]], None], tmp_path: Path
) -> None:
    """A file may say either and hold either: of published ones the configuration or the weights were written anew."""
    path = write("upernet-neck", tmp_path)
    model = same(change(path, tmp_path, edit), tmp_path / "upernet-neck.pt")
    assert ("11 mapped" in model.provenance["weights"]) == (edit is not old_layout)


def test_a_pyramid_that_neither_is_named_is_refused(tmp_path: Path) -> None:
    path = write("upernet-neck", tmp_path)
    unnamed = change(path, tmp_path, lambda args, _: args["necks"].pop())
    with pytest.raises(CheckpointError, match=r"nothing was loaded: .*wrong shape \(head.decoder.lateral_convs.0"):
        opened(unnamed)

    def lose(args: dict[str, Any], state: dict[str, Any]) -> None:
        for key in [key for key in state if ".fpn1." in key]:
            del state[key]

    with pytest.raises(CheckpointError, match=r"nothing was loaded: .*9 missing \(head.neck.2.fpn1.0.weight"):
        opened(change(path, tmp_path, lose))


def test_the_option_wants_four_blocks() -> None:
    with pytest.raises(ModelError, match="on 1 block: scale_modules wants four blocks"):
        build_head("UperNetDecoder", 64, 1, 16, 2, scale_modules=True)


def test_a_decoder_that_no_step_trains_is_no_head() -> None:
    with pytest.raises(ModelError, match="no head 'SklearnDecoder'"):
        build_head("SklearnDecoder", 64, 1, 16, 2)


def test_necks_of_images_are_left_as_they_are() -> None:
    """Before TerraTorch 1.2.2 ReshapeTokensToImage took images for tokens."""
    head = build_head("UNetDecoder", 16, 1, 4, 2, channels=[8, 8, 4, 4], necks=PYRAMID)
    assert head(torch.zeros(1, 64, 4, 9), (16, 36)).shape == (1, 2, 16, 36)
