"""Models, tokenizers and patches by which a wrong number would come out without an error: right, or refused."""

from __future__ import annotations

import copy
import gc
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from cfbuild.errors import ModelError
from cfbuild.lm import agreement, load, notices, precision
from cfbuild.lm.agreement import check_model, check_parts, check_tokenizer, check_weights
from cfbuild.lm.batch import Batch, Past, additive_mask, left_padded
from cfbuild.lm.batching import halving
from cfbuild.lm.delta import applied
from cfbuild.lm.forward import remember, replay, run, trace
from cfbuild.lm.fused import fused_layers
from cfbuild.lm.fusible import fusible_layers
from cfbuild.lm.hooks import projection_output
from cfbuild.lm.likelihood import Question, score
from cfbuild.lm.linear import LinearMap
from cfbuild.lm.model import LanguageModel
from cfbuild.lm.products import fast_products
from cfbuild.lm.room import free_memory, total_memory
from cfbuild.lm.sample import generate

PROMPT = "The mother tongue of Danielle Darrieux is"
TARGETS = ("French", "New Zealand English", "New Zealand", "Paris")
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(autouse=True)
def forget_notices() -> Iterator[None]:
    notices.log_once.cache_clear()
    yield
    notices.log_once.cache_clear()


def plain_nll(lm: LanguageModel, prompt: str, target: str) -> float:
    """Return the NLL in the slow, obvious way: a single row, all logits, the last tokens read off."""
    ids = lm.encode(f"{prompt} {target}")
    count = len(ids) - len(lm.encode(prompt))
    with torch.no_grad():
        logits = lm.model(torch.tensor([ids])).logits[0, -count - 1 : -1]
    return float(nn.functional.cross_entropy(logits, torch.tensor(ids[-count:])))


def assert_scored_as_the_plain_model_does(lm: LanguageModel) -> None:
    expected = [plain_nll(lm, PROMPT, target) for target in TARGETS]
    for targets in (TARGETS, TARGETS[:1]):  # with a mask of ours, and with transformers' own
        answers = score(lm, [Question(lm.encode(PROMPT), tuple(map(lm.continuation, targets)))])[0]
        assert [answer.nll_nats for answer in answers] == pytest.approx(expected[: len(targets)], abs=1e-4)


def some_batch(width: int = 6) -> Batch:
    ids = torch.randint(3, 200, (2, width), generator=torch.Generator().manual_seed(0))
    return Batch(ids, torch.arange(width).expand(2, -1), None)


# Layers that are not quite Llama's.


@pytest.mark.parametrize("activation", ["gelu", "relu", "gelu_pytorch_tanh", "quick_gelu"])
@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2"])
def test_another_activation_is_scored_as_the_model_does(family: str, activation: str) -> None:
    lm = tiny.make(family, hidden_act=activation)
    assert fusible_layers(lm) == []
    assert_scored_as_the_plain_model_does(lm)


def test_silu_by_another_name_runs_fused() -> None:
    lm = tiny.make("llama", hidden_act="swish")
    assert fusible_layers(lm) == [0, 1, 2, 3]
    assert_scored_as_the_plain_model_does(lm)


def test_an_activation_that_its_configuration_does_not_name_is_seen_in_the_module() -> None:
    lm = tiny.make("llama")
    lm.layers[2].mlp.act_fn = nn.GELU()
    assert fusible_layers(lm) == [0, 1, 3]
    assert_scored_as_the_plain_model_does(lm)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("biases", [{"attention_bias": True}, {"mlp_bias": True}, {}])
def test_biases_are_added(family: str, biases: dict[str, bool]) -> None:
    lm = tiny.make(family, **biases)
    for name, weight in lm.model.named_parameters():
        if name.endswith("bias"):
            weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(len(name))))
    assert_scored_as_the_plain_model_does(lm)


WINDOWS: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": 4},
    "qwen2": {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2},
    "qwen3": {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 0},
    "gemma2": {"sliding_window": 4},
    "gemma3_text": {"sliding_window": 4},
}


