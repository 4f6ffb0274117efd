"""The contract that every editor of the table keeps: what it is made from and what it returns.

An editor gets requests and returns edits. An `Edit` says which of the requests it answers (ROME: each its own; a batch
editor: all of them), by a change of weights, by a text in front of every prompt, or by both. What comes back is checked
here, so a wrong number is the editor's fault by name and not a wrong figure in a table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    Literal,
    Protocol,
    TypeVar,
    get_args,
    get_type_hints,
    runtime_checkable,
)

from torch import Tensor

from cfbuild.data import Measured, Request
from cfbuild.edit import EDITORS, check_name
from cfbuild.edit.covariance import Covariance
from cfbuild.edit.presets import check_layer, preset_settings
from cfbuild.errors import ConfigError, EditError
from cfbuild.lm.delta import Delta, Dense, applied
from cfbuild.lm.model import LanguageModel
from cfbuild.progress import no_progress

if TYPE_CHECKING:
    from cfbuild.edit.trained.artefact import TrainedNetwork

Options = TypeVar("Options")
Need = Literal["contexts", "covariance", "trained"]
"""Supplies that take time to make, only for editors that name them: contexts, covariances of keys, trained networks."""

PLAIN = {bool, int, float, str, NoneType}
"""Types of settings that can be given by name."""
State = Mapping[str, Tensor]
"""The memory of an editor between the batches of a sequence, as tensors by name; empty before the first batch."""
NOT_FINITE = "the edit is not finite"
"""The fault of an edit with a number that is infinite or NaN."""


@dataclass(frozen=True, slots=True, eq=False)
class Edit:
    """An editor's answer to one or more requests.

    `records` are the places of the requests in the call. `delta` changes weights; `prefix` is put in front of every
    prompt (in-context editing); an edit with neither has a `fault`, the reason. `statistics` is what the editor
    measured, `model` the identity of the model that it was made for.
    """

    records: tuple[int, ...]
    delta: Delta | None
    prefix: str = ""
    statistics: Measured = field(default_factory=dict)
    fault: str | None = None
    model: Measured = field(default_factory=dict)

    def applied(self, lm: LanguageModel) -> AbstractContextManager[None]:
        """Put the change into the weights while a context is open; afterwards they are the same bits as before.

        Raises EditError for an edit that changes no weights, or weights that `lm` does not have.
        """
        if self.delta is None:
            raise EditError(f"there is nothing to apply: {self.fault or 'the edit is a prefix and changes no weight'}")
        check_delta("this edit", lm, self.delta)
        return applied(lm, self.delta)

    def save(self, path: str | Path) -> None:
        """Write the edit to a safetensors file, from which `load_edits` reads it."""
        from cfbuild.edit.saved import save_edits

        save_edits(Path(path), [self])


class Editor(Protocol):
    """A maker of edits from requests, which leaves the model as it is."""

    @property
    def options(self) -> Any:
        """The settings that the edits were made with, a dataclass."""
        ...

    def edit(self, requests: Sequence[Request], done: Callable[[int], None] = no_progress) -> list[Edit]:
        """Return edits that answer each request exactly once; `done` gets the number of finished ones as they come.

        An edit that failed has a fault instead of a delta.
        """
        ...


@runtime_checkable
class SequentialEditor(Editor, Protocol):
    """An editor whose edit of a batch depends on the batches before it, beyond what they changed in the model."""

    def edit_after(
        self, state: State, requests: Sequence[Request], done: Callable[[int], None] = no_progress
    ) -> tuple[list[Edit], State]:
        """Return the edits of a batch and the state after it; `edit` does so from the empty state.

        `state` is what the batch before returned. It is a value: neither it nor the editor changes, so a sequence can
        go on from any of its batches.
        """
        ...


class Supplies(Protocol):
    """The things that editors need beside the model, each made when it is first needed (`supplies.py`)."""

    def contexts(self, of: str) -> tuple[str, ...]:
        """Return the texts that a paper, "rome" or "memit", puts in front of a prompt."""
        ...

    def covariances(self, layers: Sequence[int]) -> Mapping[int, Covariance | None]:
        """Return the second moment of the keys of each layer, or None where the user wants none."""
        ...

    def trained(self, name: str, kind: str, folder: str | None) -> TrainedNetwork:
        """Return the network of the kind `mend` or `ke` in a folder, by default the build's own for the editor `name`.

        Raises ConfigError if there is none.
        """
        ...


@dataclass(frozen=True)
class Context(Generic[Options]):
    """All that an editor is made from: its name, the model, its settled options, and the supplies that its spec names.

    `supplied` keeps the signature of each supply that the editor took.
    """

    editor: str
    lm: LanguageModel
    options: Options
    needs: frozenset[Need]
    supplies: Supplies
    supplied: dict[str, Any] = field(default_factory=dict)

    def contexts(self, of: str = "rome") -> tuple[str, ...]:
        """Return the contexts of a paper. Raises ConfigError if the spec does not name them as a need."""
        self._check("contexts")
        contexts = self.supplies.contexts(of)
        self.supplied["contexts"] = list(contexts)
        return contexts

    def covariance(self, layer: int) -> Covariance | None:
        """Return the covariance of a layer's keys, None where the user wants none. Raises as `contexts` does."""
        return self.covariances((layer,))[layer]

    def covariances(self, layers: Sequence[int]) -> Mapping[int, Covariance | None]:
        """Return the covariances of several layers' keys, found in one pass. Raises as `contexts` does."""
        self._check("covariance")
        covariances = self.supplies.covariances(layers)
        signatures = (covariance.signature if covariance else "none" for covariance in covariances.values())
        self.supplied["covariance"] = "; ".join(dict.fromkeys(signatures))
        return covariances

    def trained(self, kind: str, folder: str | None = None) -> TrainedNetwork:
        """Return the editor's trained network, `mend` or `ke`. Raises as `contexts` does, and if there is none."""
        self._check("trained")
        trained = self.supplies.trained(self.editor, kind, folder)
        self.supplied["trained"] = trained.digest
        return trained

    def _check(self, need: Need) -> None:
        if need not in self.needs:
            raise ConfigError(f"the editor {self.editor} asks for {need}, which its spec does not name among its needs")


