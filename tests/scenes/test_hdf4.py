"""HLS granules up to version 1.5 are read from HDF4, in the place that their grid states."""

from __future__ import annotations

import datetime as dt
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from prithvi.errors import MissingExtraError, SceneError
from prithvi.mapping.class_maps import map_scene
from prithvi.modelio.predictor import FittedModel
from prithvi.scenes import crop, open_scene, valid_mask

pyhdf = pytest.importorskip("pyhdf.SD", reason="needs pyhdf: pip install 'prithvi[hdf4]'")
L30 = {"band01": "coastal", "band02": "blue", "band03": "green", "band04": "red", "band05": "nir_narrow",
       "band06": "swir_1", "band07": "swir_2"}  # fmt: skip
S30 = {"B02": "blue", "B03": "green", "B04": "red", "B8A": "nir_narrow", "B11": "swir_1", "B12": "swir_2"}
STRUCTURE = """GROUP=GridStructure
	GROUP=GRID_1
		GridName="Grid"
		XDim={columns}
		YDim={rows}
		PixelSize=(30.0,30.0)
		UpperLeftPointMtrs=({left:.6f},{top:.6f})
		LowerRightMtrs=({right:.6f},{bottom:.6f})
		Projection=GCTP_UTM
		ZoneCode={zone}
		SphereCode=12
END_GROUP=GridStructure
END
"""


def write(
    path: Path, pixels: np.ndarray, names: dict[str, str], zone: int = 10, top: float = 4_000_020.0,
    structure: str = STRUCTURE,
) -> Path:  # fmt: skip
    """A granule as HLS wrote it: int16 bands, deflated, and a mask that is no band."""
    file = pyhdf.SD(str(path), pyhdf.SDC.WRITE | pyhdf.SDC.CREATE | pyhdf.SDC.TRUNC)
    rows, columns = pixels.shape[1:]
    right, bottom = 600_000 + 30 * columns, top - 30 * rows
    said = structure.format(rows=rows, columns=columns, left=600_000, top=top, right=right, bottom=bottom, zone=zone)
    file.attr("StructMetadata.0").set(pyhdf.SDC.CHAR, said)
    file.attr("HORIZONTAL_CS_NAME").set(pyhdf.SDC.CHAR, f"UTM, WGS84, UTM ZONE {zone + 1}")
    for name, values in zip(names, pixels, strict=True):
        band = file.create(name, pyhdf.SDC.INT16, (rows, columns))
        band.setcompress(pyhdf.SDC.COMP_DEFLATE, 5)
        band.attr("_FillValue").set(pyhdf.SDC.CHAR, "-1000")
        band.attr("scale_factor").set(pyhdf.SDC.CHAR, "0.0001")
        band[:] = values
        band.endaccess()
    mask = file.create("Fmask", pyhdf.SDC.UINT8, (rows, columns))
    mask[:] = np.zeros((rows, columns), np.uint8)
    mask.endaccess()
    file.end()
    return path


def test_a_true_granule_of_version_1_5_lies_where_its_tile_does(shared: Path) -> None:
    path = shared / "hls_v15_hdf" / "HLS.L30.T10SFE.2019253.v1.5.hdf"
    scene = open_scene(path)
    # Its HORIZONTAL_CS_NAME says zone 11, which is that of the Landsat image; the tile is of zone 10.
    assert scene.rio.crs.to_epsg() == 32610
    assert scene.rio.transform()[:6] == (30, 0, 600_000, 0, -30, 4_000_020)
    assert str(scene["time"].values[0])[:10] == "2019-09-10"
    assert (scene.attrs["sensor"], scene.attrs["gain"], scene.attrs["level"]) == ("hls-l30", 1e-4, "SR")
    file = pyhdf.SD(str(path), pyhdf.SDC.READ)
    rows, columns = slice(2960, 3660), slice(3500, 3660)
    part = crop(scene, rows, columns)
    for name, band in L30.items():
        stored = file.select(name)[rows, columns].astype(np.float32)
        found = part.sel(band=band).values[0]
        np.testing.assert_array_equal(found, np.where(stored == -1000, np.nan, stored))
    assert int(valid_mask(part.sel(band=["blue"])).sum()) == 47_208
    assert not np.isfinite(crop(scene, slice(0, 40), slice(0, 60)).sel(band="red").values).any()


