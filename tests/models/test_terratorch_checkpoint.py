"""A checkpoint that TerraTorch's own task wrote, its band enum in the hyper-parameters, is read without running it."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

from prithvi.errors import CheckpointError
from prithvi.models import build
from prithvi.models.checkpoint import InertName, load, read

pytest.importorskip("terratorch", reason="needs the terratorch extra")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, torch.Tensor]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TerraTorch's own
        import lightning as L
        from terratorch.datasets import HLSBands
        from terratorch.tasks import SemanticSegmentationTask

        bands = [HLSBands(name) for name in ("BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2")]
        torch.manual_seed(0)
        task = SemanticSegmentationTask(
            model_args={
                "backbone": "prithvi_eo_v2_tiny_tl",
                "backbone_pretrained": False,
                "backbone_bands": bands,
                "backbone_num_frames": 1,
                "decoder": "FCNDecoder",
                "decoder_channels": 32,
                "num_classes": 2,
            },
            model_factory="EncoderDecoderFactory",
            loss="ce",
            ignore_index=-1,
        )
        trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
        trainer.strategy.connect(task)
        path = tmp_path_factory.mktemp("terratorch") / "task.ckpt"
        trainer.save_checkpoint(path)
    return path, task.state_dict()


def test_names_are_mapped_and_the_enum_is_inert(checkpoint: tuple[Path, dict[str, torch.Tensor]]) -> None:
    path, theirs = checkpoint
    with pytest.raises(Exception, match="HLSBands"):
        torch.load(path, weights_only=True)  # what torch alone makes of it
    _, hyper = read(path)
    bands = hyper["model_args"]["backbone_bands"]
    assert bands == ["BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2"]
    assert all(type(band) is InertName for band in bands)
    encoder = build("prithvi_eo_v2_tiny_tl").encoder
    report = load(encoder, path)
    assert report.complete
    for key, value in encoder.state_dict().items():
        assert torch.equal(value, theirs[f"model.encoder.{key}"]), key
    assert all(key.startswith("other.model.") for key in report.unused)


def test_a_fine_tuned_model_is_no_autoencoder(checkpoint: tuple[Path, dict[str, torch.Tensor]]) -> None:
    with pytest.raises(CheckpointError, match=r"106 missing \(decoder.mask_token"):
        load(build("prithvi_eo_v2_tiny_tl"), checkpoint[0])
