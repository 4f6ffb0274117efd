"""One exception class per owner of the fault.

A message says what went wrong, where, what was found, what was expected, and what to do next. The command line turns
each class into its exit code and prints no traceback.
"""

from __future__ import annotations


class CfbuildError(Exception):
    """Base of every error a user can meet; `exit_code` is the command line's."""

    exit_code = 1


class DataError(CfbuildError):
    """A file of the build, or a file the user gave, does not hold what it should."""


class SchemaError(DataError):
    """Rows break the record schema or its semantic rules."""


class TemplateError(DataError):
    """A template is not usable: no slot, several slots, format syntax, or an object that does not come last."""


class ConfigError(CfbuildError):
    """The user asked for something that does not exist or does not fit together."""

    exit_code = 2


def check_least(options: object, **least: int) -> None:
    """Raise ConfigError for the first named number of `options` that is set and below its least value."""
    for name, minimum in least.items():
        value = getattr(options, name)
        if value is not None and value < minimum:
            raise ConfigError(f"{name} is {value}; expected at least {minimum}")


class BuildStateError(ConfigError):
    """The build folder holds work made with other settings, or lacks the file that a verb starts from."""


class SourceError(CfbuildError):
    """A fact source could not be read completely; what was fetched so far is kept and the run can be resumed."""

    exit_code = 3


class PublishError(CfbuildError):
    """The Hub refused or lost an upload."""

    exit_code = 3


class ModelError(CfbuildError):
    """A language model could not be loaded or run."""

    exit_code = 4


class EditError(ModelError):
    """An editor could not compute a finite edit."""


class WorkerError(CfbuildError):
    """Processes that did a part of the work were killed or ran out of memory, again and again."""

    exit_code = 5
