"""Names of granules and the bits of Fmask, as the user guides have them."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pytest

from prithvi.errors import BandError, ConfigError, SceneError
from prithvi.hls.granules import AEROSOL, Granule, aerosol, decode, flag, good, is_granule_name

V2, V1 = "HLS.S30.T31UDS.2022145T105621.v2.0", "HLS.L30.T10SFE.2019253.v1.5"


def test_names_of_both_versions_are_read_and_written() -> None:
    new = Granule.parse(V2)
    assert (new.product, new.tile, new.version, new.fill) == ("S30", "31UDS", "2.0", -9999)
    assert new.time == dt.datetime(2022, 5, 25, 10, 56, 21, tzinfo=dt.UTC)
    old = Granule.parse(V1)
    assert (old.product, old.tile, old.version, old.fill) == ("L30", "10SFE", "1.5", -1000)
    assert old.time == dt.datetime(2019, 9, 10, tzinfo=dt.UTC)
    for name in (V2, V1, "HLS.S30.T10SGD.2018257.v1.4"):
        assert str(Granule.parse(name)) == name
        assert str(Granule.parse(f"/data/{name}.B04.tif")) == name
        assert is_granule_name(f"{name}.Fmask.tif")
    assert str(Granule.parse("HLS.L30.T10SFE.2019253.v1.5.hdf")) == V1


def test_the_same_band_has_another_id_in_each_product() -> None:
    """Narrow NIR, both SWIRs: B05 B06 B07 in L30; B8A B11 B12 in S30. Swapping any of them fails here."""
    landsat, sentinel = Granule.parse("HLS.L30.T31UDS.2022145T105621.v2.0"), Granule.parse(V2)
    bands = ("blue", "green", "red", "nir_narrow", "swir_1", "swir_2")
    assert [landsat.band_id(band) for band in bands] == ["B02", "B03", "B04", "B05", "B06", "B07"]
    assert [sentinel.band_id(band) for band in bands] == ["B02", "B03", "B04", "B8A", "B11", "B12"]
    assert sentinel.band_id("nir_broad") == "B08"
    assert sentinel.file_name("nir_narrow") == f"{V2}.B8A.tif"
    assert sentinel.file_name("fmask") == f"{V2}.Fmask.tif"
    with pytest.raises(BandError, match=r"has no band nir_broad; L30 has coastal, blue"):
        landsat.band_id("nir_broad")


@pytest.mark.parametrize(
    "name",
    [
        "HLS.L30.T31UDS.2022145.v2.0", "HLS.L30.T31UDS.2022145T105621.v1.5", "HLS.L30.T31UDS.2021366T105621.v2.0",
        "HLS.M30.T31UDS.2022145T105621.v2.0", "HLS.L30.T31IDS.2022145T105621.v2.0", "LC08_L2SP_042036_20190910",
        "HLS.L30.T31UDS.2022145T256199.v2.0", "",
    ],
)  # fmt: skip
def test_what_is_no_granule_name_is_refused(name: str) -> None:
    with pytest.raises(SceneError):
        Granule.parse(name)


def test_every_byte_of_fmask_is_decoded_bit_by_bit() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    found = decode(values)
    for value in range(256):
        row, column = divmod(value, 16)
        bits = [] if value == 255 else [name for place, name in enumerate(
            ("cirrus", "cloud", "adjacent", "shadow", "snow", "water")) if value >> place & 1]  # fmt: skip
        said = [n for n in ("cirrus", "cloud", "adjacent", "shadow", "snow", "water") if found[n][row, column]]
        assert said == bits
        assert found["aerosol"][row, column] == (255 if value == 255 else value // 64)
        assert found["fill"][row, column] == (value == 255)
    assert AEROSOL[int(aerosol(np.array([0b11000000], np.uint8))[0])] == "high"


def test_the_published_good_pixel_is_neither_cloud_nor_shadow() -> None:
    """Of 256 values 64 are good: those with bits 1 and 3 clear; adjacent and snow count as good (facts 1.1)."""
    values = np.arange(256, dtype=np.uint8)
    assert good(values).sum() == 64
    assert not good(values)[[0b10, 0b1000, 0b1010, 255]].any()
    assert good(values)[[0, 0b100, 0b10000, 0b100000, 0b11000000]].all()
    strict = good(values, ("cloud", "shadow", "adjacent"))
    assert strict.sum() == 32
    with pytest.raises(ConfigError, match="no condition 'clouds': did you mean cloud"):
        good(values, ("clouds",))
    with pytest.raises(ConfigError, match="no condition 'ice'"):
        flag(values, "ice")
    with pytest.raises(ConfigError, match="this one is int16"):
        good(values.astype(np.int16))


def test_the_fmask_of_a_true_granule(shared: Path) -> None:
    """HLS v1.5 L30 T10SFE 2019-253: a clear coast, 47,208 pixels in the swath."""
    SD = pytest.importorskip("pyhdf.SD", reason="needs pyhdf: pip install 'prithvi[hdf4]'").SD
    fmask = SD(str(shared / "hls_v15_hdf" / f"{V1}.hdf")).select("Fmask")[:].astype(np.uint8)
    found = decode(fmask)
    assert fmask.shape == (3660, 3660)
    counts = {name: int(found[name].sum()) for name in ("cloud", "adjacent", "shadow", "snow", "water", "fill")}
    assert counts == {"cloud": 88, "adjacent": 0, "shadow": 89, "snow": 0, "water": 18_707, "fill": 13_348_392}
    assert good(fmask).sum() == 47_208 - 88 - 89
