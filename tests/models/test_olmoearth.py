"""OlmoEarth's encoders behind our interface, against the forward of their own package, with random weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
import xarray as xr
from torch import Tensor

import prithvi as package
from prithvi.bands import PRITHVI_BANDS
from prithvi.catalog import config_path, data_catalog
from prithvi.coords import year_and_day
from prithvi.errors import CheckpointError, HubError, MissingExtraError, ModelError
from prithvi.models import ENCODERS, Encoder, Segmenter, Standardise, build, build_encoder, configure
from prithvi.models.olmoearth import BANDS, NAMES, timestamps
from tests.conftest import SPAIN, Answer

NANO = "olmoearth_v1_2_nano"


def test_without_its_package_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "olmoearth_pretrain_minimal", None)
    with pytest.raises(MissingExtraError, match=r"olmoearth_v1_2_nano needs .* pip install 'prithvi\[olmoearth\]'"):
        build_encoder(configure(NANO))


def test_months_are_those_of_the_dates() -> None:
    dates = np.array(["2020-02-29", "2021-12-31", "NaT"], "datetime64[D]")
    told = torch.from_numpy(year_and_day(dates))[None]
    assert timestamps(told, 1, 3).tolist() == [[[29, 1, 2020], [31, 11, 2021], [1, 6, 2020]]]
    assert timestamps(None, 2, 1).tolist() == [[[1, 6, 2020]]] * 2


def test_there_are_no_weights_without_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match=r"allenai/OlmoEarth-v1_2-Nano"):
        package.load(NANO)
    with pytest.raises(ModelError, match="is an encoder alone"):
        build(NANO)


class TestWithItsPackage:
    theirs: Any = None

    @pytest.fixture(autouse=True)
    def their_package(self) -> None:
        type(self).theirs = pytest.importorskip("olmoearth_pretrain_minimal", reason="needs the olmoearth extra")

    def whole(self, name: str) -> Any:
        torch.manual_seed(0)
        version, size = NAMES[name]
        return self.theirs.OlmoEarthPretrain_v1(size, version).eval()

    def file(self, folder: Path, name: str = NANO) -> Path:
        """Weights as they are published: of the whole model, for all of its sensors."""
        folder.mkdir(exist_ok=True)
        torch.save(self.whole(name).model.state_dict(), folder / "weights.pth")
        return folder / "weights.pth"

    @pytest.mark.parametrize(("name", "patch"), [(name, 8) for name in ENCODERS] + [(NANO, 4)])
    def test_tokens_are_those_of_its_own_forward(self, name: str, patch: int) -> None:
        from olmoearth_pretrain_minimal.olmoearth_pretrain_v1.utils.constants import Modality
        from olmoearth_pretrain_minimal.olmoearth_pretrain_v1.utils.datatypes import MaskedOlmoEarthSample

        whole = self.whole(name)
        encoder = build_encoder(configure(name, 3, 32, patch_size=(1, patch, patch))).eval()
        encoder.load_state_dict(encoder.own_state(whole.model.state_dict()))
        width = 48 if encoder.rectangles else 32
        pixels = np.random.default_rng(0).integers(0, 6000, (2, 12, 3, 32, width)).astype(np.float32)
        dates = np.array(["2020-02-29", "2021-07-01", "2021-12-31"], "datetime64[D]")
        told = torch.from_numpy(year_and_day(dates))[None].expand(2, -1, -1)
        normal = self.theirs.Normalizer().normalize(Modality.SENTINEL2_L2A, pixels.transpose(0, 3, 4, 2, 1))
        sample = MaskedOlmoEarthSample(
            timestamps=torch.tensor([[[29, 1, 2020], [1, 6, 2021], [31, 11, 2021]]]).expand(2, -1, -1),
            sentinel2_l2a=torch.from_numpy(normal).float(),
            sentinel2_l2a_mask=torch.zeros(2, 32, width, 3, 1, dtype=torch.long),
        )
        with torch.no_grad():
            answer = whole.encoder(sample, patch_size=patch, input_res=10, fast_pass=True)["tokens_and_masks"]
            expected = answer.sentinel2_l2a[..., 0, :].permute(0, 3, 1, 2, 4).flatten(1, 3)
            images = Standardise(encoder.contract)(torch.from_numpy(pixels))
            found, layers = encoder(images, told).tokens, encoder.forward_features(images, told)
        torch.testing.assert_close(found[:, 1:], expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(found[:, 0], expected.mean(dim=1), atol=1e-5, rtol=0)
        assert len(layers) == encoder.config.depth
        assert torch.equal(layers[-1], found)
        norm = encoder.inner.norm
        assert not torch.allclose(norm(layers[-2]), found, atol=1e-3)

    def test_bands_that_are_not_there_are_0_as_its_package_has_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from olmoearth_pretrain_minimal.olmoearth_pretrain_v1.utils.constants import Modality

        encoder = build_encoder(configure(NANO, bands=PRITHVI_BANDS, img_size=16)).eval()
        pixels = np.random.default_rng(0).integers(0, 6000, (1, 12, 1, 16, 16)).astype(np.float32)
        places = [BANDS.index(band) for band in PRITHVI_BANDS]
        lacking = np.full_like(pixels, np.nan)
        lacking[:, places] = pixels[:, places]
        lacking[..., :4] = np.nan  # and pixels without data
        with pytest.warns(UserWarning, match="were missing"):
            normal = self.theirs.NormalizerV1_2().normalize(Modality.SENTINEL2_L2A, lacking.transpose(0, 3, 4, 2, 1))
        given: list[Tensor] = []
        plain = encoder.inner.drop_unencodable_modalities
        monkeypatch.setattr(
            encoder.inner, "drop_unencodable_modalities", lambda x: given.append(x.sentinel2_l2a) or plain(x)
        )
        encoder(Standardise(encoder.contract)(torch.from_numpy(lacking[:, places])))
        np.testing.assert_allclose(given[0].numpy(), normal, atol=1e-6)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"patch_size": (1, 16, 16)}, "up to 8 x 8 pixels"),
            ({"depth": 3}, "has 4 blocks of width 128, which stay"),
            ({"num_frames": 13}, "takes up to 12 dates"),
            ({"bands": ["red", "cirrus"], "mean": (0, 0), "std": (1, 1)}, "has no band cirrus; it has blue"),
        ],
    )
    def test_a_shape_that_it_has_not_is_refused(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ModelError, match=message):
            build_encoder(configure(NANO, **options))

    def test_version_1_1_takes_squares_alone(self) -> None:
        encoder = build_encoder(configure("olmoearth_v1_1_nano"))
        with pytest.raises(ModelError, match="takes square images, not 32 x 48"):
            encoder(torch.zeros(1, 12, 1, 32, 48))

    def test_published_weights_open_completely_or_not_at_all(self, tmp_path: Path) -> None:
        path = self.file(tmp_path)
        encoder = package.load(path, architecture=NANO, bands=list(PRITHVI_BANDS), num_frames=2)
        assert isinstance(encoder, Encoder)
        own = self.whole(NANO).encoder.state_dict()
        assert all(torch.equal(value, own[name.removeprefix("inner.")]) for name, value in encoder.state_dict().items())
        state = torch.load(path, weights_only=True)
        del state["encoder.blocks.2.attn.q.weight"]
        torch.save(state, path)
        with pytest.raises(
            CheckpointError, match=r"nothing was loaded: .* 1 missing \(inner\.blocks\.2\.attn\.q\.weight"
        ):
            package.load(path, architecture=NANO)

    def test_lora_adapts_query_key_and_value(self) -> None:
        pytest.importorskip("peft")
        from prithvi.tasks.lora import prepare

        encoder = build_encoder(configure(NANO))
        prepare(encoder, "lora", 2)
        adapted = {name.split(".lora_A")[0] for name, _ in encoder.named_modules() if name.endswith("lora_A")}
        assert len(adapted) == 4 * 4

    def test_threads_do_not_take_each_others_blocks(self) -> None:
        """Windows are predicted side by side."""
        from concurrent.futures import ThreadPoolExecutor

        encoder = build_encoder(configure(NANO, img_size=16)).eval()
        images = [torch.randn(1, 12, 1, 16, 16) for _ in range(16)]
        alone = [encoder.forward_features(image)[1] for image in images]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda image: encoder.forward_features(image)[1], images))
        assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(alone, together, strict=True))

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore:.* is TOA, and the model was trained on SR")
    def test_fit_map_and_embed_from_the_command_line(self, prithvi: Callable[..., Answer], tmp_path: Path) -> None:
        folder = self.file(tmp_path / "nano").parent
        (folder / "config.json").write_text(json.dumps({"architecture": NANO}))
        for split in ("train", "val", "test"):
            (tmp_path / f"{split}_split.txt").write_text("Spain_7370579\n")
        answer = prithvi(
            "fit", "-c", config_path("flood"), "--data.root", data_catalog() / "sen1floods11" / "samples",
            "--data.splits", tmp_path, "--data.crop", 64, "--data.batch_size", 1, "--data.num_workers", 0,
            "--model.model", NANO, "--model.init", folder, "--model.statistics", "init", "--model.window", 64,
            "--trainer.max_epochs", 1,
            "--trainer.default_root_dir", tmp_path / "runs", "--trainer.accelerator", "cpu",
            "--trainer.logger.init_args.save_dir", tmp_path / "runs", "--trainer.enable_progress_bar", "false",
            "--trainer.log_every_n_steps", 1,
        )  # fmt: skip
        assert answer.code == 0, answer.err
        model = package.load(tmp_path / "runs" / "model")
        assert isinstance(model.model, Segmenter)  # type: ignore[union-attr]
        assert type(model.model.encoder).__name__ == "OlmoEarthEncoder"  # type: ignore[union-attr]
        scene = ["--sensor", "sentinel-2-l1c", "--offset", 0]
        answer = prithvi("map", tmp_path / "runs/model", SPAIN, "-o", tmp_path / "map", *scene)
        assert answer.code == 0, answer.err
        with rasterio.open(tmp_path / "map" / SPAIN.name) as raster:
            assert set(np.unique(raster.read(1))) <= {0, 1, 255}
        answer = prithvi("embed", folder, SPAIN, "-o", tmp_path / "vectors.zarr", *scene)
        assert answer.code == 0, answer.err
        with xr.open_zarr(tmp_path / "vectors.zarr") as found:
            assert found["embedding"].shape == (1, 128, 64, 64)
            assert np.isfinite(found["embedding"].values).all()
