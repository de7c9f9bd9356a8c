"""The shape of a model, its fields named as in the published config.json files."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prithvi.bands import PRITHVI_BANDS, check_names, common_name
from prithvi.contract import Contract
from prithvi.errors import ConfigError, ModelError, nearest

V1_MEAN = (
    775.2290211032589,
    1080.992780391705,
    1228.5855250417867,
    2497.2022620507532,
    2204.2139147975554,
    1610.8324823273745,
)
V1_STD = (
    1281.526139861424,
    1270.0297974547493,
    1399.4802505642526,
    1368.3446143747644,
    1291.6764008585435,
    1154.505683480695,
)
V2_MEAN = (1087.0, 1342.0, 1433.0, 2734.0, 1958.0, 1363.0)
V2_STD = (2248.0, 2179.0, 2178.0, 1850.0, 1242.0, 1049.0)
"""Band statistics of the two pretraining sets, in HLS digital numbers (reflectance x 10,000)."""

_MOST_BLOCKS = 1000
"""No published model of this kind has a tenth of them; a file that asks for more is not built."""


@dataclass(frozen=True)
class ModelConfig:
    """One masked autoencoder. Defaults are those that all published variants share."""

    architecture: str = "custom"
    """The name it was built under."""
    img_size: tuple[int, int] = (224, 224)
    """Rows and columns the position codes are laid out for; other sizes interpolate them."""
    num_frames: int = 4
    """Dates the position codes are laid out for."""
    patch_size: tuple[int, int, int] = (1, 16, 16)
    """Dates, rows and columns of a patch."""
    in_chans: int = 6
    """Bands of the input."""
    embed_dim: int = 768
    depth: int = 12
    num_heads: int = 12
    decoder_embed_dim: int = 512
    decoder_depth: int = 8
    decoder_num_heads: int = 16
    mlp_ratio: float = 4.0
    coords_encoding: tuple[str, ...] = ()
    """Any of `time` and `location`."""
    coords_scale_learn: bool = False
    """Whether the codes of time and location have a learned weight (from 0.1) or weight 1."""
    mask_ratio: float = 0.75
    """Share of patches hidden in pretraining; a record, a call of the model says its own."""
    norm_pix_loss: bool = False
    """Whether the loss compares patches after each was standardised by itself."""
    blend_fill: bool = False
    """Whether predictions are mixed with those of `prithvi.models.interpolation.fill`, by a learned gate."""
    bands: tuple[str, ...] = PRITHVI_BANDS
    """Common band names, in the model's order."""
    mean: tuple[float, ...] = V2_MEAN
    std: tuple[float, ...] = V2_STD
    """Band statistics in reflectance x 10,000."""
    origin_url: str = ""
    paper_ids: tuple[str, ...] = ()
    clip: tuple[float, float] | None = None
    """Range that pretraining clipped its input to, in reflectance x 10,000 (version 2: 0 to 10,000)."""
    resolution: float | None = 30.0
    """Ground size of a pretraining pixel in metres; None for several."""
    level: str | None = "SR"
    """`SR` (surface reflectance) or `TOA` (top of atmosphere); None for both."""
    drop_path: float = 0.0
    """Stochastic depth, the same in all encoder blocks."""
    norm_eps: float = 1e-5
    """LayerNorm's epsilon. Version 1's is not documented (1e-5 and 1e-6 are both in use)."""

    def __post_init__(self) -> None:
        size, patch = self.img_size, self.patch_size
        object.__setattr__(self, "img_size", (size, size) if isinstance(size, int) else tuple(size))
        object.__setattr__(self, "patch_size", (1, patch, patch) if isinstance(patch, int) else tuple(patch))
        # Published files name their bands as HLS L30 does.
        object.__setattr__(self, "bands", check_names([common_name(band, "hls-l30") or band for band in self.bands]))
        for field in ("coords_encoding", "mean", "std", "paper_ids"):
            object.__setattr__(self, field, tuple(getattr(self, field) or ()))
        if self.clip is not None:
            object.__setattr__(self, "clip", tuple(self.clip))
        self._check()

    def _check(self) -> None:
        for field in ("embed_dim", "num_heads", "decoder_embed_dim", "decoder_num_heads"):
            if getattr(self, field) < 1:
                raise ModelError(f"{field} is {getattr(self, field)}; it must be 1 or more.")
        for field in ("depth", "decoder_depth"):
            if not 0 <= getattr(self, field) <= _MOST_BLOCKS:
                raise ModelError(f"{field} is {getattr(self, field)}; at most {_MOST_BLOCKS} blocks are built.")
        if self.in_chans != len(self.bands):
            raise ModelError(
                f"in_chans is {self.in_chans}, but {len(self.bands)} bands are named: {', '.join(self.bands)}."
            )
        for dim, heads, what in (
            (self.embed_dim, self.num_heads, ""),
            (self.decoder_embed_dim, self.decoder_num_heads, "decoder_"),
        ):
            if dim % 16 or dim % heads:
                raise ModelError(f"{what}embed_dim {dim} must divide by 16 (position codes) and by {heads} heads.")
        for name in self.coords_encoding:
            if name not in ("time", "location"):
                raise ModelError(f"coords_encoding holds {name!r}: {nearest(name, ('time', 'location'))}")
        if "time" in self.coords_encoding and self.patch_size[0] != 1:
            raise ModelError(f"a time code a date needs patches of one date; patch_size is {self.patch_size}.")
        if self.blend_fill and self.norm_pix_loss:
            raise ModelError("blend_fill and norm_pix_loss exclude each other: one predicts pixels, one does not.")
        self.grid(self.num_frames, *self.img_size)

    def grid(self, frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Patches along (time, y, x) of an input of this size.

        Raises:
            ModelError: a patch does not divide the size, or the size is smaller than one patch.

        """
        size = (frames, height, width)
        if any(pixels < step for pixels, step in zip(size, self.patch_size, strict=True)):
            raise ModelError(
                f"an input of {frames} x {height} x {width} (time, y, x) is smaller than one patch of "
                f"{' x '.join(map(str, self.patch_size))}."
            )
        if any(pixels % step for pixels, step in zip(size, self.patch_size, strict=True)):
            raise ModelError(
                f"an input of {frames} x {height} x {width} (time, y, x) does not divide into patches of "
                f"{' x '.join(map(str, self.patch_size))}: pad or crop it to multiples of them."
            )
        t, y, x = (pixels // step for pixels, step in zip(size, self.patch_size, strict=True))
        return t, y, x

    @property
    def at_least(self) -> float:
        """How many numbers its blocks and position codes have at least, without building them."""
        blocks = self.depth * self.embed_dim**2 + self.decoder_depth * self.decoder_embed_dim**2
        patches = math.prod(self.grid(self.num_frames, *self.img_size))
        patch = math.prod(self.patch_size) * self.in_chans
        return 4 * blocks + (patches + patch) * (self.embed_dim + self.decoder_embed_dim)

    @property
    def contract(self) -> Contract:
        """What the pretrained weights expect; reflectance x 10,000."""
        return Contract(
            bands=self.bands, mean=self.mean, std=self.std, scale=10_000.0, clip=self.clip,
            resolution=self.resolution, level=self.level,
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        plain = dataclasses.asdict(self)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in plain.items()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> ModelConfig:
        """From a published config.json (`architecture` beside `pretrained_cfg`) or from `to_dict`.

        Raises:
            ConfigError: a key that no field has. `num_features`, which repeats `embed_dim`, is passed over.

        """
        values: dict[str, Any] = dict(plain.get("pretrained_cfg", plain))
        if "architecture" in plain:
            values["architecture"] = plain["architecture"]
        values.pop("num_features", None)
        known = {field.name for field in dataclasses.fields(cls)}
        for key in values:
            if key not in known:
                raise ConfigError(f"the model configuration has no field {key!r}: {nearest(key, known)}")
        if "bands" in values and "in_chans" not in values:
            values["in_chans"] = len(values["bands"])
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        return cls(**fields)
