"""The chip store: what was put in comes out, byte for byte, by three readers; nothing half-done is ever a store."""

from __future__ import annotations

import dataclasses
import pickle
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
import zarr

from prithvi.catalog.datasets import in_half
from prithvi.chips import Chip, ChipStore, StoreSpec, verify
from prithvi.errors import DatasetError
from tests.chips.conftest import CLASSES, sample_chips

Make = Callable[[int], list[Chip]]


@pytest.fixture
def store(tmp_path: Path, spec: StoreSpec, chips: Make) -> ChipStore:
    return ChipStore.create(tmp_path / "c.zarr", spec, chips(11))


def content(path: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def test_pixels_come_back_in_any_order_with_ours_zarr_and_xarray(store: ChipStore, chips: Make) -> None:
    order = [7, 0, 10, 3, 3]
    ours, lazily = store.read(order), store.dataset()
    for name in ("image", "fmask", "label"):
        expected = np.stack([getattr(chips(11)[index], name) for index in order])
        assert store.array(name).direct
        assert ours[name].dtype == expected.dtype
        np.testing.assert_array_equal(ours[name], expected)
        np.testing.assert_array_equal(zarr.open_array(store.path / name)[...][order], expected)
        np.testing.assert_array_equal(lazily[name].isel(sample=order).values, expected)


def test_plain_xarray_opens_it_without_a_warning_and_knows_dates_places_and_nodata(store: ChipStore) -> None:
    dataset = xr.open_zarr(store.path)
    assert dataset["image"].dims == ("sample", "time", "band", "y", "x")
    assert list(dataset["band"].values) == ["blue", "green", "red", "nir_narrow", "swir_1", "swir_2"]
    assert dataset["time"].values[0, 0] == np.datetime64("2022-05-01T10:56:21")
    assert np.isnat(dataset["time"].values[0, 1])
    assert np.isnan(dataset["image"].isel(sample=4, time=0, band=0, y=0).values[:4]).all()
    assert {"lat", "lon", "crs", "affine", "granule", "split", "name"} <= set(dataset.coords)
    assert store.samples["split"].value_counts().to_dict() == {"train": 7, "val": 4}


@pytest.mark.skipif(
    tuple(map(int, rasterio.__gdal_version__.split(".")[:2])) > (3, 12), reason="the page speaks of GDAL up to 3.12"
)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_gdal_does_not_open_it_as_the_page_says(store: ChipStore) -> None:
    with pytest.raises(rasterio.errors.RasterioIOError, match="Unsupported codec: sharding_indexed"):
        rasterio.open(f'ZARR:"{store.path}":/image')
    with rasterio.open(store.path) as raster:
        assert raster.count == 0


def test_appending_is_the_same_as_having_had_all_at_once(tmp_path: Path, spec: StoreSpec, chips: Make) -> None:
    first = ChipStore.create(tmp_path / "a.zarr", spec, chips(11)[:6])
    longer = first.append(chips(11)[6:])
    whole = ChipStore.create(tmp_path / "b.zarr", spec, chips(11))
    assert len(longer) == 11
    assert verify(longer.path).problems == []
    mine, theirs = content(longer.path), content(whole.path)
    assert mine.keys() == theirs.keys()
    # Only what tells how it was made differs: the group's attributes, and their line in the list.
    assert {name for name in mine if mine[name] != theirs[name]} == {"zarr.json", "SHA256SUMS"}
    assert longer.attributes["statistics"] == whole.attributes["statistics"]


def test_statistics_are_exact_and_leave_out_nodata_and_filled_pixels_and_other_parts(
    store: ChipStore, chips: Make
) -> None:
    values = []
    for chip in chips(11):
        if chip.sample.split == "train":
            known = (chip.image != -9999) & (chip.fmask != 255)[:, None]
            values.append([chip.image[:, band][known[:, band]] for band in range(6)])
    stated = store.attributes["statistics"]
    assert stated["of"] == "train"
    for band in range(6):
        pixels = np.concatenate([row[band] for row in values]).astype(np.float64)
        assert stated["pixels"][band] == pixels.size
        assert stated["mean"][band] == pytest.approx(pixels.mean(), rel=1e-12)
        assert stated["std"][band] == pytest.approx(pixels.std(), rel=1e-9)
    again = store.statistics("train")
    assert again == stated
    labels = np.concatenate([chip.label.ravel() for chip in chips(11) if chip.sample.split == "train"])
    assert stated["classes"] == [int((labels == 0).sum()), int((labels == 1).sum())]


def test_a_chip_of_another_form_changes_nothing(store: ChipStore, chips: Make) -> None:
    before = content(store.path)
    good, bad = chips(12)[11], chips(1)[0]
    strange = Chip(bad.image, bad.sample, bad.fmask, np.full_like(bad.label, 7))
    for wrong in (
        Chip(bad.image[:1], bad.sample, bad.fmask, bad.label),
        strange,
        Chip(bad.image, bad.sample, None, None),
    ):
        with pytest.raises(DatasetError, match="chip c0"):
            store.append([good, wrong])
        shutil.rmtree(store.path / ".build")
    assert content(store.path) == before


def test_each_kind_of_damage_is_found_and_named(store: ChipStore) -> None:
    assert verify(store.path).problems == []
    flipped = store.path / "image/c/1/0/0/0/0"
    data = bytearray(flipped.read_bytes())
    data[len(data) // 3] ^= 1
    flipped.write_bytes(data)
    cut = store.path / "fmask/c/0/0/0/0"
    cut.write_bytes(cut.read_bytes()[:-50])
    (store.path / "label/c/2/0/0").unlink()
    (store.path / "image/c/9").mkdir()
    (store.path / "image/c/9/stray").write_text("x")
    meta = store.path / "lat/zarr.json"
    meta.write_text(meta.read_text().replace("float64", "float32"))
    assert sorted(map(str, verify(store.path).problems)) == [
        "fmask/c/0/0/0/0 (samples 0 to 3) is truncated",
        "image/c/1/0/0/0/0 (samples 4 to 7) is altered",
        "image/c/9/stray is unknown",
        "label/c/2/0/0 (samples 8 to 11) is missing",
        "lat/zarr.json is altered",
    ]
    with pytest.raises(DatasetError, match=r"label/c/2/0/0 is missing: 'prithvi data verify"):
        store.read([9], ["label"])
    with pytest.raises(DatasetError, match=r"fmask/c/0/0/0/0 is damaged"):
        store.read([1], ["fmask"])


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("name", ["image/c/0/0/0/0/0", "zarr.json", "time/c/0/0", "SHA256SUMS"])
def test_one_flipped_bit_anywhere_is_found(store: ChipStore, name: str, place: float) -> None:
    file = store.path / name
    data = bytearray(file.read_bytes())
    data[int(len(data) * place)] ^= 4
    file.write_bytes(data)
    assert verify(store.path).problems


def test_the_list_of_checksums_is_what_coreutils_reads(store: ChipStore) -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("needs sha256sum")
    done = subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=store.path, capture_output=True)
    assert (done.returncode, done.stdout) == (0, b"")


def test_a_store_travels_to_another_process(store: ChipStore) -> None:
    store.read([1])
    copy = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(copy.read([1])["image"], store.read([1])["image"])


def test_any_other_sharded_or_plain_array_is_read_through_zarr(tmp_path: Path) -> None:
    from prithvi.chips.shards import ShardedArray

    values = np.arange(40, dtype=np.int16).reshape(10, 4)
    zarr.create_array(tmp_path / "plain", data=values, chunks=(3, 4))
    array = ShardedArray(tmp_path / "plain")
    assert not array.direct
    np.testing.assert_array_equal(array.read([9, 0, 4]), values[[9, 0, 4]])


def test_what_is_no_store_says_so(tmp_path: Path, store: ChipStore) -> None:
    with pytest.raises(DatasetError, match="there is no chip store at"):
        ChipStore(tmp_path / "nowhere")
    zarr.create_group(tmp_path / "other.zarr")
    with pytest.raises(DatasetError, match="is no chip store of ours"):
        ChipStore(tmp_path / "other.zarr")
    with pytest.raises(DatasetError, match="exists: append to it"):
        ChipStore.create(store.path, store.spec)
    with pytest.raises(DatasetError, match="has no labels: did you mean label"):
        store.read([0], ["labels"])
    with pytest.raises(DatasetError, match="has no part 'vla': did you mean val"):
        store.indices("vla")
    with pytest.raises(IndexError, match="has samples 0 to 10; 11 was asked for"):
        store.read([11])


@pytest.mark.parametrize("moved", [0, 1, 5, 12, 20, 30, 36, 37])
def test_an_append_that_dies_while_it_moves_its_files_loses_nothing(
    store: ChipStore, chips: Make, moved: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = store.read(range(11))
    replace, seen = Path.replace, []

    def die_at_last(self: Path, target: Path) -> Path:
        if ".build/new" in self.as_posix() and ".build" not in Path(target).as_posix():
            if len(seen) == moved:
                raise KeyboardInterrupt
            seen.append(target)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", die_at_last)
    with pytest.raises(KeyboardInterrupt):
        store.append(chips(15)[11:])
    monkeypatch.undo()
    opened = ChipStore(store.path)
    report = opened.verify()
    assert report.problems == []
    assert "unfinished" in report.unfinished
    for name, values in opened.read(range(11)).items():
        np.testing.assert_array_equal(values, before[name])
    assert len(opened.dataset()["name"]) == 11
    longer = opened.append(chips(15)[11:])
    assert len(longer) == 15
    assert longer.verify().problems == []
    np.testing.assert_array_equal(longer.read([14])["image"][0], chips(15)[14].image)


def test_an_append_that_dies_while_it_clears_up_is_not_repeated(
    store: ChipStore, chips: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    rmtree = shutil.rmtree

    def die(path: Path, *more: object, **options: object) -> None:
        rmtree(path, *more, **options)
        if Path(path).name in ("new", "staged"):
            raise KeyboardInterrupt

    monkeypatch.setattr("prithvi.chips.journal.shutil.rmtree", die)
    with pytest.raises(KeyboardInterrupt):
        store.append(chips(15)[11:])
    monkeypatch.undo()
    assert len(ChipStore(store.path)) == 15
    assert "unfinished" in verify(store.path).unfinished
    again = store.append(chips(15)[11:])
    assert again.samples["name"].tolist() == [f"c{number}" for number in range(15)]
    assert again.verify().problems == []
    assert again.verify().unfinished == ""
    assert len(again.append(chips(16)[15:])) == 16  # what comes next is added


def test_samples_and_shards_of_nothing_but_fill_come_back_as_they_were(six_bands: np.ndarray, tmp_path: Path) -> None:
    """An unlabelled chip, or a whole shard of them: zarr writes no chunk for either."""
    chips = sample_chips(six_bands, 10)
    for chip in (chips[1], *chips[4:8]):
        assert chip.label is not None
        chip.label[:] = 255
    store = ChipStore.create(tmp_path / "c.zarr", StoreSpec(32, 32, 2, classes=CLASSES, shard=4), chips)
    np.testing.assert_array_equal(store.read(range(10))["label"], np.stack([chip.label for chip in chips]))
    np.testing.assert_array_equal(store.dataset()["label"].values, np.stack([chip.label for chip in chips]))
    assert not store.verify().problems


def test_all_dates_of_a_place_are_in_one_half_of_val(tmp_path: Path, spec: StoreSpec, chips: Make) -> None:
    made = []
    for number, chip in enumerate(chips(12)):
        place = f"T30SXG_{600_000 + number % 6 * 960}_{4_200_000}"
        name = f"{place}_2022{121 + number}" + "T105621" * (number % 2)
        made.append(dataclasses.replace(chip, sample=dataclasses.replace(chip.sample, name=name, split="val")))
    store = ChipStore.create(tmp_path / "v.zarr", spec, made)
    halves = [store.indices(half) for half in ("val_half", "test_half")]
    assert sorted(halves[0] + halves[1]) == list(range(12))
    assert all(halves)
    places = [{store.samples["name"][row].split("_")[1] for row in half} for half in halves]
    assert not places[0] & places[1]
    # Other names, such as those of published datasets, are divided as their files are.
    other = ChipStore.create(tmp_path / "o.zarr", spec, chips(12))
    validation = other.indices("val")
    names = other.samples["name"]
    assert other.indices("val_half") == [row for row in validation if in_half(names[row], "val_half")]
