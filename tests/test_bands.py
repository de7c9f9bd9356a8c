from __future__ import annotations

import pytest

from prithvi.bands import PRODUCTS, check_names, common_name, family_of
from prithvi.errors import BandError


@pytest.mark.parametrize(
    ("name", "product", "common"),
    [
        ("B05", "hls-l30", "nir_narrow"),
        ("B05", "hls-s30", "red_edge_1"),
        ("B06", "hls-l30", "swir_1"),
        ("B06", "hls-s30", "red_edge_2"),
        ("B07", "hls-l30", "swir_2"),
        ("B07", "hls-s30", "red_edge_3"),
        ("B11", "hls-l30", "thermal_2"),
        ("B11", "hls-s30", "swir_1"),
        ("B12", "hls-s30", "swir_2"),
        ("B8A", "hls-s30", "nir_narrow"),
        ("B08", "sentinel-2", "nir_broad"),
        ("SR_B5", "landsat-8", "nir_narrow"),
        ("sr_band4", "landsat-457", "nir_broad"),
        ("b1", "landsat-457", "blue"),
        ("NIR_NARROW", None, "nir_narrow"),
        ("swir16", None, "swir_1"),
        ("nir", None, None),
        ("B05", None, None),
    ],
)
def test_a_band_id_means_what_its_product_says(name: str, product: str | None, common: str | None) -> None:
    assert common_name(name, product) == common


def test_only_sentinel_2_ids_give_their_family_away() -> None:
    assert family_of(["B2", "B3", "B8A"]) == "sentinel-2"
    assert family_of(["B02", "B03", "B05", "B06", "B07", "B11"]) is None


def test_no_id_of_the_six_bands_is_shared_by_accident() -> None:
    for product, table in PRODUCTS.items():
        assert len(set(table.values())) == len(table), product


def test_a_misspelt_band_is_refused_with_the_nearest() -> None:
    with pytest.raises(BandError, match=r"no band 'BLEU': did you mean blue"):
        check_names(["BLEU", "green"])


def test_a_band_named_twice_is_refused() -> None:
    with pytest.raises(BandError, match="blue is named twice"):
        check_names(["blue", "BLUE"])