@pytest.mark.parametrize("family", WINDOWS)
def test_a_window_shorter_than_a_row_is_kept(family: str) -> None:
    lm = tiny.make(family, **WINDOWS[family])
    assert_scored_as_the_plain_model_does(lm)
    wide = tiny.make(family)
    assert plain_nll(lm, PROMPT, "French") != pytest.approx(plain_nll(wide, PROMPT, "French"), abs=1e-3)


@pytest.mark.parametrize("is_fused", [False, True])
@pytest.mark.parametrize("family", WINDOWS)
def test_a_window_is_kept_over_padding_and_a_past(family: str, is_fused: bool) -> None:
    lm = tiny.make(family, **WINDOWS[family])
    texts, more = [(5, 6, 7, 8, 9, 10, 11), (12, 13, 14)], torch.tensor([[20, 21, 22], [23, 24, 25]])
    batch, real = left_padded(texts, lm)
    past = Past(len(lm.layers), real.shape[1] + 3)
    with torch.no_grad(), fused_layers(lm) if is_fused else nullcontext():
        remember(lm, batch, real, past)
        causal = torch.ones(3, 3, dtype=torch.bool).tril().expand(2, -1, -1)
        visible = torch.cat((real[:, None, :].expand(-1, 3, -1), causal), dim=2)
        positions = real.sum(dim=1)[:, None] + torch.arange(3)
        got = run(lm, Batch(more, positions, additive_mask(visible, lm.dtype)), past=past)
    for row, text in enumerate(texts):
        with torch.no_grad():
            whole = lm.base(torch.tensor([[*text, *more[row].tolist()]])).last_hidden_state[0, -3:]
        torch.testing.assert_close(got[row], whole, **CLOSE)


class Louder(nn.Module):
    """RMSNorm with 1 + gain, as Gemma has it, under Llama's names."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.weight, self.variance_epsilon = norm.weight, norm.variance_epsilon

    def forward(self, hidden: Tensor) -> Tensor:
        scale = (hidden.square().mean(-1, keepdim=True) + self.variance_epsilon).rsqrt()
        return hidden * scale * (1 + self.weight)


def gemma_norm(norm: Any) -> nn.Module:
    """Return a norm of the library's own, with 1 + gain."""
    from transformers.models.gemma.modeling_gemma import GemmaRMSNorm

    copied = GemmaRMSNorm(len(norm.weight), eps=norm.variance_epsilon)
    copied.weight = norm.weight
    copied.variance_epsilon = norm.variance_epsilon
    return copied


NORMS: dict[str, Callable[[Any], nn.Module]] = {
    "own class": Louder,
    "gemma": gemma_norm,
    "layer norm": lambda norm: nn.LayerNorm(len(norm.weight)),
    "torch": lambda norm: nn.RMSNorm(len(norm.weight), eps=1e-2),
}


@pytest.mark.parametrize("name", ["input_layernorm", "post_attention_layernorm"])
@pytest.mark.parametrize("kind", NORMS)
def test_a_norm_of_another_kind_is_scored_as_the_model_does(kind: str, name: str) -> None:
    lm = tiny.make("llama")
    for layer in list(lm.layers)[1:]:
        setattr(layer, name, NORMS[kind](getattr(layer, name)).requires_grad_(False))
    assert fusible_layers(lm) == ([0, 1, 2, 3] if kind == "torch" else [0])
    assert_scored_as_the_plain_model_does(lm)


def test_a_part_more_than_llamas_runs_as_it_is() -> None:
    lm = tiny.make("llama")
    attention = lm.layers[1].self_attn
    attention.q_proj = nn.Sequential(attention.q_proj, nn.Tanh())
    assert fusible_layers(lm) == [0, 2, 3]
    assert_scored_as_the_plain_model_does(lm)


class Doubled(nn.Linear):
    """A map that does more than its class's parent, as those of quantised weights do."""

    def forward(self, inputs: Tensor) -> Tensor:
        return 2 * super().forward(inputs)


@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
def test_a_map_made_from_a_linear_one_is_not_taken_for_it(family: str) -> None:
    lm = tiny.make(family)
    for module in lm.layers.modules():
        if type(module) is nn.Linear:
            module.__class__ = Doubled
    assert_scored_as_the_plain_model_does(lm)


