"""Bytes from and to the Hugging Face hub, through huggingface_hub's cache. Knows nothing of models.

The token, the cache folder, `HF_ENDPOINT` and `HF_HUB_OFFLINE` are huggingface_hub's own and work as everywhere.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from prithvi.errors import HubError
from prithvi.files import sha256_once

_ID = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w.-]+)(@(?P<revision>[\w./-]+))?")


def split_id(source: str) -> tuple[str, str | None] | None:
    """`owner/name` or `owner/name@revision` as repository and revision; None for what cannot be a hub id."""
    found = _ID.fullmatch(source)
    return (found["repo"], found["revision"]) if found else None


def fetch(
    repo_id: str, filename: str, revision: str | None = None, repo_type: str = "model", sha256: str | None = None
) -> Path:
    """The local path of one file of a repository, downloaded if the cache lacks it, and verified.

    A connection that breaks is taken up again where it broke. A large file is compared with the SHA-256 by which the
    hub keeps it, each time; one that differs is removed from the cache.

    Args:
        repo_id: `owner/name`.
        filename: path inside the repository.
        revision: branch, tag or commit; None for the main branch.
        repo_type: `model` or `dataset`.
        sha256: what the file must be, where that is known from elsewhere.

    Raises:
        HubError: no such repository or file, no permission, no network, or another file than the one that is known;
            the message says what would help.

    """
    from huggingface_hub import hf_hub_download

    where = f"{filename} of {repo_id}" + (f" at {revision}" if revision else "")
    with _one_sentence(where, repo_id, revision, repo_type):
        path = Path(hf_hub_download(repo_id, filename, revision=revision, repo_type=repo_type))
    _verify(path, sha256, where)
    return path


def is_cached(repo_id: str, filename: str) -> bool:
    """Whether the cache holds a file of a model repository's main branch."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(repo_id, filename), str)


def push(
    repo_id: str, files: Mapping[str, Path | bytes], message: str, private: bool = False, revision: str | None = None
) -> str:
    """Puts files into a model repository in one commit, and says where it can be seen.

    Args:
        repo_id: `owner/name`; made if it is not there.
        files: name in the repository to a local file or to the bytes themselves.
        message: of the commit.
        private: whether a repository that is made is private; one that is there stays as it is.
        revision: the branch, made from the main one if it is not there; None for the main branch.

    Raises:
        HubError: no token or no permission, no network, or the hub does not accept a file.

    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi()
    with _one_sentence(f"the files for {repo_id}", repo_id, revision, "model", writing=True):
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        added = [CommitOperationAdd(name, content) for name, content in files.items()]
        try:
            return str(api.create_commit(repo_id, added, commit_message=message, revision=revision).commit_url)
        except ValueError as error:  # how huggingface_hub hands on what the hub's check of the card says
            if not str(error).startswith("Invalid metadata"):
                raise
            told = " ".join(str(error).split())
            raise HubError(f"the hub does not accept the card of {repo_id}: {told}.") from error


@contextlib.contextmanager
def _one_sentence(
    where: str, repo_id: str, revision: str | None, repo_type: str, writing: bool = False
) -> Iterator[None]:
    """Turns what huggingface_hub raises into a HubError with the way out."""
    from huggingface_hub import errors as hf
    from huggingface_hub import get_token

    try:
        yield
    except HubError:
        raise
    except hf.EntryNotFoundError as error:
        if isinstance(error, hf.LocalEntryNotFoundError):
            raise HubError(
                f"{where} is not in the local cache and the hub cannot be reached: connect once, or give the path of "
                "a folder that holds the file."
            ) from error
        raise HubError(
            f"the hub has no {where}{_held(repo_id, revision, repo_type)}: `hf download {repo_id} FILE` fetches "
            "another one, whose path can be given."
        ) from error
    except hf.GatedRepoError as error:
        raise HubError(f"{where} is gated: accept its terms on the hub, then `hf auth login`.") from error
    except hf.RevisionNotFoundError as error:
        raise HubError(
            f"the hub knows no revision {revision!r} of {repo_id}: leave it out, or see its page."
        ) from error
    except hf.RepositoryNotFoundError as error:
        raise HubError(f"the hub has no {repo_id}, or it is private: check the name, or `hf auth login`.") from error
    except hf.HFValidationError as error:
        raise HubError(f"{repo_id!r} is neither a local path nor a hub id (owner/name).") from error
    except hf.OfflineModeIsEnabled as error:
        raise HubError(f"HF_HUB_OFFLINE is set, and {where} cannot be sent: unset it.") from error
    except (hf.HTTPError, OSError) as error:  # type: ignore[attr-defined]  # of whatever it sends requests with
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status == 401 and writing and get_token() is None:
            raise HubError(f"the hub wants a token to write to {repo_id}: `hf auth login`, or set HF_TOKEN.") from error
        if status in (401, 403):
            raise HubError(
                f"the hub's answer for {where} is that the token may not do this ({status}): `hf auth login` with one "
                f"that may {'write' if writing else 'read'}."
            ) from error
        verb = "take" if writing else "serve"
        raise HubError(
            f"the hub could not {verb} {where} ({status or type(error).__name__}): try again, or use a local copy."
        ) from error


def _held(repo_id: str, revision: str | None, repo_type: str) -> str:
    """The files of a repository, for the message that one is missing; empty where the hub does not tell."""
    from huggingface_hub import HfApi
    from huggingface_hub import errors as hf

    try:
        found = HfApi().list_repo_files(repo_id, revision=revision, repo_type=repo_type)
    except (hf.HTTPError, OSError):  # type: ignore[attr-defined]
        return ""
    names = [name for name in found if not name.startswith(".")]
    return f" (renamed?); it holds {', '.join(names[:12]) or 'nothing'}"


def _verify(path: Path, known: str | None, where: str) -> None:
    """Compares a file with the SHA-256 that is known, and with the one by which the hub (and so the cache) names it."""
    blob = path.resolve()
    told = blob.name if re.fullmatch(r"[0-9a-f]{64}", blob.name) else None
    if known is None and told is None:
        return
    found = sha256_once(blob)
    for expected, whose in ((told, "the hub names"), (known, "its record names")):
        if expected not in (None, found):
            path.unlink(missing_ok=True)
            blob.unlink(missing_ok=True)
            raise HubError(
                f"{where} has the SHA-256 {found}, and {whose} {expected}: it was removed from the cache; fetch it "
                "again, and if that does not help, ask its owner or name another revision."
            )
