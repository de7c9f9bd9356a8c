"""Files from and to the Hugging Face hub, with the cache of huggingface_hub; independent of models.

Token, cache folder, `HF_ENDPOINT` and `HF_HUB_OFFLINE` are those of huggingface_hub and work as usual.
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
    """Splits `owner/name` or `owner/name@revision` into repository and revision; None if it is not a hub id."""
    found = _ID.fullmatch(source)
    return (found["repo"], found["revision"]) if found else None


def fetch(
    repo_id: str, filename: str, revision: str | None = None, repo_type: str = "model", sha256: str | None = None
) -> Path:
    """The local path of a file of a repository, downloaded if it is not cached, and verified.

    Interrupted downloads are resumed. Large files, which the hub identifies by their SHA-256, are checked against it
    every time; a file that differs is removed from the cache.

    Args:
        repo_id: `owner/name`.
        filename: path inside the repository.
        revision: branch, tag or commit; None for the main branch.
        repo_type: `model` or `dataset`.
        sha256: expected SHA-256, if known from another source.

    Raises:
        HubError: the repository or file does not exist, access is denied, there is no network, or the SHA-256 differs;
            the message says what to do.

    """
    from huggingface_hub import hf_hub_download

    where = f"{filename} of {repo_id}" + (f" at {revision}" if revision else "")
    with _one_sentence(where, repo_id, revision, repo_type):
        path = Path(hf_hub_download(repo_id, filename, revision=revision, repo_type=repo_type))
    _verify(path, sha256, where)
    return path


def is_cached(repo_id: str, filename: str) -> bool:
    """Whether a file of the main branch of a model repository is in the local cache."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(repo_id, filename), str)


def lacks(repo_id: str, filename: str, revision: str | None, error: HubError) -> bool:
    """Whether an error of `fetch` is that a model repository has no such file, and not that it could not be asked."""
    from huggingface_hub import errors as hf

    if isinstance(error.__cause__, hf.EntryNotFoundError):
        if not isinstance(error.__cause__, hf.LocalEntryNotFoundError):
            return True
        return known_absent(repo_id, filename, revision)  # as it was last time
    return False


def known_absent(repo_id: str, filename: str, revision: str | None) -> bool:
    """Whether a model repository was found to have no such file at this revision; of a commit that stays so."""
    from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache

    return try_to_load_from_cache(repo_id, filename, revision=revision) is _CACHED_NO_EXIST


def push(
    repo_id: str, files: Mapping[str, Path | bytes], message: str, private: bool = False, revision: str | None = None
) -> str:
    """Uploads files to a model repository in one commit, and returns the URL of the commit.

    Args:
        repo_id: `owner/name`; created if it does not exist.
        files: local files or contents, by name in the repository.
        message: commit message.
        private: whether a newly created repository is private; an existing one is not changed.
        revision: branch, created from the main branch if it does not exist; None for the main branch.

    Raises:
        HubError: there is no token, permission or network, or the hub rejects a file.

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
        except ValueError as error:  # huggingface_hub's exception if the hub rejects the model card
            if not str(error).startswith("Invalid metadata"):
                raise
            told = " ".join(str(error).split())
            raise HubError(f"the hub does not accept the card of {repo_id}: {told}.") from error


@contextlib.contextmanager
def _one_sentence(
    where: str, repo_id: str, revision: str | None, repo_type: str, writing: bool = False
) -> Iterator[None]:
    """Converts exceptions of huggingface_hub to a HubError that says what to do."""
    from huggingface_hub import errors as hf
    from huggingface_hub import get_token

    sentences = {
        hf.LocalEntryNotFoundError: f"{where} is not in the local cache and the hub cannot be reached: connect once, "
        "or give the path of a folder that holds the file.",
        hf.GatedRepoError: f"{where} is gated: accept its terms on the hub, then `hf auth login`.",
        hf.RevisionNotFoundError: f"the hub knows no revision {revision!r} of {repo_id}: leave it out, or see its "
        "page.",
        hf.RepositoryNotFoundError: f"the hub has no {repo_id}, or it is private: check the name, or `hf auth login`.",
        hf.HFValidationError: f"{repo_id!r} is neither a local path nor a hub id (owner/name).",
        hf.OfflineModeIsEnabled: f"HF_HUB_OFFLINE is set, and {where} cannot be sent: unset it.",
    }
    try:
        yield
    except HubError:
        raise
    # hf.HTTPError is that of the HTTP library that it uses.
    except (hf.EntryNotFoundError, hf.HFValidationError, hf.HTTPError, OSError, RuntimeError) as wrapped:  # type: ignore[attr-defined]
        error: BaseException = wrapped
        if isinstance(wrapped, RuntimeError):  # an upload that failed, for a reason that stands behind it
            if not isinstance(wrapped.__cause__, (hf.HTTPError, OSError)):  # type: ignore[attr-defined]
                raise
            error = wrapped.__cause__
        status = getattr(getattr(error, "response", None), "status_code", None)
        told = next((sentence for kind, sentence in sentences.items() if isinstance(error, kind)), None)
        if told is None and isinstance(error, hf.EntryNotFoundError):
            told = (
                f"the hub has no {where}{_held(repo_id, revision, repo_type)}: `hf download {repo_id} FILE` fetches "
                "another one, whose path can be given."
            )
        elif told is None and status == 401 and writing and get_token() is None:
            told = f"the hub wants a token to write to {repo_id}: `hf auth login`, or set HF_TOKEN."
        elif told is None and status in (401, 403):
            told = (
                f"the hub's answer for {where} is that the token may not do this ({status}): `hf auth login` with one "
                f"that may {'write' if writing else 'read'}."
            )
        elif told is None:
            verb, cause = "take" if writing else "serve", status or type(error).__name__
            told = f"the hub could not {verb} {where} ({cause}): try again, or use a local copy."
        raise HubError(told) from wrapped


def _held(repo_id: str, revision: str | None, repo_type: str) -> str:
    """The files of a repository, for the error message about a missing one; empty if the hub does not list them."""
    from huggingface_hub import HfApi
    from huggingface_hub import errors as hf

    try:
        found = HfApi().list_repo_files(repo_id, revision=revision, repo_type=repo_type)
    except (hf.HTTPError, OSError):  # type: ignore[attr-defined]
        return ""
    names = [name for name in found if not name.startswith(".")]
    return f" (renamed?); it holds {', '.join(names[:12]) or 'nothing'}"


def _verify(path: Path, known: str | None, where: str) -> None:
    """Compares the SHA-256 of a cached file with the known one and with that of the hub, and removes a wrong file."""
    # The cache stores a file under the hub's identifier, which is the SHA-256 of large files (and a git hash of small
    # ones, which is not checked).
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
