"""One commit on the Hub that holds the whole dataset: from a known parent, or not at all.

Before anything is sent, the files there are compared with ours; what is the same is not sent, and if all is the same
nothing is committed. That is also how a commit whose answer was lost is recognised: the files are there.
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
"""Where no file but ours may lie: an old shard left there would be read as data."""
ATTEMPTS = 5
WAIT_S = 1.0
"""Seconds before the second attempt; twice as long before each further one."""
LONGEST_WAIT_S = 60.0
PULL_REQUESTS = 20
"""The newest pull requests, among which one with the same files is looked for."""
AGAIN = frozenset({408, 409, 412, 429, 500, 502, 503, 504})
"""Answers after which looking again and trying again may help; 412 says that the branch has moved."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where to publish. Raises ConfigError unless the repository is OWNER/NAME and the options go together."""

    repository: str = option(REQUIRED, "The dataset's name on the Hub.", metavar="OWNER/NAME")
    private: bool = option(False, "Make the repository private if it is new.")
    create_pr: bool = option(False, "Open a pull request instead.")
    revision: str = option("main", "The branch to commit to; made if it is not there.")
    tag: str | None = option(None, "A tag to set on the commit.")

    def __post_init__(self) -> None:
        if not REPOSITORY.match(self.repository):
            raise ConfigError(f"{self.repository!r} is not the name of a repository; expected OWNER/NAME")
        if self.create_pr and (self.tag or self.revision != "main"):
            raise ConfigError("--create-pr asks for a change of main: it goes with neither --revision nor --tag")


@dataclass(frozen=True, slots=True)
class Published:
    """What came of it: the commit that holds the dataset, whether it is new, and the pull request's URL if any."""

    commit: str
    changed: bool
    url: str
    sent: int = 0


