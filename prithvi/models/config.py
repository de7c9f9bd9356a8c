"""Model configuration, with field names as in the published config.json files."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from prithvi.bands import PRITHVI_BANDS, check_names, common_name
from prithvi.contract import Contract
from prithvi.errors import ModelError, one_of

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
"""Band statistics of the two pretraining datasets, in HLS digital numbers (reflectance x 10,000)."""

Grid = tuple[int, int, int]
"""Numbers along (time, y, x): of patches in an input, or of pixels in a patch."""

_MOST_BLOCKS = 1000
"""Upper limit of blocks, more than ten times those of any published model, so that no file can exhaust memory."""
_WHOLE = {
    "num_frames": 1, "in_chans": 1, "embed_dim": 1, "num_heads": 1, "depth": 0, "decoder_embed_dim": 1,
    "decoder_num_heads": 1, "decoder_depth": 0, "pixel_width": 0,
}  # fmt: skip
"""Fields that are whole numbers, and the least of each."""
_BETWEEN = {"mlp_ratio": (0.1, 100.0), "drop_path": (0.0, 1.0), "norm_eps": (0.0, 1.0)}


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)  # also numpy's


def _sides(field: str, value: Any, number: int) -> tuple[int, ...]:
    """The sizes of an image or patch.

    Raises:
        ModelError: other than so many whole numbers of 1 or more.

    """
    sides: tuple[Any, ...] = tuple(value) if isinstance(value, Iterable) else ()
    if len(sides) != number or not all(_is_whole(side) and side >= 1 for side in sides):
        raise ModelError(f"{field} is {value!r}; it must be {number} whole numbers, each 1 or more.")
    return tuple(map(int, sides))


@dataclass(frozen=True)
class ModelConfig:
    """Configuration of a masked autoencoder; the defaults are those that the published variants share."""

    architecture: str = "custom"
    """Name of the variant."""
    img_size: tuple[int, int] = (224, 224)
    """Rows and columns that the position codes are built for; other sizes interpolate them."""
    num_frames: int = 4
    """Number of dates that the position codes are built for."""
    patch_size: Grid = (1, 16, 16)
    """Dates, rows and columns of a patch."""
    in_chans: int = 6
    """Number of input bands."""
    embed_dim: int = 768
    depth: int = 12
    num_heads: int = 12
    decoder_embed_dim: int = 512
    decoder_depth: int = 8
    decoder_num_heads: int = 16
    mlp_ratio: float = 4.0
    coords_encoding: tuple[str, ...] = ()
    """Which coordinates are encoded: any of `time` and `location`."""
    coords_scale_learn: bool = False
    """Whether the time and location codes have a learned weight (initially 0.1) or weight 1."""
    mask_ratio: float = 0.75
    """Fraction of patches masked in pretraining, for the record only; calls of the model pass their own."""
    norm_pix_loss: bool = False
    """Whether the loss compares patches that are each standardised by their own mean and standard deviation."""
    blend_fill: bool = False
    """Whether a learned gate mixes predictions with the interpolation of `prithvi.models.interpolation.fill`."""
    pixel_width: int = 0
    """Channels of the per-pixel branch (`prithvi.models.branch`); 0 for none."""
    labels: tuple[str, ...] = ()
    """Classes that a model with a branch learned beside the reconstruction; `land/trees` is a kind of `land`."""
    bands: tuple[str, ...] = PRITHVI_BANDS
    """Common band names, in the order of the model's input."""
    mean: tuple[float, ...] = V2_MEAN
    std: tuple[float, ...] = V2_STD
    """Band statistics in reflectance x 10,000."""
    origin_url: str = ""
    paper_ids: tuple[str, ...] = ()
    clip: tuple[float, float] | None = None
    """Range that inputs were clipped to in pretraining, in reflectance x 10,000 (version 2: 0 to 10,000)."""
    resolution: float | None = 30.0
    """Pixel size in pretraining in metres; None if there were several."""
    level: str | None = "SR"
    """`SR` (surface reflectance) or `TOA` (top of atmosphere); None if both."""
    drop_path: float = 0.0
    """Stochastic depth rate, the same in all encoder blocks."""
    norm_eps: float = 1e-5
    """Epsilon of LayerNorm; that of version 1 is undocumented (1e-5 and 1e-6 are both in use)."""

    def __post_init__(self) -> None:
        size, patch = self.img_size, self.patch_size
        object.__setattr__(
            self, "img_size", _sides("img_size", (size, size) if isinstance(size, Integral) else size, 2)
        )
        patch = (1, patch, patch) if isinstance(patch, Integral) else patch
        object.__setattr__(self, "patch_size", _sides("patch_size", patch, 3))
        self._check_numbers()
        # Published files may name the bands by the numbers of HLS L30 (B02, ...).
        object.__setattr__(self, "bands", check_names([common_name(band, "hls-l30") or band for band in self.bands]))
        for field in ("coords_encoding", "mean", "std", "paper_ids", "labels"):
            object.__setattr__(self, field, tuple(getattr(self, field) or ()))
        if self.clip is not None:
            object.__setattr__(self, "clip", tuple(self.clip))
        if self.labels and not self.pixel_width:
            raise ModelError(f"pixel_width is {self.pixel_width}; it is 0 or more, and above 0 to learn labels.")
        if self.in_chans != len(self.bands):
            named = f"{len(self.bands)} bands are named: {', '.join(self.bands)}"
            raise ModelError(f"in_chans is {self.in_chans}, but {named}.")
        for what in ("", "decoder_"):
            dim, heads = getattr(self, f"{what}embed_dim"), getattr(self, f"{what}num_heads")
            if dim % 16 or dim % heads:
                raise ModelError(f"{what}embed_dim {dim} must divide by 16 (position codes) and by {heads} heads.")
        for name in self.coords_encoding:
            one_of(name, ("time", "location"), "coords_encoding holds", ModelError)
        if "time" in self.coords_encoding and self.patch_size[0] != 1:
            raise ModelError(f"a time code a date needs patches of one date; patch_size is {self.patch_size}.")
        if self.blend_fill and self.norm_pix_loss:
            raise ModelError("blend_fill and norm_pix_loss exclude each other: one predicts pixels, one does not.")
        self.grid(self.num_frames, *self.img_size)

    def _check_numbers(self) -> None:
        for field, least in _WHOLE.items():
            if not _is_whole(value := getattr(self, field)) or value < least:
                raise ModelError(f"{field} is {value!r}; it must be a whole number, {least} or more.")
        for field in ("depth", "decoder_depth"):
            if getattr(self, field) > _MOST_BLOCKS:
                raise ModelError(f"{field} is {getattr(self, field)}; at most {_MOST_BLOCKS} blocks are built.")
        for field, (low, high) in _BETWEEN.items():
            number = getattr(self, field)
            if isinstance(number, bool) or not isinstance(number, Real) or not low <= float(number) <= high:
                raise ModelError(f"{field} is {number!r}; it must be a number from {low:g} to {high:g}.")

    def grid(self, frames: int, height: int, width: int) -> Grid:
        """Number of patches along (time, y, x) of an input of this size.

        Raises:
            ModelError: the size is not a multiple of the patch size, or is smaller than one patch.

        """
        sizes = list(zip((frames, height, width), self.patch_size, strict=True))
        if any(pixels < step or pixels % step for pixels, step in sizes):
            what, patch = (
                f"an input of {frames} x {height} x {width} (time, y, x)",
                " x ".join(map(str, self.patch_size)),
            )
            if any(pixels < step for pixels, step in sizes):
                raise ModelError(f"{what} is smaller than one patch of {patch}.")
            raise ModelError(f"{what} does not divide into patches of {patch}: pad or crop it to multiples of them.")
        t, y, x = (pixels // step for pixels, step in sizes)
        return t, y, x

    @property
    def at_least(self) -> float:
        """Lower bound of the number of values in blocks and position codes, without building them."""
        # 4 D^2 a block is its attention alone (qkv and projection).
        blocks = self.depth * self.embed_dim**2 + self.decoder_depth * self.decoder_embed_dim**2
        patches = math.prod(self.grid(self.num_frames, *self.img_size))
        patch = math.prod(self.patch_size) * self.in_chans
        return 4 * blocks + (patches + patch) * (self.embed_dim + self.decoder_embed_dim)

    @property
    def contract(self) -> Contract:
        """The input that the pretrained weights expect, in reflectance x 10,000."""
        return Contract(
            bands=self.bands, mean=self.mean, std=self.std, scale=10_000.0, clip=self.clip,
            resolution=self.resolution, level=self.level,
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        plain = dataclasses.asdict(self)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in plain.items()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> ModelConfig:
        """Configuration from a published config.json (`architecture` beside `pretrained_cfg`) or from `to_dict`.

        `num_features`, which repeats `embed_dim`, is ignored.

        Raises:
            ConfigError: a key is not a field.

        """
        values: dict[str, Any] = dict(plain.get("pretrained_cfg", plain))
        if "architecture" in plain:
            values["architecture"] = plain["architecture"]
        values.pop("num_features", None)
        known = {field.name for field in dataclasses.fields(cls)}
        for key in values:
            one_of(key, known, "the model configuration has no field")
        if "bands" in values and "in_chans" not in values:
            values["in_chans"] = len(values["bands"])
        return cls(**values)
