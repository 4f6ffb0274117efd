"""A single commit on the Hub that holds the whole dataset: all of it on a known parent, or none.

Before anything is sent, the files on the Hub are compared with ours. Equal files are not sent, and if all are equal
nothing is committed. So a commit whose answer was lost is recognised by its files.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from cfbuild.errors import ConfigError, PublishError
from cfbuild.option import REQUIRED, option
from cfbuild.publish.stage import StagedFile

HubAnswer = TypeVar("HubAnswer")

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}\Z", re.ASCII)
OURS = "data/"
"""The folder in which other files than ours are deleted: an old shard there would be read as data."""
ATTEMPTS = 5
WAIT_S = 1.0
"""Seconds before the second attempt; twice as long before each further attempt."""
LONGEST_WAIT_S = 60.0
PULL_REQUESTS = 20
"""The number of newest pull requests that are searched for the same files."""
RETRIED = frozenset({408, 409, 412, 429, 500, 502, 503, 504})
"""HTTP statuses after which a new attempt may help; 412 means that the branch has moved."""


@dataclass(frozen=True, slots=True)
class Destination:
    """The place to publish to. Raises ConfigError unless the repository is OWNER/NAME and the options go together."""

    repository: str = option(REQUIRED, "The name of the dataset on the Hub.", metavar="OWNER/NAME")
    private: bool = option(False, "If the repository is new, make it private.")
    create_pr: bool = option(False, "Open a pull request instead of committing to the branch.")
    revision: str = option("main", "The branch to commit to, which is made if it does not exist.")
    tag: str | None = option(None, "Set this tag on the commit. [default: no tag]")

    def __post_init__(self) -> None:
        if not REPOSITORY.match(self.repository):
            raise ConfigError(f"{self.repository!r} is not the name of a repository; expected OWNER/NAME")
        if self.create_pr and (self.tag or self.revision != "main"):
            raise ConfigError("--create-pr asks for a change of main: it goes with neither --revision nor --tag")


@dataclass(frozen=True, slots=True)
class Published:
    """The commit that holds the dataset, and the URL of the commit or of its pull request.

    `changed` is true if this run made the commit, `sent` the number of files that it added or deleted.
    """

    commit: str
    changed: bool
    url: str
    sent: int = 0


class Hub:
    """A repository on the configured Hub ($HF_ENDPOINT), with the token of the environment or the login store.

    Raises PublishError if there is no token.
    """

    def __init__(self, destination: Destination) -> None:
        from huggingface_hub import HfApi, get_token

        self._destination = destination
        self._token = get_token()
        if not self._token:
            raise PublishError("there is no token for the Hub; set HF_TOKEN, or log in with `hf auth login`")
        self._api = HfApi(token=self._token, library_name="cfbuild")

    def publish(self, files: Sequence[StagedFile], message: str) -> Published:
        """Return the commit that holds `files`, made unless it is there; the destination's tag is set on it.

        message: of a new commit. Raises PublishError if the Hub refuses or fails; the same call continues later.
        """
        self._retry(self._make_repository)
        seen: list[dict[str, str]] = []
        published = self._retry(lambda: self._try_commit(files, message, seen))
        if self._destination.tag:
            self._retry(lambda: self._set_tag(published.commit))
        return published

    def _retry(self, action: Callable[[], HubAnswer]) -> HubAnswer:
        """Return the result of `action`, tried again after faults that may pass.

        Raises PublishError for any other fault, or after ATTEMPTS faults.
        """
        fault = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(min(LONGEST_WAIT_S, WAIT_S * 2 ** (attempt - 1)))
            try:
                return action()
            except _client_errors() as error:
                fault = self._passing_fault(error)
        raise PublishError(
            f"publishing to {self._destination.repository} failed {ATTEMPTS} times, last because {fault}; nothing is "
            "half published: run the same command again later"
        )

    def _make_repository(self) -> None:
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

        name, branch, private = self._destination.repository, self._destination.revision, self._destination.private
        try:
            info = self._api.repo_info(name, repo_type="dataset")
        except RepositoryNotFoundError:
            self._api.create_repo(name, repo_type="dataset", private=private or None, exist_ok=True)
        else:
            if private and not info.private:
                raise PublishError(f"{name} exists and is public; make it private on the Hub, or leave out --private")
        try:
            self._api.repo_info(name, repo_type="dataset", revision=branch)
        except RevisionNotFoundError:
            self._api.create_branch(name, repo_type="dataset", branch=branch, exist_ok=True)

    def _try_commit(self, files: Sequence[StagedFile], message: str, seen: list[dict[str, str]]) -> Published:
        """Return the commit that holds `files`, made now unless the Hub has the same files.

        seen: the digests of the Hub's files at each earlier try, to which this one's are added.
        """
        head, digests = self._read(self._destination.revision)
        operations = _operations(files, digests)
        if not operations:
            return Published(head, bool(seen), self._url(f"commit/{head}"))
        if self._destination.create_pr and (opened := self._open_request(files)):
            return Published(opened[1], bool(seen), self._url(f"discussions/{opened[0]}"))
        if seen:
            self._refuse_others_work(seen[-1], digests, files)
        seen.append(digests)
        made = self._api.create_commit(
            self._destination.repository,
            operations,
            commit_message=message,
            repo_type="dataset",
            revision=self._destination.revision,
            parent_commit=head,
            create_pr=self._destination.create_pr,
        )
        return Published(made.oid, True, made.pr_url or self._url(f"commit/{made.oid}"), len(operations))

    def _open_request(self, files: Sequence[StagedFile]) -> tuple[str, str] | None:
        """Return the number and the commit of a pull request that holds these files already; None if there is none."""
        refs = self._api.list_repo_refs(self._destination.repository, repo_type="dataset", include_pull_requests=True)
        for ref in list(refs.pull_requests or ())[-PULL_REQUESTS:]:
            if not _operations(files, self._read(ref.ref)[1]):
                return ref.ref.rsplit("/", 1)[1], ref.target_commit
        return None

    def _read(self, revision: str) -> tuple[str, dict[str, str]]:
        """Return the commit of a revision, and the digest of each file by path: sha256 if in LFS, else git's."""
        from huggingface_hub.hf_api import RepoFile

        name = self._destination.repository
        head = self._api.repo_info(name, repo_type="dataset", revision=revision).sha
        tree = self._api.list_repo_tree(name, repo_type="dataset", revision=head, recursive=True)
        files = [entry for entry in tree if isinstance(entry, RepoFile)]
        return head, {file.path: file.lfs.sha256 if file.lfs else file.blob_id for file in files}

    def _refuse_others_work(self, before: dict[str, str], now: dict[str, str], files: Sequence[StagedFile]) -> None:
        """Raise PublishError if, since the last try, somebody else changed a file that we would overwrite or delete."""
        paths = {file.path for file in files} | {path for path in (*before, *now) if path.startswith(OURS)}
        changed = sorted(path for path in paths if before.get(path) != now.get(path))
        if changed:
            raise PublishError(
                f"somebody else changed {', '.join(changed[:5])} in {self._destination.repository} at the same time; "
                "look at that commit, then run the same command again to put this build on top"
            )

    def _set_tag(self, commit: str) -> None:
        """Set the tag on the commit. Raises PublishError if the tag is on another commit: tags do not move."""
        name, tag = self._destination.repository, self._destination.tag
        refs = self._api.list_repo_refs(name, repo_type="dataset")
        tagged = {ref.name: ref.target_commit for ref in refs.tags}.get(tag)
        if tagged is None:
            self._api.create_tag(name, tag=tag, revision=commit, repo_type="dataset")
        elif tagged != commit:
            raise PublishError(f"{name} has a tag {tag} already, at {tagged[:12]}; choose another --tag")

    def _passing_fault(self, error: Exception) -> str:
        """Return the text of an error after which a new attempt may help. Raises PublishError for any other error."""
        from huggingface_hub.errors import HfHubHTTPError

        # Uploads raise their own error, whose cause is the fault.
        if isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):
            error = error.__cause__
        text = " ".join(str(error).split()) or type(error).__name__
        fault = text.replace(str(self._token), "***")
        refused = isinstance(error, ValueError)
        if isinstance(error, HfHubHTTPError):
            refused = error.response.status_code not in RETRIED
        if refused:
            # from None: the client's exceptions carry the request, and the request carries the token.
            raise PublishError(f"the Hub did not take {self._destination.repository}: {fault}") from None
        return fault

    def _url(self, place: str) -> str:
        return f"{self._api.endpoint}/datasets/{self._destination.repository}/{place}"


def _operations(files: Sequence[StagedFile], digests: dict[str, str]) -> list[Any]:
    """Return the operations that turn the Hub's files, given by the digests of their paths, into ours.

    Files that differ are added; files that would be read as our data are deleted.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    paths = {file.path for file in files}
    stale = sorted(path for path in digests if path.startswith(OURS) and path not in paths)
    changed = [file for file in files if digests.get(file.path) not in (file.sha256, _git_digest(file))]
    return [
        *(CommitOperationAdd(file.path, str(file.source)) for file in changed),
        *(CommitOperationDelete(path) for path in stale),
    ]


def _git_digest(file: StagedFile) -> str:
    digest = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    with file.source.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _client_errors() -> tuple[type[Exception], ...]:
    """Return the types of the client's errors: its own and its HTTP library's, of uploads, and of wrong answers."""
    from huggingface_hub.errors import HfHubHTTPError

    return (*(base for base in HfHubHTTPError.__bases__ if base is not OSError), OSError, RuntimeError, ValueError)
