"""Causal traces against the same written plainly (hooks, whole runs, one state at a time) and the released numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scored_build
import tiny
import torch
from stopping import stopping
from torch import Tensor
from typer.testing import CliRunner

import cfbuild as cf
from cfbuild.cli import app
from cfbuild.data import Record, Target
from cfbuild.errors import BuildStateError, ConfigError, DataError
from cfbuild.lm import batching
from cfbuild.lm.model import Ids, LanguageModel, Weight
from cfbuild.pipeline.trace import TraceOptions
from cfbuild.pipeline.trace import trace as trace_build
from cfbuild.probe.corruption import noise_level
from cfbuild.probe.effects import AverageEffects, CausalTrace, Untraced
from cfbuild.probe.settings import BOTH, DIFFERENCE, KINDS, SWAP, TraceSettings
from cfbuild.probe.tracer import TracedFact, Tracer
from cfbuild.records.factset import snapshot
from cfbuild.records.maker import RecordMaker
from cfbuild.store.codec import encode_record
from cfbuild.store.folder import BuildFolder
from cfbuild.store.jsonl import read_rows, write_jsonl

FAMILIES = ("gpt2", "gptj", "gpt_neox", "llama", "gemma", "opt", "gemma2")
OTHERS = tuple((letter, None) for letter in "SBZPQ")
FACTS = (
    TracedFact(0, "P1", "The mother tongue of {} is", "Berlin"),
    TracedFact(1, "P1", "{} lies in", "R", others=OTHERS),
    TracedFact(2, "P1", "She speaks {}", "French", others=(("German", None), ("English", None))),
)
SMALL = TraceSettings(window=3, rows=2, noise=0.4)
PARTS = {"mlp": "mlp_out", "attention": "attention_out"}


# ---------------------------------------------------------------------------------------------------- the plain way


class Plain:
    """The released code's way: the clean row and the corrupted rows in one batch, all of it run for every state."""

    def __init__(self, lm: LanguageModel, trace: CausalTrace, rows: list[Ids], noise: np.ndarray | None) -> None:
        self.lm, self.trace, self.noise = lm, trace, noise
        self.ids = torch.tensor([trace.ids, *rows])
        self.answer = int(self.run()[0].argmax())

    def run(self, changes: Mapping[tuple[str, int], Callable[[Tensor], Tensor]] = {}) -> Tensor:
        """Logits of the last token, [rows, vocabulary]; `changes` get a module's output [rows, width, d]."""
        with ExitStack() as hooks, torch.no_grad():
            hooks.enter_context(self._hooked(self.lm.model.get_input_embeddings(), self._corrupt))
            for (kind, layer), change in changes.items():
                module = self.lm.layers[layer] if kind == "state" else self.lm.module(Weight(layer, PARTS[kind]))
                hooks.enter_context(self._hooked(module, change))
            logits: Tensor = self.lm.model(input_ids=self.ids).logits[:, -1]
        return logits

    def metric(self, logits: Tensor) -> float:
        """Return the mean over the corrupted rows."""
        return float(self.of(logits[1:]).mean())

    def of(self, logits: Tensor) -> Tensor:
        if self.against is None:
            return logits.softmax(-1)[:, self.answer]
        return logits[:, self.answer] - logits[:, self.against]

    against: int | None = None

    def _corrupt(self, vectors: Tensor) -> Tensor:
        begin, end = self.trace.subject
        if self.noise is not None:
            vectors = vectors.clone()
            vectors[1:, begin:end] += torch.from_numpy(self.noise).float()
        return vectors

    @contextmanager
    def _hooked(self, module: Any, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
        def put(_: Any, args: Any, output: Any) -> Any:
            states = output[0] if isinstance(output, tuple) else output
            changed = change(states.reshape(*self.ids.shape, -1)).reshape(states.shape)
            return (changed, *output[1:]) if isinstance(output, tuple) else changed

        hook = module.register_forward_hook(put)
        try:
            yield
        finally:
            hook.remove()

    def restored(self, token: int, modules: list[tuple[str, int]], hold: str | None = None) -> float:
        """Return the metric with the clean row's outputs of some modules at a token; a held kind stays corrupted."""
        changes: dict[tuple[str, int], Callable[[Tensor], Tensor]] = {}
        if hold is not None:
            first: dict[int, Tensor] = {}
            self.run({(hold, layer): partial(self._note, first, layer) for layer in range(len(self.lm.layers))})
            changes = {(hold, layer): partial(self._put, token, first[layer]) for layer in first}
        return self.metric(self.run({**changes, **{module: partial(self._restore, token) for module in modules}}))

    def _note(self, kept: dict[int, Tensor], layer: int, output: Tensor) -> Tensor:
        kept[layer] = output.clone()
        return output

    def _put(self, token: int, values: Tensor, output: Tensor) -> Tensor:
        output = output.clone()
        output[1:, token] = values[1:, token]
        return output

    def _restore(self, token: int, output: Tensor) -> Tensor:
        output = output.clone()
        output[1:, token] = output[:1, token]
        return output

    def scores(self, settings: TraceSettings) -> dict[str, np.ndarray]:
        depth = len(self.lm.layers)
        windows = {
            layer: range(max(0, layer - settings.window // 2), min(depth, layer - (-settings.window // 2)))
            for layer in range(depth)
        }
        found = {}
        for kind in KINDS:
            found[kind] = np.array(
                [
                    [
                        self.restored(
                            token, [(kind, each) for each in ((layer,) if kind == "state" else windows[layer])]
                        )
                        for layer in range(depth)
                    ]
                    for token in range(len(self.trace.tokens))
                ]
            )
        last = self.trace.subject[1] - 1
        for hold in PARTS:
            found[f"severed_{hold}"] = np.array(
                [self.restored(last, [("state", layer)], hold) for layer in range(depth)]
            )
        return found


def plain_way(lm: LanguageModel, trace: CausalTrace, settings: TraceSettings) -> Plain:
    """Return the plain way of a trace, from what the trace says was traced."""
    if trace.swapped is not None:
        text = next(fact.prompt for fact in FACTS if fact.case_id == trace.case_id).replace("{}", trace.swapped)
        return Plain(lm, trace, [lm.encode(text)], None)
    begin, end = trace.subject
    width = lm.model.get_input_embeddings().weight.shape[1]
    noise = settings.noise * np.random.RandomState(settings.seed).randn(settings.rows, end - begin, width)
    return Plain(lm, trace, [trace.ids] * settings.rows, noise)


def traces(
    lm: LanguageModel, settings: TraceSettings = SMALL, facts: tuple[TracedFact, ...] = FACTS
) -> list[CausalTrace]:
    made = Tracer(lm, settings, ()).trace(facts)
    return [one for one in made if isinstance(one, CausalTrace)]


# --------------------------------------------------------------------------------------------------------- equality


@pytest.mark.parametrize("family", FAMILIES)
def test_every_kind_equals_whole_runs_one_state_at_a_time(family: str) -> None:
    lm = tiny.make(family, adds_bos=family in ("llama", "opt"))
    before = tiny.digest(lm)
    facts = FACTS if family == "llama" else FACTS[:2]
    found = traces(lm, facts=facts)
    assert [trace.case_id for trace in found] == [fact.case_id for fact in facts] and tiny.digest(lm) == before
    assert {trace.subject[1] - trace.subject[0] == 1 for trace in found} == {True, False}, "short and long subjects"
    for trace in found:
        plain = plain_way(lm, trace, SMALL)
        clean = plain.run()
        assert trace.high == pytest.approx(float(plain.of(clean)[0]), abs=1e-5)
        assert trace.low == pytest.approx(plain.metric(clean), abs=1e-5)
        expected = plain.scores(SMALL)
        assert trace.scores.keys() == expected.keys()
        for kind, values in expected.items():
            np.testing.assert_allclose(trace.scores[kind], values, atol=1e-5, rtol=0, err_msg=f"{family} {kind}")
            assert np.ptp(values) > 1e-4, f"{family} {kind}: a test that could not fail"


# ------------------------------------------------------------------------------------- swap, differences, attribution


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_swaps_and_logit_differences_equal_whole_runs(family: str) -> None:
    lm = tiny.make(family)
    settings = replace(SMALL, corrupt=SWAP, metric=DIFFERENCE, noise=None)
    found = traces(lm, settings, FACTS[1:])
    assert found and found[0].swapped in dict(OTHERS) and found[0].other != found[0].answer
    for trace in found:
        plain = plain_way(lm, trace, settings)
        plain.against = int(plain.run()[1].argmax())
        assert trace.other == lm.tokenizer.decode([plain.against])
        assert trace.high == pytest.approx(float(plain.of(plain.run())[0]), abs=1e-5)
        for kind, values in plain.scores(settings).items():
            np.testing.assert_allclose(trace.scores[kind], values, atol=2e-5, rtol=0, err_msg=kind)


def test_a_noisy_difference_is_from_what_the_corrupted_rows_think_likeliest() -> None:
    lm = tiny.make("gpt2")
    settings = replace(SMALL, metric=DIFFERENCE, kinds=("state",))
    (trace,) = traces(lm, settings, FACTS[:1])
    plain = plain_way(lm, trace, settings)
    mean = plain.run()[1:].softmax(-1).mean(0)
    mean[plain.answer] = 0
    plain.against = int(mean.argmax())
    assert trace.other == lm.tokenizer.decode([plain.against])
    assert trace.low == pytest.approx(plain.metric(plain.run()), abs=1e-5)
    assert trace.scores["state"][-1, 0] == pytest.approx(
        plain.restored(len(trace.tokens) - 1, [("state", 0)]), abs=2e-5
    )


def test_no_pair_fits_and_other_answers_are_told() -> None:
    lm = tiny.make("gpt2")
    facts = [replace(FACTS[1], others=(("Danielle Darrieux", None),)), replace(FACTS[0], expected="Paris", case_id=7)]
    made = Tracer(lm, replace(SMALL, corrupt=SWAP), ()).trace(facts)
    assert [(one.case_id, one.rule) for one in made if isinstance(one, Untraced)] == [
        (1, "no-pair"),
        (7, "other-answer"),
    ]


def test_numbers_that_are_not_finite_are_no_trace() -> None:
    lm = tiny.make("gpt2")
    made = Tracer(lm, replace(SMALL, noise=float(np.finfo(np.float32).max)), ()).trace(FACTS[:1])
    assert [one.rule for one in made if isinstance(one, Untraced)] == ["not-finite"]


def test_restoring_the_ends_of_the_model_gives_both_runs() -> None:
    lm = tiny.make("llama")
    for trace in traces(lm):
        state, last = trace.scores["state"], len(trace.tokens) - 1
        assert state[last, -1] == trace.high and (state[:last, -1] == trace.low).all()
        assert (state[: trace.subject[0]] == trace.low).all(), "before the subject nothing is corrupted"
        everything = plain_way(lm, trace, SMALL)
        all_tokens = {("state", 1): lambda output: output[:1].expand_as(output)}
        assert everything.metric(everything.run(all_tokens)) == pytest.approx(trace.high, abs=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "opt", "gptj", "llama"])
def test_attributed_effects_are_differences_times_gradients(family: str) -> None:
    lm = tiny.make(family)
    found = traces(lm, replace(SMALL, method=BOTH), FACTS[:2])
    for trace in found:
        plain = plain_way(lm, trace, SMALL)
        depth = len(lm.layers)
        modules = [(kind, layer) for kind in KINDS for layer in range(depth)]
        kept: dict[tuple[str, int], Tensor] = {}
        shifts: dict[tuple[str, int], Tensor] = {}

        def shifted(key: tuple[str, int], kept: Any, shifts: Any, output: Tensor) -> Tensor:
            kept[key] = output.detach()
            shifts[key] = torch.zeros_like(output, requires_grad=True)
            return output + shifts[key]

        with torch.enable_grad(), ExitStack() as hooks:
            hooks.enter_context(plain._hooked(lm.model.get_input_embeddings(), plain._corrupt))
            for key in modules:
                module = lm.layers[key[1]] if key[0] == "state" else lm.module(Weight(key[1], PARTS[key[0]]))
                hooks.enter_context(plain._hooked(module, partial(shifted, key, kept, shifts)))
            logits = lm.model(input_ids=plain.ids).logits[:, -1]
            gradients = torch.autograd.grad(plain.of(logits[1:]).sum(), [shifts[key] for key in modules])
        products = {
            key: ((kept[key][:1] - kept[key][1:]) * gradient[1:]).sum(-1).mean(0).numpy()
            for key, gradient in zip(modules, gradients, strict=True)
        }
        for kind in KINDS:
            by_layer = np.stack([products[kind, layer] for layer in range(depth)], axis=1)
            if kind != "state":
                by_layer = np.stack([by_layer[:, max(0, i - 1) : i + 2].sum(1) for i in range(depth)], axis=1)
            np.testing.assert_allclose(trace.attributed[kind], by_layer, atol=1e-5, rtol=0, err_msg=kind)
            assert np.ptp(by_layer) > 1e-4
    average = AverageEffects.of(found)
    exact, fast = (
        np.concatenate([one[trace.subject[0] :].ravel() for one, trace in zip(maps, found, strict=True)])
        for maps in ([trace.effects["mlp"] for trace in found], [trace.attributed["mlp"] for trace in found])
    )
    assert average.correlations["mlp"] == pytest.approx(np.corrcoef(exact, fast)[0, 1])


def test_attribution_alone_says_the_same_as_beside_the_exact_way() -> None:
    lm = tiny.make("gpt2")
    both, alone = (traces(lm, replace(SMALL, method=method), FACTS[:2]) for method in (BOTH, "attribution"))
    for exact, attributed in zip(both, alone, strict=True):
        assert not attributed.scores and attributed.low == pytest.approx(exact.low, abs=1e-6)
        np.testing.assert_allclose(attributed.maps["state"], exact.attributed["state"], atol=1e-6)


def test_batches_do_not_change_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = tiny.make("llama")
    together = traces(lm)
    monkeypatch.setitem(batching.TOKENS_PER_BATCH, "cpu", 30)
    for whole, batched in zip(together, traces(lm), strict=True):
        for kind, values in whole.scores.items():
            np.testing.assert_allclose(batched.scores[kind], values, atol=1e-6)


def test_noise_is_three_deviations_of_all_embeddings_of_the_subjects() -> None:
    for family in ("gpt2", "opt", "gemma"):
        lm = tiny.make(family, adds_bos=family == "opt")
        subjects = ("Rome", "Danielle Darrieux", "Italy")
        with torch.no_grad():
            vectors = [
                lm.model.get_input_embeddings()(
                    lm.tokenizer(subject, add_special_tokens=False, return_tensors="pt").input_ids
                )
                for subject in subjects
            ]
        expected = 3 * float(torch.cat([subject.flatten() for subject in vectors]).std())
        assert noise_level(lm, subjects) == pytest.approx(expected, rel=1e-5)
    with pytest.raises(DataError, match="no subject"):
        noise_level(lm, ())


def test_effects_are_averaged_by_the_place_of_a_token() -> None:
    def made(subject: tuple[int, int], tokens: int, shift: float) -> CausalTrace:
        scores = np.arange(tokens, dtype=float)[:, None] + np.array([[shift, shift + 0.5]])
        words = tuple("abcdefgh"[:tokens])
        return CausalTrace(1, "P1", "x", "y", (0,) * tokens, words, subject, "a", 9.0, 1.0, {"state": scores})

    long, short = made((1, 4), 7, 0.0), made((0, 1), 2, 2.0)
    assert {name: list(range(7))[tokens] for name, tokens in long.places.items()} == {
        "first subject": [1],
        "middle subject": [2],
        "last subject": [3],
        "first after": [4],
        "further": [5],
        "last": [6],
    }
    assert short.places == {
        "first subject": slice(0, 1),
        "last subject": slice(0, 1),
        "first after": slice(1, 2),
        "last": slice(1, 2),
    }
    ends = made((1, 3), 3, 0.0)
    assert "first after" not in ends.places and ends.places["last"] == ends.places["last subject"]
    average = AverageEffects.of([long, short])
    curve = average.curves["state"]["last subject"]
    values = np.array([[2.0, 2.5], [1.0, 1.5]])
    np.testing.assert_allclose(curve.mean, values.mean(0))
    np.testing.assert_allclose(curve.half_width, 1.96 * values.std(0) / np.sqrt(2))
    assert average.curves["state"]["middle subject"].count == 1 and average.total == (8.0, 0.0) and curve.best == 1


@pytest.mark.shared
@pytest.mark.model
@pytest.mark.parametrize(
    ("place", "kinds"),
    [(0, ("state",)), *(pytest.param(place, ("mlp", "attention"), marks=pytest.mark.long) for place in (0, 1))],
)
def test_the_released_codes_traces_of_smollm2(
    place: int, kinds: tuple[str, ...], golden: Path, smollm2: LanguageModel
) -> None:
    release, arrays = json.loads((golden / "trace.json").read_text()), np.load(golden / "trace.npz")
    assert noise_level(smollm2, release["subjects_for_noise"]) == pytest.approx(release["noise"], rel=1e-5)
    expected = release["facts"][place]
    fact = TracedFact(1, "P1", expected["prompt"].replace(expected["subject"], "{}"), expected["subject"])
    settings = TraceSettings(kinds=kinds, noise=release["noise"])
    (trace,) = traces(smollm2, settings, (fact,))
    assert (list(trace.tokens), list(trace.subject)) == (expected["input_tokens"], expected["subject_range"])
    assert trace.answer == expected["answer"]
    assert (trace.high, trace.low) == pytest.approx((expected["high_score"], expected["low_score"]), abs=1e-4)
    for kind in kinds:
        name = {"attention": "attn"}.get(kind, kind)
        np.testing.assert_allclose(trace.scores[kind], arrays[f"fact{place}_{name}"], atol=1e-4, rtol=0, err_msg=kind)


# ------------------------------------------------------------------------------------------------- from build to page


def known_records(lm: LanguageModel, known: int = 4, others: int = 2) -> list[Record]:
    """Records whose true object is the model's answer where that is a word, then others, with another object."""
    found: list[Record] = []
    for number in range(200):
        record = scored_build.record(number, f"Berlin {chr(65 + number % 26)}{chr(97 + number // 26)}", "P19")
        with torch.no_grad():
            answer = int(lm.model(input_ids=torch.tensor([lm.encode(record.rewrite)])).logits[0, -1].argmax())
        label = lm.tokenizer.decode([answer]).strip()
        if label.isalpha() and label.lower() not in record.rewrite.lower().split() and len(found) < known:
            found.append(replace(record, target_true=Target(f"Q{900 + answer}", label)))
        elif len(found) >= known:
            found.append(record)
        if len(found) == known + others:
            return found
    raise AssertionError("the model says too few words")


def build(root: Path, lm: LanguageModel) -> BuildFolder:
    root.mkdir(parents=True)
    write_jsonl(root / "records.jsonl", map(encode_record, known_records(lm)))
    return BuildFolder(root)


def files_of(folder: BuildFolder) -> dict[str, bytes]:
    root = folder.path("traces")
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


FEW = {"window": 3, "rows": 2, "limit": 6, "pictures": 1}


def test_killed_traces_go_on_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cfbuild.pipeline.trace.FACTS_AT_ONCE", 2)
    lm, options = tiny.make("gpt2"), TraceOptions(method=BOTH, **FEW)
    whole, killed = (build(tmp_path / name, lm) for name in ("whole", "killed"))
    summary = trace_build(whole, options, lm)
    assert summary.traced >= 2 and summary.traced + sum(summary.skipped.values()) == 6 and summary.page
    assert set(summary.averages["correlations"]) == {*KINDS}

    with pytest.raises(KeyboardInterrupt):
        trace_build(killed, options, lm, stopping("facts", 4))
    steps: list[int] = []
    trace_build(killed, options, lm, lambda task, done, _: steps.append(done) if task == "facts" else None)
    assert steps == [4, 6], "it goes on after the last whole chunk"
    assert files_of(killed) == files_of(whole) and not killed.path("progress/trace/noise").exists()

    def refuse(task: str, done: int, total: int | None) -> None:
        raise AssertionError("what is finished is not done again")

    assert trace_build(whole, options, lm, refuse) == summary
    with pytest.raises(BuildStateError, match="window: 3 then, 4 now"):
        trace_build(whole, replace(options, window=4), lm)


def test_the_files_of_traces_are_the_released_codes_and_drawings(tmp_path: Path) -> None:
    lm = tiny.make("gpt2")
    folder = build(tmp_path / "build", lm)
    trace_build(folder, TraceOptions(**FEW), lm)
    made = [CausalTrace.of_row(row) for _, row in read_rows(folder.path("traces/noise/traces.jsonl"))]
    for kind, (suffix, name) in {"state": ("", ""), "mlp": ("_mlp", "mlp"), "attention": ("_attn", "attn")}.items():
        with np.load(folder.path(f"traces/noise/cases/knowledge_{made[0].case_id}{suffix}.npz")) as released:
            assert {*released} == {
                *("scores", "low_score", "high_score", "input_ids", "input_tokens", "subject_range", "answer"),
                *("window", "correct_prediction", "kind"),
            }
            np.testing.assert_allclose(released["scores"], made[0].scores[kind], atol=1e-6)
            assert (*released["subject_range"],) == made[0].subject and str(released["kind"]) == name
            assert [*released["input_tokens"]] == [*made[0].tokens] and bool(released["correct_prediction"])
    names = {path.name for path in folder.path("traces/noise").glob("*.svg")}
    first = made[0].case_id
    assert names == {
        *(f"{what}-{kind}.svg" for kind in KINDS for what in ("average", "curves")),
        *(f"{kind}-{first}.svg" for kind in KINDS),
        "severed.svg",
    }
    drawing = folder.path(f"traces/noise/state-{first}.svg").read_text(encoding="utf-8")
    cells = made[0].scores["state"].size
    assert drawing.count("<rect") == cells + 24 and drawing.count("*</text>") == made[0].subject[1] - made[0].subject[0]
    page = folder.path("report.html").read_text(encoding="utf-8")
    assert "Causal traces <bdi>noise</bdi>" in page and "Restored state: " in page
    skipped = [row for _, row in read_rows(folder.path("traces/noise/skipped.jsonl"))]
    assert all(row["rule"] == "other-answer" for row in skipped) and len(skipped) + len(made) == 6


def test_the_command_for_records_and_for_a_prompt(tmp_path: Path) -> None:
    lm = tiny.make("llama")
    model = str(tmp_path / "model")
    lm.model.save_pretrained(model)
    lm.tokenizer.save_pretrained(model)
    folder, runner = build(tmp_path / "build", lm), CliRunner()
    shared = ["trace", "--build", str(folder.root), "--model", model, "--window", "3", "--rows", "2"]
    shown = runner.invoke(app, [*shared, "--limit", "4", "--kinds", "state,mlp"], catch_exceptions=False)
    assert shown.exit_code == 0 and "restored mlp, indirect effect 0 to" in shown.output
    assert "last subject" in shown.output and "total effect" in shown.output
    prompt = ["--prompt", "The mother tongue of Berlin is", "--subject", "Berlin"]
    shown = runner.invoke(app, [*shared, *prompt], catch_exceptions=False)
    assert shown.exit_code == 0 and "1 facts traced" in shown.output and "*" in shown.output
    shown = runner.invoke(app, [*shared, *prompt, "--run", "mine", "--method", "attribution", "--json", "-q"])
    made = json.loads(shown.stdout)
    assert made["traced"] == 1 and made["noise"] > 0 and {*made["averages"]["indirect_effects"]} == {*KINDS}
    swap = ["--corrupt", "swap", "--metric", "logit-difference", "--run", "swap"]
    shown = runner.invoke(app, [*shared, *prompt, *swap, "--other", "Danielle", "--json", "-q"])
    assert json.loads(shown.stdout)["skipped"] == {"no-pair": 1} and json.loads(shown.stdout)["averages"] == {}
    page = folder.path("report.html").read_text(encoding="utf-8")
    assert all(f"Causal traces <bdi>{name}</bdi>" in page for name in ("noise", "prompt", "mine"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"corrupt": "zero"}, "corrupt 'zero' does not exist; expected one of noise, swap"),
        ({"kinds": ("severed",)}, "expected some of state, mlp, attention"),
        ({"kinds": ("state", "heads")}, "kinds 'heads' does not exist"),
        ({"window": 0}, "window is 0; expected at least 1"),
        ({"noise": -1.0}, "noise is -1.0; expected a positive number"),
        ({"seed": -1}, "seed is -1; expected 0 to"),
        ({"limit": 0}, "limit is 0"),
        ({"prompt": "Rome lies in", "subject": "Paris"}, "does not hold the subject 'Paris'"),
        ({"prompt": "Rome lies in"}, "does not hold the subject None; name it by --subject"),
        ({"prompt": "{} Rome", "subject": "Rome"}, "write the subject in its place"),
        ({"subject": "Rome"}, "go with --prompt"),
        ({"prompt": "Rome lies in", "subject": "Rome", "corrupt": "swap"}, "needs --other"),
    ],
)
def test_settings_of_a_trace_that_make_no_sense_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TraceOptions(**given)


