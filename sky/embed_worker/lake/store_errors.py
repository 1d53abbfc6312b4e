"""What a store's errors mean, and one sentence for each that an operator can mend."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from tenacity import retry, retry_if_exception, stop_after_attempt, wait_exponential

from embed_worker.lake.errors import NoPermission, NoSpace, StoreAway, StoreUnavailable

LOST = {"PreconditionFailed", "412"}
"""What a server answers where the object exists already."""
CONFLICT = {"ConditionalRequestConflict", "OperationAborted", "409"}
"""What S3 answers while another put of the same name is under way: ask again, it decides then."""
NO_UPLOAD = {"NoSuchUpload"}
"""What S3 answers to the end of a multipart upload that it has ended already: the first answer got lost."""
NO_RANGE = {"InvalidRange", "416"}
"""What S3 answers where an object ends before the range begins."""
NO_BUCKET = {"NoSuchBucket"}
EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
WRONG_KEY = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "InvalidClientTokenId"}
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""EFBIG is what a limit on the size of files (`ulimit -f`) gives."""

NO_LOGIN = {"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError", "CredentialUnavailableError"}
"""botocore's, google.auth's and azure.identity's: there is nothing to log in with."""

AWAY = {errno.ESTALE, errno.ETIMEDOUT, errno.EREMOTEIO, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH}
"""What a network file system gives while its server is away."""


@contextmanager
def translated(url: str, is_local: bool) -> Iterator[None]:
    """Raises StoreUnavailable for what an operator can mend; FileNotFoundError of a file and ValueError pass."""
    try:
        yield
    except PermissionError as error:
        code = server_code(error)
        if code in EXPIRED:
            raise _expired(url) from error
        if code in WRONG_KEY:
            raise NoPermission(f"{url}: wrong access key or secret ({code}); correct the credentials") from error
        why = f"{error}" if is_local else f"{error}; a wrong access key may be answered alike"
        raise NoPermission(
            f"{url}: no permission ({why}). Give this user read and write access, or point EMBED_LAKE elsewhere"
        ) from error
    except OSError as error:
        if error.errno in FULL:
            raise NoSpace(
                f"{url}: no space left. Free some space, or point EMBED_LAKE elsewhere; nothing half-written is kept"
            ) from error
        if is_local and error.errno in AWAY:
            raise StoreAway(f"{url}: the file system does not answer ({error.strerror})") from error
        if is_local and error.errno in (errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EIO):
            raise StoreUnavailable(
                f"{url}: cannot be read or written ({error.strerror}). Point EMBED_LAKE at a writable folder"
            ) from error
        code = server_code(error)
        if code in NO_BUCKET:
            raise bucket_missing(url) from error
        if is_local or isinstance(error, FileNotFoundError):
            raise
        if code in EXPIRED:
            raise _expired(url) from error
        told = f"{url}: the store does not answer as it should: {str(error) or type(error).__name__}"
        if code in ("400", "Bad Request"):
            raise StoreUnavailable(f"{told}. Expired credentials are answered so, too") from error
        raise StoreAway(told) from error
    except (StoreUnavailable, ValueError):
        raise
    except Exception as error:
        if is_local:
            raise
        if NO_LOGIN & {kind.__name__ for kind in type(error).__mro__}:
            raise NoPermission(
                f"{url}: this machine has no credentials for it ({error}). Give it a role (instance profile, "
                "service account), or hand keys over by name in EMBED_SKY_SECRETS"
            ) from error
        # Every cloud's library has errors of its own for a network that is down.
        raise StoreAway(f"{url}: the store cannot be reached: {type(error).__name__}: {error}") from error


def server_code(error: OSError) -> str | None:
    """The error code in an S3 answer, where fsspec's error was made from one."""
    response = getattr(error.__cause__, "response", None)
    return str(response["Error"].get("Code")) if isinstance(response, dict) and "Error" in response else None


def _undecided(error: BaseException) -> bool:
    return isinstance(error, OSError) and server_code(error) in CONFLICT | NO_UPLOAD


until_decided = retry(
    retry=retry_if_exception(_undecided),
    wait=wait_exponential(multiplier=0.1, exp_base=3),
    stop=stop_after_attempt(5),
    reraise=True,
)
"""Decorates a put that is sent again while the server has not decided who was first."""


def bucket_missing(url: str) -> StoreUnavailable:
    return StoreUnavailable(f"{url}: there is no such bucket. Create it, or point EMBED_LAKE elsewhere")


def _expired(url: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"{url}: the credentials have expired. Renew them and start the job again: it goes on at its last checkpoint. "
        "Credentials of a role or of `credential_process` renew themselves"
    )
