"""Our encoders as backbones in TerraTorch, under names of their own: `hlsvit_hls_tiny`, `hlsvit_eo_v2_300` and so on.

One entry under `trainer.callbacks` of a TerraTorch configuration is enough:

    - class_path: prithvi.terratorch.Register

Importing this module registers them. They keep out of TerraTorch's own names, and no source is registered: a source
`prithvi` would take over every name of TerraTorch's that begins with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lightning.pytorch import Callback
from torch import Tensor

from prithvi.bands import check_names
from prithvi.errors import MissingExtraError, ModelError
from prithvi.modelio.loader import load_weights
from prithvi.models import VARIANTS, ModelConfig, PrithviEncoder
from prithvi.models.heads import tokens_to_grid
from prithvi.models.zoo import configure
from prithvi.process import settings_kept

try:
    with settings_kept():
        from terratorch.registry import TERRATORCH_BACKBONE_REGISTRY
except ImportError as error:
    raise MissingExtraError("a backbone for TerraTorch", "terratorch") from error

PREFIX = "hlsvit_"


class Register(Callback):
    """Does nothing; that a configuration names it imports this module, which registers the backbones."""


class Backbone(PrithviEncoder):
    """An encoder with the face that TerraTorch expects of a backbone; its weights are named as an encoder's are.

    Args:
        config: shape of the encoder.
        indices: blocks whose tokens it gives, from 0 or from the end; default all of them.

    """

    def __init__(self, config: ModelConfig, indices: Sequence[int] | None = None) -> None:
        super().__init__(config)
        self.indices = list(range(config.depth)) if indices is None else list(indices)
        if not all(-config.depth <= index < config.depth for index in self.indices):
            raise ModelError(f"out_indices {self.indices} of an encoder that has {config.depth} blocks.")
        self.patch_size = list(config.patch_size)
        self.out_channels = [config.embed_dim * (config.num_frames // config.patch_size[0])] * len(self.indices)
        self._grid_of_last = self.grid

    def forward(  # type: ignore[override]
        self, x: Tensor, temporal_coords: Tensor | None = None, location_coords: Tensor | None = None, **unused: Any
    ) -> list[Tensor]:
        """(B, band, Y, X) or (B, band, T, Y, X) to the (B, 1 + L, D) tokens of each block, the last ones normalised.

        Args:
            x: standardised images.
            temporal_coords: (B, T, 2) year and day of year from 0.
            location_coords: (B, 2) latitude and longitude in degrees.
            unused: what else TerraTorch's batches hold.

        """
        images = x.unsqueeze(2) if x.ndim == 4 else x
        self._grid_of_last = self.grid_of(images)
        layers = self.forward_features(images, temporal_coords, location_coords)
        return [layers[index] for index in self.indices]

    def prepare_features_for_image_model(self, features: list[Tensor]) -> list[Tensor]:
        """The tokens of the last call as images, (B, T*D, h, w): what TerraTorch asks for where no necks are named."""
        return [tokens_to_grid(tokens, self._grid_of_last) for tokens in features]

    def freeze(self) -> None:
        """Keeps every weight as it is."""
        self.requires_grad_(False)


def backbone(
    name: str,
    pretrained: bool = False,
    bands: Sequence[Any] | None = None,
    num_frames: int = 1,
    out_indices: Sequence[int] | None = None,
    ckpt_path: str | None = None,
    new_bands: bool = False,
    **overrides: Any,
) -> Backbone:
    """An encoder for TerraTorch, whose YAML passes these arguments with `backbone_` before them.

    Args:
        name: a key of `prithvi.models.VARIANTS`.
        pretrained: load the published weights, or those that come with this package.
        bands: TerraTorch's band enum or common names, in the input's order; default the six of pretraining. Weights
            are mapped by name.
        num_frames: dates of the input.
        out_indices: see `Backbone`.
        ckpt_path: a weights file or model folder to load in place of the published weights.
        new_bands: let bands that the weights do not know start from random weights.
        overrides: any other field of `ModelConfig`, such as `drop_path` or `img_size`.

    Raises:
        ModelError, BandError, CheckpointError: an unknown setting or band, or weights that do not fit completely.
        HubError: published weights that could not be fetched.

    """
    names = None if bands is None else check_names([str(getattr(band, "value", band)) for band in bands])
    if names is not None and set(names) - set(VARIANTS[name].config.bands):
        # TerraTorch standardises before the model, so that what stands here is never used.
        overrides = {"mean": (0.0,) * len(names), "std": (1.0,) * len(names), **overrides}
    encoder = Backbone(configure(name, num_frames, bands=names, **overrides), out_indices)
    if ckpt_path is not None and not pretrained:
        raise ModelError(f"ckpt_path {ckpt_path} is named and pretrained is not set: set it, or leave out ckpt_path.")
    if pretrained:
        load_weights(encoder, ckpt_path or name, new_bands)
    return encoder


def _constructor(name: str) -> Callable[..., Backbone]:
    def build(pretrained: bool = False, bands: Sequence[Any] | None = None, **options: Any) -> Backbone:
        return backbone(name, pretrained, bands, **options)

    build.__name__ = build.__qualname__ = PREFIX + name.removeprefix("prithvi_")
    build.__doc__ = VARIANTS[name].summary
    return build


for _name in VARIANTS:
    _build = _constructor(_name)
    if _build.__name__ not in TERRATORCH_BACKBONE_REGISTRY:
        TERRATORCH_BACKBONE_REGISTRY.register(_build)
