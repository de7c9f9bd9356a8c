"""A stream is the same batches whoever reads them, and says what it cannot read."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import numpy as np
import pytest
import torch

from prithvi.chips import Chip, ChipStore
from prithvi.data import ChipStream, PretrainDataModule, Source, StoreDataset, StreamLoader
from prithvi.data.streaming import cloud_masks
from prithvi.errors import ConfigError, DatasetError

Make = Callable[..., ChipStore]


def source(store: ChipStore, weight: float = 1.0) -> Source:
    return Source(store, range(len(store)), weight, store.path.name)


def taken(loader: StreamLoader, count: int) -> list[dict]:
    found = []
    for batch in loader:
        found.append(batch)
        if len(found) == count:
            return found
    raise AssertionError


def same(one: dict, other: dict) -> bool:
    return all(
        torch.equal(one[name].nan_to_num(-1), other[name].nan_to_num(-1))
        if isinstance(one[name], torch.Tensor)
        else one[name] == other[name]
        for name in one
    )


def test_workers_do_not_change_the_batches(store: Make) -> None:
    stream = ChipStream([source(store("a")), source(store("b", 20), 2.0)], 6, buffer=8)
    alone = taken(StreamLoader(stream), 12)
    for workers in (1, 2):
        assert all(same(x, y) for x, y in zip(taken(StreamLoader(stream, num_workers=workers), 12), alone, strict=True))
    assert {name[0] for batch in alone for name in batch["id"]} == {"a", "b"}


def test_a_stream_gives_the_stores_own_pixels(store: Make) -> None:
    made = store("a")
    dataset = StoreDataset(made)
    names = {name: row for row, name in enumerate(dataset.names)}
    batch = ChipStream([source(made)], 5).batch(3)
    for place, name in enumerate(batch["id"]):
        expected = dataset[names[name]]
        for key in ("image", "valid", "clear", "temporal_coords", "location_coords"):
            assert torch.equal(batch[key][place].nan_to_num(-1), expected[key].nan_to_num(-1)), key


def test_ranks_take_parts_of_the_same_batch_without_overlap(store: Make) -> None:
    stream = ChipStream([source(store("a"))], 6)
    parts = [taken(StreamLoader(stream, rank, 2, num_workers=rank), 9) for rank in (0, 1)]
    for whole, *halves in zip(taken(StreamLoader(stream), 9), *parts, strict=True):
        assert whole["id"] == halves[0]["id"] + halves[1]["id"]
        assert torch.equal(whole["image"], torch.cat([half["image"] for half in halves]))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("after", [0, 1, 4, 5, 9])
def test_a_stream_goes_on_where_it_was_with_any_number_of_workers_and_ranks(
    store: Make, after: int, workers: int
) -> None:
    made = store("a")
    whole = taken(StreamLoader(ChipStream([source(made)], 6)), 16)
    loader = StreamLoader(ChipStream([source(made)], 6), num_workers=workers)
    if after:
        taken(loader, after)
    state = json.loads(json.dumps(loader.state_dict()))
    for ranks, others in ((1, 0), (2, 1), (3, 2)):
        again = StreamLoader(ChipStream([source(made)], 6), 0, ranks, num_workers=others)
        again.load_state_dict(state)
        for batch, expected in zip(taken(again, 6), whole[after:], strict=False):
            assert batch["id"] == expected["id"][: 6 // ranks]


def test_going_on_with_another_batch_size_begins_behind_what_was_seen(store: Make) -> None:
    made = store("a")
    loader = StreamLoader(ChipStream([source(made)], 6))
    taken(loader, 3)
    again = StreamLoader(ChipStream([source(made)], 4))
    again.load_state_dict(loader.state_dict())
    assert again.position == 5  # 20 samples, of which 18 were seen


def test_going_on_with_other_data_is_refused_by_name(store: Make) -> None:
    state = StreamLoader(ChipStream([source(store("a"))], 6)).state_dict()
    with pytest.raises(ConfigError, match=r"sources .*a.zarr.* streams sources .*b.zarr"):
        StreamLoader(ChipStream([source(store("b"))], 6)).load_state_dict(state)


def test_dates_that_are_missing_are_nodata_and_dates_too_many_are_drawn(store: Make) -> None:
    def without_second(chip: Chip) -> Chip:
        image, fmask = chip.image.copy(), chip.fmask.copy()
        image[1], fmask[1] = -9999, 255
        return dataclasses.replace(chip, image=image, fmask=fmask)

    one, two = store("one", 12, without_second), store("two", 12)
    batch = ChipStream([source(one), source(two)], 8).batch(0)
    assert batch["image"].shape == (8, 6, 2, 32, 32)
    assert not batch["complete"]
    for place, name in enumerate(batch["id"]):
        present = batch["valid"][place].flatten(1).any(dim=1).tolist()
        assert present == ([True, False] if name.startswith("one") else [True, True])
        if not present[1]:
            assert (batch["image"][place, :, 1] == -9999).all()
            assert batch["temporal_coords"][place, 1].isnan().all()
    single = ChipStream([source(two)], 12, frames=[1])
    rows = {name: row for row, name in enumerate(StoreDataset(two).names)}
    chosen = []
    for number in range(3):
        batch = single.batch(number)
        stored = two.read([rows[name] for name in batch["id"]])["image"]
        for place in range(12):
            chosen.append([np.array_equal(batch["image"][place, :, 0], stored[place, date]) for date in (0, 1)])
    assert {tuple(pair) for pair in chosen} == {(True, False), (False, True)}


def test_numbers_of_dates_alternate_between_batches(store: Make) -> None:
    stream = ChipStream([source(store("a"))], 4, frames=[1, 2])
    assert {stream.batch(number)["image"].shape[2] for number in range(12)} == {1, 2}


def test_stores_of_other_numbers_of_dates_take_turns_by_weight(store: Make) -> None:
    def first(chip: Chip) -> Chip:
        s = chip.sample
        sample = dataclasses.replace(
            s, times=s.times[:1], granules=s.granules[:1], good=s.good[:1], filled=s.filled[:1]
        )
        return Chip(chip.image[:1], sample, chip.fmask[:1], chip.label)

    two, one = store("two", 12), store("one", 12, first, frames=1)
    stream = ChipStream([source(two, 1.0), source(one, 3.0)], 4, frames=[2, 1])
    shapes = {"two": set(), "one": set()}
    counts = {"two": 0, "one": 0}
    for number in range(200):
        batch = stream.batch(number)
        (name,) = {name.rstrip("0123456789") for name in batch["id"]}
        shapes[name].add(batch["image"].shape[2])
        counts[name] += 1
    assert shapes == {"two": {1, 2}, "one": {1}}
    assert 30 < counts["two"] < 70


@pytest.mark.slow
def test_balance_draws_rare_strata_as_often_as_common_ones(store: Make) -> None:
    def rare(chip: Chip) -> Chip:
        number = int(chip.sample.name[1:])
        label = np.zeros_like(chip.label)
        label[0, 0] = number % 10 == 1
        return dataclasses.replace(
            chip, label=label, sample=dataclasses.replace(chip.sample, tile="x" if number % 10 == 1 else "y")
        )

    made = store("a", 30, rare)
    wanted = {name for name, tile in zip(made.samples["name"], made.samples["tile"], strict=True) if tile == "x"}
    for balance in ("tile", "label"):
        data = PretrainDataModule([str(made.path)], batch_size=4, num_workers=0, balance=balance)
        data.setup("fit")
        names = [name for batch in taken(data.train_dataloader(), 1024) for name in batch["id"]]
        assert abs(sum(name in wanted for name in names) / len(names) - 0.5) < 0.01
    with pytest.raises(ConfigError, match=r"no column 'tyle'.*tile"):
        PretrainDataModule([str(made.path)], balance="tyle").setup("fit")


def test_the_data_module_mixes_statistics_by_weight(store: Make) -> None:
    stores = [store("a", 12), store("b", 30)]
    data = PretrainDataModule([str(one.path) for one in stores], weights=[1.0, 3.0])
    stats = [one.attributes["statistics"] for one in stores]
    mean = 0.25 * np.array(stats[0]["mean"]) + 0.75 * np.array(stats[1]["mean"])
    square = sum(
        w * (np.array(s["std"]) ** 2 + np.array(s["mean"]) ** 2) for w, s in zip((0.25, 0.75), stats, strict=True)
    )
    np.testing.assert_allclose(data.contract.mean, mean, rtol=1e-5)
    np.testing.assert_allclose(data.contract.std, np.sqrt(square - mean**2), rtol=1e-5)


def test_clouds_are_those_of_fmask_flipped(store: Make) -> None:
    def cloudy(chip: Chip) -> Chip:
        fmask = chip.fmask.copy()
        fmask[0, :8, :20] = 64 | 2
        fmask[1] = 64
        return dataclasses.replace(chip, fmask=fmask)

    made = store("a", 12, cloudy)
    masks = cloud_masks(made)
    assert masks.shape == (12, 32, 32)
    assert masks[0, :8, :20].all()
    assert masks[0].sum() == 160
    data = PretrainDataModule([str(made.path)], batch_size=8, num_workers=0, clouds=[str(made.path)])
    data.setup("fit")
    (batch,) = taken(data.train_dataloader(), 1)
    assert batch["clouds"].shape == (8, 2, 32, 32)
    assert (batch["clouds"].flatten(2).sum(dim=2) == 160).all()
    with pytest.raises(DatasetError, match=r"no date of .*clear.zarr is between 10% and 90% cloudy"):
        cloud_masks(store("clear", 5))


def test_one_clear_sentence_for_stores_that_do_not_fit(store: Make) -> None:
    made = store("a", 12)
    with pytest.raises(DatasetError, match=r"no batch of 16 over all devices comes of 8 samples \(a.zarr \(train\)\)"):
        PretrainDataModule([str(made.path)], batch_size=16).setup("fit")
    other = store("other", 12, lambda chip: dataclasses.replace(chip, image=chip.image[:, :5]),
                  bands=("blue", "green", "red", "nir_narrow", "swir_1"))  # fmt: skip
    with pytest.raises(DatasetError, match=r"other.zarr holds blue, green, red, nir_narrow, swir_1 and .*a.zarr holds"):
        PretrainDataModule([str(made.path), str(other.path)])
    toa = store("toa", 12, level="TOA")
    with pytest.raises(ConfigError, match=r"a.zarr SR; toa.zarr TOA.*accept"):
        PretrainDataModule([str(made.path), str(toa.path)])
    assert PretrainDataModule([str(made.path), str(toa.path)], accept=["level"]).contract.level is None
    meta = json.loads((made.path / "zarr.json").read_text())
    del meta["attributes"]["statistics"]
    (made.path / "zarr.json").write_text(json.dumps(meta))
    with pytest.raises(DatasetError, match=r"a.zarr says no mean and standard deviation for its bands"):
        _ = PretrainDataModule([str(made.path)]).contract


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_shard_stops_the_stream_with_its_own_sentence(store: Make, workers: int) -> None:
    made = store("a", 12)
    (made.path / "image" / "c" / "1" / "0" / "0" / "0" / "0").unlink()
    loader = StreamLoader(ChipStream([source(made)], 12), num_workers=workers)
    with pytest.raises(DatasetError, match=r"^[^\n]*is missing[^\n]*$"):
        taken(loader, 2)


def test_an_empty_sample_is_named(store: Make) -> None:
    def empty(chip: Chip) -> Chip:
        return dataclasses.replace(chip, image=np.full_like(chip.image, -9999)) if chip.sample.name == "a3" else chip

    with pytest.raises(DatasetError, match=r"sample a3 has no pixel with data"):
        ChipStream([source(store("a", 12, empty))], 12).batch(0)
