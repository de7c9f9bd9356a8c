"""Preserving process-wide settings of the caller."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

_BACKENDS = (
    ("mkldnn", "matmul"), ("mkldnn", "conv"), ("mkldnn", "rnn"),
    ("cuda", "matmul"), ("cudnn", "conv"), ("cudnn", "rnn"),
)  # fmt: skip
"""Backends and operations with their own setting of float32 precision in torch 2.9 and later."""


@contextmanager
def settings_kept() -> Iterator[None]:
    """Restores torch's float32 precision, the environment and the warning filters at the end of the block.

    For imports with side effects on the process: `import terratorch` (1.2.11) sets the float32 matmul precision to
    "medium" (bfloat16 products on processors with AMX, TF32 on GPUs), disables a cuDNN interface by an environment
    variable, and adds warning filters. If the module was imported before, there is nothing to restore.
    """
    import torch

    environment = dict(os.environ)
    found: list[Any] = [getattr(getattr(torch.backends, backend), operation, None) for backend, operation in _BACKENDS]
    apart = [(part, part.fp32_precision) for part in found if hasattr(part, "fp32_precision")]
    overall = _overall(apart)
    try:
        with warnings.catch_warnings():
            yield
    finally:
        # The overall precision comes first, since setting it also overwrites those of the backends.
        torch.set_float32_matmul_precision(overall)
        _set(apart)
        for key in os.environ.keys() - environment.keys():
            del os.environ[key]
        os.environ.update(environment)


def _overall(apart: Sequence[tuple[Any, str]]) -> str:
    """The overall precision. torch raises an error if backends differ from it, so they are unset while it is read."""
    import torch

    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        _set([(part, "none") for part, _ in apart])
        try:
            return torch.get_float32_matmul_precision()
        finally:
            _set(apart)


def _set(values: Sequence[tuple[Any, str]]) -> None:
    for part, value in values:
        part.fp32_precision = value
