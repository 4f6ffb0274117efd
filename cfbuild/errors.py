"""The errors that a user can meet, a class for each kind of cause.

A message says what went wrong, where, what was found, what was expected, and what to do next. The command line prints
it without a traceback and ends with the exit code of its class.
"""

from __future__ import annotations


class CfbuildError(Exception):
    """The base of all errors that a user can meet; `exit_code` is that of the command line."""

    exit_code = 1


class DataError(CfbuildError):
    """A file of the build or of the user does not hold what it should."""


class SchemaError(DataError):
    """Rows break the schema of records or a rule."""


class TemplateError(DataError):
    """A template cannot be used: it has no slot, several slots, other braces, or an object that does not come last."""


class ConfigError(CfbuildError):
    """The user gave a name or a value that does not exist, or values that do not fit together."""

    exit_code = 2


def check_least(options: object, **minima: int) -> None:
    """Raise ConfigError for the first field of `options` that is below its minimum in `minima`; None is allowed."""
    for name, minimum in minima.items():
        value = getattr(options, name)
        if value is not None and value < minimum:
            raise ConfigError(f"{name} is {value}; expected at least {minimum}")


def check_positive(options: object, *names: str) -> None:
    """Raise ConfigError for the first of the numbers `names` of `options` that is set and not above 0."""
    for name in names:
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise ConfigError(f"{name} is {value}; expected more than 0")


class BuildStateError(ConfigError):
    """The build holds work made with other settings, or lacks a file that the verb reads."""


class SourceError(CfbuildError):
    """A source could not be read to its end; what was fetched is kept, and the same command goes on from there."""

    exit_code = 3


class PublishError(CfbuildError):
    """The Hub refused an upload or lost it."""

    exit_code = 3


class ModelError(CfbuildError):
    """A model could not be loaded or run."""

    exit_code = 4


class EditError(ModelError):
    """An editor made no edit that can be used."""


class WorkerError(CfbuildError):
    """Worker processes were killed or ran out of memory again and again."""

    exit_code = 5
