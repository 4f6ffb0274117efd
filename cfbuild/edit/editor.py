"""The contract of editors: what an editor is made from, and the edits that it returns.

An `Edit` answers one request (ROME) or a batch of them (MEMIT) by a change of weights, a text in front of every prompt,
or both. `OpenEditor` checks each edit, so that a fault is reported under the editor's name.
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
    from cfbuild.edit.supplies import LastSupplies, ModelSupplies
    from cfbuild.edit.trained.artefact import TrainedNetwork

Options = TypeVar("Options")
Need = Literal["contexts", "covariance", "trained"]
"""A supply that takes time to make: contexts, covariances of keys, a trained network."""

PLAIN = {bool, int, float, str, NoneType}
"""The types of options that a user can set by name."""
State = Mapping[str, Tensor]
"""The memory of an editor between the batches of a sequence, as tensors by name; empty before the first batch."""
NOT_FINITE = "the edit is not finite"
"""The fault of an edit with a number that is infinite or NaN."""


@dataclass(frozen=True, slots=True, eq=False)
class Edit:
    """An editor's answer to one or more requests, owner indices in the call are `records`.

    `delta` changes weights. `prefix` is put in front of every prompt. An edit with neither has a `fault`, the reason.
    `statistics` holds what the editor measured; `model` is the identity of the model that the edit is for.
    """

    records: tuple[int, ...]
    delta: Delta | None
    prefix: str = ""
    statistics: Measured = field(default_factory=dict)
    fault: str | None = None
    model: Measured = field(default_factory=dict)

    def applied(self, lm: LanguageModel) -> AbstractContextManager[None]:
        """Return a context in which the weights have the change; afterwards they are the same bits as before.

        Raises EditError if the edit changes no weights, or weights that `lm` does not have.
        """
        if self.delta is None:
            raise EditError(f"the edit changes no weight: {self.fault or 'it is a text in front of every prompt'}")
        check_delta("this edit", lm, self.delta)
        return applied(lm, self.delta)

    def save(self, path: str | Path) -> None:
        """Write the edit to a safetensors file, from which `load_edits` reads it."""
        from cfbuild.edit.saved import save_edits

        save_edits(Path(path), [self])


class Editor(Protocol):
    """A maker of edits from requests by its `options`, a dataclass; it leaves the model as it is."""

    options: Any

    def edit(self, requests: Sequence[Request], done: Callable[[int], None] = no_progress) -> list[Edit]:
        """Return edits that answer each request exactly once; an edit that failed has a fault instead of a delta."""


@runtime_checkable
class SequentialEditor(Editor, Protocol):
    """An editor that keeps a state from batch to batch of a sequence."""

    def edit_after(
        self, state: State, requests: Sequence[Request], done: Callable[[int], None] = no_progress
    ) -> tuple[list[Edit], State]:
        """Return the edits of a batch and the state after it; `state` is the one after the batch before.

        Neither `state` nor the editor changes, so a sequence can be resumed after any of its batches.
        """


@dataclass(frozen=True)
class Context(Generic[Options]):
    """Everything that an editor is made from; of the supplies it may take those in `needs`, its spec's.

    `supplied` collects the signature of each supply that the editor took.
    """

    editor: str
    lm: LanguageModel
    options: Options
    needs: frozenset[Need]
    supplies: ModelSupplies | LastSupplies
    supplied: dict[str, Any] = field(default_factory=dict)

    def contexts(self, paper: str = "rome") -> tuple[str, ...]:
        """Return the contexts of a paper. Raises ConfigError if the spec does not name them as a need."""
        self._check("contexts")
        contexts = self.supplies.contexts(paper)
        self.supplied["contexts"] = list(contexts)
        return contexts

    def covariance(self, layer: int) -> Covariance | None:
        """Return C of a layer's keys, None where the user chose none. Raises as `contexts` does."""
        return self.covariances((layer,))[layer]

    def covariances(self, layers: Sequence[int]) -> Mapping[int, Covariance | None]:
        """Return C of each layer's keys, all computed in one pass. Raises as `contexts` does."""
        self._check("covariance")
        covariances = self.supplies.covariances(layers)
        signatures = (covariance.signature if covariance else "none" for covariance in covariances.values())
        self.supplied["covariance"] = "; ".join(dict.fromkeys(signatures))
        return covariances

    def trained(self, kind: str, folder: str | None = None) -> TrainedNetwork:
        """Return the network of the kind `mend` or `ke` in `folder`, by default the editor's own in the build.

        Raises as `contexts` does, and if there is none.
        """
        self._check("trained")
        trained = self.supplies.trained(self.editor, kind, folder)
        self.supplied["trained"] = trained.digest
        return trained

    def _check(self, need: Need) -> None:
        if need not in self.needs:
            raise ConfigError(
                f"the editor {self.editor} asks for {need}, but its spec does not; add {need!r} to the spec's needs"
            )


