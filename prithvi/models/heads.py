"""Heads from encoder tokens to outputs: the paper's neck and FCN, a light linear head, and a registry for more.

A head is built as `Head(embed_dim, num_frames, patch_size, num_outputs, **options)` and called with features
(B, T*D, h, w) on the patch grid and the image size (Y, X). It returns (B, outputs, Y, X), or (B, outputs) for the image
as a whole. Class attributes request other inputs:

- `indices` (on the instance): encoder blocks, counted from 0 or, if negative, from the end, whose tokens are
  concatenated along the channels; without it, the head gets the last block's tokens.
- `pixels = True`: no encoder. The head gets images (B, T*band, Y, X), and the number of bands as `embed_dim`.
- `detail = True`: the pixels of each patch as additional channels, (B, T*D + T*band*patch**2, h, w), which
  `torch.nn.functional.pixel_shuffle` turns back into an image; the head is built with `pixel_channels` = T*band.
- `dated = True`, with one of these two: the pixels have the sine and cosine of their day of year as two more bands,
  and the head is built with the model's configuration (`config`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prithvi.errors import ModelError, nearest, needs
from prithvi.models.config import Grid

HEADS: dict[str, Callable[..., nn.Module]] = {}
"""Classes (or functions) that build a head, by name."""


def register_head(name: str) -> Callable[[Callable[..., nn.Module]], Callable[..., nn.Module]]:
    """Class decorator that registers a head under a new name.

    Raises:
        ModelError: the name is taken.

    """

    def add(builder: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        if name in HEADS:
            raise ModelError(f"there is a head {name!r} already ({HEADS[name]}); choose another name.")
        HEADS[name] = builder
        return builder

    return add


def build_head(name: str, embed_dim: int, num_frames: int, patch: int, num_outputs: int, **options: Any) -> nn.Module:
    """Builds a registered head.

    Raises:
        ModelError: an unknown name (the message suggests the nearest), or an option that the head does not have.

    """
    if name not in HEADS and (name.endswith("Decoder") or name.startswith("smp_")):
        from prithvi.models.decoders import decoder_heads  # imports TerraTorch, which takes half a minute

        for decoder, builder in decoder_heads().items():
            HEADS.setdefault(decoder, builder)
    if name not in HEADS:
        raise ModelError(
            f"there is no head {name!r}: {nearest(name, HEADS)} TerraTorch's decoders are heads too, by class name "
            "(UperNetDecoder)."
        )
    try:
        return HEADS[name](embed_dim, num_frames, patch, num_outputs, **options)
    except TypeError as error:
        raise ModelError(f"head {name!r}: {error}.") from error


def has_trait(name: str, trait: str) -> bool:
    """Whether a head has `detail` or `pixels` (see above), or is `concurrent`.

    A concurrent head is stateless between calls, so that several threads may call it at once.
    """
    return bool(getattr(HEADS.get(name), trait, False))


def tokens_to_grid(tokens: Tensor, grid: Grid) -> Tensor:
    """(B, 1 + t*h*w, D) tokens, class token first, to (B, t*D, h, w) with dates stacked along the channels.

    The grid is an argument, not derived as a square root of the token count: images need not be square.
    """
    t, h, w = grid
    x = tokens[:, 1:].reshape(tokens.shape[0], t, h, w, tokens.shape[-1])
    return x.permute(0, 1, 4, 2, 3).reshape(tokens.shape[0], t * tokens.shape[-1], h, w)


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of (B, C, Y, X)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@register_head("fcn")
class FCNHead(nn.Module):
    """The paper's head: transposed convolutions that double the resolution up to pixels, then an FCN.

    As in hls-foundation-os (configs for floods, burn scars and crops): each step is a 2 x 2 transposed convolution,
    the first and third followed by a channel LayerNorm and GELU; then one 3 x 3 convolution to 256 channels, dropout
    0.1, and a 1 x 1 convolution to the classes.

    Args:
        width: channels of the neck; default those of the stacked tokens, as published.
        channels: channels of the 3 x 3 convolutions.
        convolutions: number of 3 x 3 convolutions.
        dropout: dropout rate of channels before the last convolution.

    """

    concurrent = True

    def __init__(
        self,
        embed_dim: int,
        num_frames: int,
        patch: int,
        num_outputs: int,
        width: int | None = None,
        channels: int = 256,
        convolutions: int = 1,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        # The neck doubles the resolution log2(patch) times; a patch of 14 is doubled four times and resized in forward.
        size = embed_dim * num_frames
        width = size if width is None else width
        steps: list[nn.Module] = []
        doublings = max(1, round(torch.log2(torch.tensor(float(patch))).item()))
        for step in range(doublings):
            steps.append(nn.ConvTranspose2d(size if step == 0 else width, width, kernel_size=2, stride=2))
            if step % 2 == 0 and step + 1 < doublings:
                steps += [ChannelNorm(width), nn.GELU()]
        self.neck = nn.Sequential(*steps)
        head: list[nn.Module] = []
        for index in range(convolutions):
            first = width if index == 0 else channels
            head += [nn.Conv2d(first, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
        self.head = nn.Sequential(*head, nn.Dropout2d(dropout), nn.Conv2d(channels, num_outputs, 1))

    def forward(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, T*D, h, w) to (B, outputs, *size)."""
        x: Tensor = self.head(self.neck(features))
        if x.shape[-2:] != size:  # doubling turns patches of 14 pixels into 16
            x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
        return x