def test_why_a_layer_runs_plain_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    lm = tiny.make("llama", hidden_act="gelu")
    for _ in range(2):
        score(lm, [Question(lm.encode(PROMPT), (lm.continuation("French"),))])
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == len(set(messages)) == 4 and "activation is gelu, not SiLU" in messages[0]


# Calls that we do not know.


def called(lm: LanguageModel, **more: Any) -> Tensor:
    """Return the first layer's output, called as the model calls it and with `more`."""
    with torch.no_grad():
        traced = trace(lm, some_batch(), 0)
        args, named = traced.calls[0]
        output: Tensor = lm.layers[0](traced.below, *args, **{**named, **more})
    return output


def test_a_keyword_that_is_not_known_is_refused_by_name() -> None:
    lm = tiny.make("llama")
    expected = called(lm)
    with fused_layers(lm):
        torch.testing.assert_close(called(lm, novel_switch=None, use_cache=True, output_attentions=False), expected)
        with pytest.raises(ModelError, match="layer 0 was called with novel_switch"):
            called(lm, novel_switch=2.0)
        with pytest.raises(ModelError, match="no cosines and sines"):
            called(lm, position_embeddings=None)
        with pytest.raises(ModelError, match="arguments without names"):
            lm.layers[0](torch.zeros(1, 2, 32), None)


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2"])
def test_a_mask_of_truth_values_hides_what_it_says(family: str) -> None:
    lm = tiny.make(family)
    seen = torch.ones(2, 1, 6, 6, dtype=torch.bool).tril()
    seen[1, :, 3:, 1] = False
    expected = called(lm, attention_mask=seen)
    with fused_layers(lm):
        torch.testing.assert_close(called(lm, attention_mask=seen), expected, **CLOSE)


@pytest.mark.parametrize(
    "mask", [torch.ones(6, 6), torch.zeros(2, 1, 6, 7), torch.ones(2, 1, 6, 6, dtype=torch.int64)], ids=str
)
def test_a_mask_of_another_kind_is_refused(mask: Tensor) -> None:
    lm = tiny.make("llama")
    with fused_layers(lm), pytest.raises(ModelError, match="got a mask"):
        called(lm, attention_mask=mask)


# Tokenizers.


