"""TerraTorch's decoders as heads, under their class names, with the prefix `smp_` for segmentation-models-pytorch.

Importing this module imports TerraTorch, which takes half a minute, so `build_head` does it only when a head with such
a name is requested. Parameters are named as in TerraTorch (`neck.*`, `decoder.*`, `head.*`), so that weights can be
exchanged without renaming.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from prithvi.errors import ModelError, counted, nearest, needs
from prithvi.process import settings_kept

with needs("a head of TerraTorch's", "terratorch"), settings_kept():
    from terratorch.models.heads import SegmentationHead
    from terratorch.models.necks import (
        LearnedInterpolateToPyramidal,
        NeckSequential,
        ReshapeTokensToImage,
        build_neck_list,
    )
    from terratorch.registry import DECODER_REGISTRY, NECK_REGISTRY

ON_TOKENS = ("AggregateTokens", "PermuteDims")
"""Necks that work on token sequences, which are not supported: heads get tokens laid out as images."""

NOT_BY_GRADIENT = ("SklearnDecoder",)
"""Decoders that wrap a scikit-learn estimator, which gradient descent cannot train and a state dict does not hold."""

PYRAMID = ("fpn1", "fpn2", "fpn3", "fpn4")
"""The four layers of LearnedInterpolateToPyramidal. Up to TerraTorch 1.2.11, UperNetDecoder had the same layers with
its option `scale_modules`; 1.2.12 dropped the option."""


class TerraTorchHead(nn.Module):
    """A TerraTorch decoder from encoder features to logits: necks, decoder, and a head unless the decoder has one.

    Args:
        decoder: name in TerraTorch's registry, prefixed with its source (`terratorch_` or `smp_`).
        embed_dim: width of a token.
        num_frames: number of dates, stacked along the channels.
        patch_size: side of a patch in pixels.
        num_outputs: outputs per pixel (classes or regression targets).
        indices: encoder blocks whose tokens are used, counted from 0, or from the end if negative; default the last.
        necks: TerraTorch's necks as in its YAML: `name` and options. A SelectIndices among them sets `indices`; a
            ReshapeTokensToImage does nothing, since features are images already.
        options: options of the decoder; those with the prefix `head_` (`head_dropout`, `head_channel_list`) go to the
            head. UperNetDecoder takes `scale_modules` with every version of TerraTorch.

    Raises:
        ModelError: an unknown decoder or neck, or incompatible options.

    """

    def __init__(
        self,
        decoder: str,
        embed_dim: int,
        num_frames: int,
        patch_size: int,
        num_outputs: int,
        indices: Sequence[int] | None = None,
        necks: Sequence[Mapping[str, Any]] = (),
        **options: Any,
    ) -> None:
        super().__init__()
        name = decoder.removeprefix("terratorch_")
        self.indices, plain = _layers(indices, necks, num_frames)
        self.channels = embed_dim * num_frames
        head = {key.removeprefix("head_"): options.pop(key) for key in list(options) if key.startswith("head_")}
        # A decoder with includes_head ends in logits itself, yet TerraTorch adds a head to it and leaves its
        # num_classes to the configuration. With num_classes among the options this class builds the same, so that
        # TerraTorch's checkpoints fit; otherwise the decoder gets num_outputs and no head.
        whole = getattr(DECODER_REGISTRY.find_class(decoder), "includes_head", False) and "num_classes" not in options
        if whole and head:
            raise ModelError(f"decoder {name} makes the scores itself: leave out head_{', head_'.join(head)}.")
        try:
            built, channels = build_neck_list(plain, [self.channels] * len(self.indices))
            # Features are images already; before TerraTorch 1.2.2, ReshapeTokensToImage took any input for tokens.
            self.neck = NeckSequential(*(nn.Identity() if isinstance(n, ReshapeTokensToImage) else n for n in built))
            pyramid = self._pyramid(name, options, channels)
            if pyramid is not None:
                channels = pyramid.process_channel_list(channels[:4])
            if whole:
                options["num_classes"] = num_outputs
            self.decoder = DECODER_REGISTRY.build(decoder, channels, **options)
            # Registered under the names they had inside the decoder, so that older checkpoints load unchanged.
            for layer in PYRAMID if pyramid is not None else ():
                setattr(self.decoder, layer, getattr(pyramid, layer))
            self.head = (
                nn.Identity() if whole else SegmentationHead(self.decoder.out_channels, num_classes=num_outputs, **head)
            )
        except (ValueError, IndexError, AttributeError) as error:
            raise ModelError(f"decoder {name} on {counted(len(self.indices), 'block')}: {error}.") from error

    def _pyramid(self, name: str, options: dict[str, Any], channels: list[int]) -> Any:
        """Layers of the option `scale_modules` (removed from `options`) for the first four blocks, or None."""
        self.scale_modules = name == "UperNetDecoder" and bool(options.pop("scale_modules", False))
        if not self.scale_modules:
            return None
        if len(channels) < 4:
            raise ValueError("scale_modules wants four blocks; name them in indices, such as [2, 5, 8, 11]")
        return LearnedInterpolateToPyramidal(channels[:4])

    def forward(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, layers*T*D, h, w) features to (B, outputs, *size), resized bilinearly if the decoder's output differs."""
        layers = [features[:, first : first + self.channels] for first in range(0, features.shape[1], self.channels)]
        layers = list(self.neck(layers, image_size=size))
        if self.scale_modules:
            pyramid = [getattr(self.decoder, name) for name in PYRAMID]  # of the first four blocks, as it was built
            layers = [resized(layer) for resized, layer in zip(pyramid, layers[: len(PYRAMID)], strict=True)]
        scores: Tensor = self.head(self.decoder(layers))
        if scores.shape[-2:] != size:
            scores = F.interpolate(scores, size=size, mode="bilinear", align_corners=False)
        return scores


