"""The encoders of this package as TerraTorch backbones, named `hlsvit_hls_tiny`, `hlsvit_eo_v2_300` and so on.

Importing this module registers them; in a TerraTorch configuration, an entry under `trainer.callbacks` is enough:

    - class_path: prithvi.terratorch.Register

The names do not clash with TerraTorch's own. No registry source is added, since a source `prithvi` would take over all
names of TerraTorch that begin with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lightning.pytorch import Callback
from torch import Tensor

from prithvi.bands import check_names
from prithvi.errors import ModelError, needs
from prithvi.modelio.loader import load_weights
from prithvi.models import VARIANTS, ModelConfig, PrithviEncoder
from prithvi.models.heads import tokens_to_grid
from prithvi.models.zoo import configure
from prithvi.process import settings_kept

with needs("a backbone for TerraTorch", "terratorch"), settings_kept():
    from terratorch.registry import TERRATORCH_BACKBONE_REGISTRY

PREFIX = "hlsvit_"


class Register(Callback):
    """A callback that does nothing; naming it in a configuration imports this module, which registers the backbones."""


class Backbone(PrithviEncoder):
    """An encoder with the interface of a TerraTorch backbone; parameters are named as in `PrithviEncoder`.

    Args:
        config: configuration of the encoder.
        indices: blocks whose tokens are returned, counted from 0, or from the end if negative; default all.

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
        """Tokens (B, 1 + L, D) of each requested block; the final norm is applied to those of the last block.

        Args:
            x: (B, band, Y, X) or (B, band, T, Y, X) standardised images.
            temporal_coords: (B, T, 2) year and day of year from 0.
            location_coords: (B, 2) latitude and longitude in degrees.
            unused: other entries of TerraTorch's batches, which are ignored.

        """
        images = x.unsqueeze(2) if x.ndim == 4 else x
        self._grid_of_last = self.grid_of(images)
        layers = self.forward_features(images, temporal_coords, location_coords)
        return [layers[index] for index in self.indices]

    def prepare_features_for_image_model(self, features: list[Tensor]) -> list[Tensor]:
        """Tokens of the last call as (B, T*D, h, w) images, which TerraTorch requests if no necks are configured."""
        return [tokens_to_grid(tokens, self._grid_of_last) for tokens in features]

    def freeze(self) -> None:
        """Makes all parameters untrainable."""
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
    """An encoder for TerraTorch, whose YAML passes these arguments with the prefix `backbone_`.

    Args:
        name: a key of `prithvi.models.VARIANTS`.
        pretrained: load the published weights, or those shipped with this package.
        bands: members of TerraTorch's band enum or common names, in the order of the input; default the six of
            pretraining. Weights are mapped by band name.
        num_frames: number of dates of the input.
        out_indices: blocks whose tokens are returned, counted from 0, or from the end if negative; default all.
        ckpt_path: a weights file or model folder to load instead of the published weights.
        new_bands: whether bands that the weights lack may start from random weights.
        overrides: any other fields of `ModelConfig`, such as `drop_path` or `img_size`.

    Raises:
        ModelError, BandError, CheckpointError: an unknown setting or band, or weights that do not fit completely.
        HubError: the published weights could not be downloaded.

    """
    names = None if bands is None else check_names([str(getattr(band, "value", band)) for band in bands])
    if names is not None and set(names) - set(VARIANTS[name].config.bands):
        # TerraTorch standardises before the model, so these placeholder statistics are never used.
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
