"""The exception tree. Every error a user can meet is one of these.

::

    BatchscoreError                 exit code, message of one or two lines
    ├── UsageError            2     an option, a config file or the input is wrong
    │   └── InputError        2     the input: a file, a column, a type
    ├── StoppedError          1     running the same again will not help
    │   ├── RefusedError      1     the deployment refuses (401, 403, 404, other 4xx)
    │   ├── MetadataError     1     the deployment's specification cannot be read
    │   ├── ModelChangedError 1     the answers no longer fit the specification
    │   └── TooManyFailuresError 1  more rows failed than --max-failed-rows allows
    ├── TemporaryError       75     the same command may work later
    │   ├── UnreachableError 75     the host does not answer
    │   ├── OutageError      75     the deployment was away for longer than --max-outage
    │   ├── OutputError      75     writing failed: disk full, folder gone
    │   ├── StoreError       75     an object store does not answer, or fails
    │   ├── ShortageError    75     this computer has no space or file handles left
    │   └── WorkerLostError  75     a process of the job was ended from outside
    ├── RowsRefusedError            these rows cannot be scored together; halved, then failed
    ├── DeploymentAwayError         nobody gets through; waited for
    └── AttemptError                one request failed; becomes a retry or a row's failure
        ├── HTTPStatusError         the server answered with a status other than 2xx
        ├── ConnectionFailedError   no connection, or it broke before the answer was whole
        ├── AttemptTimeoutError     no whole answer within --timeout
        └── DecodeError             a 200 whose body is not a valid answer

``EncodeError`` is ours: one cell cannot be put on the wire, so that row fails unsent.
``PredictionError`` is what the Python ``Deployment`` raises where a file gets a failed row.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

EXIT_OK = 0
EXIT_STOPPED = 1
EXIT_USAGE = 2
EXIT_FAILED_ROWS = 3
EXIT_TEMPORARY = 75
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

_NO_HANDLES = ("no file handles are left on this computer", "raise the limit (ulimit -n)")
_NO_SPACE = ("no space is left on the disk", "free some")

SHORTAGES = {
    errno.EMFILE: _NO_HANDLES,
    errno.ENFILE: _NO_HANDLES,
    errno.ENOSPC: _NO_SPACE,
    errno.EDQUOT: _NO_SPACE,
}
"""What this computer has none left of, and the remedy, by the number of the system's error."""


class BatchscoreError(Exception):
    """Base of all errors of this package; ``str()`` is ready for the user.

    Attributes:
        exit_code: what the command exits with.
        is_reported: whether the run's ``--report`` files tell of it already.
    """

    exit_code = EXIT_STOPPED
    is_reported = False


class UsageError(BatchscoreError):
    """Raised when an option, a config file or an argument is wrong."""

    exit_code = EXIT_USAGE


class InputError(UsageError):
    """Raised when the input can never be scored: a file, a column or a type is wrong."""


class StoppedError(BatchscoreError):
    """Raised when a job ends early and running it again will not help."""


class RefusedError(StoppedError):
    """Raised when the deployment refuses every batch: wrong token, disabled, not there.

    Attributes:
        status: of its answer, where that is what refuses.
    """

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class MetadataError(StoppedError):
    """Raised when the deployment's specification is missing or cannot be read."""


class ModelChangedError(StoppedError):
    """Raised when an answer shows that the model is not the one the job began with."""


class TooManyFailuresError(StoppedError):
    """Raised when more rows failed than ``--max-failed-rows`` allows."""


class TemporaryError(BatchscoreError):
    """Raised when the job ended for a reason that may pass."""

    exit_code = EXIT_TEMPORARY


class UnreachableError(TemporaryError):
    """Raised when the deployment's host does not answer."""


class OutageError(TemporaryError):
    """Raised when the deployment was away for longer than ``--max-outage``."""


class OutputError(TemporaryError):
    """Raised when the output cannot be written: disk full, folder gone."""


class StoreError(TemporaryError):
    """Raised when an object store that is read from does not answer, or fails."""


class ShortageError(TemporaryError):
    """Raised when this computer has no space or no file handles left: no row is to blame."""

    @classmethod
    def check(cls, error: BaseException) -> None:
        """Raise it where that is what an error of the system says."""
        cause = getattr(error, "os_error", None) or error
        number = cause.errno if isinstance(cause, OSError) else None
        if number in SHORTAGES:
            what, remedy = SHORTAGES[number]
            raise cls(f"{what}; {remedy}, then the same command with --resume goes on") from error


class WorkerLostError(TemporaryError):
    """Raised when a worker process ended without having said why: killed, out of memory."""


class EncodeError(BatchscoreError):
    """Raised when one cell cannot be put on the wire."""


class PredictionError(BatchscoreError):
    """Raised when rows given to a ``Deployment`` could not be scored.

    Attributes:
        failures: why, by the row's position among the rows that were given.
    """

    def __init__(self, failures: Mapping[int, object]) -> None:
        row, failure = min(failures.items())
        others = f" (and {len(failures) - 1} rows more)" if len(failures) > 1 else ""
        super().__init__(f"row {row} was not scored: {failure}{others}")
        self.failures = dict(failures)


class RowsRefusedError(BatchscoreError):
    """Raised when the rows of a request cannot be scored as they stand together.

    Attributes:
        last: the error of the last try.
        is_certain: the server said so. Else it was silent for these rows while others were
            answered: they may only have been there when others took it down.
    """

    def __init__(self, last: AttemptError, *, is_certain: bool = True) -> None:
        super().__init__(str(last))
        self.last = last
        self.is_certain = is_certain


class DeploymentAwayError(BatchscoreError):
    """Raised when attempts are used up, and nobody else got through meanwhile either.

    Attributes:
        last: the error of the last try.
    """

    def __init__(self, last: AttemptError) -> None:
        super().__init__(str(last))
        self.last = last


class AttemptError(BatchscoreError):
    """Raised when one request failed.

    Attributes:
        code: the stable code that stands in ``prediction_error``.
        retry_after_s: how long the server asked to wait, in seconds, if it did.
        lasted_s: how long the request was under way.
    """

    code = "failed"
    retry_after_s: float | None = None
    lasted_s: float = 0.0


class HTTPStatusError(AttemptError):
    """Raised when the server answered with a status other than 2xx."""

    def __init__(self, status: int, text: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(text or f"the server answered {status}")
        self.status = status
        self.code = f"http_{status}"
        self.retry_after_s = retry_after_s


class ConnectionFailedError(AttemptError):
    """Raised when no connection could be made, or it broke before the answer was whole."""

    code = "connection"


class AttemptTimeoutError(AttemptError):
    """Raised when no whole answer came within ``--timeout``."""

    code = "timeout"


class DecodeError(AttemptError):
    """Raised when a 200 carries a body that is not a valid answer."""

    code = "bad_response"
