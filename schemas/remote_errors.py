"""What goes wrong between this machine and a server, in words, and whether it may pass.

Drivers raise errors of many kinds: the system's, with or without a number, and those of the
libraries below them, which are told apart by the names of their classes: none of them need be
installed. What is not there stays a FileNotFoundError, as on a disk.
"""

import errno
from typing import Any

__all__ = [
    "TRIES",
    "RemoteError",
    "is_passing",
    "may_pass",
    "no_bucket",
    "protocol_of",
    "remote_error",
    "text_of",
]

TRIES = 4
"""How often a request is made, unless an attempt succeeds. Drivers have tries of their own below
this, within a few seconds."""
OF_S3 = (
    "run `aws configure`, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile "
    "with AWS_PROFILE"
)
OF_GOOGLE = (
    "run `gcloud auth application-default login`, or name a key file with "
    "GOOGLE_APPLICATION_CREDENTIALS"
)
CREDENTIALS = {
    **dict.fromkeys(("s3", "s3a"), OF_S3),
    **dict.fromkeys(("gs", "gcs"), OF_GOOGLE),
    "hf": "run `hf auth login`, or set HF_TOKEN",
}
"""What gives the driver of a protocol its credentials."""
ENDPOINTS = {"s3": "AWS_ENDPOINT_URL", "s3a": "AWS_ENDPOINT_URL", "hf": "HF_ENDPOINT"}
"""Where some protocols' servers are set."""
AGAIN = "run the same command again; a job continues where it stopped"

PLAIN = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)
"""Errors that mean the same on a server as on a disk."""
OF_DRIVERS = frozenset(
    {"aiobotocore", "aiohttp", "botocore", "gcsfs", "google"}
    | {"httpcore", "httpcore2", "httpx", "httpx2"}
    | {"huggingface_hub", "requests", "urllib3"}
)
"""Packages whose errors are about a request, whatever their class."""
NO_CREDENTIALS = frozenset(
    {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "DefaultCredentialsError"}
    | {
        "SSOTokenLoadError",
        "UnauthorizedSSOTokenError",
        "TokenRetrievalError",
        "LocalTokenNotFoundError",
    }
    | {"CredentialRetrievalError"}
)
UNREACHABLE = frozenset(
    {"EndpointConnectionError", "ConnectTimeoutError", "ConnectError", "ConnectTimeout"}
    | {"ClientConnectorError", "ClientConnectorDNSError", "ServerTimeoutError"}
    | {"ProxyConnectionError", "OfflineModeIsEnabled"}
)
HOPELESS = frozenset(
    {"ParamValidationError", "InvalidURL", "NonHttpUrlClientError", "ProxyError"}
    | {"OfflineModeIsEnabled"}
)
BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers of a server that may be others a moment later."""
DENIED = frozenset({401, 403})
READ_ONLY = frozenset({405, 501})
PASSING = frozenset(
    {None, errno.EAGAIN, errno.EBUSY, errno.EIO, errno.EPIPE, errno.EREMOTEIO}
    | {errno.ECONNABORTED, errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH}
    | {errno.ENETDOWN, errno.ENETUNREACH, errno.ETIMEDOUT}
)
"""Numbers of errors that may pass. s3fs gives those that do not another one."""
OF_NETWORKS = frozenset(
    {errno.EREMOTEIO, errno.ESTALE, errno.EHOSTDOWN, errno.EHOSTUNREACH}
    | {errno.ENETDOWN, errno.ENETRESET, errno.ENETUNREACH, errno.ETIMEDOUT}
)
"""Numbers of errors of a network, or of a file system that is behind one."""


class RemoteError(OSError):
    """A request to a server failed, which says nothing about the file's content.

    Attributes:
        fix: what the user can do now.
    """

    def __init__(self, number: int, found: str, url: str, fix: str = AGAIN) -> None:
        super().__init__(number, found, url)
        self.fix = fix

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.errno, self.strerror, self.filename, self.fix)


def is_passing(error: BaseException) -> bool:
    """Whether what has failed may succeed later, for an error that has had its tries already.

    It is that of a server or of the network. One of a disk, or one that a server will repeat, such
    as a missing permission, is not.
    """
    if isinstance(error, RemoteError):
        return error.errno in (errno.EIO, errno.EHOSTUNREACH, errno.EINVAL)
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    return isinstance(error, OSError) and error.errno in OF_NETWORKS


def may_pass(error: Exception, *, answered: bool = True) -> bool:
    """Whether a request that failed may succeed a moment later.

    Args:
        error: what the driver has raised, after tries of its own.
        answered: whether the server has ever answered this process. One that has not is more likely
            to be a wrong address.
    """
    error = _behind(error)
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if kinds & (NO_CREDENTIALS | HOPELESS) or (_is_unreachable(error) and not answered):
        return False
    if (status := _status(error)) is not None:
        return status in BUSY
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    if isinstance(error, OSError) and not _is_of_driver(error):
        return error.errno in PASSING and not isinstance(error, PermissionError)
    return _is_of_driver(error)


def remote_error(error: Exception, url: str) -> RemoteError | None:
    """A driver's error in words; None if it is not about a request."""
    if isinstance(error, RemoteError):
        return error
    error = _behind(error)
    if isinstance(error, PLAIN) or not (isinstance(error, OSError) or _is_of_driver(error)):
        return None
    kinds = {kind.__name__ for kind in type(error).__mro__}
    protocol = protocol_of(url)
    text = text_of(error)
    credentials = CREDENTIALS.get(protocol, "give the driver of that protocol its credentials")
    if kinds & NO_CREDENTIALS:
        return RemoteError(
            errno.EACCES, f"there are no credentials for {protocol}://: {text}", url, credentials
        )
    if isinstance(error, PermissionError) or _status(error) in DENIED:
        return RemoteError(
            errno.EACCES,
            f"the server denies access: {text}",
            url,
            f"check the address, and whether these credentials may read and write there; for "
            f"others, {credentials}",
        )
    if _is_unreachable(error):
        named = f" ({ENDPOINTS[protocol]} sets another one)" if protocol in ENDPOINTS else ""
        return RemoteError(
            errno.EHOSTUNREACH,
            f"the server cannot be reached: {text}",
            url,
            f"check the server's address{named} and the network; then {AGAIN}",
        )
    if _status(error) in READ_ONLY:
        return RemoteError(
            errno.EROFS,
            f"the server takes no files: {text}",
            url,
            "name a folder of this machine, or one at s3:// or gs://",
        )
    return RemoteError(errno.EIO, f"a request to the server failed: {text}", url)