@dataclass(frozen=True, slots=True)
class EditorSpec(Generic[Options]):
    """An entry of EDITORS: the type of the options, the function that makes the editor, and the supplies it needs.

    `together` is true if the requests of a call share an edit, so that their number matters.
    """

    options: type[Options]
    make: Callable[[Context[Options]], Editor]
    needs: frozenset[Need] = frozenset()
    together: bool = False


@dataclass(frozen=True)
class OpenEditor:
    """An editor ready for requests, owner edits are checked; `supplied` are the signatures of its supplies."""

    name: str
    lm: LanguageModel
    editor: Editor
    together: bool
    supplied: Mapping[str, Any]

    @cached_property
    def signature(self) -> dict[str, Any]:
        """Return everything that affects an edit besides the model: the editor's name, options and supplies."""
        options = {field.name: getattr(self.editor.options, field.name) for field in fields(self.editor.options)}
        # An option of a supply's name holds what the editor takes of the supply (`rome-fast`: every third context).
        supplied = {name: value for name, value in self.supplied.items() if name not in options}
        return {"editor": self.name, **options, **supplied}

    def edit(self, requests: Sequence[Request], done: Callable[[int], None] = no_progress) -> list[Edit]:
        """Return the editor's edits, checked; an edit that is not finite becomes a fault.

        Raises EditError if a request has no edit or several, or a change does not fit the model.
        """
        return self._all_checked(self.editor.edit(requests, done), len(requests))

    def edit_after(
        self, state: State, requests: Sequence[Request], done: Callable[[int], None] = no_progress
    ) -> tuple[list[Edit], State]:
        """Return the checked edits of a sequence's next batch, and the editor's state after it (empty if it has none).

        `lm` has the changes of the earlier batches. Raises as `edit` does.
        """
        if not isinstance(self.editor, SequentialEditor):
            return self.edit(requests, done), {}
        edits, after = self.editor.edit_after(state, requests, done)
        return self._all_checked(edits, len(requests)), after

    def _all_checked(self, edits: Sequence[Edit], count: int) -> list[Edit]:
        answered = sorted(place for edit in edits for place in edit.records)
        if answered != list(range(count)):
            raise EditError(
                f"the editor {self.name} answered the requests {answered}; expected each of 0 to {count - 1} once"
            )
        return [self._checked(edit) for edit in edits]

    def _checked(self, edit: Edit) -> Edit:
        edit = replace(edit, model=self.lm.identity)
        if edit.delta is None:
            if not edit.prefix and edit.fault is None:
                raise EditError(f"the editor {self.name} returned an edit with neither a change, a prefix nor a fault")
            return edit
        check_delta(f"the editor {self.name}", self.lm, edit.delta)
        # The norm of finite factors can be infinite, which JSON cannot hold.
        failed = failed_edit(edit.records, edit.statistics)
        is_finite = edit.delta.is_finite() and len(failed.statistics) == len(edit.statistics)
        return edit if is_finite else failed