@pytest.mark.parametrize("product", ["L30", "S30"])
@pytest.mark.filterwarnings("ignore:.* is SR, and the model was trained on TOA")
def test_granules_are_dates_and_map_like_their_geotiff_twins(
    product: str, fitted: FittedModel, tmp_path: Path, six_bands: np.ndarray, write_tif: Callable[..., Path]
) -> None:  # fmt: skip
    names = S30 if product == "S30" else {name: band for name, band in L30.items() if name != "band01"}
    pixels = six_bands[:, :96, :128].astype(np.int16)
    pixels[:, :30, :50] = -1000
    folder = tmp_path / "granules"
    folder.mkdir()
    for day in (100, 132):
        write(folder / f"HLS.{product}.T10SFE.2019{day}.v1.5.hdf", pixels + day % 100, names)
    series = open_scene(folder)  # (100 adds nothing, 132 adds 32, to fill as well)
    assert [str(day)[:10] for day in series["time"].values] == [
        str(dt.date(2019, 1, 1) + dt.timedelta(days=day - 1)) for day in (100, 132)
    ]
    assert sorted(series["band"].values) == sorted(names.values())
    series = series.sel(band=list(names.values()))
    whole = series.isel(time=[0]).values[0]
    np.testing.assert_array_equal(whole, np.where(pixels == -1000, np.nan, pixels))
    twin = write_tif(
        pixels, "twin.tif", names=tuple(names.values()), nodata=-1000, crs="EPSG:32610",
        transform=from_origin(600_000, 4_000_020, 30, 30),
    )  # fmt: skip
    first = folder / f"HLS.{product}.T10SFE.2019100.v1.5.hdf"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the model is of 10 m and of the top of the atmosphere
        found = [np.asarray(rasterio.open(map_scene(fitted, open_scene(path), tmp_path / f"{path.stem}_map.tif").path)
                            .read(1)) for path in (twin, first)]  # fmt: skip
    assert len(np.unique(found[0])) > 1
    np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.parametrize(
    ("tile", "zone", "top", "code"),
    [("10SFE", 10, 4_000_020, 32610), ("36MZE", 36, -99_980, 32636), ("36MZE", -36, -99_980, 32636),
     ("36MZE", 36, 9_900_020, 32736), ("55HFA", -55, 6_000_020, 32755)],
)  # fmt: skip
def test_south_of_the_equator_both_ways_of_counting_are_understood(
    tile: str, zone: int, top: float, code: int, tmp_path: Path
) -> None:
    path = write(tmp_path / f"HLS.L30.T{tile}.2019100.v1.4.hdf", np.full((7, 8, 9), 500, np.int16), L30, zone, top)
    scene = open_scene(path)
    assert (scene.rio.crs.to_epsg(), scene.rio.transform().f) == (code, top)
    assert float(scene["y"][0]) == top - 15


def test_what_cannot_be_read_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.full((7, 8, 9), 500, np.int16)
    path = write(tmp_path / "HLS.L30.T10SFE.2019100.v1.5.hdf", pixels, L30)
    nowhere = write(tmp_path / "HLS.L30.T10SFE.2019101.v1.5.hdf", pixels, L30, structure="GROUP=GridStructure\nEND\n")
    with pytest.raises(SceneError, match="does not say where it lies in UTM"):
        open_scene(nowhere)
    other = write(tmp_path / "MOD09GA.hdf", pixels[:1], {"sur_refl_b01_1": "red"})
    with pytest.raises(SceneError, match="is an HDF4 file, and no granule of HLS"):
        open_scene(other)
    (tmp_path / "cut.hdf").write_bytes(path.read_bytes()[:200])
    with pytest.raises(SceneError, match="damaged or cut short"):
        open_scene(tmp_path / "cut.hdf")
    monkeypatch.setitem(sys.modules, "pyhdf.error", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'prithvi\[hdf4\]'"):
        open_scene(path)
