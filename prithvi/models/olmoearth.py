"""OlmoEarth's encoders (arXiv 2511.13655, 2605.20804), run by their own package, with the interface of `Encoder`.

They are given Sentinel-2 level 2A. Their package scales a band to (x - mean + 2 std) / (4 std) and sets missing bands
to 0 after that, as versions 1.1 and 1.2 were trained; a contract says the same with another mean and std, and a pixel
without data is 0 as well. All this is of olmoearth-pretrain-minimal 0.1.5.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prithvi.errors import ModelError, needs
from prithvi.models.config import ModelConfig
from prithvi.models.encoder import Encoded, Encoder
from prithvi.models.masking import Kept

_BANDS = {
    "blue": (1188.9412572078477, 1859.1923971769581),
    "green": (1407.7739105458452, 1727.7387413631088),
    "red": (1513.0573882432757, 1740.7757298757895),
    "nir_broad": (2755.481305028308, 1612.2565699990187),
    "red_edge_1": (1890.9893042634167, 1754.7320388511766),
    "red_edge_2": (2483.7812315422448, 1622.1172720635755),
    "red_edge_3": (2722.728248756412, 1621.8226170190276),
    "nir_narrow": (2885.570263047681, 1611.3587521042082),
    "swir_1": (2562.852607796968, 1441.5471830655151),
    "swir_2": (1914.1383249044113, 1328.8914382756407),
    "coastal": (1115.8494388252218, 1955.6991794280914),
    "water_vapour": (3269.812554170875, 2651.088425085525),
}
"""Mean and standard deviation of its training data, reflectance x 10,000, in the order of its input."""
BANDS = tuple(_BANDS)
LOWEST, RANGE = tuple(mean - 2 * std for mean, std in _BANDS.values()), tuple(4 * std for _, std in _BANDS.values())
"""What its package subtracts and divides by."""
LARGEST_PATCH = 8
DATES = 12
"""The most dates that it was trained with."""
UNKNOWN = (1, 6, 2020)
"""Day, month from 0 and year where a date is not known; OlmoEarth's own evaluations say the same then."""
NAMES = {
    f"olmoearth_v1_{minor}_{size}": (f"v1.{minor}", size)
    for minor, sizes in ((1, ("nano", "tiny")), (2, ("nano", "tiny", "small")))
    for size in sizes
}
"""Version and size by name."""


_noted = threading.local()
"""`tokens` of the blocks that run in this thread, where somebody asked for them."""


def _note(block: Any, given: Any, tokens: Tensor) -> None:
    if hasattr(_noted, "tokens"):
        _noted.tokens.append(tokens)