@dataclass(frozen=True, slots=True)
class EditorSpec(Generic[Options]):
    """A line of the table: the type of the options, how the editor is made, and what it needs.

    `together` is true where the requests of a call share an edit, so that their number matters.
    """

    options: type[Options]
    make: Callable[[Context[Options]], Editor]
    needs: frozenset[Need] = frozenset()
    together: bool = False


@dataclass(frozen=True)
class OpenEditor:
    """An editor ready for requests, whose edits are checked. `signature` is all that affects them beside the model."""

    name: str
    lm: LanguageModel
    editor: Editor
    together: bool
    supplied: Mapping[str, Any]

    @cached_property
    def signature(self) -> dict[str, Any]:
        """The editor's name, its options, and the signatures of what it was supplied with."""
        options = {one.name: getattr(self.editor.options, one.name) for one in fields(self.editor.options)}
        # Where an editor keeps the part of a supply that it uses among its options, that part is the signature.
        beside = {name: value for name, value in self.supplied.items() if name not in options}
        return {"editor": self.name, **options, **beside}

    def edit(self, requests: Sequence[Request], done: Callable[[int], None] = no_progress) -> list[Edit]:
        """Return the editor's edits, checked; one that is not finite has a fault.

        Raises EditError naming the editor if a request has no edit or several, or a change does not fit the model.
        """
        return self._all_checked(self.editor.edit(requests, done), len(requests))

    def edit_after(
        self, state: State, requests: Sequence[Request], done: Callable[[int], None] = no_progress
    ) -> tuple[list[Edit], State]:
        """Return the checked edits of a batch of a sequence, and the editor's state after it; raises as `edit` does.

        The model is that after the earlier batches. An editor that keeps no state returns none.
        """
        if not isinstance(self.editor, SequentialEditor):
            return self.edit(requests, done), {}
        edits, after = self.editor.edit_after(state, requests, done)
        return self._all_checked(edits, len(requests)), after

    def _all_checked(self, edits: Sequence[Edit], count: int) -> list[Edit]:
        answered = sorted(place for edit in edits for place in edit.records)
        if answered != list(range(count)):
            raise EditError(f"the editor {self.name} answered the requests {answered}; expected each of {count} once")
        return [self._checked(edit) for edit in edits]

    def _checked(self, edit: Edit) -> Edit:
        edit = replace(edit, model=self.lm.identity)
        if edit.delta is None:
            if not edit.prefix and edit.fault is None:
                raise EditError(f"the editor {self.name} returned an edit with neither a change, a prefix nor a fault")
            return edit
        check_delta(f"the editor {self.name}", self.lm, edit.delta)
        # Of finite factors a norm may still be infinite, and no file holds that.
        measured = unfinished(edit.records, edit.statistics)
        is_whole = edit.delta.is_finite() and len(measured.statistics) == len(edit.statistics)
        return edit if is_whole else measured


