"""Bytes from the Hugging Face hub: one file at a time, through huggingface_hub's cache. Knows nothing of models.

The token, the cache folder, `HF_ENDPOINT` and `HF_HUB_OFFLINE` are huggingface_hub's own and work as everywhere.
"""

from __future__ import annotations

from pathlib import Path

from prithvi.errors import HubError


def fetch(repo_id: str, filename: str, revision: str | None = None, repo_type: str = "model") -> Path:
    """The local path of one file of a repository, downloaded (and resumed) if the cache lacks it.

    Args:
        repo_id: `owner/name`.
        filename: path inside the repository.
        revision: branch, tag or commit; None for the main branch.
        repo_type: `model` or `dataset`.

    Raises:
        HubError: no such repository or file, no permission, no network; the message says what would help.

    """
    from huggingface_hub import errors as hf
    from huggingface_hub import hf_hub_download

    where = f"{filename} of {repo_id}" + (f" at {revision}" if revision else "")
    try:
        return Path(hf_hub_download(repo_id, filename, revision=revision, repo_type=repo_type))
    except hf.EntryNotFoundError as error:
        if isinstance(error, hf.LocalEntryNotFoundError):
            raise HubError(
                f"{where} is not in the local cache and the hub cannot be reached: connect once, or give the path of "
                "a folder that holds the file."
            ) from error
        raise HubError(f"the hub has no {where}: see the files listed on the repository's page.") from error
    except hf.GatedRepoError as error:
        raise HubError(f"{where} is gated: accept its terms on the hub, then `hf auth login`.") from error
    except hf.RevisionNotFoundError as error:
        raise HubError(f"the hub knows no revision {revision!r} of {repo_id}.") from error
    except hf.RepositoryNotFoundError as error:
        raise HubError(f"the hub has no {repo_id}, or it is private: check the name, or `hf auth login`.") from error
    except hf.HFValidationError as error:
        raise HubError(f"{repo_id!r} is neither a local path nor a hub id (owner/name).") from error
    except (hf.HfHubHTTPError, OSError) as error:
        raise HubError(
            f"the hub could not serve {where} ({type(error).__name__}): try again, or use a local copy."
        ) from error
