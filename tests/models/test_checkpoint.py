"""Every layout that weights come in, and every way in which a file can be wrong."""

from __future__ import annotations

import json
import math
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import prithvi
from prithvi.errors import CheckpointError, ConfigError, ModelError
from prithvi.models import PrithviMAE, build
from prithvi.models.checkpoint import load, read

NAME = "prithvi_eo_v2_tiny_tl"
SMALL: dict[str, Any] = {"depth": 2, "decoder_depth": 1, "img_size": 64}


def make(seed: int = 0, **options: Any) -> PrithviMAE:
    torch.manual_seed(seed)
    return build(NAME, **{**SMALL, **options}).eval()


def flat(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Version 1 names: neither part has a prefix."""
    return {key.split(".", 1)[1]: value for key, value in state.items()}


def prefixed(prefix: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in state.items()}


LAYOUTS: dict[str, Callable[[dict[str, torch.Tensor]], Any]] = {
    "version 1, flat": flat,
    "version 2": dict,
    "nested under model": lambda state: {"model": state, "epoch": 3},
    "flat, nested under model": lambda state: {"model": flat(state)},
    "data parallel": lambda state: prefixed("module.", state),
    "timm wrapper": lambda state: {key.replace("encoder.", "encoder._timm_module."): v for key, v in state.items()},
    "compiled": lambda state: prefixed("_orig_mod.", state),
    "Lightning": lambda state: {"state_dict": prefixed("model.", state), "hyper_parameters": {"lr": 1e-4}, "epoch": 1},
    "ordered": lambda state: OrderedDict(state),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_loads_completely(layout: str, tmp_path: Path) -> None:
    source, target = make(0), make(1)
    path = tmp_path / "weights.pt"
    torch.save(LAYOUTS[layout](source.state_dict()), path)
    report = load(target, path)
    assert report.complete
    assert len(report.matched) == len(source.state_dict())
    for key, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[key], value), key


def test_safetensors_load(tmp_path: Path) -> None:
    source, target = make(0), make(1)
    save_file(source.state_dict(), tmp_path / "model.safetensors")
    load(target, tmp_path / "model.safetensors")
    images = torch.randn(1, 6, 1, 64, 64)
    assert torch.equal(source(images, mask_ratio=0).pred, target(images, mask_ratio=0).pred)


def test_position_codes_of_another_size_are_computed_anew(tmp_path: Path) -> None:
    torch.save(make(0).state_dict(), tmp_path / "w.pt")
    target = make(1, img_size=(96, 64), num_frames=3)
    expected = target.encoder.pos_embed.clone()
    report = load(target, tmp_path / "w.pt")
    assert report.recomputed == ["encoder.pos_embed", "decoder.decoder_pos_embed"]
    assert torch.equal(target.encoder.pos_embed, expected)


def test_bands_are_mapped_by_name(tmp_path: Path) -> None:
    source = make(0)
    torch.save(source.state_dict(), tmp_path / "w.pt")
    wanted = ["swir_1", "blue", "red"]
    target = make(1, bands=wanted)
    report = load(target, tmp_path / "w.pt", file_bands=source.config.bands)
    assert len(report.mapped) == 3
    index = [source.config.bands.index(band) for band in wanted]
    assert torch.equal(target.encoder.patch_embed.proj.weight, source.encoder.patch_embed.proj.weight[:, index])
    images = torch.randn(1, 6, 1, 64, 64)
    visible = torch.ones(1, 16, dtype=torch.bool)
    absent = [band for band in range(6) if band not in index]
    images[:, absent] = 0  # then the bands left out add nothing, and both models see the same
    assert torch.allclose(
        target(images[:, index], visible=visible).pred, source(images, visible=visible).pred[:, index], atol=1e-5
    )


@pytest.mark.parametrize("stated", ["TerraTorch", "ours"])
def test_bands_that_a_checkpoint_states_are_believed(stated: str, tmp_path: Path) -> None:
    swapped = ["red", "green", "blue", "nir_narrow", "swir_1", "swir_2"]
    source = make(0, bands=swapped)
    hyper = {
        "TerraTorch": {"model_args": {"backbone_bands": [band.upper() for band in swapped]}},
        "ours": {"contract": {"bands": swapped}},
    }[stated]
    torch.save({"state_dict": prefixed("model.", source.state_dict()), "hyper_parameters": hyper}, tmp_path / "w.ckpt")
    target = make(1)
    assert load(target, tmp_path / "w.ckpt").mapped
    index = [swapped.index(band) for band in target.config.bands]
    assert torch.equal(target.encoder.patch_embed.proj.weight, source.encoder.patch_embed.proj.weight[:, index])


def test_new_bands_need_leave(tmp_path: Path) -> None:
    torch.save(make(0).state_dict(), tmp_path / "w.pt")
    bands = ["blue", "green", "red", "nir_narrow", "swir_1", "swir_2", "red_edge_1"]
    target = make(1, bands=bands, mean=[1.0] * 7, std=[1.0] * 7)
    fresh = target.encoder.patch_embed.proj.weight[:, 6].clone()
    with pytest.raises(CheckpointError, match="no weights for red_edge_1"):
        load(target, tmp_path / "w.pt", file_bands=bands[:6])
    report = load(target, tmp_path / "w.pt", file_bands=bands[:6], new_bands=True)
    assert report.fresh == ["red_edge_1"]
    assert torch.equal(target.encoder.patch_embed.proj.weight[:, 6], fresh)


def test_an_encoder_does_not_need_the_decoder(tmp_path: Path) -> None:
    source, target = make(0), make(1)
    torch.save(source.state_dict(), tmp_path / "w.pt")
    report = load(target.encoder, tmp_path / "w.pt")
    assert report.unused
    assert all(key.startswith("decoder.") for key in report.unused)
    assert torch.equal(target.encoder.cls_token, source.encoder.cls_token)


def written(path: Path, change: dict[str, torch.Tensor | None]) -> Path:
    """A whole file but for `change`; None takes a tensor out."""
    state = {**make(0).state_dict(), **change}
    torch.save({key: value for key, value in state.items() if value is not None}, path)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder.norm.weight": None}, r"1 missing \(encoder\.norm\.weight\)"),
        ({"encoder.norm.weight": torch.ones(3)}, r"1 wrong shape \(encoder\.norm\.weight \(3,\) for \(192,\)\)"),
        ({"encoder.norm.extra": torch.ones(3)}, r"1 left over \(encoder\.norm\.extra\)"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_loaded(
    change: dict[str, torch.Tensor | None], message: str, tmp_path: Path
) -> None:
    target = make(1)
    before = {key: value.clone() for key, value in target.state_dict().items()}
    with pytest.raises(CheckpointError, match=message) as failure:
        load(target, written(tmp_path / "w.pt", change))
    assert "nothing was loaded" in str(failure.value)
    assert all(torch.equal(value, before[key]) for key, value in target.state_dict().items())


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, ("touch /tmp/prithvi_was_here",)


def test_code_in_a_pickle_is_named_and_not_run(tmp_path: Path) -> None:
    mark = Path("/tmp/prithvi_was_here")
    mark.unlink(missing_ok=True)
    torch.save({"model": make(0).state_dict(), "hook": Evil()}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"holds \w+\.system, which is code"):
        read(tmp_path / "w.pt")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(CheckpointError):
        read(tmp_path / "raw.pt")
    assert not mark.exists()


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "w.pt", {})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError, match="damaged or cut short"):
        read(path)
    save_file(make(0).state_dict(), tmp_path / "w.safetensors")
    whole = (tmp_path / "w.safetensors").read_bytes()
    (tmp_path / "w.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        read(tmp_path / "w.safetensors")


def test_other_files_are_no_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no weights file"):
        read(tmp_path / "absent.pt")
    torch.save({"weight": torch.ones(2)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="0 class tokens"):
        read(tmp_path / "other.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="holds a list"):
        read(tmp_path / "list.pt")


def test_load_takes_a_file_with_its_architecture(tmp_path: Path) -> None:
    source = build("prithvi_eo_tiny")
    torch.save(source.state_dict(), tmp_path / "w.pt")
    model = prithvi.load(tmp_path / "w.pt", architecture="prithvi_eo_tiny")
    assert isinstance(model, PrithviMAE)
    assert not model.training
    assert torch.equal(model.encoder.cls_token, source.encoder.cls_token)
    with pytest.raises(ModelError, match="say architecture="):
        prithvi.load(tmp_path / "w.pt")
    fewer = prithvi.load(tmp_path / "w.pt", architecture="prithvi_eo_tiny", bands=["red", "blue"], img_size=64)
    assert isinstance(fewer, PrithviMAE)
    assert torch.equal(fewer.encoder.patch_embed.proj.weight, source.encoder.patch_embed.proj.weight[:, [2, 0]])


def test_load_takes_a_folder_in_the_published_layout(tmp_path: Path) -> None:
    """config.json with the names of the HLS L30 bands, as the hub has it, beside the weights."""
    source = make(0)
    plain = source.config.to_dict()
    published = {
        "architecture": NAME,
        "num_features": 192,
        "pretrained_cfg": {
            **{key: plain[key] for key in plain if key not in ("architecture", "clip", "drop_path", "norm_eps")},
            "img_size": 64,
            "bands": ["B02", "B03", "B04", "B05", "B06", "B07"],
        },
    }
    (tmp_path / "config.json").write_text(json.dumps(published))
    torch.save(source.state_dict(), tmp_path / "Prithvi_EO_V2_tiny_TL.pt")
    model = prithvi.load(tmp_path)
    assert isinstance(model, PrithviMAE)
    assert model.config == source.config
    plain_mean = {"pretrained_cfg": {**published["pretrained_cfg"], "mean": [1, 2, 3, 4, 5, 6]}}
    (tmp_path / "config.json").write_text(json.dumps({**published, **plain_mean}))
    fewer = prithvi.load(tmp_path, bands=["green", "blue"])
    assert isinstance(fewer, PrithviMAE)
    assert fewer.contract.mean == (2, 1)
    for field, value, said in (
        ("embed_dim", "64", "whole number, 1 or more"), ("depth", None, "whole number, 0 or more"),
        ("num_heads", 0, "whole number, 1 or more"), ("mlp_ratio", None, "number from 0.1 to 100"),
        ("drop_path", math.nan, "number from 0 to 1"), ("patch_size", [1, 0, 16], "3 whole numbers, each 1 or more"),
        ("patch_size", [16, 16], "3 whole numbers"), ("img_size", None, "2 whole numbers"),
    ):  # fmt: skip
        (tmp_path / "config.json").write_text(json.dumps({**published, "pretrained_cfg": {field: value}}))
        said = rf"config.json: {field} is {re.escape(repr(value))}; it must be (a )?{said}"
        with pytest.raises(ModelError, match=said):
            prithvi.load(tmp_path)
    for wrong in ({"pretrained_cfg": None}, {"pretrained_cfg": {"mean": 5}}):
        (tmp_path / "config.json").write_text(json.dumps({**published, **wrong}))
        with pytest.raises(ConfigError, match="holds a value of another kind"):
            prithvi.load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="is not JSON"):
        prithvi.load(tmp_path)


def test_a_name_without_published_weights_is_said_so() -> None:
    with pytest.raises(ModelError, match="no weights of prithvi_hls_small are published"):
        prithvi.load("prithvi_hls_small")
    with pytest.raises(ModelError, match="there is no model, file, folder or hub id 'prithvi_eo_v2_30'"):
        prithvi.load("prithvi_eo_v2_30")
