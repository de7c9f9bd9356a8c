"""What importing costs, and what may be missing."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import SPAIN, Answer


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)


def after(words: list[object], check: str) -> subprocess.CompletedProcess[str]:
    """Runs the command line in a process of its own, and then a statement there."""
    return python(
        f"""
        import os, sys
        from prithvi.cli import main
        sys.argv = ["prithvi", *{[str(word) for word in words]}]
        try:
            main()
        except SystemExit as stop:
            assert not stop.code
        {check}
        """
    )


HEAVY = "('torch', 'terratorch', 'lightning', 'rasterio', 'xarray', 'numpy', 'geopandas', 'matplotlib')"


def test_import_loads_nothing_heavy() -> None:
    done = python(f"import prithvi, sys; assert not [m for m in {HEAVY} if m in sys.modules]")
    assert done.returncode == 0, done.stderr


def test_pictures_are_there_after_import_prithvi_and_need_no_torch() -> None:
    done = python("import prithvi, sys; prithvi.plot.classes; assert 'torch' not in sys.modules")
    assert done.returncode == 0, done.stderr


def test_help_loads_nothing_heavy() -> None:
    done = after(["--help"], f"assert not [m for m in {HEAVY} if m in sys.modules], sorted(sys.modules)")
    assert done.returncode == 0, done.stderr
    assert "doctor" in done.stdout


# What a map is not made of: each of these is half a second or more of its start, or belongs to another verb.
NO_PART_OF_A_MAP = (
    "torch._dynamo", "torch._inductor", "lightning", "torchmetrics", "terratorch", "peft", "sklearn", "matplotlib",
    "distributed", "zarr", "scipy.optimize", "huggingface_hub", "openvino", "rio_cogeo", "exactextract",
    "prithvi.tasks", "prithvi.hls", "prithvi.mapping.gap_filling", "prithvi.mapping.composites",
)  # fmt: skip


def test_a_map_imports_only_what_maps_are_made_of(model_folder: Path, tmp_path: Path) -> None:
    words = ["map", model_folder, SPAIN, "-o", tmp_path, "--sensor", "sentinel-2-l1c", "--date", "2019-09-18"]
    words += ["--bbox", "-0.77", "38.09", "-0.765", "38.095"]
    done = after(
        words, f"found = [name for name in {NO_PART_OF_A_MAP} if name in sys.modules]; assert not found, found"
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / f"{SPAIN.stem}.parquet").is_file()


@pytest.mark.slow
def test_results_have_their_accessor_whatever_of_the_mapping_is_imported() -> None:
    done = python("from prithvi.mapping.masks import clear_of; import xarray; xarray.Dataset().prithvi")
    assert done.returncode == 0, done.stderr


def test_the_command_line_leaves_the_garbage_collector_as_it_was(prithvi: Callable[..., Answer]) -> None:
    before = gc.get_threshold()
    assert prithvi("models", "list").code == 0
    assert gc.get_threshold() == before
    assert prithvi("map", "absent", "absent.tif", "-o", "maps").code == 2
    assert gc.get_threshold() == before


@pytest.mark.parametrize(("said", "used"), [(None, "passive"), ("active", "active")])
def test_threads_of_the_command_line_wait_idly_unless_the_user_says_otherwise(
    said: str | None, used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if said is not None:
        monkeypatch.setenv("OMP_WAIT_POLICY", said)
    # Torch's OpenMP reads it when it is loaded, so that it has to be there before.
    done = after(["--help"], f"assert 'torch' not in sys.modules; assert os.environ['OMP_WAIT_POLICY'] == '{used}'")
    assert done.returncode == 0, done.stderr


def test_models_metrics_and_tasks_run_where_no_geo_stack_is() -> None:
    done = python(
        """
        import sys

        class Absent:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in ("rasterio", "zarr", "geopandas", "rioxarray", "terratorch"):
                    raise ModuleNotFoundError(name)

        sys.meta_path.insert(0, Absent())
        import prithvi.models, prithvi.metrics, prithvi.tasks, prithvi.modelio
        import torch
        prithvi.models.build("prithvi_hls_tiny", img_size=32)(torch.zeros(1, 6, 1, 32, 32)).loss.backward()
        """
    )
    assert done.returncode == 0, done.stderr


def test_public_names_resolve() -> None:
    import prithvi
    import prithvi.mapping
    import prithvi.modelio

    for package in (prithvi, prithvi.mapping, prithvi.modelio):
        for name in package.__all__:
            assert getattr(package, name) is not None
    assert set(prithvi.__all__) <= set(dir(prithvi))
    with pytest.raises(AttributeError, match="no attribute 'mapp'"):
        prithvi.mapp  # noqa: B018


def test_version_is_the_package_metadata() -> None:
    from importlib.metadata import version

    import prithvi

    assert prithvi.__version__ == version("prithvi")


def test_no_address_or_local_path_in_constraints() -> None:
    lines = (Path(__file__).parents[1] / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all("==" in line and "/" not in line and "@" not in line for line in pins)
