"""A published folder, uploaded to the Hugging Face hub."""

from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...schemas.errors import ExactcptError, UsageError
from ...schemas.manifest import MANIFEST
from ...schemas.shard import SPLITS
from ..files.storage import Folder, resolve
from ..job.folder import JOB
from .card import CARD
from .job import DOCUMENTS, OWNED

__all__ = ["Repository"]

FROM_THE_START = {".gitattributes", CARD}
"""What a repository may have that was made on the hub's page."""
LOG_IN = "log in with `hf auth login`, or set HF_TOKEN to a token that may write"
AGAIN = "run the same command again later: what is there already is not sent again"
PATIENCE = 120.0
"""Seconds in which the hub has to take or send something; its client would wait for ever."""
NOT_UPLOADED = [f"{JOB}/**", ".*.tmp", "**/.*.tmp"]


class Repository:
    """A data set repository of the hub, and who uploads to it.

    Args:
        name: OWNER/NAME, or NAME for one of whoever is logged in.

    Raises:
        UsageError: it is no name of a repository.
        ExactcptError: nobody is logged in, or the hub cannot be reached.
    """

    def __init__(self, name: str) -> None:
        from huggingface_hub import HfApi, get_session
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils import validate_repo_id

        try:
            validate_repo_id(name)
        except HFValidationError as error:
            raise UsageError(
                f"--push does not name a repository: {error}",
                where=name,
                expected="OWNER/NAME: letters, digits, `-`, `_` and `.`",
            ) from None
        get_session().timeout = PATIENCE
        self._api = HfApi(library_name="exactcpt")
        with _explained(name):
            owner = _logged_in(self._api, name)
        self.name = name if "/" in name else f"{owner}/{name}"

    def upload(self, folder: Folder) -> str:
        """Uploads a published folder; a repository that does not exist is made, and is private.

        What an earlier upload that was interrupted has brought there is not sent again.

        Args:
            folder: on a local disk.

        Returns:
            The address of the repository.

        Raises:
            UsageError: the repository holds something else.
            ExactcptError: the hub cannot be reached, or refuses.
        """
        from huggingface_hub.utils import disable_progress_bars

        disable_progress_bars()  # they would write to the terminal past our console
        with _explained(self.name):
            url = self._api.create_repo(self.name, repo_type="dataset", private=True, exist_ok=True)
            found = self._api.list_repo_files(self.name, repo_type="dataset")
            if _is_of_others(found, {*folder.names()}):
                raise UsageError(
                    f"this repository holds other files: {', '.join(found[:3])}",
                    where=str(url),
                    expected="a new or empty one, or one that `exactcpt publish` has filled",
                )
            self._api.upload_folder(
                repo_id=self.name,
                repo_type="dataset",
                folder_path=Path(resolve(folder.url)[1]),
                commit_message="Upload with exactcpt publish",
                ignore_patterns=NOT_UPLOADED,
                delete_patterns=[
                    f"{name}/**" for name in (*SPLITS, DOCUMENTS)
                ],  # of another set's numbering
            )
        return str(url)


def _logged_in(api: Any, name: str) -> str:
    """Who is logged in.

    Raises:
        ExactcptError: what answers is not the hub, or the token cannot be sent.
    """
    try:
        return str(api.whoami()["name"])
    except UnicodeError:
        raise ExactcptError(
            "the token of the Hugging Face hub has characters that no token has",
            where=name,
            fix=LOG_IN,
        ) from None
    except (ValueError, LookupError, TypeError):  # such as the page on which a network asks who
        raise ExactcptError(
            "what answers is not the Hugging Face hub: it does not say who is logged in",
            where=name,
            fix="see whether your network asks for a login on a page of its own, and whether "
            "HF_ENDPOINT is right if it is set",
        ) from None


def _is_of_others(names: Iterable[str], mine: Set[str]) -> bool:
    """Whether a repository with these files is not one that this program fills.

    Args:
        names: of the files of the repository.
        mine: of those of the folder, to which its owner may have added some.
    """
    beside = {*names} - FROM_THE_START
    foreign = [name for name in beside - mine if name.partition("/")[0] not in (MANIFEST, *OWNED)]
    return bool(foreign) or (bool(beside) and MANIFEST not in beside)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turns the errors of the hub, and those of not reaching it, into words."""
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    try:
        yield
    except ExactcptError:
        raise
    except LocalTokenNotFoundError:
        raise ExactcptError(
            "nobody is logged in to the Hugging Face hub", where=name, fix=LOG_IN
        ) from None
    except HfHubHTTPError as error:
        raise _refused(error, name) from None
    except Exception as error:  # of any class: the hub's client, its transport, the uploader
        if isinstance(error, OSError) and error.filename is not None:
            raise  # an error of the disk
        if "Timeout" in type(error).__name__:  # of whichever HTTP client it has
            raise ExactcptError(
                f"the Hugging Face hub has not answered for {PATIENCE:g} seconds",
                where=name,
                fix=AGAIN,
            ) from None
        # The errors of the hub are of its client's kind, too.
        is_unreachable = isinstance(error, (HfHubHTTPError.__bases__[0], ConnectionError))
        raise ExactcptError(
            f"the Hugging Face hub cannot be reached: {_first_line(error)}"
            if is_unreachable
            else f"the upload failed: {type(error).__name__}: {_first_line(error)}",
            where=name,
            fix=AGAIN,
        ) from None


def _refused(error: Any, name: str) -> ExactcptError:
    """The error for an answer of the hub that is no success."""
    status = error.response.status_code
    said = error.server_message or _first_line(error)
    if status == 401:
        return ExactcptError(
            f"the Hugging Face hub does not accept the token: {said}", where=name, fix=LOG_IN
        )
    if status == 403:
        return ExactcptError(
            f"the token may not write to this repository of the Hugging Face hub: {said}",
            where=name,
            fix="name a repository of yours, or take a token that may write to this one",
        )
    return ExactcptError(
        f"the Hugging Face hub answers with {status}: {said}",
        where=name,
        fix=AGAIN,
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
