"""Settings of the whole process: the caller's are preserved, or changed for a block alone."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from typing import Any

from threadpoolctl import ThreadpoolController

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


@dataclass
class _Holder:
    """The thread that holds BLAS at one thread, and how many blocks want that."""

    lock: Lock = field(default_factory=Lock)
    blocks: int = 0
    ended: Event = field(default_factory=Event)
    thread: Thread | None = None

    def hold(self, entered: Event) -> None:
        """Until the last block ends."""
        try:
            with ThreadpoolController().limit(limits=1, user_api="blas"):
                entered.set()
                self.ended.wait()
        finally:
            entered.set()  # whoever waits goes on without, if it cannot be set


_holder = _Holder()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """In the block NumPy's matrix products run in the thread that asks for them.

    For many small ones: OpenBLAS's threads wait for each other in busy loops, and beside any other work on the machine
    that takes several times the CPU time of the products. The setting is the whole process's. It is the caller's again
    when the last of the blocks ends that several threads may be in; one that the caller holds in a thread of its own
    (threadpoolctl 3.8 and later) stays as it is.
    """
    # Limits of several threads that overlap leave the process at one thread for good (threadpoolctl 3.5 to 3.8): each
    # puts back what it found. So one thread sets and restores it for all of them.
    with _holder.lock:
        if _holder.blocks == 0:
            entered = Event()
            _holder.ended = Event()
            _holder.thread = Thread(target=_holder.hold, args=(entered,), name="one BLAS thread", daemon=True)
            _holder.thread.start()
            entered.wait()
        _holder.blocks += 1
    try:
        yield
    finally:
        with _holder.lock:
            _holder.blocks -= 1
            if _holder.blocks == 0 and _holder.thread is not None:
                _holder.ended.set()
                _holder.thread.join()


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
