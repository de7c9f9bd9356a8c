from __future__ import annotations

from pathlib import Path

import pytest
import torch

from prithvi.catalog import dataset
from prithvi.errors import ConfigError, ModelError
from prithvi.modelio import open_folder, save
from prithvi.models import HEADS, Segmenter, register_head
from prithvi.models.heads import ChannelNorm, tokens_to_grid
from prithvi.models.zoo import configure
from prithvi.tasks import SegmentationTask


def config(**options: object):
    return configure("prithvi_eo_tiny", **{"depth": 2, "img_size": (64, 96), **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("head", ["fcn", "light", "detail"])
@pytest.mark.parametrize("patch", [4, 8, 14, 16])
@pytest.mark.parametrize("frames", [1, 3])
def test_heads_give_a_score_a_pixel_on_rectangles(head: str, patch: int, frames: int) -> None:
    options = {"width": 16, "channels": 16} if head == "fcn" else {}
    size = (4 * patch, 9 * patch)  # 4 x 9 tokens a date: a perfect square that is none
    model = Segmenter(config(patch_size=(1, patch, patch), img_size=size, num_frames=frames), 3, head, options)
    assert model(torch.randn(2, 6, frames, *size)).shape == (2, 3, *size)


def test_tokens_lie_where_their_patches_were() -> None:
    """Each token holds its own (date, row, column); the 4 x 9 grid must not turn into 6 x 6."""
    grid = (2, 4, 9)
    t, y, x = torch.meshgrid(*(torch.arange(n) for n in grid), indexing="ij")
    tokens = torch.stack([t, y, x], dim=-1).reshape(1, -1, 3).float()
    tokens = torch.cat([torch.full((1, 1, 3), -1.0), tokens], dim=1)
    out = tokens_to_grid(tokens, grid)
    assert out.shape == (1, 6, 4, 9)
    for date in range(2):
        for row in range(4):
            for column in range(9):
                assert out[0, 3 * date : 3 * date + 3, row, column].tolist() == [date, row, column]


def test_the_light_head_writes_each_pixel_of_its_own_patch() -> None:
    """A change inside one patch's token changes the scores of that patch alone."""
    head = HEADS["light"](8, 1, 4, 2)
    features = torch.randn(1, 8, 3, 5)
    changed = features.clone()
    changed[0, :, 1, 2] += torch.randn(8)
    differ = (head(features, (12, 20)) != head(changed, (12, 20))).any(dim=1)[0]
    expected = torch.zeros(12, 20, dtype=torch.bool)
    expected[4:8, 8:12] = True
    assert torch.equal(differ, expected)


def test_the_paper_s_neck_doubles_four_times() -> None:
    head = HEADS["fcn"](32, 3, 16, 2)
    kinds = [type(module).__name__ for module in head.neck]
    assert kinds == ["ConvTranspose2d", "ChannelNorm", "GELU", "ConvTranspose2d"] * 2
    assert head.neck[0].in_channels == 96
    assert head.head[0].out_channels == 256
    x = torch.randn(2, 96, 3, 4)
    norm = ChannelNorm(96)(x)
    assert torch.allclose(norm.mean(dim=1), torch.zeros(2, 3, 4), atol=1e-5)


def test_heads_are_refused_by_name() -> None:
    with pytest.raises(ModelError, match="no head 'fnc': did you mean fcn"):
        Segmenter(config(), 2, "fnc")
    with pytest.raises(ModelError, match=r"head 'light': .*unexpected keyword argument 'widht'"):
        Segmenter(config(), 2, "light", {"widht": 3})
    with pytest.raises(ModelError, match="there is a head 'light' already"):
        register_head("light")(torch.nn.Identity)
    with pytest.raises(ModelError, match="have 2 dates"):
        Segmenter(config(), 2, "light")(torch.randn(1, 6, 2, 64, 96))


def test_a_head_may_look_at_the_pixels_of_each_patch() -> None:
    """A pixel moves the scores around it, where its token is the same for the whole patch."""
    torch.manual_seed(0)
    model = Segmenter(config(patch_size=(1, 8, 8), num_frames=2), 3, "detail", {"width": 8}).eval()
    images = torch.randn(1, 6, 2, 64, 96)
    features = model.features(images)
    assert features.shape == (1, 2 * 256 + 2 * 6 * 64, 8, 12)
    changed = features.clone()
    pixels = torch.nn.functional.pixel_shuffle(changed[:, 512:], 8)
    torch.testing.assert_close(pixels, images.transpose(1, 2).flatten(1, 2))
    pixels[0, 3, 20, 30] += 5
    changed[:, 512:] = torch.nn.functional.pixel_unshuffle(pixels, 8)
    with torch.no_grad():
        moved = (model.head(changed, (64, 96)) != model.head(features, (64, 96))).any(dim=1)[0].nonzero()
    assert len(moved) > 0
    assert (moved - torch.tensor([20, 30])).abs().max() <= 2


def test_a_u_net_stands_in_for_an_encoder(tmp_path: Path) -> None:
    pytest.importorskip("segmentation_models_pytorch")
    torch.manual_seed(0)
    model = Segmenter(config(num_frames=3), 4, "unet").eval()
    assert model.encoder is None
    images = torch.randn(2, 6, 3, 50, 70)  # not a multiple of 32
    with torch.no_grad():
        scores = model(images)
        assert scores.shape == (2, 4, 50, 70)
        swapped = model(images.flip(2))
    assert not torch.equal(scores, swapped)
    task = SegmentationTask(["a", "b"], contract=dataset("sen1floods11").contract.to_dict(), head="unet", window=32)
    fitted = open_folder(save(task.eval().fitted(), tmp_path / "model"))
    with torch.no_grad():
        assert torch.equal(fitted.model(images[:, :, :1]), task.model(images[:, :, :1]))
    with pytest.raises(ConfigError, match="head 'unet' works on pixels: without init, and with finetune: full"):
        SegmentationTask(["a", "b"], contract=dataset("sen1floods11").contract.to_dict(), head="unet", finetune="lora")