class OlmoEarthEncoder(Encoder):
    """An encoder of OlmoEarth's for Sentinel-2.

    It has no class token: the mean of all tokens stands where others have theirs.

    Args:
        config: of a name of `NAMES`; patches are of one date and at most 8 x 8 pixels, which the same weights take.

    Raises:
        ModelError: a shape that it has not.
        MissingExtraError: its package is not installed.

    """

    adapted = ("attn.q", "attn.k", "attn.v", "attn.proj")

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        with needs(config.architecture, "olmoearth"):
            from olmoearth_pretrain_minimal import OlmoEarthPretrain_v1
        version, size = NAMES[config.architecture]
        self.rectangles = version != "v1.1"
        patch = config.patch_size
        if patch[0] != 1 or patch[1] != patch[2] or patch[1] > LARGEST_PATCH:
            raise ModelError(f"{config.architecture} takes patches of one date and up to 8 x 8 pixels, not {patch}.")
        if config.num_frames > DATES:
            raise ModelError(f"{config.architecture} takes up to {DATES} dates; {config.num_frames} were asked for.")
        foreign = [band for band in config.bands if band not in BANDS]
        if foreign:
            raise ModelError(
                f"{config.architecture} has no band {', '.join(foreign)}; it has {', '.join(BANDS)}, or some of them."
            )
        whole = OlmoEarthPretrain_v1(
            size, version, ["sentinel2_l2a"], max_patch_size=LARGEST_PATCH, max_sequence_length=DATES,
            drop_path=config.drop_path,
        )  # fmt: skip
        self.inner: Any = whole.encoder
        built = len(self.inner.blocks), self.inner.embedding_size
        if built != (config.depth, config.embed_dim):
            raise ModelError(
                f"{config.architecture} has {built[0]} blocks of width {built[1]}, which stay as they are."
            )
        # Not its own: these serve its pretraining alone.
        del self.inner.project_and_aggregate
        for block in self.inner.blocks:
            block.register_forward_hook(_note)
        self.places = [BANDS.index(band) for band in config.bands]

    def forward(
        self,
        images: Tensor,
        temporal_coords: Tensor | None = None,
        location_coords: Tensor | None = None,
        visible: Tensor | Kept | None = None,
        count: int | None = None,
    ) -> Encoded:
        """See `PrithviEncoder.forward`; places are not used.

        Raises:
            ModelError: shapes that do not fit the model, or patches to hide.

        """
        if visible is not None:
            raise ModelError(f"{self.config.architecture} is not pretrained here, and hides no patches.")
        tokens = self._run(images, temporal_coords)
        index = torch.arange(tokens.shape[1] - 1, device=tokens.device).expand(len(tokens), -1)
        return Encoded(tokens, Kept(index, None))

    def forward_features(
        self, images: Tensor, temporal_coords: Tensor | None = None, location_coords: Tensor | None = None
    ) -> list[Tensor]:
        """See `PrithviEncoder.forward_features`."""
        grid = self.grid_of(images)
        found: list[Tensor] = []
        _noted.tokens = found
        try:
            last = self._run(images, temporal_coords)
        finally:
            del _noted.tokens
        return [*(_by_date(tokens, grid) for tokens in found[:-1]), last]

    def own_state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Of the whole model's tensors the encoder's; those of other sensors and of its pretraining are left out."""
        inside = (name.removeprefix("encoder.").removeprefix("inner.") for name in state if name.startswith("encoder."))
        named = dict(zip(inside, (value for name, value in state.items() if name.startswith("encoder.")), strict=True))
        own = self.inner.state_dict()
        return {f"inner.{name}": value for name, value in named.items() if name in own}

    def _run(self, images: Tensor, temporal_coords: Tensor | None) -> Tensor:
        """(B, 1 + L, D) tokens after the final norm."""
        from olmoearth_pretrain_minimal.olmoearth_pretrain_v1.utils.datatypes import MaskedOlmoEarthSample

        grid, (batch, _, frames, height, width) = self.grid_of(images), images.shape
        if height != width and not self.rectangles:
            raise ModelError(
                f"{self.config.architecture} takes square images, not {height} x {width}: crop them, or take version "
                "1.2, whose codes of position know rectangles."
            )
        pixels = images.new_zeros(batch, height, width, frames, len(BANDS))  # bands that are not there stay 0
        pixels[..., self.places] = images.permute(0, 3, 4, 2, 1)
        sample = MaskedOlmoEarthSample(
            timestamps=timestamps(temporal_coords, batch, frames).to(images.device),
            sentinel2_l2a=pixels,
            sentinel2_l2a_mask=torch.zeros(batch, height, width, frames, 1, dtype=torch.long, device=images.device),
        )
        resolution = round(self.config.resolution or 10)
        answer = self.inner(sample, patch_size=self.config.patch_size[1], input_res=resolution, fast_pass=True)
        return _by_date(answer["tokens_and_masks"].sentinel2_l2a.flatten(1, 4), grid)


def timestamps(temporal_coords: Tensor | None, batch: int, frames: int) -> Tensor:
    """(B, T, 3) day, month from 0 and year of (B, T, 2) years and days of year from 0; `UNKNOWN` where they are NaN."""
    found = torch.tensor(UNKNOWN).expand(batch, frames, 3).clone()
    if temporal_coords is not None:
        told = temporal_coords.cpu().double().numpy()
        known = np.isfinite(told).all(axis=-1)
        years = (told[known][:, 0] - 1970).astype("datetime64[Y]")
        days = years.astype("datetime64[D]") + told[known][:, 1].astype("timedelta64[D]")
        months = days.astype("datetime64[M]")
        parts = (days - months).astype(int) + 1, months.astype(int) % 12, told[known][:, 0].astype(int)
        found[torch.from_numpy(known)] = torch.from_numpy(np.stack(parts, axis=-1))
    return found


def _by_date(tokens: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """(B, 1 + t*h*w, D) of (B, h*w*t, D): by date, and before them their mean."""
    frames, height, width = grid
    places = tokens.reshape(len(tokens), height, width, frames, -1).permute(0, 3, 1, 2, 4).flatten(1, 3)
    return torch.cat([places.mean(dim=1, keepdim=True), places], dim=1)
