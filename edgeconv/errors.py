"""Every error a person can meet: what happened, where, why as far as known, and the next thing to type.

The exit code of the command line is a property of the error, so that one place decides it.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the command line; documented in ``docs/commands.md``."""

    OK = 0
    VERDICT_FAILED = 1
    USAGE = 2
    INCONCLUSIVE = 3
    UNAVAILABLE = 4
    CONVERSION_FAILED = 5
    DEFECT = 70
    INTERRUPTED = 130


class EdgeconvError(Exception):
    """Base of all errors that edgeconv raises on purpose.

    Args:
        what: one sentence that says what happened, without a final full stop.
        where: the file, tensor or op it happened at.
        why: the cause as far as it is known.
        hint: the next thing to type or change.
    """

    exit_code: ExitCode = ExitCode.DEFECT

    def __init__(
        self, what: str, *, where: str | None = None, why: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.why = why
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        if self.why:
            text += f" ({self.why})"
        return text

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.what, self.where, self.why, self.hint))


def _rebuild(
    kind: type[EdgeconvError], what: str, where: str | None, why: str | None, hint: str | None
) -> EdgeconvError:
    return kind(what, where=where, why=why, hint=hint)


class UsageError(EdgeconvError):
    """The call is wrong: a missing file, an unknown name, an ambiguous choice."""

    exit_code = ExitCode.USAGE


class InvalidModelError(UsageError):
    """The file is no model, or truncated, corrupt, or of a version this release does not know."""


class UntrustedModelError(UsageError):
    """Opening the model would run code or touch files that it names; needs ``--trust``."""


class GateFailedError(EdgeconvError):
    """An artifact does not equal its reference within the tolerance of its precision."""

    exit_code = ExitCode.VERDICT_FAILED


class UnavailableError(EdgeconvError):
    """A device, driver, environment or optional package that is needed is not here."""

    exit_code = ExitCode.UNAVAILABLE


class ConversionError(EdgeconvError):
    """A converter refused, crashed, ran out of time or memory, or wrote something unusable."""

    exit_code = ExitCode.CONVERSION_FAILED


class DeviceError(UnavailableError):
    """A device cannot be reached, went away, or ended what ran on it."""
