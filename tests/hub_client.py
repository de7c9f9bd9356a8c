"""Runs of `prithvi` in processes of their own, each with its own HF_ENDPOINT, cache, token and offline switch.

huggingface_hub reads those when it is imported. One process imports what takes seconds, but not huggingface_hub, and
forks for each run, which then imports it as any user's process does.

    python -m tests.hub_client      a run a line on standard input, its exit status on standard output
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prithvi.models import ModelConfig, PrithviMAE
    from prithvi.models.zoo import Variant
    from tests.conftest import Answer


@dataclass
class Client:
    """A machine with a cache of its own (`home`), in front of the hub at `endpoint`."""

    process: subprocess.Popen[str]
    endpoint: str
    home: Path

    def run(self, *arguments: object, code: str | None = None, **environment: str) -> Answer:
        """`prithvi ARGUMENTS`, or with `code` that Python with the arguments in sys.argv[1:]."""
        from tests.conftest import Answer  # which imports huggingface_hub

        self.home.mkdir(parents=True, exist_ok=True)
        settings = {"HF_ENDPOINT": self.endpoint, "HF_HOME": str(self.home), "HF_HUB_DISABLE_XET": "1", **environment}
        out, err = self.home / "out", self.home / "err"
        job = {"arguments": list(map(str, arguments)), "code": code, "environment": settings, "out": str(out)}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({**job, "err": str(err)}) + "\n")
        self.process.stdin.flush()
        return Answer(int(self.process.stdout.readline()), out.read_text(), err.read_text())


@contextmanager
def forking() -> Iterator[subprocess.Popen[str]]:
    """The process that forks, until the context ends."""
    settings = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    settings["OMP_NUM_THREADS"] = "1"
    with subprocess.Popen(
        [sys.executable, "-m", "tests.hub_client"], env=settings, text=True, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, cwd=Path(__file__).parents[1],
    ) as process:  # fmt: skip
        yield process
        assert process.stdin is not None
        process.stdin.close()


def small(variant: Variant) -> ModelConfig:
    """A published shape with small numbers in it."""
    side = 4 * variant.config.patch_size[1]
    sizes = {"embed_dim": 32, "depth": 2, "num_heads": 2, "decoder_embed_dim": 32, "decoder_depth": 1}
    return dataclasses.replace(variant.config, img_size=(side, side), decoder_num_heads=2, **sizes)


def total(model: PrithviMAE) -> float:
    return sum(float(value.double().sum()) for value in model.state_dict().values())


def main() -> None:
    import prithvi.catalog.stac_catalog
    import prithvi.cli
    import prithvi.mapping
    import prithvi.modelio  # noqa: F401

    assert "huggingface_hub" not in sys.modules
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if not child:
            os._exit(_run(job))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)  # noqa: T201


def _run(job: dict[str, Any]) -> int:
    for number, path in ((1, job["out"]), (2, job["err"])):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
    os.environ.update(job["environment"])
    sys.argv = ["prithvi", *job["arguments"]]
    try:
        if job["code"] is None:
            from prithvi.cli import main as prithvi

            prithvi()
        else:
            exec(job["code"], {"__name__": "__main__"})
    except SystemExit as stop:
        return int(stop.code or 0)
    except BaseException:  # noqa: BLE001  # as Python itself would
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


if __name__ == "__main__":
    main()