def test_traces_from_python(tmp_path: Path) -> None:
    lm = tiny.make("gpt2")
    made = cf.trace(lm, "{} lies in", subject="Rome", window=3, rows=2, kinds=("state",))
    assert made.scores["state"].shape == (len(made.tokens), 4) and made.total == made.high - made.low
    with pytest.raises(ConfigError, match="traces have no setting layer; expected some of corrupt"):
        cf.trace(lm, "{} lies in", subject="Rome", layer=3)
    with pytest.raises(DataError, match="none of 1 other subjects"):
        cf.trace(lm, "{} lies in", subject="Rome", others=["Danielle Darrieux"], corrupt=SWAP)
    several = cf.trace_records(lm, known_records(lm)[:3], window=3, rows=2, kinds=("mlp",))
    assert len(several) == 3 and any(isinstance(one, CausalTrace) for one in several)


def test_a_records_pairs_are_of_its_relation_with_another_object_and_seeded() -> None:
    maker = RecordMaker(snapshot(), seed=0)
    (record, *_), _ = maker.make(limit=2, relations=["P103"])
    pairs = maker.pairs(record)
    graph = maker.graph
    truths = {(graph.label(fact.subject), graph.label(fact.object)) for fact in graph.facts_of("P103")}
    assert len(pairs) > 20 and {*pairs} <= truths and len({*pairs}) == len(pairs)
    assert all(name != record.subject.label and value != record.target_true.label for name, value in pairs)
    assert RecordMaker(snapshot(), seed=0).pairs(record) == pairs != RecordMaker(snapshot(), seed=1).pairs(record)


def test_swaps_of_records_take_other_records_subjects(tmp_path: Path) -> None:
    lm = tiny.make("gpt2")
    records = known_records(lm)
    labels = {record.subject.label: record.target_true.label for record in records}
    made = cf.trace_records(lm, records, corrupt=SWAP, window=3, kinds=("state",))
    for corrupted, record in zip(made, records, strict=True):
        if isinstance(corrupted, CausalTrace):
            assert corrupted.swapped in labels and corrupted.swapped != record.subject.label
            assert labels[corrupted.swapped] != record.target_true.label