def _behind(error: Exception) -> Exception:
    """What a driver has told as a missing file, if it is that the server did not let it look."""
    cause = error.__cause__
    if not (isinstance(error, FileNotFoundError) and isinstance(cause, Exception)):
        return error
    was_refused = _status(cause) in BUSY | DENIED
    return cause if was_refused or (_is_of_driver(cause) and _is_unreachable(cause)) else error


def _status(error: BaseException) -> int | None:
    """The status of the server's answer, as the libraries below the drivers note it."""
    found: BaseException | None = error
    while found is not None:
        answer: Any = getattr(found, "response", None)
        if hasattr(answer, "get"):  # botocore's
            answer = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
        told: list[Any] = [answer, getattr(answer, "status_code", None)]
        told += [getattr(found, name, None) for name in ("status", "code")]
        for each in told:
            if isinstance(each, int):
                return each
        found = found.__cause__
    return None


def _is_unreachable(error: BaseException) -> bool:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    # An address that nobody knows is a gaierror, of which asyncio's drivers leave the text alone.
    unknown = isinstance(error, OSError) and "not known" in text_of(error)
    return unknown or bool(kinds & UNREACHABLE) or isinstance(error, ConnectionRefusedError)


def _is_of_driver(error: BaseException) -> bool:
    return any(kind.__module__.partition(".")[0] in OF_DRIVERS for kind in type(error).__mro__)


def text_of(error: BaseException) -> str:
    """What an error says, on one line."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(said.split()) or type(error).__name__


def protocol_of(url: str) -> str:
    """The protocol of an address: "s3" of s3://bucket/a."""
    return url.partition("://")[0].rpartition("::")[2]


def no_bucket(url: str) -> RemoteError:
    """The error for an upload to a bucket that does not exist."""
    bucket = "/".join(url.split("/")[:3])
    return RemoteError(
        errno.ENOENT,
        f"there is no bucket {bucket}",
        url,
        "check the name, or create the bucket: exactcpt creates none",
    )