def failed_edit(records: tuple[int, ...], statistics: Measured, fault: str = NOT_FINITE) -> Edit:
    """Return an edit of the requests `records` that failed by a `fault`, with the statistics that are finite."""
    finite = {name: value for name, value in statistics.items() if not isinstance(value, float) or math.isfinite(value)}
    return Edit(records, None, statistics=finite, fault=fault)


def check_delta(owner: str, lm: LanguageModel, delta: Delta) -> None:
    """Raise EditError, naming `owner`, unless the model has every weight that `delta` changes, in its shape."""
    for weight, change in delta.changes.items():
        if not 0 <= weight.layer < len(lm.layers) or weight.part not in lm.family.parts:
            raise EditError(
                f"{owner} changes {weight.part!r} of layer {weight.layer}, which {lm.name} does not have; it has "
                f"{len(lm.layers)} layers and the parts {', '.join(lm.family.parts)}"
            )
        if change.shape != lm.shape(weight):
            raise EditError(
                f"{owner} changes {weight.part!r} of layer {weight.layer} by a change of shape {change.shape}; "
                f"expected {lm.shape(weight)} for {lm.name}"
            )
        if isinstance(change, Dense) and change.bias is not None:
            bias = lm.bias(weight)
            if bias is None or bias.shape != change.bias.shape:
                raise EditError(
                    f"{owner} changes the bias of {weight.part!r} of layer {weight.layer} by {len(change.bias)} "
                    f"numbers; {lm.name} has {'no bias' if bias is None else f'{len(bias)} numbers'} there"
                )


def editor_spec(name: str) -> EditorSpec[Any]:
    """Return the spec of an editor of EDITORS, or of "module:attribute". Raises ConfigError if there is none."""
    check_name(name)
    module, _, attribute = EDITORS.get(name, name).partition(":")
    try:
        spec = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"editor {name}: cannot be imported ({error})") from error
    if not isinstance(spec, EditorSpec):
        raise ConfigError(f"editor {name}: is a {type(spec).__name__}; expected an EditorSpec of cfbuild.edit.editor")
    return spec


def settled_options(name: str, lm: LanguageModel, settings: Mapping[str, Any]) -> Any:
    """Return an editor's options for a model: `settings`, else its preset's, else the defaults of the options' type.

    Raises ConfigError for a setting that the editor does not have, a value of another type, or a layer that the model
    does not have.
    """
    options = editor_spec(name).options
    hints = get_type_hints(options)
    types = {field.name: _types(hints[field.name]) for field in fields(options)}
    for key, value in settings.items():
        _check_setting(name, types, key, value)
    preset = preset_settings(name, lm.preset, len(lm.layers))
    values = {**{key: value for key, value in preset.items() if key in types}, **settings}
    if "layer" in values:
        check_layer(values["layer"], len(lm.layers))
    return options(**values)


def _check_setting(name: str, types: Mapping[str, set[Any]], key: str, value: Any) -> None:
    settable = [key for key, kinds in types.items() if kinds <= PLAIN]
    if key not in settable:
        raise ConfigError(f"the editor {name} has no setting {key!r}; expected some of {', '.join(settable) or 'none'}")
    kinds = types[key]
    if type(value) not in kinds | ({int} if float in kinds else set()):
        expected = " or ".join(sorted(kind.__name__ for kind in kinds - {NoneType}))
        raise ConfigError(f"{key} of the editor {name} is {value!r}; expected {expected}")


def open_editor(
    name: str, lm: LanguageModel, settings: Mapping[str, Any], supplies: ModelSupplies | LastSupplies
) -> OpenEditor:
    """Return the editor for a model, with `settings` in place of its preset's. Raises as `settled_options` does."""
    spec = editor_spec(name)
    context = Context(name, lm, settled_options(name, lm, settings), spec.needs, supplies)
    return OpenEditor(name, lm, spec.make(context), spec.together, context.supplied)


def _types(hint: Any) -> set[Any]:
    return set(get_args(hint)) if isinstance(hint, UnionType) else {hint}
