"""A user's mistake: one sentence, status 2, nothing half-written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from prithvi.catalog import data_catalog
from prithvi.models import build
from tests.conftest import SPAIN, Answer
from tests.models.test_checkpoint import Evil

Cli = Callable[..., Answer]
Write = Callable[..., Path]


def refused(answer: Answer, *parts: str) -> None:
    """One line on standard error that says all of `parts`, and status 2."""
    lines = [line for line in answer.err.splitlines() if line.strip()]
    assert answer.code == 2, answer
    errors = [line for line in lines if line.startswith("Error: ")]
    assert len(errors) == 1, lines
    assert lines[-1] == errors[0]
    assert "Traceback" not in answer.err
    for part in parts:
        assert part in errors[0], errors[0]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "maps"


def empty(folder: Path) -> bool:
    return not folder.exists() or not list(folder.iterdir())


def scenes(six: np.ndarray) -> dict[str, tuple[dict[str, Any], tuple[str, ...]]]:
    """Name to (arguments of the writer, what the sentence says)."""
    holes = np.full_like(six, -9999)
    return {
        "three bands": ({"pixels": six[:3], "names": ("blue", "green", "red")}, ("lacks nir_narrow, swir_1, swir_2",)),
        "unknown order": ({"pixels": six, "names": None}, ("6 bands without names", "--bands", "--sensor")),
        "ambiguous ids": (
            {"pixels": six, "names": ("B02", "B03", "B04", "B05", "B06", "B07")},
            ("B05", "--sensor hls-l30"),
        ),
        "reflectance": ({"pixels": (six / 1e4).astype(np.float32), "scale": None}, ("too small", "--scale 1")),
        "smaller than a patch": ({"pixels": six[:, :3, :50]}, ("3 x 50 pixels", "one patch of the model (8 x 8)")),
        "no CRS": ({"pixels": six, "crs": None}, ("no coordinate reference system", "rio edit-info")),
        "all nodata": ({"pixels": holes, "nodata": -9999}, ("no pixel with data",)),
    }


@pytest.mark.parametrize(
    "case",
    ["three bands", "unknown order", "ambiguous ids", "reflectance", "smaller than a patch", "no CRS", "all nodata"],
)
def test_scenes_that_cannot_be_mapped(
    case: str, prithvi: Cli, model_folder: Path, write_tif: Write, six_bands: np.ndarray, out: Path
) -> None:
    arguments, said = scenes(six_bands)[case]
    pixels = arguments.pop("pixels")
    refused(prithvi("map", model_folder, write_tif(pixels, **arguments), "-o", out), "scene.tif", *said)
    assert empty(out)


def test_digital_numbers_where_reflectance_is_wanted(
    prithvi: Cli, model_folder: Path, write_tif: Write, six_bands: np.ndarray, tmp_path: Path, out: Path
) -> None:
    folder = Path(shutil.copytree(model_folder, tmp_path / "reflectance"))
    plain = json.loads((folder / "config.json").read_text())
    contract = plain["contract"]
    contract |= {"scale": 1, "mean": [m / 1e4 for m in contract["mean"]], "std": [s / 1e4 for s in contract["std"]]}
    (folder / "config.json").write_text(json.dumps(plain))
    scene = write_tif(six_bands, scale=None)
    refused(prithvi("map", folder, scene, "-o", out), "too large for reflectance x 1", "--scale 10000")
    assert empty(out)
    assert prithvi("map", folder, scene, "-o", out, "--scale", "10000").code == 0


@pytest.mark.parametrize("keep", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("compress", ["deflate", None])
def test_a_truncated_tiff(
    keep: float,
    compress: str | None,
    prithvi: Cli,
    model_folder: Path,
    write_tif: Write,
    six_bands: np.ndarray,
    out: Path,
) -> None:
    path = write_tif(six_bands, **({"compress": compress} if compress else {}))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    refused(prithvi("map", model_folder, path, "-o", out), "scene.tif", "damaged")
    assert empty(out)


def test_bands_that_are_misspelt_missing_or_too_few(
    prithvi: Cli, model_folder: Path, write_tif: Write, six_bands: np.ndarray, out: Path
) -> None:
    path = write_tif(six_bands, names=None)
    names = "BLEU,green,red,nir_narrow,swir_1,swir_2"
    refused(prithvi("map", model_folder, path, "-o", out, "--bands", names), "'BLEU'", "did you mean blue?")
    refused(prithvi("map", model_folder, path, "-o", out, "--bands", "1,2,3"), "3 numbers", "wants 6")
    refused(prithvi("map", model_folder, path, "-o", out, "--bands", "1,2,3,4,5,9"), "bands 1 to 6", "band 9")
    refused(prithvi("map", model_folder, path, "-o", out, "--sensor", "hls-130"), "'hls-130'", "hls-l30")
    refused(prithvi("map", model_folder, out / "absent.tif", "-o", out), "there is no file", "absent.tif")
    assert empty(out)


def test_checkpoints_with_a_tensor_missing_or_misshapen(
    prithvi: Cli, model_folder: Path, tmp_path: Path, write_tif: Write, six_bands: np.ndarray, out: Path
) -> None:
    folder = Path(shutil.copytree(model_folder, tmp_path / "broken"))
    # Copies: tensors of safetensors before 0.5 lie in the file, which is written over below.
    whole = {key: value.clone() for key, value in load_file(folder / "model.safetensors").items()}
    missing = {key: value for key, value in whole.items() if key != "encoder.norm.bias"}
    for state in (missing, {**whole, "encoder.norm.bias": torch.ones(3)}):
        save_file(state, folder / "model.safetensors")
        refused(prithvi("map", folder, write_tif(six_bands), "-o", out), "does not fit", "encoder.norm.bias")
    (folder / "model.safetensors").write_bytes((model_folder / "model.safetensors").read_bytes()[:5000])
    refused(prithvi("map", folder, write_tif(six_bands), "-o", out), "not a whole safetensors file")
    refused(prithvi("map", tmp_path / "nothing", write_tif(six_bands), "-o", out), "there is no model, file, folder")
    assert empty(out)


FLOOD = """
trainer: {max_steps: 1, accelerator: cpu, default_root_dir: ROOT, enable_checkpointing: false, logger: false}
model:
  class_path: prithvi.tasks.SegmentationTask
  init_args: {window: 32, head: light, model_options: {embed_dim: 64, depth: 2, num_heads: 2}}
