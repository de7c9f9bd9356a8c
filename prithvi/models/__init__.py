"""Models on tensors alone: the masked autoencoder, heads for downstream tasks, and reading of weights files."""

from prithvi.models import baseline_heads as _baselines  # noqa: F401  they register heads
from prithvi.models import branch_heads as _branches  # noqa: F401
from prithvi.models import tree_heads as _trees  # noqa: F401
from prithvi.models.config import ModelConfig
from prithvi.models.encoder import Encoder, PrithviEncoder
from prithvi.models.gapfill import GapFiller
from prithvi.models.heads import HEADS, register_head
from prithvi.models.mae import MAEOutput, PrithviMAE
from prithvi.models.segmenter import Segmenter
from prithvi.models.standardise import Standardise
from prithvi.models.zoo import ENCODERS, VARIANTS, build, build_encoder, configure

__all__ = [
    "ENCODERS",
    "HEADS",
    "VARIANTS",
    "Encoder",
    "GapFiller",
    "MAEOutput",
    "ModelConfig",
    "PrithviEncoder",
    "PrithviMAE",
    "Segmenter",
    "Standardise",
    "build",
    "build_encoder",
    "configure",
    "register_head",
]
