from __future__ import annotations

import numpy as np
import pytest
import torch

from prithvi.contract import Contract
from prithvi.errors import BandError, ConfigError
from prithvi.models import Standardise, build

TWO = Contract(("blue", "red"), (100.0, 200.0), (10.0, 20.0), clip=(0, 10_000), level="SR")


def test_a_contract_survives_its_dictionary() -> None:
    assert Contract.from_dict(TWO.to_dict()) == TWO


def test_bands_are_selected_with_their_statistics() -> None:
    assert TWO.select(["red"]).mean == (200.0,)
    with pytest.raises(BandError, match="no mean and std are known for band green"):
        TWO.select(["green"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": (1.0,)}, "2 bands and 1 values of mean"),
        ({"std": (1.0, 0.0)}, "std must be above 0"),
        ({"level": "L2A"}, "it is SR, TOA or null"),
        ({"scale": 0.0}, "scale must be above 0"),
        ({"clips": None}, "no field 'clips': did you mean clip"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Contract.from_dict({**TWO.to_dict(), **change})


def test_values_come_to_contract_units() -> None:
    values = np.array([1000.0, np.nan], dtype=np.float32)
    assert TWO.from_reflectance(values, 1e-4, 0.0) is values  # HLS digital numbers are left bit for bit
    np.testing.assert_allclose(TWO.from_reflectance(values / 10_000, 1.0, 0.0), values, rtol=1e-6)
    landsat = TWO.from_reflectance(np.array([7273.0, 43636.0]), 2.75e-5, -0.2)
    np.testing.assert_allclose(landsat, [0.075, 9999.9], atol=0.01)


def test_standardising_clips_and_puts_the_mean_where_there_is_no_data() -> None:
    pixels = torch.tensor([100.0, 120.0, -50.0, 20_000.0, float("nan"), 110.0]).view(1, 1, 1, 1, 6)
    valid = torch.tensor([True, True, True, True, True, False]).view(1, 1, 1, 6)
    images = torch.cat([pixels, pixels], dim=1)
    out = Standardise(TWO)(images, valid)
    np.testing.assert_allclose(out[0, 0, 0, 0], [0.0, 2.0, -10.0, 990.0, 0.0, 0.0])
    np.testing.assert_allclose(out[0, 1, 0, 0], [-5.0, -4.0, -10.0, 490.0, 0.0, 0.0])


def test_published_contracts() -> None:
    second = build("prithvi_eo_v2_tiny_tl").contract
    assert second.mean == (1087, 1342, 1433, 2734, 1958, 1363)
    assert second.clip == (0, 10_000)
    assert second.bands == ("blue", "green", "red", "nir_narrow", "swir_1", "swir_2")
    assert (second.scale, second.level, second.resolution) == (10_000, "SR", 30)
    first = build("prithvi_eo_v1_100", depth=1, decoder_depth=1).contract
    assert first.clip is None
    assert first.mean[0] == pytest.approx(775.229, abs=1e-3)
