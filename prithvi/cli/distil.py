"""`prithvi distil`: a small encoder learns the features of a larger one."""

from __future__ import annotations

from typing import Annotated

import typer

CONFIG = "distil_tiny"
"""The configuration where none is given."""


def distil(
    context: typer.Context,
    teacher: Annotated[
        str, typer.Argument(help="A name of 'prithvi models list', a folder, a weights file, or OWNER/NAME[@REVISION].")
    ],
) -> None:
    """Teaches a model of ours the features of a larger one: prithvi distil TEACHER --data.stores '[chips.zarr]'

    All other options are those of 'prithvi fit': -c FILE (default configs/distil_tiny.yaml), --model.model,
    --model.model_options, --trainer.max_steps, --ckpt_path to go on with a run.
    """
    from prithvi.cli.lightning import run
    from prithvi.cli.settings import config_files

    given = list(context.args)
    named = bool(config_files(given)) or any(word.startswith(("--config=", "-c=")) for word in given)
    run("fit", [*([] if named else ["-c", CONFIG]), *given, "--model.teacher", teacher])
