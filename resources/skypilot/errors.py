"""SkyPilot's errors, sorted by what to do about them. By name: SkyPilot is imported late, or not at all."""

import re

from resources.compute import BackendBroken, ComputeUnavailable

UNAVAILABLE = frozenset(
    (
        *("ApiServerConnectionError", "ServerTemporarilyUnavailableError", "TransportError", "NetworkError"),
        *("RequestCancelled", "RequestInterruptedError", "ExecutionRetryableError", "ExecutionPoolFullError"),
        *("ConcurrentWorkerExhaustedError", "SkyletInternalError", "SkyletUnavailableError"),
        *("ClusterStatusFetchingError", "OperationalError", "ClusterNotUpError"),
    )
)
BROKEN = frozenset(("ApiServerAuthenticationError", "APIVersionMismatchError", "APINotSupportedError"))
"""For a person to mend; once a server has answered, they may pass (a token is being rotated, a server updated)."""
REJECTED = frozenset(
    (
        *("ValueError", "TypeError", "KeyError", "FileNotFoundError", "UsageError", "NotSupportedError"),
        *("ResourcesUnavailableError", "ResourcesMismatchError", "NoCloudAccessError", "CloudUserIdentityError"),
        *("UserRequestRejectedByPolicy", "PermissionDeniedError", "InvalidClusterNameError"),
        *("PoolDoesNotExistError", "StorageError"),
    )
)
LOST_REQUEST = "Failed to get request"
"""The server does not say what became of a request."""
CONTROLLER_DOWN = "ClusterNotUpError"
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

LOGIN = re.compile(r"(?<=://)[^/?#\s]+@")
"""Name and password in a URL: SkyPilot quotes its endpoint in every failure to reach it."""


class LaunchRejected(Exception):
    """SkyPilot will not launch this, however often it is asked."""


class LaunchFailed(Exception):
    """A launch failed on the server for a reason that may pass."""


class Unanswered(ComputeUnavailable):
    """A call that failed; `kinds` are the names of the error's classes."""

    def __init__(self, text: str, kinds: set[str]) -> None:
        super().__init__(text)
        self.kinds = kinds


class NoController(ComputeUnavailable):
    """No managed job was ever launched, or the controller's machine is stopped: nothing is live."""


def sorted_error(what: str, error: Exception, *, broken: bool) -> Exception:
    """The error of a call as this package tells it. `broken`: no call has been answered yet."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    text = f"sky {what}: {type(error).__name__}: {without_login(' '.join(str(error).split()))[:500]}"
    if CONTROLLER_DOWN in kinds:
        status = _controller_status(error)
        if status in ("absent", "STOPPED"):
            return NoController(text)
        text = f"{text} (the controller is {status}: `sky status --all-users`)"
    if kinds & BROKEN and broken:
        return BackendBroken(f"{text}. `sky api info` shows which server and user this is")
    return Unanswered(text, kinds)


def without_login(text: str) -> str:
    return LOGIN.sub("", ANSI.sub("", text))


def has_login(error: BaseException | None) -> bool:
    """Whether the error, or one behind it, quotes a password: Dagster's UI shows them all."""
    while error is not None:
        if LOGIN.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def _controller_status(error: Exception) -> str:
    """SkyPilot raises the same error where there is no controller, where it sleeps, and where it cannot be reached.

    Only in the first two is nothing live; the error's status tells them apart, its words do not: those of a
    controller that is being made are those of an absent one.
    """
    try:
        status = error.cluster_status  # type: ignore[attr-defined]
    except AttributeError:
        return "unknown"
    return "absent" if status is None else str(getattr(status, "value", status))


def launch_error(error: Unanswered) -> Exception:
    """A launch that the server answered with an error has made no job; one without an answer may have."""
    if error.kinds & (UNAVAILABLE | BROKEN) or LOST_REQUEST in str(error):
        return error
    if error.kinds & REJECTED:
        return LaunchRejected(str(error))
    return error if "OSError" in error.kinds else LaunchFailed(str(error))
