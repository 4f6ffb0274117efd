"""What an editor is, and what it is made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from types import NoneType, UnionType
from typing import Any, Protocol, TypeVar, cast, get_args, get_type_hints

from cfbuild.data import Request
from cfbuild.edit import EDITORS
from cfbuild.edit.covariance import Covariance
from cfbuild.edit.presets import edit_layer
from cfbuild.errors import ConfigError
from cfbuild.lm.delta import Edit
from cfbuild.lm.model import LanguageModel

Options = TypeVar("Options")

PLAIN = {bool, int, float, str, NoneType}
"""Types of settings that can be given by name; others (such as ROME's contexts) an editor makes itself."""


class Editor(Protocol):
    """Turns requests into changes of the weights; the model stays as it is."""

    @property
    def signature(self) -> Mapping[str, Any]:
        """All that affects an edit beside the model."""
        ...

    def edit(self, requests: Sequence[Request], done: Callable[[int], None] = lambda count: None) -> list[Edit]:
        """One edit a request, in order; `done` is told how many there are as they come. No edit depends on another's
        request, and one that is not finite has a fault instead of a delta."""
        ...


@dataclass(frozen=True)
class Setting:
    """What an editor is made from: the model, the settings that were asked for by name, and what takes time to make
    and is made only if called (ROME's contexts, the covariance of a layer's keys)."""

    editor: str
    lm: LanguageModel
    asked: Mapping[str, Any]
    contexts: Callable[[], tuple[str, ...]]
    covariance: Callable[[int], Covariance | None]

    def layer(self, usual: int | None = None) -> int:
        """The layer that was asked for, else `usual`, else the model's. Raises ConfigError for one it does not have."""
        return edit_layer(self.lm.preset, len(self.lm.layers), self.asked.get("layer", usual))

    def options(self, kind: type[Options], **settled: Any) -> Options:
        """The editor's options: what was asked for, before `settled`, before the defaults of `kind` (a dataclass).

        Raises ConfigError for a name that `kind` does not have, or a value of another type.
        """
        hints = get_type_hints(kind)
        plain = {one.name: hints[one.name] for one in fields(cast("Any", kind)) if _types(hints[one.name]) <= PLAIN}
        for name, value in self.asked.items():
            if name not in plain:
                raise ConfigError(
                    f"the editor {self.editor} has no setting {name!r}; expected some of {', '.join(plain)}"
                )
            if type(value) not in _types(plain[name]) | ({int} if float in _types(plain[name]) else set()):
                wanted = " or ".join(sorted(one.__name__ for one in _types(plain[name]) - {NoneType}))
                raise ConfigError(f"{name} of the editor {self.editor} is {value!r}; expected {wanted}")
        return kind(**{**settled, **self.asked})


def check_name(name: str) -> None:
    """Raise ConfigError unless `name` is in the table or has the form "module:function" (an editor of one's own)."""
    if name not in EDITORS and ":" not in name:
        raise ConfigError(
            f"editor {name!r} does not exist; expected one of {', '.join(EDITORS)}, or module:function of your own"
        )


def open_editor(setting: Setting) -> Editor:
    """The editor of `setting`. Raises ConfigError if it cannot be imported, or does not have a setting."""
    module, _, name = EDITORS.get(setting.editor, setting.editor).partition(":")
    try:
        load = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"editor {setting.editor}: cannot be imported ({error})") from error
    return cast("Editor", load(setting))


def _types(hint: Any) -> set[Any]:
    return set(get_args(hint)) if isinstance(hint, UnionType) else {hint}