@register_head("light")
class LightHead(nn.Module):
    """One linear layer from a token to the logits of all pixels of its patch."""

    concurrent = True

    def __init__(self, embed_dim: int, num_frames: int, patch: int, num_outputs: int) -> None:
        super().__init__()
        self.patch = patch
        self.norm = ChannelNorm(embed_dim * num_frames)
        self.linear = nn.Conv2d(embed_dim * num_frames, num_outputs * patch * patch, 1)

    def forward(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, T*D, h, w) to (B, outputs, *size)."""
        x = F.pixel_shuffle(self.linear(self.norm(features)), self.patch)
        if x.shape[-2:] != size:
            raise ModelError(f"features of {tuple(features.shape[-2:])} patches do not make {size} pixels.")
        return x


@register_head("pooled")
class PooledHead(nn.Module):
    """Mean of all tokens of each date, and one linear layer from the means to the logits of the image.

    Args:
        dropout: dropout rate of the means.

    """

    def __init__(self, embed_dim: int, num_frames: int, patch: int, num_outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(embed_dim * num_frames)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(embed_dim * num_frames, num_outputs)

    def forward(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, T*D, h, w) to (B, outputs)."""
        scores: Tensor = self.linear(self.dropout(self.norm(features.mean(dim=(2, 3)))))
        return scores


@register_head("unet")
class UNetHead(nn.Module):
    """A U-Net of segmentation-models-pytorch on the images: a baseline without pretraining.

    Args:
        encoder: name of one of that library's encoders, used with random weights.

    Raises:
        MissingExtraError: segmentation-models-pytorch is not installed.

    """

    pixels = concurrent = True

    def __init__(
        self, embed_dim: int, num_frames: int, patch: int, num_outputs: int, encoder: str = "resnet18"
    ) -> None:
        super().__init__()
        with needs("head: unet", "terratorch"):
            import segmentation_models_pytorch as smp
        self.net = smp.Unet(encoder, encoder_weights=None, in_channels=embed_dim * num_frames, classes=num_outputs)

    def forward(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, T*band, Y, X) to (B, outputs, *size)."""
        down, right = (-length % 32 for length in size)  # a U-Net halves its input five times
        scores: Tensor = self.net(F.pad(features, (0, right, 0, down), mode="replicate"))
        return scores[..., : size[0], : size[1]]


@register_head("detail")
class DetailHead(nn.Module):
    """Tokens for context, pixels for boundaries: both are mapped to `width` channels per pixel, added and convolved.

    A token of 4 x 4 pixels holds little about the individual ones, so detail of one pixel comes from the image itself.

    Args:
        pixel_channels: number of dates times number of bands.
        width: channels per pixel.
        dropout: dropout rate of channels before the last convolution.

    """

    detail = concurrent = True

    def __init__(
        self,
        embed_dim: int,
        num_frames: int,
        patch: int,
        num_outputs: int,
        pixel_channels: int = 6,
        width: int = 32,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.patch, self.tokens = patch, embed_dim * num_frames
        self.norm = ChannelNorm(self.tokens)
        self.from_tokens = nn.Conv2d(self.tokens, width * patch * patch, 1)
        self.from_pixels = nn.Conv2d(pixel_channels, width, 3, padding=1)
        self.head = nn.Sequential(
            nn.BatchNorm2d(width), nn.GELU(), nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width),
            nn.GELU(), nn.Dropout2d(dropout), nn.Conv2d(width, num_outputs, 1),
        )  # fmt: skip

    def forward(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, T*D + T*band*patch**2, h, w) to (B, outputs, *size)."""
        tokens, pixels = features[:, : self.tokens], features[:, self.tokens :]
        known = F.pixel_shuffle(self.from_tokens(self.norm(tokens)), self.patch)
        seen = self.from_pixels(F.pixel_shuffle(pixels, self.patch))
        scores: Tensor = self.head(known + seen)
        return scores