data:
  class_path: prithvi.data.ChipDataModule
  init_args: {root: SAMPLES, dataset: sen1floods11, crop: 32}
"""


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Path]:
    """A flood configuration with a piece of text replaced."""

    def write(old: str = "", new: str = "") -> Path:
        path = tmp_path / "flood.yaml"
        samples = data_catalog() / "sen1floods11" / "samples"
        text = FLOOD.replace("ROOT", str(tmp_path / "runs")).replace("SAMPLES", str(samples))
        path.write_text(text.replace(old, new) if old else text)
        return path

    return write


def test_settings_that_do_not_exist(prithvi: Cli, config: Callable[..., Path], tmp_path: Path) -> None:
    fit = lambda path, *more: prithvi("fit", "-c", path, *more)  # noqa: E731
    refused(fit(config("window: 32", "windwo: 32")), "flood.yaml", "'windwo'", "did you mean window?")
    refused(fit(config("max_steps: 1", "max_step: 1")), "trainer", "'max_step'", "did you mean max_steps?")
    refused(fit(config("\nmodel:", "\nmodle:")), "'modle'", "did you mean model?")
    refused(fit(config("crop: 32", "corp: 32")), "'corp'", "did you mean crop?")
    refused(fit(config(), "--model.lrr", "1e-4"), "--model.lrr", "did you mean lr?")
    refused(fit(config(), "--data.rooot=x"), "--data.rooot", "did you mean root?")
    refused(fit(config(), "--trainer.max_epoch", "3"), "did you mean max_epochs?")
    refused(
        fit(config("prithvi.tasks.SegmentationTask", "prithvi.tasks.Segmentation")),
        "no class 'prithvi.tasks.Segmentation'",
    )
    refused(fit(config("crop: 32", "crop: many")), "crop", "many")
    refused(fit(config("head: light", "head: lihgt")), "no head 'lihgt'", "did you mean light?")
    refused(
        fit(config("window: 32,", "window: 32, model: prithvi_hls_tinny,")), "prithvi_hls_tinny", "prithvi_hls_tiny"
    )
    refused(fit(config("crop: 32", "crop: [")), "flood.yaml is not YAML")
    refused(fit(tmp_path / "absent" / "flood.yaml"), "no configuration file")
    refused(prithvi("fit"), "no configuration was given")
    refused(fit(config("{max_steps: 1", "{max_steps: 1, 7: 1")), "flood.yaml, trainer must be a table")
    for section in ("trainer: 5", "trainer: [1]", "model: fast"):
        refused(fit(_with_section(tmp_path, section)), "must be a table")
    refused(fit(config(), "--ckpt_path", tmp_path / "nope.ckpt"), "there is no checkpoint", "nope.ckpt")
    refused(prithvi("fit", f"--config={config('crop: 32', 'corp: 32')}"), "'corp'")
    refused(fit(config("depth: 2,", "depth: 2, num_frames: 3,")), "model_options holds num_frames")
    assert not (tmp_path / "runs").exists()


def _with_section(folder: Path, section: str) -> Path:
    path = folder / "section.yaml"
    path.write_text(f"{section}\n")
    return path


def test_debug_reaches_fit_too(prithvi: Cli, config: Callable[..., Path]) -> None:
    with pytest.raises(Exception, match="504 of the 504 files"):
        prithvi("--debug", "fit", "-c", config())


def test_impossible_options_of_map(
    prithvi: Cli, model_folder: Path, write_tif: Write, six_bands: np.ndarray, out: Path
) -> None:
    scene = write_tif(six_bands)
    refused(prithvi("map", model_folder, scene, "-o", out, "--scale", "0"), "a scale of 0")
    refused(prithvi("map", model_folder, scene, "-o", out, "--device", "foo"), "no device 'foo'")
    refused(prithvi("map", "prithvi_eo_v2_300", scene, "-o", out), "is a pretrained model")
    refused(prithvi("map", model_folder, scene, "-o", out, "--bands", "0,1,2,3,4,5"), "band 0")
    refused(prithvi("map", model_folder, scene, "-o", out, "--bands", "2,2,2,2,2,2"), "asked for twice")
    assert prithvi("map", model_folder, scene, "-o", out, "--stride", "0").code == 2
    assert empty(out)


def test_weights_that_hold_code(prithvi: Cli, config: Callable[..., Path], tmp_path: Path) -> None:
    mark = Path("/tmp/prithvi_was_here")
    mark.unlink(missing_ok=True)
    state = build("prithvi_hls_tiny", embed_dim=64, depth=2, num_heads=2).state_dict()
    torch.save({"state_dict": state, "hook": Evil()}, tmp_path / "evil.ckpt")
    answer = prithvi("fit", "-c", config(), "--model.init", tmp_path / "evil.ckpt")
    refused(answer, "evil.ckpt holds", "which is code")
    assert not mark.exists()
    state.pop("encoder.norm.weight")
    torch.save(state, tmp_path / "short.pt")
    refused(prithvi("fit", "-c", config(), "--model.init", tmp_path / "short.pt"), "1 missing (encoder.norm.weight)")


def test_a_dataset_that_is_not_there(prithvi: Cli, config: Callable[..., Path]) -> None:
    refused(prithvi("fit", "-c", config()), "504 of the 504 files of the train split", "sen1floods11")
    refused(prithvi("fit", "-c", config(), "--data.dataset", "sen1flods11"), "'sen1flods11'", "sen1floods11")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_label_that_is_no_class_in_a_loading_process(
    workers: int, prithvi: Cli, config: Callable[..., Path], write_tif: Write, tmp_path: Path
) -> None:
    for kind, count, value in (("S2Hand", 13, 900), ("LabelHand", 1, 7)):
        (tmp_path / kind).mkdir()
        write_tif(np.full((count, 64, 64), value, np.int16), f"{kind}/a_{kind}.tif", names=None)
    for split in ("train", "val"):
        (tmp_path / f"{split}_split.txt").write_text("a\n")
    answer = prithvi(
        "fit", "-c", config(), "--data.root", tmp_path, "--data.splits", tmp_path, "--data.num_workers", workers,
        "--data.batch_size", 1, "--trainer.num_sanity_val_steps", 0, "--trainer.enable_progress_bar", "false",
    )  # fmt: skip
    refused(answer, "a_LabelHand.tif holds the label 7; sen1floods11 has 0 (land), 1 (water)")


def test_unknown_names_on_the_command_line(prithvi: Cli) -> None:
    refused(prithvi("models", "show", "prithvi_eo_v2_30"), "'prithvi_eo_v2_30'", "prithvi_eo_v2_300")
    answer = prithvi("mapp")
    assert answer.code == 2
    assert "No such command 'mapp'" in answer.err
    assert "Traceback" not in answer.err


def test_a_folder_that_cannot_be_written(
    prithvi: Cli, model_folder: Path, write_tif: Write, six_bands: np.ndarray, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    refused(prithvi("map", model_folder, write_tif(six_bands), "-o", tmp_path / "file"), "cannot be written")


def test_a_map_never_replaces_its_own_scene(
    prithvi: Cli, model_folder: Path, write_tif: Write, six_bands: np.ndarray, tmp_path: Path
) -> None:
    path = write_tif(six_bands)
    before = path.read_bytes()
    refused(prithvi("map", model_folder, path, "-o", tmp_path), "is one of the inputs: choose another name or folder")
    assert path.read_bytes() == before


def test_debug_brings_the_traceback_back(prithvi: Cli, model_folder: Path, out: Path) -> None:
    with pytest.raises(Exception, match="there is no file"):
        prithvi("--debug", "map", model_folder, out / "absent.tif", "-o", out)


def test_the_sample_itself_is_mapped(prithvi: Cli, model_folder: Path, out: Path) -> None:
    answer = prithvi("map", model_folder, SPAIN, "-o", out, "--sensor", "sentinel-2-l1c", "--offset", "0")
    assert answer.code == 0
    assert "water" in answer.out
    beside = [f"{SPAIN.stem}{end}" for end in (".parquet", ".qml", ".tif", ".tif.aux.xml")]
    assert sorted(path.name for path in out.iterdir()) == beside
    assert "no STAC item was written, since the scene has no date: say --date." in answer.err