def tokenizer(
    template: str = "$A", *, bos: str | None = None, decoder: Any = None, lower: bool = False
) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE with a template around a text; `bos` is what it declares."""
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.Lowercase() if lower else None
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoder or decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=["<s>", "</s>", "<x>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([tiny.WORDS], trainer)
    specials = [("<s>", 0), ("</s>", 1), ("<x>", 2)]
    bpe.post_processor = processors.TemplateProcessing(single=template, special_tokens=specials)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=bos, eos_token="</s>")


def with_tokenizer(words: PreTrainedTokenizerFast) -> LanguageModel:
    lm = tiny.make("llama")
    return LanguageModel(lm.model, words, lm.family, lm.name, None, lm.revision)


@pytest.mark.parametrize(
    ("template", "bos", "leading"),
    [
        ("<s> $A", "<s>", (0,)),
        ("<s> $A", None, (0,)),
        ("<x> $A", "<s>", (2,)),
        ("<x> <s> $A", "<s>", (2, 0)),
        ("$A </s>", "</s>", ()),
        ("<s> $A </s>", None, (0,)),
        ("$A", "<s>", ()),
    ],
)
def test_the_tokens_before_a_text_are_those_that_the_tokenizer_puts_there(
    template: str, bos: str | None, leading: tuple[int, ...]
) -> None:
    lm = with_tokenizer(tokenizer(template, bos=bos))
    assert lm.leading_ids == leading
    bare = tuple(lm.tokenizer("She speaks", add_special_tokens=False)["input_ids"])
    assert lm.encode("She speaks") == leading + bare
    assert lm.encode_subject("{} speaks", "She")[0] == leading + bare
    assert lm.starting_ids == (leading or (1,))
    check_model(lm)
    assert_scored_as_the_plain_model_does(lm)


def test_a_tokenizer_that_changes_the_text_beside_adding_tokens_is_refused() -> None:
    lm = with_tokenizer(tokenizer("$A <s> $A"))
    whole = lm.tokenizer

    def twice(text: str, add_special_tokens: bool = True, **more: Any) -> Any:
        return whole(text if not add_special_tokens else text.upper(), add_special_tokens=add_special_tokens, **more)

    broken = LanguageModel(lm.model, twice, lm.family, lm.name, None, lm.revision)
    with pytest.raises(ModelError, match="changes a text's tokens"):
        _ = broken.leading_ids


def metaspace(scheme: str) -> PreTrainedTokenizerFast:
    """As SentencePiece does it: a space is a letter of its own, put before a text and taken away again."""
    bpe = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    bpe.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    bpe.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    letters = sorted({*tiny.WORDS, *"".join(agreement.ROUND_TRIP), "\u2581"} - {" "})
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<unk>"], initial_alphabet=letters, show_progress=False
    )
    bpe.train_from_iterator([tiny.WORDS], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<unk>")


@pytest.mark.parametrize("scheme", ["always", "first"])
def test_a_tokenizer_that_puts_a_space_before_a_text_and_takes_it_away_is_fine(scheme: str) -> None:
    check_tokenizer(with_tokenizer(metaspace(scheme)))


@pytest.mark.parametrize(
    "words",
    [
        lambda: tokenizer(decoder=decoders.WordPiece(), lower=False),
        lambda: tokenizer(lower=True),
        lambda: tokenizer(decoder=decoders.Sequence([decoders.ByteLevel(), decoders.Replace(" ", "")])),
        lambda: tokenizer(decoder=decoders.Sequence([decoders.ByteLevel(), decoders.Replace("  ", " ")])),
    ],
    ids=["pieces", "lower case", "no spaces", "single spaces"],
)
def test_a_tokenizer_whose_decode_loses_something_is_refused(words: Callable[[], PreTrainedTokenizerFast]) -> None:
    with pytest.raises(ModelError, match="tokenizer's decode gives back"):
        check_tokenizer(with_tokenizer(words()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lm = tiny.make("llama")
    lm.model.save_pretrained(tmp_path / "model")
    lm.tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_loading_looks_at_the_tokenizer(folder: Path) -> None:
    tokenizer(lower=True).save_pretrained(folder)
    with pytest.raises(ModelError, match="tokenizer's decode gives back 'the capital"):
        load.load(str(folder), device="cpu")


# Parts against the whole.


def test_loading_runs_the_parts_against_the_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[LanguageModel] = []
    monkeypatch.setattr(agreement, "check_parts", tried.append)
    lm = load.load(str(folder), device="cpu")
    assert tried == [lm]


@pytest.mark.parametrize("family", tiny.CONFIGS)
def test_parts_of_every_family_agree(family: str) -> None:
    check_model(tiny.make(family))
    check_model(tiny.make(family, adds_bos=True))


class Slanted(nn.Module):
    """A head or a norm that is not what its place in the whole model says."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, inputs: Tensor) -> Tensor:
        output: Tensor = self.inner(inputs)
        return output.roll(1, dims=-1)


