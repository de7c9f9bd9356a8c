"""A batch predicted a few windows at a time, on as many threads as torch would use for all of it together.

Few windows fit a core's caches, hold little memory, and on a thread of their own wait for nobody in the midst of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

import torch

FEW = 2
"""Windows that a thread predicts together."""


class WindowThreads:
    """Context manager; call it with a function and the batch that it takes.

    Meanwhile torch uses one thread where this is entered: what is done between batches would only get in their way.

    Args:
        batch_size: windows that are handed over at once.

    """

    def __init__(self, batch_size: int) -> None:
        self.threads = torch.get_num_threads()
        workers = max(1, min(self.threads, batch_size // FEW))
        self.pool = ThreadPoolExecutor(workers, "windows", torch.set_num_threads, (self.threads // workers,))

    def __enter__(self) -> Self:
        torch.set_num_threads(1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(self.threads)

    def __call__(self, function: Callable[..., torch.Tensor], *batch: torch.Tensor | None) -> Iterator[torch.Tensor]:
        """The answers one by one, in order; None among the tensors stays None."""
        size = next(len(values) for values in batch if values is not None)
        parts = [slice(first, first + FEW) for first in range(0, size, FEW)]
        each = [[values[part] if values is not None else None for values in batch] for part in parts]
        for answers in self.pool.map(lambda values: function(*values), each):
            yield from answers
