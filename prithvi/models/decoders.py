"""TerraTorch's decoders as heads, each under its own class name, smp's under `smp_` and theirs.

Importing this module imports TerraTorch, which takes half a minute; `build_head` does so when a head is asked for by
such a name, and adds what `decoder_heads` gives to its own. Weights move across one to one: `neck.*`, `decoder.*` and
`head.*` are what TerraTorch calls them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from prithvi.errors import MissingExtraError, ModelError, nearest
from prithvi.process import settings_kept

try:
    with settings_kept():
        from terratorch.models.heads import SegmentationHead
        from terratorch.models.necks import (
            LearnedInterpolateToPyramidal,
            NeckSequential,
            ReshapeTokensToImage,
            build_neck_list,
        )
        from terratorch.registry import DECODER_REGISTRY, NECK_REGISTRY
except ImportError as error:
    raise MissingExtraError("a head of TerraTorch's", "terratorch") from error

ON_TOKENS = ("AggregateTokens", "PermuteDims")
"""Necks that work on lists of tokens, which a head never sees: it gets them laid out as images."""

NOT_BY_GRADIENT = ("SklearnDecoder",)
"""Decoders that hold an estimator of scikit-learn's: no step of training changes it and no weights file holds it."""

PYRAMID = ("fpn1", "fpn2", "fpn3", "fpn4")
"""The four layers of LearnedInterpolateToPyramidal. UperNetDecoder's option `scale_modules` had the same four in the
decoder until TerraTorch 1.2.11; 1.2.12 dropped the option."""


class TerraTorchHead(nn.Module):
    """A decoder of TerraTorch's between our encoder and the scores: necks, decoder, and a head where it has none.

    Args:
        decoder: its name in TerraTorch's registry, its source (`terratorch_` or `smp_`) before it.
        embed_dim: width of a token.
        num_frames: dates, stacked along the channels.
        patch_size: side of a patch in pixels.
        num_outputs: scores a pixel.
        indices: encoder blocks whose tokens it gets, from 0 or from the end; default the last one alone.
        necks: TerraTorch's necks in its YAML's form: `name` beside the options. A SelectIndices among them says
            `indices`; a ReshapeTokensToImage has nothing left to do.
        options: of the decoder; those that begin with `head_` (`head_dropout`, `head_channel_list`) of the head.
            UperNetDecoder takes `scale_modules` with every TerraTorch.

    Raises:
        ModelError: an unknown decoder or neck, or options that do not go together.

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
        # A decoder that says it makes the scores is given a head by TerraTorch all the same, and told num_classes by
        # the configuration: whoever tells it gets what TerraTorch makes.
        whole = getattr(DECODER_REGISTRY.find_class(decoder), "includes_head", False) and "num_classes" not in options
        if whole and head:
            raise ModelError(f"decoder {name} makes the scores itself: leave out head_{', head_'.join(head)}.")
        try:
            built, channels = build_neck_list(plain, [self.channels] * len(self.indices))
            # The features are images already; before 1.2.2 this neck took any input for tokens.
            self.neck = NeckSequential(*(nn.Identity() if isinstance(n, ReshapeTokensToImage) else n for n in built))
            pyramid = self._pyramid(name, options, channels)
            if pyramid is not None:
                channels = pyramid.process_channel_list(channels[:4])
            if whole:
                options["num_classes"] = num_outputs
            self.decoder = DECODER_REGISTRY.build(decoder, channels, **options)
            # Under the names that they had in the decoder, so that files made with the option fit as they are.
            for layer in PYRAMID if pyramid is not None else ():
                setattr(self.decoder, layer, getattr(pyramid, layer))
            self.head = (
                nn.Identity() if whole else SegmentationHead(self.decoder.out_channels, num_classes=num_outputs, **head)
            )
        except (ValueError, IndexError, AttributeError) as error:
            raise ModelError(f"decoder {name} on {len(self.indices)} blocks: {error}.") from error

    def _pyramid(self, name: str, options: dict[str, Any], channels: list[int]) -> Any:
        """The layers of `scale_modules`, which is taken out of the options; they work on the first four blocks."""
        self.scale_modules = name == "UperNetDecoder" and bool(options.pop("scale_modules", False))
        if not self.scale_modules:
            return None
        if len(channels) < 4:
            raise ValueError("scale_modules wants four blocks; name them in indices, such as [2, 5, 8, 11]")
        return LearnedInterpolateToPyramidal(channels[:4])

    def forward(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, layers*T*D, h, w) to (B, outputs, *size), stretched bilinearly where the decoder ends at another size."""
        layers = [features[:, first : first + self.channels] for first in range(0, features.shape[1], self.channels)]
        layers = list(self.neck(layers, image_size=size))
        if self.scale_modules:
            layers = [getattr(self.decoder, name)(layer) for name, layer in zip(PYRAMID, layers, strict=False)]
        scores: Tensor = self.head(self.decoder(layers))
        if scores.shape[-2:] != size:
            scores = F.interpolate(scores, size=size, mode="bilinear", align_corners=False)
        return scores


def _layers(
    indices: Sequence[int] | None, necks: Sequence[Mapping[str, Any]], num_frames: int
) -> tuple[tuple[int, ...], list[dict[str, Any]]]:
    """The blocks wanted, and the necks as they apply to these blocks alone, each in its place in the list.

    A neck's weights are named after its place, so none is left out.
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
            if options.get("effective_time_dim", 1) != num_frames:
                raise ModelError(
                    f"neck {name} is set to effective_time_dim {options.get('effective_time_dim', 1)}; this model has "
                    f"{num_frames} dates."
                )
            if options.get("temporal_inputs") or not options.get("remove_cls_token", True):
                raise ModelError(f"neck {name}: temporal_inputs and remove_cls_token: false are not supported.")
        if name == "LearnedInterpolateToPyramidal" and len(chosen or (-1,)) != 4:
            raise ModelError(f"neck {name} wants four blocks; name them in indices, such as [2, 5, 8, 11].")
        plain.append({"name": name, **options})
    return (-1,) if chosen is None else chosen, plain


def decoder_heads() -> dict[str, Callable[..., nn.Module]]:
    """Name to builder of every decoder of TerraTorch's that can be a head.

    TerraTorch registers single layers (ASPPModule) as decoders too; those that are whole end with `Decoder` or come
    from segmentation_models_pytorch.
    """
    named = {key.removeprefix("terratorch_"): key for key in DECODER_REGISTRY}
    return {
        name: partial(TerraTorchHead, key)
        for name, key in named.items()
        if name not in NOT_BY_GRADIENT and (name.endswith("Decoder") or name.startswith("smp_"))
    }
