"""Models from and to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from prithvi import hub
from prithvi.errors import CheckpointError, ConfigError, HubError, ModelError, nearest
from prithvi.files import dumps, read_json
from prithvi.modelio.card import Figures, with_index, with_licence, with_metadata, with_results
from prithvi.modelio.loader import load, on_disk, published, revised
from prithvi.modelio.model_files import WEIGHTS
from prithvi.models.zoo import VARIANTS


def pull(source: str, revision: str | None = None) -> Path:
    """Fetches a model by name or hub id into the cache; its weights file or its folder.

    Raises:
        ModelError: no such name, or no weights of it are published.
        HubError: see `prithvi.hub.fetch`.

    """
    path, known = on_disk(source, revision, whole=True), published(revised(source, revision)[0])
    return _whole(path) if known is None else path if path.is_file() else path / WEIGHTS


def push(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    figures: Figures | None = None,
    dataset: str | None = None,
    licence: str | None = None,
) -> str:
    """Uploads a model folder in one commit: weights, config, card, STAC item and figures, and nothing else in it.

    Args:
        folder: a folder that `prithvi fit` wrote.
        repo_id: `owner/name`; made if it is not there.
        private: whether a repository that is made is private.
        revision: the branch; None for the main one.
        figures: what was measured (see `prithvi.modelio.card.read_figures`), added to those in metrics.json and told in
            the card.
        dataset: what the figures were measured on, for the hub's list of results.
        licence: of the weights, by the hub's name for it (apache-2.0).

    Returns:
        The commit's page.

    Raises:
        CheckpointError, ConfigError: the folder holds no whole model.
        HubError: see `prithvi.hub.push`.

    """
    folder = _whole(Path(folder))
    if hub.split_id(repo_id) is None or "@" in repo_id:
        raise HubError(f"{repo_id!r} is no hub id: say owner/name.")
    if dataset and not figures:
        raise ConfigError(f"{dataset!r} has no results: give the figures that were measured on it.")
    names = ("config.json", WEIGHTS, "item.json", "README.md", "metrics.json")
    files: dict[str, Path | bytes] = {name: folder / name for name in names if (folder / name).is_file()}
    if WEIGHTS not in files:
        raise CheckpointError(f"there is no weights file {folder / WEIGHTS}.")
    plain = read_json(folder / "config.json")
    card = (folder / "README.md").read_text(encoding="utf-8") if "README.md" in files else ""
    measured = read_json(folder / "metrics.json") if "metrics.json" in files else {}
    if figures:
        measured = {**measured, **figures}
        card = with_results(card, measured)
    if figures and dataset:
        card = with_index(card, repo_id.partition("/")[2], figures, dataset)
    if licence:
        card = with_licence(card, licence)
    files["README.md"] = with_metadata(card, {}).encode()
    if measured:
        files["metrics.json"] = (dumps(measured, indent=2) + "\n").encode()
    return hub.push(repo_id, files, f"{plain['architecture']} by prithvi", private, revision)


def _whole(path: Path) -> Path:
    """A model's folder that can be opened; loads it to know."""
    if not path.is_dir():
        raise ModelError(f"there is no model, file, folder or hub id {str(path)!r}: {nearest(str(path), VARIANTS)}")
    load(path)
    return path