def unfinished(records: tuple[int, ...], statistics: Measured, fault: str = NOT_FINITE) -> Edit:
    """Return an edit that failed, with those of its statistics that are numbers a file can hold."""
    finite = {name: value for name, value in statistics.items() if not isinstance(value, float) or math.isfinite(value)}
    return Edit(records, None, statistics=finite, fault=fault)


def check_delta(whose: str, lm: LanguageModel, delta: Delta) -> None:
    """Raise EditError unless the model has every weight that `delta` changes, in the change's shape."""
    for weight, change in delta.changes.items():
        if not 0 <= weight.layer < len(lm.layers) or weight.part not in lm.family.parts:
            raise EditError(
                f"{whose} changes {weight.part!r} of layer {weight.layer}, which {lm.name} does not have; it has "
                f"{len(lm.layers)} layers and the parts {', '.join(lm.family.parts)}"
            )
        if change.shape != lm.shape(weight):
            raise EditError(
                f"{whose} changes {weight.part!r} of layer {weight.layer} by a change of shape {change.shape}; "
                f"expected {lm.shape(weight)} for {lm.name}"
            )
        if isinstance(change, Dense) and change.bias is not None:
            there = lm.bias(weight)
            if there is None or there.shape != change.bias.shape:
                raise EditError(
                    f"{whose} changes the bias of {weight.part!r} of layer {weight.layer} by {len(change.bias)} "
                    f"numbers; {lm.name} has {'none' if there is None else f'{len(there)} numbers'} there"
                )


def editor_spec(name: str) -> EditorSpec[Any]:
    """Return the spec of an editor of the table, or of your own as "module:attribute".

    Raises ConfigError for a name that is neither.
    """
    check_name(name)
    module, _, attribute = EDITORS.get(name, name).partition(":")
    try:
        spec = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"editor {name}: cannot be imported ({error})") from error
    if not isinstance(spec, EditorSpec):
        raise ConfigError(f"editor {name}: is a {type(spec).__name__}; expected an EditorSpec of cfbuild.edit.editor")
    return spec


def settled_options(name: str, lm: LanguageModel, asked: Mapping[str, Any]) -> Any:
    """Return an editor's options for a model: the settings in `asked`, else its preset's, else the type's defaults.

    Raises ConfigError for a setting that the type does not have, a value of another type, or a layer beyond the model.
    """
    kind = editor_spec(name).options
    hints = get_type_hints(kind)
    types = {one.name: _types(hints[one.name]) for one in fields(kind)}
    for setting, value in asked.items():
        _check_setting(name, types, setting, value)
    usual = preset_settings(name, lm.preset, len(lm.layers))
    settings = {**{key: value for key, value in usual.items() if key in types}, **asked}
    if "layer" in settings:
        check_layer(settings["layer"], len(lm.layers))
    return kind(**settings)


def _check_setting(name: str, types: Mapping[str, set[Any]], setting: str, value: Any) -> None:
    settable = [key for key, kinds in types.items() if kinds <= PLAIN]
    if setting not in settable:
        there = ", ".join(settable) or "none"
        raise ConfigError(f"the editor {name} has no setting {setting!r}; expected some of {there}")
    kinds = types[setting]
    if type(value) not in kinds | ({int} if float in kinds else set()):
        expected = " or ".join(sorted(kind.__name__ for kind in kinds - {NoneType}))
        raise ConfigError(f"{setting} of the editor {name} is {value!r}; expected {expected}")


def open_editor(name: str, lm: LanguageModel, asked: Mapping[str, Any], supplies: Supplies) -> OpenEditor:
    """Return the editor `name` for a model, with the settings in `asked` on top of its preset's.

    Raises ConfigError if it cannot be imported, or has no such setting.
    """
    spec = editor_spec(name)
    context = Context(name, lm, settled_options(name, lm, asked), spec.needs, supplies)
    return OpenEditor(name, lm, spec.make(context), spec.together, context.supplied)


def _types(hint: Any) -> set[Any]:
    return set(get_args(hint)) if isinstance(hint, UnionType) else {hint}
