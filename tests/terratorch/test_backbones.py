"""Our encoders are backbones in TerraTorch, trained by its own command line, and its own names stay its own."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from prithvi.bands import PRITHVI_BANDS
from prithvi.errors import BandError, CheckpointError, ModelError
from prithvi.models import VARIANTS, build
from prithvi.models.heads import tokens_to_grid
from tests.terratorch.conftest import BANDS, configuration, their_warnings

with their_warnings():
    from terratorch.datasets import HLSBands
    from terratorch.models import EncoderDecoderFactory
    from terratorch.registry import BACKBONE_REGISTRY, TERRATORCH_BACKBONE_REGISTRY

    THEIRS = {name: TERRATORCH_BACKBONE_REGISTRY[name] for name in TERRATORCH_BACKBONE_REGISTRY
              if not name.startswith("hlsvit_")}  # fmt: skip
    import prithvi.terratorch as ours


def test_every_variant_is_registered_once_and_none_of_theirs_is_touched() -> None:
    before = {name: TERRATORCH_BACKBONE_REGISTRY[name] for name in TERRATORCH_BACKBONE_REGISTRY}
    importlib.reload(ours)
    after = {name: TERRATORCH_BACKBONE_REGISTRY[name] for name in TERRATORCH_BACKBONE_REGISTRY}
    assert after == before
    assert {name: after[name] for name in THEIRS} == THEIRS
    assert {name for name in after if name.startswith("hlsvit_")} == {
        f"hlsvit_{name.removeprefix('prithvi_')}" for name in VARIANTS
    }
    assert "prithvi" not in BACKBONE_REGISTRY.keys()  # noqa: SIM118  its keys are its sources, its iterator is not


def test_a_stock_configuration_still_builds() -> None:
    with their_warnings():
        model = EncoderDecoderFactory().build_model(
            "segmentation", "prithvi_eo_v2_tiny_tl", "FCNDecoder", backbone_pretrained=False, backbone_bands=BANDS,
            decoder_channels=8, num_classes=2,
        )  # fmt: skip
    assert type(model.encoder).__module__ == "terratorch.models.backbones.prithvi_mae"
    with torch.no_grad():
        assert model.eval()(torch.randn(1, 6, 64, 64)).output.shape == (1, 2, 64, 64)


def test_shipped_weights_come_by_band_name_from_their_enum_and_from_strings() -> None:
    shipped = build("prithvi_hls_tiny").encoder
    from prithvi.modelio import load_weights

    load_weights(shipped, "prithvi_hls_tiny")
    for bands in ([HLSBands.RED, HLSBands.BLUE], ["RED", "BLUE"], ["red", "blue"]):
        encoder = BACKBONE_REGISTRY.build("hlsvit_hls_tiny", pretrained=True, bands=bands)
        own, full = encoder.patch_embed.proj.weight, shipped.patch_embed.proj.weight
        places = [PRITHVI_BANDS.index("red"), PRITHVI_BANDS.index("blue")]
        assert torch.equal(own, full[:, places])
        assert torch.equal(encoder.blocks[3].mlp.fc1.weight, shipped.blocks[3].mlp.fc1.weight)


@pytest.mark.parametrize("frames", [1, 2])
def test_it_gives_the_tokens_of_every_block_and_lays_out_rectangles(frames: int) -> None:
    encoder = BACKBONE_REGISTRY.build("hlsvit_hls_tiny", num_frames=frames).eval()
    assert encoder.out_channels == [96 * frames] * 4
    assert encoder.patch_size == [1, 8, 8]
    images = torch.randn(2, 6, frames, 32, 72)  # 4 x 9 patches: a perfect square that is none
    times, places = torch.tensor([[[2020.0, 100.0]] * frames] * 2), torch.tensor([[40.0, -3.0]] * 2)
    with torch.no_grad():
        layers = encoder(images, temporal_coords=times, location_coords=places, filename=["a", "b"])
        assert [tuple(tokens.shape) for tokens in layers] == [(2, 1 + frames * 36, 96)] * 4
        expected = encoder.forward_features(images, times, places)
        assert all(torch.equal(a, b) for a, b in zip(layers, expected, strict=True))
        laid_out = encoder.prepare_features_for_image_model(layers)
        assert torch.equal(laid_out[2], tokens_to_grid(layers[2], (frames, 4, 9)))
        if frames == 1:
            assert torch.equal(encoder(images[:, :, 0], times, places)[-1], layers[-1])
    encoder.freeze()
    assert not any(weight.requires_grad for weight in encoder.parameters())


def test_without_necks_a_rectangle_keeps_its_shape_in_their_model() -> None:
    with their_warnings():
        model = EncoderDecoderFactory().build_model(
            "segmentation", "hlsvit_hls_tiny", "FCNDecoder", decoder_channels=8, decoder_num_convs=2, num_classes=2
        ).eval()  # fmt: skip
    image = torch.zeros(1, 6, 32, 288)  # 4 x 36 patches, which a square root would make 12 x 12
    changed = image.clone()
    changed[..., 280:] = 5.0
    layers = [model.encoder.prepare_features_for_image_model(model.encoder(x))[0] for x in (image, changed)]
    assert layers[0].shape[-2:] == (4, 36)
    where = (layers[0] - layers[1]).abs().sum(dim=(0, 1, 2)).argmax()
    assert where == 35


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"bands": ["RED", "COASTAL_AEROSOL"], "pretrained": True}, CheckpointError, "has no weights for coastal"),
        ({"bands": ["NIR"]}, BandError, "there is no band 'NIR'"),
        ({"bands": [0, 1, 2]}, BandError, "there is no band '0'"),
        ({"dept": 3}, ModelError, "no setting 'dept': did you mean depth"),
        ({"out_indices": [9]}, ModelError, "has 4 blocks"),
        ({"ckpt_path": "x.pt"}, ModelError, "pretrained is not set"),
        ({"ckpt_path": "x.pt", "pretrained": True}, ModelError, "no model, file, folder or hub id 'x.pt'"),
    ],
)
def test_mistakes_are_said_and_never_taken_for_a_missing_model(
    options: dict[str, object], error: type[ValueError], message: str
) -> None:
    with pytest.raises(error, match=message):  # a KeyError would come out as "isn't in the register"
        BACKBONE_REGISTRY.build("hlsvit_hls_tiny", **options)


def test_bands_without_weights_start_anew_where_that_is_asked_for() -> None:
    encoder = BACKBONE_REGISTRY.build(
        "hlsvit_hls_tiny", pretrained=True, bands=["RED", "COASTAL_AEROSOL"], new_bands=True
    )
    assert encoder(torch.randn(1, 2, 16, 16))[-1].shape == (1, 5, 96)


@pytest.mark.slow
def test_their_command_line_trains_our_encoder(floods: Path, tmp_path: Path) -> None:
    """As a user would: one line under trainer.callbacks, then `terratorch fit`."""
    args = {"backbone": "hlsvit_hls_tiny", "backbone_pretrained": True, "backbone_bands": BANDS,
            "decoder": "FCNDecoder", "decoder_channels": 16, "decoder_num_convs": 2}  # fmt: skip
    path = configuration(floods, tmp_path / "ours", args, ("prithvi.terratorch.Register",))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "terratorch", "fit", "--config", str(path)],
        capture_output=True, text=True, check=False, timeout=300, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    written = list(tmp_path.glob("ours/run/version_0/checkpoints/*.ckpt"))
    assert len(written) == 1
    state = torch.load(written[0], weights_only=True)["state_dict"]
    trained = state["model.encoder.blocks.0.attn.qkv.weight"]
    shipped = BACKBONE_REGISTRY.build("hlsvit_hls_tiny", pretrained=True).blocks[0].attn.qkv.weight
    assert 0 < (trained - shipped).abs().max() < 0.01  # two steps of AdamW at .001 from the shipped weights
