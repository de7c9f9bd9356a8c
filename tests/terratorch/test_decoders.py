"""TerraTorch's decoders as heads give what they give in TerraTorch's own model with the same weights."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

from prithvi.errors import ModelError
from prithvi.modelio.program import export, largest_difference, open_program
from prithvi.models import Segmenter
from prithvi.models.heads import build_head
from prithvi.models.zoo import configure
from prithvi.tasks import SegmentationTask
from tests.terratorch.conftest import their_warnings
from tests.terratorch.layouts import has_scale_modules

SHAPE = {"embed_dim": 64, "depth": 4, "num_heads": 2}
PYRAMID = [{"name": "SelectIndices", "indices": [0, 1, 2, 3]}, {"name": "ReshapeTokensToImage"},
           {"name": "LearnedInterpolateToPyramidal"}]  # fmt: skip
FOUR = [{"name": "SelectIndices", "indices": [3, 1, -2, 0]}]
CASES: list[tuple[str, dict[str, Any], list[dict[str, Any]]]] = [
    ("UNetDecoder", {"decoder_channels": [32, 16, 16, 8], "head_dropout": 0.1}, PYRAMID),
    ("UperNetDecoder", {"decoder_channels": 16}, PYRAMID),
    ("UperNetDecoder", {"decoder_channels": 16, "decoder_scale_modules": True}, FOUR),
    ("FCNDecoder", {"decoder_channels": 16, "head_channel_list": [8]}, []),
    ("FCNDecoder", {"decoder_channels": 16, "decoder_num_convs": 2}, [{"name": "InterpolateToPyramidal"}]),
    ("MLPDecoder", {}, [{"name": "SelectIndices", "indices": [1, 3]}]),
    ("LinearDecoder", {"decoder_upsampling_size": 8, "decoder_num_classes": 5}, []),
    ("IdentityDecoder", {}, [*FOUR, {"name": "MaxpoolToPyramidal", "kernel_size": 1}]),
    ("smp_Unet", {"decoder_decoder_channels": [32, 16, 8]}, [*FOUR, {"name": "ReshapeTokensToImage"}]),
]


def theirs(decoder: str, options: dict[str, Any], necks: list[dict[str, Any]], frames: int) -> Any:
    with their_warnings():
        from terratorch.models import EncoderDecoderFactory

        # Without a neck that lays tokens out as images, theirs wants one; ours has images already.
        laid_out = [{**neck, "effective_time_dim": frames} if "Tokens" in neck["name"] else neck for neck in necks]
        if not any("Tokens" in neck["name"] for neck in necks):
            place = 1 if necks and necks[0]["name"] == "SelectIndices" else 0
            laid_out.insert(place, {"name": "ReshapeTokensToImage", "effective_time_dim": frames})
        return EncoderDecoderFactory().build_model(
            "segmentation", "prithvi_eo_tiny", decoder, num_classes=3, necks=laid_out, backbone_num_frames=frames,
            **{f"backbone_{key}": value for key, value in SHAPE.items()}, **options,
        ), laid_out  # fmt: skip


@pytest.mark.parametrize("size", [(64, 64), (64, 96)])
@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize(("decoder", "options", "necks"), CASES, ids=[f"{c[0]}-{len(c[2])}" for c in CASES])
def test_scores_are_theirs(
    decoder: str, options: dict[str, Any], necks: list[dict[str, Any]], frames: int, size: tuple[int, int]
) -> None:
    if size[0] != size[1] and version("terratorch") in ("1.2", "1.2.1", "1.2.2"):
        pytest.skip("TerraTorch lays out rectangles since 1.2.4")
    if options.get("decoder_scale_modules") and not has_scale_modules():
        pytest.skip("TerraTorch has no scale_modules since 1.2.12; test_layouts.py opens files of older ones")
    torch.manual_seed(1)
    model, laid_out = theirs(decoder, dict(options), necks, frames)
    own = {key.removeprefix("decoder_"): value for key, value in options.items()}
    selected = any(neck["name"] == "SelectIndices" for neck in necks)
    config = configure("prithvi_eo_tiny", num_frames=frames, **SHAPE)  # type: ignore[arg-type]
    with their_warnings():
        ours = Segmenter(
            config, 3, decoder, {**own, "necks": laid_out, **({} if selected else {"indices": [0, 1, 2, 3]})}
        )
    with torch.no_grad():
        for weight in model.parameters():  # so that no norm is 1 and no bias 0
            weight.add_(0.02 * torch.randn_like(weight))
    state = model.state_dict()
    ours.load_state_dict({k if k.startswith("encoder.") else f"head.{k}": v for k, v in state.items()}, strict=True)
    images = torch.randn(2, 6, frames, *size)
    with torch.no_grad():
        expected = model.eval()(images).output
        found = ours.eval()(images)
    assert found.shape == (2, 3, *size)
    assert (found - expected).abs().max() <= 1e-5


def test_the_last_block_alone_is_the_default_and_is_normalised() -> None:
    config = configure("prithvi_eo_tiny", **SHAPE)  # type: ignore[arg-type]
    model = Segmenter(config, 3, "FCNDecoder", {"channels": 8, "num_convs": 1}).eval()
    assert model.indices == (-1,)
    images = torch.randn(1, 6, 1, 32, 32)
    tokens = model.encoder(images).tokens
    grid = tokens[:, 1:].reshape(1, 2, 2, 64).permute(0, 3, 1, 2)
    assert torch.allclose(model.features(images), grid, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("UpperNetDecoder", {}, "there is no head 'UpperNetDecoder': did you mean UperNetDecoder"),
        ("FCNDecoder", {"chanels": 8}, "unexpected keyword argument 'chanels'"),
        ("UNetDecoder", {"channels": [8, 8]}, "UNetDecoder on 1 block: channels should have the same length"),
        ("UNetDecoder", {"channels": [8], "necks": [{"name": "LearnedInterpolateToPyramidal"}]}, "wants four blocks"),
        ("FCNDecoder", {"necks": [{"name": "SelectIndexes"}]}, "no neck 'SelectIndexes': did you mean SelectIndices"),
        ("FCNDecoder", {"indices": [1], "necks": [{"name": "SelectIndices", "indices": [1]}]}, "leave out indices"),
        ("FCNDecoder", {"necks": [{"name": "AggregateTokens"}]}, "AggregateTokens works on tokens"),
        ("FCNDecoder", {"necks": [{"name": "ReshapeTokensToImage", "effective_time_dim": 3}]}, "1 date"),
        ("LinearDecoder", {"upsampling_size": 16, "head_dropout": 0.1}, "leave out head_dropout"),
    ],
)
def test_what_does_not_fit_is_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build_head(name, 64, 1, 16, 2, **options)


def test_a_block_the_encoder_lacks_is_refused() -> None:
    with pytest.raises(ModelError, match=r"wants the blocks \(7,\) of an encoder that has 4"):
        Segmenter(configure("prithvi_eo_tiny", **SHAPE), 2, "FCNDecoder", {"indices": [7]})  # type: ignore[arg-type]


def test_a_task_of_ours_trains_with_a_decoder_of_theirs() -> None:
    torch.manual_seed(0)
    task = SegmentationTask(
        contract=configure("prithvi_eo_tiny").contract.to_dict(), classes=["land", "water"], window=32,
        head="UperNetDecoder", head_options={"indices": [0, 1, 2, 3], "channels": 8}, model_options=SHAPE,
    )  # fmt: skip
    images, label = torch.randn(2, 6, 1, 32, 32), (torch.arange(32) // 16).expand(2, 32, 32)  # water on the right
    optimizer = torch.optim.AdamW(task.parameters(), 1e-3)
    losses = []
    for _ in range(30):
        loss = torch.nn.functional.cross_entropy(task.model(images), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.2
    assert all(weight.grad is not None for name, weight in task.model.named_parameters() if name.startswith("head."))


@pytest.mark.slow
def test_a_decoder_of_theirs_becomes_a_program_without_them(tmp_path: Path) -> None:
    task = SegmentationTask(
        contract=configure("prithvi_eo_tiny").contract.to_dict(), classes=["land", "water"], window=32,
        head="UperNetDecoder", head_options={"indices": [0, 1, 2, 3], "channels": 8}, model_options=SHAPE,
    )  # fmt: skip
    fitted = task.fitted()
    path = export(fitted, tmp_path / "upernet.pt2")
    assert largest_difference(fitted.mappable(), open_program(path)) <= 1e-5
    script = f"import sys; sys.modules['terratorch'] = None; import prithvi; prithvi.load({str(path)!r})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_without_terratorch_the_extra_is_named() -> None:
    script = (
        "import sys; sys.modules['terratorch'] = None\n"
        "from prithvi.models.heads import build_head\n"
        "build_head('UNetDecoder', 64, 1, 16, 2)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "pip install 'prithvi[terratorch]'" in done.stderr
