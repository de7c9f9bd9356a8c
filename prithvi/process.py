"""What belongs to the whole process, kept as its owner has it while something of ours runs."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_BACKENDS = (
    ("mkldnn", "matmul"), ("mkldnn", "conv"), ("mkldnn", "rnn"),
    ("cuda", "matmul"), ("cudnn", "conv"), ("cudnn", "rnn"),
)  # fmt: skip
"""Where torch (2.9 and later) keeps the precision of float32 products, one setting each."""


@contextmanager
def settings_kept() -> Iterator[None]:
    """Puts torch's float32 precision, the environment and the warning filters back as they were.

    For imports that change them for the whole process: `import terratorch` (1.2.11) sets the float32 matmul precision
    to "medium" (bfloat16 products on processors with AMX, TF32 on GPUs), disables a cuDNN interface by an environment
    variable, and adds warning filters. Nothing is changed where the module was imported before.
    """
    import torch

    environment = dict(os.environ)
    apart = {name: value for name in _BACKENDS if (value := _precision(*name)) is not None}
    overall = _overall(apart)
    try:
        with warnings.catch_warnings():
            yield
    finally:
        # The value for all comes first: setting it writes those of the backends, too.
        torch.set_float32_matmul_precision(overall)
        _set(apart)
        for key in os.environ.keys() - environment.keys():
            del os.environ[key]
        os.environ.update(environment)


def _overall(apart: Mapping[tuple[str, str], str]) -> str:
    """The value for all backends, which torch names only while none of them contradicts it."""
    import torch

    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        _set(dict.fromkeys(apart, "none"))
        try:
            return torch.get_float32_matmul_precision()
        finally:
            _set(apart)


def _set(values: Mapping[tuple[str, str], str]) -> None:
    import torch

    for (backend, operation), value in values.items():
        getattr(getattr(torch.backends, backend), operation).fp32_precision = value


def _precision(backend: str, operation: str) -> str | None:
    """A backend's own setting; None where this torch has none."""
    import torch

    value: str | None = getattr(getattr(getattr(torch.backends, backend), operation, None), "fp32_precision", None)
    return value
