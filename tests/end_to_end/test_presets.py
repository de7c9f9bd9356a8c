"""Burn scars, crops and cloud gaps from the shipped configurations, on small files in the published layouts."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml

from prithvi.catalog import config_path, dataset
from prithvi.modelio import load
from prithvi.modelio.predictor import FittedModel
from prithvi.models import PrithviMAE
from tests.conftest import SPAIN, SPAIN_LABEL, Answer

Cli = Callable[..., Answer]
SIZE = 64
# What Lightning says of small data and of a checkpoint made by another run.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The dirpath has changed",
    "ignore:The number of training batches",
    "ignore:no pixel of the training chips was",
)


def pixels(row: int, column: int) -> tuple[np.ndarray, np.ndarray]:
    """(6, y, x) reflectance x 10,000 of a real image, and its hand-made label (1 water, 0 land, -1 none)."""
    window = rasterio.windows.Window(column, row, SIZE, SIZE)
    with rasterio.open(SPAIN) as image, rasterio.open(SPAIN_LABEL) as label:
        return image.read([2, 3, 4, 9, 12, 13], window=window), label.read(1, window=window)


def write(path: Path, values: np.ndarray, nodata: float | None = None) -> None:
    values = values if values.ndim == 3 else values[None]
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", count=len(values), height=SIZE, width=SIZE, dtype=values.dtype, nodata=nodata,
        crs="EPSG:32610", transform=rasterio.Affine(30, 0, 500_000, 0, -30, 4_100_000),
    ) as raster:  # fmt: skip
        raster.write(values)


def burn_scars(root: Path) -> Path:
    """Reflectance 0..1 in float32, six bands, masks -1 0 1, the day in the name, -9999 declared."""
    for part, number in (("training", 4), ("validation", 4)):
        for place in range(number):
            image, label = pixels(64 * place, 64 if part == "training" else 192)
            values = (image / 10_000).astype(np.float32)
            values[:, 0, :9] = -9999
            stem = f"subsetted_512x512_HLS.S30.T10S{part[0].upper()}{chr(65 + place)}.2020{200 + place}.v1.4"
            write(root / part / f"{stem}_merged.tif", values, -9999)
            write(root / part / f"{stem}.mask.tif", label.astype(np.int16))
    return root


def crops(root: Path) -> tuple[Path, list[str]]:
    """18 bands time-major in int16, masks 0 (none) to 13, the official names, dates in chips_df.csv."""
    layout, rows, names = dataset("multi_temporal_crops"), [], []
    for part, split in (("training", "train"), ("validation", "val")):
        for place, name in enumerate(layout.chip_ids(split)[:4]):
            image, label = pixels(64 * place, 64 if part == "training" else 192)
            dates = [image, (image * 0.8).astype(np.int16), image[:, ::-1]]
            mask = np.where(label < 0, 0, 1 + 6 * (label == 1) + (image[3] > 2500) * (label == 0)).astype(np.uint8)
            write(root / f"{part}_chips" / f"{name}_merged.tif", np.concatenate(dates).astype(np.int16), -9999)
            write(root / f"{part}_chips" / f"{name}.mask.tif", mask)
            rows.append((name, "2022-03-25", "2022-06-13", "2022-09-01"))
            names.append(name)
    with (root / "chips_df.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("chip_id", "first_img_date", "middle_img_date", "last_img_date"), *rows])
    lists = root / "lists"
    lists.mkdir()
    for split, some in (("training_data", names[:4]), ("validation_data", names[4:])):
        (lists / f"{split}.txt").write_text("\n".join(some) + "\n")
    return root, names


def settings(name: str, root: Path, out: Path, *more: object) -> list[object]:
    return [
        "-c", config_path(name), "--data.root", root, "--data.crop", 32, "--data.batch_size", 2,
        "--data.num_workers", 0, "--model.window", 32,
        "--model.model_options", '{"embed_dim": 64, "depth": 2, "num_heads": 2}', "--trainer.max_steps", 6,
        "--trainer.default_root_dir", out, "--trainer.accelerator", "cpu", "--trainer.logger.init_args.save_dir", out,
        "--trainer.enable_progress_bar", "false", "--trainer.log_every_n_steps", 1, *more,
    ]  # fmt: skip


def fitted(prithvi: Cli, options: list[object], out: Path) -> tuple[FittedModel, str]:
    answer = prithvi("fit", *options)
    assert answer.code == 0, answer.err
    (checkpoint,) = out.rglob("best*.ckpt")
    tested = prithvi("test", *options, "--ckpt_path", checkpoint)
    assert tested.code == 0, tested.err
    model = load(out / "model")
    assert isinstance(model, FittedModel)
    assert model.temperature != 1.0
    assert "test/ECE" in tested.out
    assert (out / "reliability.png").stat().st_size > 5000
    return model, tested.out


def mapped(prithvi: Cli, model: Path, scene: Path, out: Path, *options: object) -> np.ndarray:
    answer = prithvi("map", model, scene, "-o", out, *options)
    assert answer.code == 0, answer.err
    with rasterio.open(out / scene.name) as raster:
        return raster.read(1)


def permuted(scene: Path, target: Path, order: list[int]) -> Path:
    with rasterio.open(scene) as raster:
        write(target, raster.read([number + 1 for number in order]), raster.nodata)
    return target


def test_burn_scars_are_fitted_tested_and_mapped(prithvi: Cli, tmp_path: Path) -> None:
    root, out = burn_scars(tmp_path / "data"), tmp_path / "runs"
    model, tested = fitted(prithvi, settings("burn_scars", root, out), out)
    assert "test/IoU_burn scar" in tested
    assert [entry.name for entry in model.classes] == ["not burnt", "burn scar"]
    scene = sorted((root / "validation").glob("*_merged.tif"))[0]
    bands = "blue,green,red,nir_narrow,swir_1,swir_2"
    options = ("--bands", bands, "--scale", 1, "--date", "2020-07-19")
    result = mapped(prithvi, out / "model", scene, tmp_path / "maps", *options)
    assert (result[0, :9] == 255).all()  # nodata of the input
    assert set(np.unique(result[1:])) <= {0, 1}
    swapped = permuted(scene, tmp_path / "swapped" / scene.name, [5, 1, 2, 3, 4, 0])
    assert (mapped(prithvi, out / "model", swapped, tmp_path / "other", *options) != result).any()


# Two chips of a field or two have not all thirteen classes.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:no pixel of the training chips was")
def test_crops_are_fitted_tested_and_mapped_with_dates_and_bands_in_their_order(prithvi: Cli, tmp_path: Path) -> None:
    (root, names), out = crops(tmp_path / "data"), tmp_path / "runs"
    parts = ("--data.splits", root / "lists", "--data.val_split", "val", "--data.test_split", "val")
    options = settings("crops", root, out, *parts)
    model, tested = fitted(prithvi, options, out)
    assert "test/IoU_open water" in tested
    assert len(model.classes) == 13
    scene = root / "validation_chips" / f"{names[4]}_merged.tif"
    dates = [word for day in ("2022-03-25", "2022-06-13", "2022-09-01") for word in ("--date", day)]
    say = ("--bands", "blue,green,red,nir_narrow,swir_1,swir_2", "--order", "time-major", *dates, "--scale", 10_000)
    result = mapped(prithvi, out / "model", scene, tmp_path / "maps", *say)
    dates_swapped = permuted(scene, tmp_path / "a" / scene.name, [*range(12, 18), *range(6, 12), *range(6)])
    swapped = [6 * date + band for date in range(3) for band in (3, 1, 2, 0, 4, 5)]
    bands_swapped = permuted(scene, tmp_path / "b" / scene.name, swapped)
    assert (mapped(prithvi, out / "model", dates_swapped, tmp_path / "c", *say) != result).any()
    assert (mapped(prithvi, out / "model", bands_swapped, tmp_path / "d", *say) != result).any()
    # A band-major copy that is said to be one gives the same map: nothing is scrambled on the way.
    band_major = permuted(scene, tmp_path / "e" / scene.name, [6 * t + b for b in range(6) for t in range(3)])
    told = [word if word != "time-major" else "band-major" for word in say]
    assert (mapped(prithvi, out / "model", band_major, tmp_path / "f", *told) == result).all()


def test_fixed_halves_stand_in_for_a_test_split(prithvi: Cli, tmp_path: Path) -> None:
    layout = dataset("multi_temporal_crops")
    first, second, whole = (layout.chip_ids(split) for split in ("val_half", "test_half", "val"))
    assert sorted([*first, *second]) == sorted(whole)
    assert abs(len(first) - len(second)) < 60
    root = burn_scars(tmp_path / "data")
    answer = prithvi("fit", *settings("burn_scars", root, tmp_path / "runs", "--data.val_split", "test"))
    assert answer.code == 2
    assert "val_half and test_half are fixed halves of val" in answer.err


def cloud_gaps(root: Path) -> Path:
    """Three dates of six bands in int16, time-major; the table of chips; masks of other scenes' clouds beside them."""
    columns = (
        "chip_id",
        "usage",
        "bad_pct_max",
        "na_count",
        "first_image_date",
        "second_image_date",
        "third_image_date",
    )
    rows: list[tuple[object, ...]] = [columns]
    y, x = np.mgrid[:SIZE, :SIZE]
    for folder, usage, column in (("train", "train", 64), ("test", "validate", 192)):
        for place in range(5):
            image, _ = pixels(64 * place, column)
            name = f"chip_{column:03d}_{place:03d}"
            dates = [image, (image * 0.8).astype(np.int16), (image * 0.9).astype(np.int16)]
            write(root / folder / "hls_chips" / f"{name}.tif", np.concatenate(dates).astype(np.int16), -9999)
            rows.append((name, usage, 0.5, 0, "2022-04-21", "2022-06-15", "2022-09-23"))
            disc = (y - 9 * place) ** 2 + (x - 30) ** 2 < 300
            write(root / folder / "cloud_masks" / f"{name}_1_cmask.tif", disc.astype(np.uint8))
    with (root / "chip_catalog.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return root


@pytest.mark.slow
def test_cloud_gaps_are_built_fitted_and_tested(prithvi: Cli, tmp_path: Path) -> None:
    root, out = cloud_gaps(tmp_path / "data"), tmp_path / "runs"
    built = prithvi("data", "build", "cloud_gaps", "--root", root, "-o", tmp_path / "gaps.zarr")
    assert built.code == 0, built.err
    options = [
        "-c", config_path("cloud_gaps"), "--data.stores", f"['{tmp_path / 'gaps.zarr'}']",
        "--data.masks", f"['{root / 'train' / 'cloud_masks'}']", "--data.batch_size", 2, "--data.num_workers", 0,
        "--model.crop", 32, "--model.landmarks", 64, "--trainer.max_steps", 4, "--trainer.val_check_interval", 2,
        "--trainer.default_root_dir", out, "--trainer.accelerator", "cpu", "--trainer.logger.init_args.save_dir", out,
        "--trainer.enable_progress_bar", "false", "--trainer.log_every_n_steps", 1,
    ]  # fmt: skip
    answer = prithvi("fit", *options)
    assert answer.code == 0, answer.err
    (checkpoint,) = out.rglob("best*.ckpt")
    tested = prithvi("test", *options, "--ckpt_path", checkpoint)
    assert tested.code == 0, tested.err
    assert "test/ssim" in tested.out
    model = load(out / "model")
    assert isinstance(model, PrithviMAE)
    record = json.loads((out / "model" / "config.json").read_text())["training"]
    assert record["gap filling"] == {"touched": "hidden", "landmarks": 64}
    assert record["val/mae"] > 0
    assert record["started from"] == "prithvi_hls_tiny"

    # Shares of the same chips compared, with what needs no training beside: on the pixels that the task covers.
    plain = yaml.safe_load(config_path("compare_cloud_gaps").read_text())
    plain |= {"fractions": [0.4, 1.0], "seeds": 1, "options": {"trainer.max_steps": 2}}
    (tmp_path / "compare.yaml").write_text(yaml.safe_dump(plain, sort_keys=False))
    compared = prithvi("compare", "-c", tmp_path / "compare.yaml", "-o", tmp_path / "compared", *_without(options, 2))
    assert compared.code == 0, compared.err
    table = (tmp_path / "compared" / "table.md").read_text()
    values = {line.split(" | ")[0].strip("| "): line.split(" | ")[1:] for line in table.splitlines()[2:]}
    simple = ["nearest date", "linear in time", "regression", "filling", "local regression"]
    assert list(values) == ["pretrained", "random", *simple]
    assert values["regression"][0].strip(" |") == values["regression"][1].strip(" |")  # no label, no share
    assert float(values["filling"][0]) < float(values["nearest date"][0])
    with (tmp_path / "compared" / "results.csv").open() as file:
        assert {row["chips"] for row in csv.DictReader(file)} == {"2", "5"}


def _without(options: list[object], first: int) -> list[object]:
    """Options of a fit that a comparison takes: without its file and what a comparison says itself."""
    pairs = list(zip(options[first::2], options[first + 1 :: 2], strict=True))
    own = ("--trainer.max_steps", "--trainer.default_root_dir", "--trainer.logger.init_args.save_dir")
    return [word for pair in pairs for word in pair if pair[0] not in (*own, "--trainer.enable_progress_bar")]