def _layers(
    indices: Sequence[int] | None, necks: Sequence[Mapping[str, Any]], num_frames: int
) -> tuple[tuple[int, ...], list[dict[str, Any]]]:
    """The encoder blocks to use, and the necks rewritten to apply to these blocks alone.

    No neck is dropped, since parameters are named after a neck's position in the list.
    """
    chosen = None if indices is None else tuple(indices)
    plain: list[dict[str, Any]] = []
    for number, neck in enumerate(necks):
        name = str(neck.get("name", "")).removeprefix("terratorch_")
        options = {key: value for key, value in neck.items() if key != "name"}
        if name not in NECK_REGISTRY:
            known = [key.removeprefix("terratorch_") for key in NECK_REGISTRY]
            raise ModelError(f"there is no neck {name!r}: {nearest(name, known)}")
        if name in ON_TOKENS:
            raise ModelError(f"neck {name} works on tokens, and a head gets images: leave it out.")
        if name == "SelectIndices" and not any(entry["name"] == name for entry in plain):
            if chosen is not None or any(entry["name"] != "ReshapeTokensToImage" for entry in plain):
                raise ModelError(f"neck {number} selects blocks: let it be the first and leave out indices.")
            chosen = tuple(options["indices"])
            options = {"indices": list(range(len(chosen)))}
        if name == "ReshapeTokensToImage":
            dates = options.get("effective_time_dim", 1)
            if dates != num_frames:
                raise ModelError(
                    f"neck {name} is set to effective_time_dim {dates}; this model has {counted(num_frames, 'date')}."
                )
            if options.get("temporal_inputs") or not options.get("remove_cls_token", True):
                raise ModelError(f"neck {name}: temporal_inputs and remove_cls_token: false are not supported.")
        if name == "LearnedInterpolateToPyramidal" and len(chosen or (-1,)) != 4:
            raise ModelError(f"neck {name} wants four blocks; name them in indices, such as [2, 5, 8, 11].")
        plain.append({"name": name, **options})
    return (-1,) if chosen is None else chosen, plain


def decoder_heads() -> dict[str, Callable[..., nn.Module]]:
    """Builders, by name, of all TerraTorch decoders that can be heads.

    TerraTorch also registers single layers (ASPPModule) as decoders; complete ones end with `Decoder` or come from
    segmentation-models-pytorch.
    """
    named = {key.removeprefix("terratorch_"): key for key in DECODER_REGISTRY}
    return {
        name: partial(TerraTorchHead, key)
        for name, key in named.items()
        if name not in NOT_BY_GRADIENT and (name.endswith("Decoder") or name.startswith("smp_"))
    }
