"""Finding and loading models: what loads, and the one clean error for what does not."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch

from cfbuild.edit.corpus import open_corpus
from cfbuild.errors import ConfigError, ModelError
from cfbuild.lm.likelihood import Question, score
from cfbuild.lm.load import choose_device, convert_gguf, find, load


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


def test_a_broken_gguf_is_one_clean_error_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CFBUILD_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ModelError, match=r"model\.gguf: is not a GGUF model"):
        convert_gguf(file)
    assert list((tmp_path / "cache" / "models").iterdir()) == []


@pytest.mark.parametrize("name", ["./nowhere", "nowhere.gguf", "/nowhere/at/all"])
def test_paths_that_are_not_there(name: str) -> None:
    with pytest.raises(ModelError, match="no such file or folder"):
        find(name)


def test_presets_and_hub_ids_resolve_without_loading() -> None:
    assert find("gpt2-xl").preset == "gpt2-xl" and find("gpt2-xl").location.endswith("/gpt2-xl")
    assert find("someone/some-model").location == "someone/some-model"


def test_devices_and_formats_that_do_not_exist(folder: Path) -> None:
    with pytest.raises(ConfigError, match="--device nonsense"):
        choose_device("nonsense")
    with pytest.raises(ConfigError, match="--dtype float7"):
        load(str(folder), dtype="float7")
    assert choose_device("cpu") == torch.device("cpu")


def test_a_text_corpus_is_its_paragraphs(tmp_path: Path) -> None:
    file = tmp_path / "corpus.txt"
    file.write_text("one\ntwo\n\n\nthree\n", encoding="utf-8")
    corpus = open_corpus(str(file))
    assert list(corpus.texts) == ["one two", "three"]
    file.write_bytes(b"caf\xe9")
    assert open_corpus(str(file)).name != corpus.name
    with pytest.raises(ModelError, match="UTF-8"):
        list(open_corpus(str(file)).texts)
    with pytest.raises(ConfigError, match="no-such"):
        open_corpus("no-such")