class Hub:
    """A repository on the configured Hub ($HF_ENDPOINT), with the token of the environment or the login store.

    Raises PublishError where there is no token.
    """

    def __init__(self, where: Destination) -> None:
        from huggingface_hub import HfApi, get_token

        self._where = where
        self._token = get_token()
        if not self._token:
            raise PublishError("there is no token for the Hub; set HF_TOKEN, or log in with `hf auth login`")
        self._api = HfApi(token=self._token, library_name="cfbuild")

    def publish(self, files: Sequence[StagedFile], message: str) -> Published:
        """Make the repository hold `files`, in one commit; set the tag. Raises PublishError if the Hub does not do it,
        after which running it again goes on from whatever state that left."""
        self._persist(self._make_repository)
        seen: list[dict[str, str]] = []
        published = self._persist(lambda: self._try_commit(files, message, seen))
        if self._where.tag:
            self._persist(lambda: self._set_tag(published.commit))
        return published

    def _persist(self, action: Callable[[], HubAnswer]) -> HubAnswer:
        """What `action` gives, tried again after faults that may pass. Raises PublishError for any other fault."""
        fault = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(min(LONGEST_WAIT_S, WAIT_S * 2 ** (attempt - 1)))
            try:
                return action()
            except _client_faults() as error:
                fault = self._passing(error)
        raise PublishError(
            f"publishing to {self._where.repository} failed {ATTEMPTS} times, last because {fault}; nothing is half "
            "published: run the same command again later"
        )

    def _make_repository(self) -> None:
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

        where = self._where
        try:
            info = self._api.repo_info(where.repository, repo_type="dataset")
        except RepositoryNotFoundError:
            self._api.create_repo(where.repository, repo_type="dataset", private=where.private or None, exist_ok=True)
        else:
            if where.private and not info.private:
                raise PublishError(
                    f"{where.repository} exists and is public; make it private on the Hub, or leave out --private"
                )
        try:
            self._api.repo_info(where.repository, repo_type="dataset", revision=where.revision)
        except RevisionNotFoundError:
            self._api.create_branch(where.repository, repo_type="dataset", branch=where.revision, exist_ok=True)

    def _try_commit(self, files: Sequence[StagedFile], message: str, seen: list[dict[str, str]]) -> Published:
        """Compare and commit; `seen` is what lay there at each try, so the last try's lost success is recognised."""
        head, there = self._look(self._where.revision)
        operations = _operations(files, there)
        if not operations:
            return Published(head, bool(seen), self._url(f"commit/{head}"))
        if self._where.create_pr and (opened := self._open_request(files)):
            return Published(opened[1], bool(seen), self._url(f"discussions/{opened[0]}"))
        if seen:
            self._refuse_others_work(seen[-1], there, files)
        seen.append(there)
        return self._send(operations, message, head)

    def _open_request(self, files: Sequence[StagedFile]) -> tuple[str, str] | None:
        """Number and commit of a pull request that already holds these files."""
        refs = self._api.list_repo_refs(self._where.repository, repo_type="dataset", include_pull_requests=True)
        for ref in list(refs.pull_requests or ())[-PULL_REQUESTS:]:
            if not _operations(files, self._look(ref.ref)[1]):
                return ref.ref.rsplit("/", 1)[1], ref.target_commit
        return None

    def _send(self, operations: list[Any], message: str, parent: str) -> Published:
        where = self._where
        made = self._api.create_commit(
            where.repository,
            operations,
            commit_message=message,
            repo_type="dataset",
            revision=where.revision,
            parent_commit=parent,
            create_pr=where.create_pr,
        )
        return Published(made.oid, True, made.pr_url or self._url(f"commit/{made.oid}"), len(operations))

    def _look(self, revision: str) -> tuple[str, dict[str, str]]:
        """The commit a revision is at, and what each file there is: its sha256 or git's name for its bytes."""
        from huggingface_hub.hf_api import RepoFile

        name = self._where.repository
        head = self._api.repo_info(name, repo_type="dataset", revision=revision).sha
        tree = self._api.list_repo_tree(name, repo_type="dataset", revision=head, recursive=True)
        files = [one for one in tree if isinstance(one, RepoFile)]
        return head, {one.path: one.lfs.sha256 if one.lfs else one.blob_id for one in files}

    def _refuse_others_work(self, before: dict[str, str], now: dict[str, str], files: Sequence[StagedFile]) -> None:
        """Raise PublishError if, while this ran, somebody else changed a file that we would overwrite."""
        names = {one.path for one in files} | {path for path in (*before, *now) if path.startswith(OURS)}
        changed = sorted(path for path in names if before.get(path) != now.get(path))
        if changed:
            raise PublishError(
                f"somebody else changed {', '.join(changed[:5])} in {self._where.repository} at the same time; "
                "look at that commit, then run the same command again to put this build on top"
            )

    def _set_tag(self, commit: str) -> None:
        """Let the tag name the commit. Raises PublishError if it names another one already: tags do not move."""
        name, tag = self._where.repository, self._where.tag
        refs = self._api.list_repo_refs(name, repo_type="dataset")
        there = {one.name: one.target_commit for one in refs.tags}.get(tag)
        if there is None:
            self._api.create_tag(name, tag=tag, revision=commit, repo_type="dataset")
        elif there != commit:
            raise PublishError(f"{name} has a tag {tag} already, at {there[:12]}; choose another --tag")

    def _passing(self, error: Exception) -> str:
        """What a fault says, if trying again may help. Raises PublishError for any other fault.

        `from None`: the client's exceptions carry the request, and the request carries the token.
        """
        from huggingface_hub.errors import HfHubHTTPError

        # Uploads report what went wrong as the cause of an error of their own.
        if isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):
            error = error.__cause__
        said = self._said(error)
        refused = isinstance(error, ValueError)
        if isinstance(error, HfHubHTTPError):
            refused = error.response.status_code not in AGAIN
        if refused:
            raise PublishError(f"the Hub did not take {self._where.repository}: {said}") from None
        return said

    def _said(self, error: Exception) -> str:
        text = " ".join(str(error).split()) or type(error).__name__
        return text.replace(str(self._token), "***")

    def _url(self, place: str) -> str:
        return f"{self._api.endpoint}/datasets/{self._where.repository}/{place}"


def _operations(files: Sequence[StagedFile], there: dict[str, str]) -> list[Any]:
    """What turns the files there into ours: added where they differ, deleted where they would be read as our data."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    kept = {one.path for one in files}
    stale = sorted(path for path in there if path.startswith(OURS) and path not in kept)
    changed = [one for one in files if there.get(one.path) not in (one.sha256, _git_name(one))]
    return [
        *(CommitOperationAdd(one.path, str(one.source)) for one in changed),
        *(CommitOperationDelete(path) for path in stale),
    ]


def _git_name(one: StagedFile) -> str:
    digest = hashlib.sha1(b"blob %d\0" % one.size, usedforsecurity=False)
    with one.source.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _client_faults() -> tuple[type[Exception], ...]:
    """What the client raises: its own errors, those of its HTTP library (which its own derive from), of uploads
    (RuntimeError), and of answers or metadata that are wrong (ValueError)."""
    from huggingface_hub.errors import HfHubHTTPError

    return (*(base for base in HfHubHTTPError.__bases__ if base is not OSError), OSError, RuntimeError, ValueError)
