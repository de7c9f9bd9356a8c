"""Models by name: the published variants (arXiv 2310.18660 and 2412.02732) and those of this package."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from prithvi.bands import check_names
from prithvi.errors import BandError, ModelError, one_of
from prithvi.models import olmoearth
from prithvi.models.config import V1_MEAN, V1_STD, ModelConfig
from prithvi.models.encoder import Encoder, PrithviEncoder
from prithvi.models.mae import PrithviMAE


@dataclass(frozen=True)
class Variant:
    """A named model: its configuration and the location of its published weights."""

    config: ModelConfig
    summary: str
    """Summary in one line, for `prithvi models list`."""
    hub_id: str | None = None
    """Hugging Face repository of the weights; None if none are published."""
    filename: str | None = None
    """Name of the weights file in the repository."""
    licence: str = ""
    """Of the weights, where it is one of their own."""


def _variant(name: str, summary: str, hub: str | None = None, file: str | None = None, **fields: Any) -> Variant:
    """A variant of a name; `hub` is the name of the repository that has the weights as `file`."""
    hub_id = f"ibm-nasa-geospatial/{hub}" if hub is not None else None
    origin = f"https://huggingface.co/{hub_id}" if hub_id is not None else ""
    return Variant(ModelConfig(architecture=name, origin_url=origin, **fields), summary, hub_id, file)


def _v2(name: str, title: str, summary: str, **fields: Any) -> Variant:
    """A published variant of version 2; `title` is its name on the hub."""
    file = f"Prithvi_EO_V2_{title.replace('-', '_')}.pt"
    fields |= {"clip": _CLIP, "paper_ids": ("arXiv:2412.02732",)}
    return _variant(name, f"version 2, {summary}", f"Prithvi-EO-2.0-{title}", file, **fields)


_CLIP = (0.0, 10_000.0)
_TL: dict[str, Any] = {"coords_encoding": ("time", "location"), "coords_scale_learn": True}
_300: dict[str, Any] = {"embed_dim": 1024, "depth": 24, "num_heads": 16}
_600: dict[str, Any] = {"embed_dim": 1280, "depth": 32, "num_heads": 16, "patch_size": (1, 14, 14)}
# Ours have no code of the location: trained on a few dozen places, they would know these by heart.
_OURS: dict[str, Any] = {
    "img_size": (64, 64), "num_frames": 1, "patch_size": (1, 8, 8), "blend_fill": True, "pixel_width": 32,
    "coords_encoding": ("time",), "coords_scale_learn": True,
}  # fmt: skip

_VARIANTS = (
    _variant(
        "prithvi_hls_tiny", "ours, for CPUs: pixels beside few coarse tokens; its weights come with the package",
        embed_dim=96, depth=4, num_heads=3, decoder_embed_dim=64, decoder_depth=2, decoder_num_heads=4, clip=_CLIP,
        **_OURS,
    ),
    _variant(
        "prithvi_hls_small", "ours, for a patient CPU or a small GPU",
        embed_dim=256, depth=8, num_heads=8, decoder_embed_dim=128, decoder_depth=4, decoder_num_heads=4, clip=_CLIP,
        **_OURS,
    ),
    _variant(
        "prithvi_eo_v1_100", "version 1, 100M: three dates of HLS L30 over the United States",
        "Prithvi-EO-1.0-100M", "Prithvi_EO_V1_100M.pt",
        num_frames=3, mean=V1_MEAN, std=V1_STD, paper_ids=("arXiv:2310.18660",),
    ),
    _v2(
        "prithvi_eo_v2_tiny_tl", "tiny-TL", "tiny, with time and location",
        num_frames=1, embed_dim=192, num_heads=3, **_TL,
    ),
    _v2("prithvi_eo_v2_100_tl", "100M-TL", "100M, with time and location", **_TL),
    _v2("prithvi_eo_v2_300", "300M", "300M", **_300),
    _v2("prithvi_eo_v2_300_tl", "300M-TL", "300M, with time and location", **_300, **_TL),
    _v2("prithvi_eo_v2_600", "600M", "600M, patches of 14", **_600),
    _v2("prithvi_eo_v2_600_tl", "600M-TL", "600M, patches of 14, with time and location", **_600, **_TL),
    _variant(
        "prithvi_eo_tiny", "TerraTorch's small test shape; nobody publishes weights",
        num_frames=1, embed_dim=256, depth=4, num_heads=4, decoder_embed_dim=128, decoder_depth=4, decoder_num_heads=4,
        clip=_CLIP,
    ),
)  # fmt: skip
VARIANTS: Mapping[str, Variant] = MappingProxyType({found.config.architecture: found for found in _VARIANTS})
"""Variants by name, for `build`."""


def _olmoearth(name: str, version: str, size: str) -> Variant:
    width, depth, heads = {"nano": (128, 4, 8), "tiny": (192, 12, 3), "small": (384, 12, 6)}[size]
    hub_id = f"allenai/OlmoEarth-{version.replace('.', '_')}-{size.title()}"
    config = ModelConfig(
        architecture=name, img_size=(128, 128), num_frames=1, patch_size=(1, 8, 8), in_chans=len(olmoearth.BANDS),
        embed_dim=width, depth=depth, num_heads=heads, coords_encoding=("time",), bands=olmoearth.BANDS,
        mean=olmoearth.LOWEST, std=olmoearth.RANGE, resolution=10.0, origin_url=f"https://huggingface.co/{hub_id}",
        paper_ids=("arXiv:2511.13655", "arXiv:2605.20804"),
    )  # fmt: skip
    about = f"OlmoEarth {version} {size}, an encoder for Sentinel-2 at 10 m (needs prithvi[olmoearth])"
    return Variant(config, about, hub_id, "weights.pth", "OlmoEarth Artifact License")


ENCODERS: Mapping[str, Variant] = MappingProxyType(
    {name: _olmoearth(name, version, size) for name, (version, size) in olmoearth.NAMES.items()}
)
"""Encoders of other projects by name, without a decoder: for fine-tuning and embeddings."""


def variant(name: str) -> Variant:
    """The variant of a name.

    Raises:
        ModelError: an unknown name (the message suggests the nearest).

    """
    known = {**VARIANTS, **ENCODERS}
    return known[one_of(name, known, "there is no model", ModelError)]


def build_encoder(config: ModelConfig) -> Encoder:
    """The encoder of a configuration, ours or another project's by its name, with random weights.

    Raises:
        ModelError: a shape that another project's encoder does not have.
        MissingExtraError: its package is not installed.

    """
    return olmoearth.OlmoEarthEncoder(config) if config.architecture in ENCODERS else PrithviEncoder(config)


def configure(
    name: str,
    num_frames: int | None = None,
    img_size: int | tuple[int, int] | None = None,
    bands: Sequence[str] | None = None,
    **overrides: Any,
) -> ModelConfig:
    """Configuration of a named variant with some fields replaced; arguments and errors are those of `build`."""
    # Statistics follow the bands: a band known to the variant keeps its mean and std in the new order; for any other
    # band the caller must give both, for all bands.
    config = variant(name).config
    fields = {field.name for field in dataclasses.fields(ModelConfig)}
    for key in overrides:
        one_of(key, fields, "a model has no setting", ModelError)
    overrides |= {"num_frames": num_frames or config.num_frames, "img_size": img_size or config.img_size}
    if bands is not None:
        names = check_names(bands)
        overrides |= {"bands": names, "in_chans": len(names)}
        known = dict(zip(config.bands, zip(config.mean, config.std, strict=True), strict=True))
        fresh = [band for band in names if band not in known]
        if fresh and not {"mean", "std"} <= set(overrides):
            raise BandError(
                f"{name} has no mean and std of {', '.join(fresh)}: give mean= and std= with {len(names)} values each "
                "(reflectance x 10,000)."
            )
        overrides.setdefault("mean", tuple(known[band][0] for band in names if band in known))
        overrides.setdefault("std", tuple(known[band][1] for band in names if band in known))
    return dataclasses.replace(config, **overrides)


def build(
    name: str,
    num_frames: int | None = None,
    img_size: int | tuple[int, int] | None = None,
    bands: Sequence[str] | None = None,
    **overrides: Any,
) -> PrithviMAE:
    """A model with random weights from torch's default generator (seed it with `torch.manual_seed`).

    Args:
        name: a key of `VARIANTS`.
        num_frames: number of dates of the input; default the variant's.
        img_size: rows and columns of the input in pixels; default the variant's.
        bands: common band names in the order of the input; default the variant's.
        overrides: any other fields of `ModelConfig`, such as `depth` or `norm_pix_loss`.

    Raises:
        ModelError: an unknown name or field (the message suggests the nearest), or a size that is not a multiple of
            the patch size; an encoder of another project, which is no autoencoder.
        BandError: an unknown band, or one without statistics.

    """
    if name in ENCODERS:
        raise ModelError(f"{name} is an encoder alone: prithvi.models.build_encoder(prithvi.models.configure(name)).")
    return PrithviMAE(configure(name, num_frames, img_size, bands, **overrides))
