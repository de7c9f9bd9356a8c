"""Checkpoints of a training, whole under their names or not there."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from prithvi.errors import CheckpointError, PrithviError, first_line
from prithvi.files import atomic_file


class WholeCheckpoints(TorchCheckpointIO):
    """Writes checkpoints beside their names and renames them, and says in a sentence what is wrong with one.

    Lightning's own writer (2.6) makes them in the system's folder for temporary files; where that is another file
    system, they are then copied to their names piece by piece, and a kill or a full disk leaves half of one there.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """See `TorchCheckpointIO`; a path with a protocol (s3://...) is written as Lightning does.

        Raises:
            OutputError: the file cannot be written; an older one of that name is as it was.

        """
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        content = io.BytesIO()
        torch.save(checkpoint, content)
        with atomic_file(path) as written, written.open("wb") as file:
            file.write(content.getbuffer())

    def load_checkpoint(self, path: str | Path, *more: Any, **options: Any) -> dict[str, Any]:
        """See `TorchCheckpointIO`.

        Raises:
            CheckpointError: the file is damaged or cut short.

        """
        try:
            return dict(super().load_checkpoint(path, *more, **options))
        except PrithviError:
            raise
        except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, LookupError) as error:
            raise CheckpointError(
                f"{path} is no whole checkpoint ({first_line(error)}): go on from another, or begin anew."
            ) from error