@pytest.mark.parametrize("part", ["layer 2", "what follows the last layer", "the output head"])
def test_the_part_that_differs_is_named(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = tiny.make("llama")
    if part == "the output head":
        plain = LanguageModel.logits
        monkeypatch.setattr(LanguageModel, "logits", lambda self, hidden: 2 * plain(self, hidden))
    elif part == "what follows the last layer":
        monkeypatch.setattr(LanguageModel, "finish", lambda self, hidden: hidden)
    else:  # a fused layer that forgets its bias
        lm.layers[2].mlp.down_proj.bias = nn.Parameter(torch.ones(32), requires_grad=False)
        monkeypatch.setattr(LinearMap, "add_to", lambda self, inputs, rest: rest + inputs @ self.weight.T)
    with pytest.raises(ModelError, match=rf"other logits than as a whole \(first different: {part}, "):
        check_parts(lm)


def test_missing_weights_are_not_made_up(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lack 1 of the model's weights \(model\.layers\.1\.mlp\.up_proj\.weight"):
        load.load(str(folder), device="cpu")


def test_a_weight_of_two_layers_is_refused() -> None:
    lm = tiny.make("llama")
    check_weights(lm)
    lm.layers[3].mlp.down_proj.weight = lm.layers[1].mlp.down_proj.weight
    with pytest.raises(ModelError, match=r"layer 1, mlp\.down_proj\.weight and layer 3, mlp\.down_proj\.weight"):
        check_weights(lm)


def test_a_model_that_is_not_all_on_one_device_is_refused() -> None:
    lm = tiny.make("llama")
    lm.layers[2].to("meta")
    with pytest.raises(ModelError, match=r"its weights are on cpu, meta"):
        load._refuse_scattered(lm.model, "somewhere")


# Patches, hooks and threads.


def states(lm: LanguageModel) -> Tensor:
    with torch.no_grad():
        return run(lm, some_batch())


def forwards(lm: LanguageModel) -> dict[str, Any]:
    return {name: module.__dict__.get("forward") for name, module in lm.model.named_modules()}


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("narrow", [None, 2])
def test_contexts_nest(family: str, narrow: int | None) -> None:
    lm = tiny.make(family)
    expected, before = states(lm), forwards(lm)
    with fused_layers(lm, narrow):
        outer, patched = states(lm), forwards(lm)
        with fused_layers(lm):
            torch.testing.assert_close(states(lm), expected, **CLOSE)
        assert forwards(lm) == patched and torch.equal(states(lm), outer)
    assert forwards(lm) == before and torch.equal(states(lm), expected)


def test_products_nest() -> None:
    lm = tiny.make("gpt2")
    before, expected = forwards(lm), states(lm)
    with fast_products(lm, range(4), 0):
        patched, narrow = forwards(lm), states(lm)
        assert not torch.allclose(narrow, expected, rtol=1e-4, atol=1e-5)
        with fast_products(lm, range(4)):
            torch.testing.assert_close(states(lm), expected, **CLOSE)
        assert forwards(lm) == patched and torch.equal(states(lm), narrow)
    assert forwards(lm) == before


def doubling(module: Any) -> Callable[..., Tensor]:
    inner = module.forward
    return lambda *given, **named: 2 * inner(*given, **named)


@pytest.mark.parametrize("path", ["", "mlp", "mlp.down_proj", "input_layernorm", "self_attn.o_proj", "mlp.act_fn"])
@pytest.mark.parametrize("when", ["before", "while"])
def test_anothers_patch_is_heard_and_stays(path: str, when: str) -> None:
    lm, patched = tiny.make("llama"), tiny.make("llama")
    for model in (lm, patched):
        if model is patched or when == "before":
            module = model.layers[1].get_submodule(path)
            module.forward = doubling(module)
    expected = states(patched)
    before = forwards(lm)
    module = lm.layers[1].get_submodule(path)
    with fused_layers(lm):
        if when == "while":
            module.forward = doubling(module)
        patch = module.__dict__["forward"]
        torch.testing.assert_close(states(lm), expected, **CLOSE)
        assert_scores_one_target_like(lm, patched)
    assert module.__dict__["forward"] is patch
    if when == "before":
        assert forwards(lm) == before
    torch.testing.assert_close(states(lm), expected, **CLOSE)


def assert_scores_one_target_like(lm: LanguageModel, plain: LanguageModel) -> None:
    question = Question(lm.encode(PROMPT), (lm.continuation("French"),))
    assert score(lm, [question])[0][0].nll_nats == pytest.approx(plain_nll(plain, PROMPT, "French"), abs=1e-4)


def test_a_patch_on_a_map_of_another_family_is_heard_and_stays() -> None:
    lm = tiny.make("gpt_neox")
    module = lm.layers[1].mlp.dense_4h_to_h
    module.forward = patch = doubling(module)
    expected = states(lm)
    with fused_layers(lm, 0):
        assert module.__dict__["forward"] is patch
        with fast_products(lm, range(4)):
            pass
    assert module.__dict__["forward"] is patch and torch.equal(states(lm), expected)


PATHS = ["", *(name for name, _ in tiny.make("llama").layers[1].named_modules() if name)]


@pytest.mark.parametrize("path", PATHS)
def test_a_hook_anywhere_in_a_layer_is_heard(path: str) -> None:
    lm, hooked = tiny.make("llama"), tiny.make("llama")

    def louder(_: Any, args: Any, output: Any) -> Any:
        return (2 * output[0], *output[1:]) if isinstance(output, tuple) else 2 * output

    hooked.layers[1].get_submodule(path).register_forward_hook(louder)
    expected = states(hooked)
    with fused_layers(lm):
        handle = lm.layers[1].get_submodule(path).register_forward_hook(louder)
        torch.testing.assert_close(states(lm), expected, **CLOSE)
        assert_scores_one_target_like(lm, hooked)
        handle.remove()
        assert not torch.allclose(states(lm), expected)
        handle = lm.layers[1].get_submodule(path).register_forward_pre_hook(lambda *_: heard.append(1))
        heard: list[int] = []
        traced = trace(lm, some_batch(), 1)
        heard.clear()
        replay(lm, traced)
        assert heard
        handle.remove()


def test_a_hook_on_all_modules_is_heard() -> None:
    lm = tiny.make("llama")
    heard: list[str] = []
    with fused_layers(lm):
        handle = nn.modules.module.register_module_forward_hook(lambda module, *_: heard.append(type(module).__name__))
        try:
            states(lm)
        finally:
            handle.remove()
    assert heard.count("LlamaMLP") == heard.count("LlamaRMSNorm") - 5 == 4


def test_a_module_or_weight_that_is_exchanged_meanwhile_is_seen() -> None:
    lm, donor = tiny.make("llama"), tiny.make("llama", seed=1)
    with fused_layers(lm, 0):
        states(lm)
        lm.layers[1].mlp = donor.layers[1].mlp
        lm.layers[2].self_attn.v_proj.weight = donor.layers[2].self_attn.v_proj.weight
        lm.layers[3].mlp.up_proj.weight.copy_(donor.layers[3].mlp.up_proj.weight)
        lm.layers[0].post_attention_layernorm.weight.mul_(2)
        got = states(lm)
    with fused_layers(lm, 0):
        expected = states(lm)
    assert float((got - expected).norm() / expected.norm()) < 0.06  # of bfloat16, which one layer has lost
    assert float((got - states(tiny.make("llama"))).norm() / expected.norm()) > 0.2


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_weights_that_are_edited_meanwhile_are_seen_in_bfloat16_too(family: str) -> None:
    from test_families import random_delta

    lm = tiny.make(family)
    delta = random_delta(lm, 1)
    with applied(lm, delta), fused_layers(lm, 0):
        expected = states(lm)
    with fused_layers(lm, 0):
        before = states(lm)
        with applied(lm, delta):
            torch.testing.assert_close(states(lm), expected, **CLOSE)
        assert torch.equal(states(lm), before) and not torch.equal(before, expected)


def test_threads_take_turns() -> None:
    lm = tiny.make("llama")
    question = Question(lm.encode(PROMPT), tuple(map(lm.continuation, TARGETS)))
    expected = [answer.nll_nats for answer in score(lm, [question])[0]]
    before, wrong, start = forwards(lm), [], threading.Barrier(4)

    def work(loud: bool) -> None:
        start.wait()
        for _ in range(8):
            if loud:
                with projection_output(lm, 1, lambda _, output: 9 * output):
                    states(lm)
                continue
            got = [answer.nll_nats for answer in score(lm, [question])[0]]
            if got != pytest.approx(expected, abs=1e-4):
                wrong.append(got)

    threads = [threading.Thread(target=work, args=(index == 0,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert wrong == [] and forwards(lm) == before


def test_a_context_that_another_thread_holds_is_waited_for() -> None:
    lm = tiny.make("llama")
    entered, released, done = threading.Event(), threading.Event(), threading.Event()

    def hold() -> None:
        with fused_layers(lm):
            entered.set()
            released.wait(10)

    def use() -> None:
        with fused_layers(lm):
            done.set()

    holder, user = threading.Thread(target=hold), threading.Thread(target=use)
    holder.start()
    entered.wait(10)
    user.start()
    assert not done.wait(0.2)
    released.set()
    holder.join(10)
    user.join(10)
    assert done.is_set() and all(patch is None for patch in forwards(lm).values())


def test_a_copy_of_a_model_has_a_lock_of_its_own() -> None:
    lm = tiny.make("llama")
    with lm.lock:
        copied = copy.deepcopy(lm.model)
    separate = LanguageModel(copied, lm.tokenizer, lm.family, lm.name, None, lm.revision)
    again = LanguageModel(lm.model, lm.tokenizer, lm.family, lm.name, None, lm.revision)
    assert again.lock is lm.lock is not separate.lock and torch.equal(states(separate), states(lm))


# Devices, number formats and memory.


def test_sums_are_float32_where_there_is_no_float64(caplog: pytest.LogCaptureFixture) -> None:
    assert precision.widest(torch.device("cpu")) == torch.float64 and not caplog.records
    assert [precision.widest(torch.device("mps")) for _ in range(2)] == [torch.float32] * 2
    assert len(caplog.records) == 1 and "no float64" in caplog.text


def chosen(monkeypatch: pytest.MonkeyPatch, free: int | None, dtype: str = "auto") -> torch.dtype:
    monkeypatch.setattr(load, "free_memory", lambda device: free)
    plan = load._LoadPlan("somewhere", load.ModelSource("x", None, None), torch.device("cuda"), dtype, None, True)
    return load._choose_dtype(plan, tiny.make("llama").model.config)


def test_auto_number_format_needs_to_know_the_memory(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert chosen(monkeypatch, 1 << 30) == torch.float32 and not caplog.records
    assert chosen(monkeypatch, 1000) == chosen(monkeypatch, 1000) == torch.bfloat16
    assert len(caplog.records) == 1 and "loaded in bfloat16" in caplog.text
    caplog.clear()
    assert chosen(monkeypatch, None) == chosen(monkeypatch, None) == torch.float32
    assert len(caplog.records) == 1 and "does not say how much memory" in caplog.text


def test_free_memory_is_asked_of_whatever_tells_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(device: Any) -> Any:
        raise NotImplementedError

    with monkeypatch.context() as patch:
        patch.setattr(torch.accelerator, "get_memory_info", lambda device: (7, 9), raising=False)
        assert (free_memory(torch.device("cuda")), total_memory(torch.device("cuda"))) == (7, 9)
    monkeypatch.delattr(torch.accelerator, "get_memory_info", raising=False)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5, 9))
    assert free_memory(torch.device("cuda")) == 5
    monkeypatch.setattr(torch.accelerator, "get_memory_info", refuse, raising=False)
    assert free_memory(torch.device("cuda")) == 5
    mps = SimpleNamespace(recommended_max_memory=lambda: 8, driver_allocated_memory=lambda: 2)
    monkeypatch.setattr(torch, "mps", mps)
    assert (free_memory(torch.device("mps")), total_memory(torch.device("mps"))) == (6, 8)
    assert free_memory(torch.device("meta")) is None


def test_halved_batches_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    def work(part: Any) -> list[int]:
        if len(part) > 1:
            raise MemoryError
        return list(part)

    assert halving(work, range(8)) == [*range(8)]
    assert len(caplog.records) == 1 and caplog.records[0].levelno == logging.WARNING


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_nothing_of_a_deleted_model_stays_alive(family: str) -> None:
    lm = tiny.make(family)
    batch = some_batch()
    made: list[weakref.ref[Any]] = []
    base: Any = lm.base
    if family == "llama":
        base.rotary_emb.register_forward_hook(lambda _, args, output: made.extend(map(weakref.ref, output)))
    with fused_layers(lm, 0):
        run(lm, batch)
        score(lm, [Question(lm.encode(PROMPT), tuple(map(lm.continuation, TARGETS)))])
        generate(lm, [lm.encode(PROMPT)], ["key"], 16)
    made += map(weakref.ref, (*lm.model.parameters(), *lm.model.buffers(), lm.model))
    del lm, base
    gc.collect()
    assert len(made) > 30 and [ref() for ref in made if ref() is not None] == []
