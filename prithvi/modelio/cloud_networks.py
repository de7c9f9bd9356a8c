"""The networks of ukis-csmask, which tell clouds and their shadows apart from the ground, as a Predictor.

They come as ONNX files in the wheel of `ukis-csmask` 1.0.0 (Apache-2.0; Wieland, Li and Martinis 2019,
doi:10.1016/j.rse.2019.05.022), one for reflectance at the top of the atmosphere and one for surface reflectance. That
package takes a whole image in memory; here its files are run on the windows of a scene. What they expect is read from
their records: six bands in reflectance, standardised by means and standard deviations, 256 x 256 pixels of about 30 m.

At 10 m they take water for shadow and bright ground for cloud, so that of finer scenes squares of pixels are averaged
(`step_for`), and each pixel has the answer of its square.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.resources
import math
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prithvi.bands import PRITHVI_BANDS
from prithvi.contract import Category, Contract
from prithvi.errors import ConfigError, ModelError, first_line, needs
from prithvi.files import read_json
from prithvi.modelio.predictor import Predictor
from prithvi.models import Standardise

EXTRA = "clouds"
CLASSES = (Category(0, "clear", "8DB580"), Category(1, "cloud", "F2F2F2"), Category(2, "cloud shadow", "3B3B58"))
"""In the order of the networks' outputs."""
ACCEPTED = ("nir_broad",)
"""What stands in for a band without being asked for: the networks saw the near infrared of Landsat 5 and 7, too."""
_FILES = {"TOA": "model_6b_l1c", "SR": "model_6b_l2a"}
_BANDS = ["blue", "green", "red", "nir", "swir16", "swir22"]
"""What the records call `PRITHVI_BANDS`."""
_RESOLUTION = 30.0
_REMEDY = f"pip install --force-reinstall 'prithvi[{EXTRA}]' 'ukis-csmask==1.0.0'."


@lru_cache(maxsize=1)  # opening one takes as long as several windows, and a series has many dates
def cloud_network(level: str) -> Predictor:
    """The network for six bands of a level, as something to map with: its classes are `CLASSES`.

    Args:
        level: `SR` or `TOA`, see `prithvi.contract.LEVELS`.

    Raises:
        MissingExtraError: it is not installed.
        ModelError: the package that is installed holds other networks.

    """
    with needs("finding clouds", EXTRA):
        import onnxruntime  # noqa: F401  (what runs them)

        weights = Path(str(importlib.resources.files("ukis_csmask"))) / f"{_FILES[level]}.onnx"
    name = f"ukis-csmask {importlib.metadata.version('ukis-csmask')} {weights.stem}"
    try:
        data = read_json(weights.with_suffix(".json"))["data"]
        (mean, std), bands = data["dataset_statistics"]["img"], data["dataset_statistics"]["band_names"]
        size, outputs, digest = data["target_size"], data["classes"], _sha256(weights)
    except (ConfigError, OSError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"the network {name} cannot be read ({first_line(error)}): {_REMEDY}") from error
    if (bands, outputs) != (_BANDS, len(CLASSES)) or size[0] != size[1]:
        raise ModelError(f"the network {name} is not the one that is known: {_REMEDY}")
    contract = Contract(PRITHVI_BANDS, mean, std, scale=1.0, resolution=_RESOLUTION, level=level)
    module = OnnxNetwork(weights, contract)
    return Predictor(module, contract, size[0], classes=CLASSES, name=name, sha256=digest)


def step_for(resolution: float) -> int:
    """Pixels of so many metres along the side of a square that is averaged for a network: 3 of 10 m, 1 of 20 and 30."""
    return max(1, math.ceil(_RESOLUTION / resolution - 0.5))


def coarser(model: Predictor, step: int) -> Predictor:
    """A network for scenes of pixels that are so many times finer than its own."""
    if step == 1:
        return model
    contract = replace(model.contract, resolution=_RESOLUTION / step)
    name = f"{model.name}, {step} x {step} pixels averaged"
    return replace(model, module=Averaged(model.module, step), contract=contract, window=step * model.window, name=name)


class Averaged(nn.Module):
    """A module of coarser pixels: it gets the means of squares, and each pixel its square's scores.

    Args:
        module: (B, band, T, Y, X) to (B, classes, Y, X).
        step: pixels along the side of a square, which divides the windows.

    """

    def __init__(self, module: nn.Module, step: int) -> None:
        super().__init__()
        self.module, self.step = module, step

    def forward(self, images: Tensor) -> Tensor:
        """See `Predictor.module`; of a square's pixels those with data count."""
        there = torch.isfinite(images)
        square = (1, self.step, self.step)
        values, share = F.avg_pool3d(images.where(there, 0.0), square), F.avg_pool3d(there.to(images.dtype), square)
        scores: Tensor = self.module((values / share).where(share > 0, torch.nan))
        return scores.repeat_interleave(self.step, 2).repeat_interleave(self.step, 3)


class OnnxNetwork(nn.Module):
    """An ONNX file run by ONNX Runtime on the CPU, behind its standardisation: raw pixels in, logits out.

    It is opened when it is first called, with as many threads as torch has then. A copy that was pickled opens it anew.

    Args:
        path: of the file, which takes (B, band, Y, X) and gives (B, classes, Y, X), both float32.
        contract: units and statistics of the pixels.

    """

    def __init__(self, path: Path, contract: Contract) -> None:
        super().__init__()
        self.path, self.standardise = path, Standardise(contract)
        self.session: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "session": None}

    def forward(self, images: Tensor) -> Tensor:
        """See `Predictor.module`; of one date."""
        if self.session is None:
            self.session = _session(self.path)
        pixels = self.standardise(images)[:, :, 0].cpu().contiguous().numpy()
        (logits,) = self.session.run(None, {self.session.get_inputs()[0].name: pixels})
        return torch.from_numpy(logits).to(images.device)


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # By itself it lets its threads spin between calls, which takes the cores from whoever prepares the next window.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
