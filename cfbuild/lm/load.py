"""Find and load a model by its name: a preset, a local folder, a GGUF file or a Hub id.

Weights are read from safetensors or GGUF only and no code of a repository is run, unless the user trusts the model
(`trust.py`).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from cfbuild.errors import CfbuildError, ConfigError, ModelError
from cfbuild.lm.agreement import check_model
from cfbuild.lm.families import PRESETS, Family, family_of
from cfbuild.lm.memory import bound_kernel_caches, keep_freed_memory
from cfbuild.lm.model import LanguageModel
from cfbuild.lm.notices import log_once
from cfbuild.lm.products import note_slow_format
from cfbuild.lm.remote import cached_commit, must_be_cached
from cfbuild.lm.room import free_memory
from cfbuild.lm.selection import ModelOptions
from cfbuild.lm.trust import family_of_code, is_own_code, is_trusted, refuse_code_elsewhere
from cfbuild.progress import Progress, reported_bars, silent
from cfbuild.store.cache import cache_folder
from cfbuild.store.files import sha256_file
from cfbuild.store.jsonl import read_json
from cfbuild.work import environment

SHARDS = {"safetensors": re.compile(r"\w[\w.-]*\.safetensors"), "bin": re.compile(r"\w[\w.-]*\.bin")}
"""The names that an index may give the weights files of its folder, by kind; `bin` are pickles."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""The values of `--dtype` besides `auto`."""

NO_CONVERSION = "DISABLE_SAFETENSORS_CONVERSION"
"""The environment variable that keeps transformers from asking a service of the Hub for converted weights."""

SHARE_OF_DEVICE_FOR_FLOAT32 = 0.6
"""The most of an accelerator's free memory that float32 weights may take for `--dtype auto` to choose float32."""

GIB = 1 << 30
"""Bytes of a gibibyte."""


@dataclass(frozen=True, slots=True)
class ModelSource:
    """The place of a model. location: a folder or Hub id. gguf: the file, if it is one. preset: its name, if any."""

    location: str
    revision: str | None
    preset: str | None
    gguf: Path | None = None


def load(
    name: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    trust: str | None = None,
    progress: Progress = silent,
) -> LanguageModel:
    """Return a causal language model, loaded for scoring and editing.

    name: a preset, a folder, a `.gguf` file or a Hub id. device, dtype: as the command line has them. revision: a
    commit, tag or branch of a Hub id (None: its default branch). trust: the same name again allows pickled weights and
    code of that repository. progress: gets downloads, conversions and bytes read.

    Raises ConfigError for a device or dtype that does not exist and for another name in `trust`, ModelError for a model
    that cannot be found, has no safetensors or GGUF, or is of an unknown family.
    """
    bound_kernel_caches()
    keep_freed_memory()
    trusted = is_trusted(name, trust)
    chosen = choose_device(device)
    source = find(name, revision)
    with reported_bars(progress), environment({NO_CONVERSION: "1"}):
        if source.gguf is not None:
            digest = f"gguf:{sha256_file(source.gguf)[:16]}"
            converted = convert_gguf(source.gguf, progress)
            return _load(_LoadPlan(str(converted), source, chosen, dtype, digest, offline=True))
        local = Path(source.location)
        if local.is_dir():
            _check_weights(local)
            identity = f"folder:{_digest_folder(local, trusted, progress)}"
            return _load(_LoadPlan(source.location, source, chosen, dtype, identity, offline=True, trusted=trusted))
        offline = must_be_cached(source.location, revision)
        return _load(_LoadPlan(source.location, source, chosen, dtype, None, offline, trusted))


def load_chosen(options: ModelOptions, progress: Progress = silent) -> LanguageModel:
    """Return the model of a command's options, as `load` does."""
    return load(
        options.model,
        device=options.device,
        dtype=options.dtype,
        revision=options.revision,
        trust=options.trust,
        progress=progress,
    )


@dataclass(frozen=True, slots=True)
class ModelRecipe:
    """A model that workers load. identity: what the model's `identity` must be. threads: those that multiply.

    Sums are split among threads, so their last bits depend on how many there are: workers use as many as the process
    that they work for.
    """

    options: ModelOptions
    identity: Mapping[str, Any]
    threads: int

    @staticmethod
    def of(lm: LanguageModel, options: ModelOptions) -> ModelRecipe:
        """Return the recipe of a model that was loaded with these options."""
        return ModelRecipe(options, lm.identity, torch.get_num_threads())

    def load(self) -> LanguageModel:
        """Return the model. Raises ConfigError if its identity is another, and what `load` raises."""
        torch.set_num_threads(self.threads)
        lm = load_chosen(self.options)
        if lm.identity != self.identity:
            raise ConfigError(f"a worker has another model, {lm.identity}, than the run, {dict(self.identity)}")
        return lm


@dataclass(frozen=True, slots=True)
class _LoadPlan:
    """A model to load. location: the folder or Hub id that is read. identity: the revision, if files determine it."""

    location: str
    source: ModelSource
    device: torch.device
    dtype: str
    identity: str | None
    offline: bool
    trusted: bool = False

    @property
    def hub(self) -> dict[str, Any]:
        """Return the arguments by which transformers finds the model."""
        return {"revision": self.source.revision, "local_files_only": self.offline}


def choose_device(device: str) -> torch.device:
    """Return the device of that name: for `auto` the accelerator if there is one, else the CPU.

    Raises ConfigError if the machine does not have it.
    """
    if device == "auto":
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        chosen = accelerator or torch.device("cpu")
        log_once(f"--device auto: {chosen}", logging.INFO)
        return chosen
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {device}: not usable here ({str(error).splitlines()[0]}); try auto") from error
    return chosen


def find(name: str, revision: str | None = None) -> ModelSource:
    """Return where the model of a name is, without loading it. Raises ModelError for a path that does not exist."""
    preset = PRESETS.get(name)
    if preset is not None:
        embedded = _embedded_file(preset.embedded_distribution) if preset.embedded_distribution else None
        return ModelSource(preset.hub_id, revision, name, embedded)
    try:
        path = Path(name).expanduser()
    except RuntimeError as error:
        raise ModelError(f"--model {name}: {error}") from error
    if path.suffix == ".gguf" and path.is_file():
        return ModelSource(str(path), None, None, path)
    if path.is_dir():
        return ModelSource(str(path), None, None)
    if path.suffix == ".gguf" or name.startswith((".", "/", "~")):
        raise ModelError(f"--model {name}: no such file or folder")
    return ModelSource(name, revision, None)


def _embedded_file(distribution: str) -> Path | None:
    """Return the GGUF file in an installed wheel, found without importing it; None if it is not installed."""
    try:
        files = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    paths = (Path(str(file.locate())) for file in files if file.suffix == ".gguf")
    return next((path for path in paths if path.is_file()), None)


def convert_gguf(file: Path, progress: Progress = silent) -> Path:
    """Return the folder of a GGUF file's weights as float32 safetensors, converted once and kept in the cache.

    The folder is named by the file's digest. progress: gets the number of steps done. Raises ModelError if the file
    cannot be read.
    """
    folder = cache_folder() / "models" / sha256_file(file)[:32]
    if (folder / "config.json").is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".convert-"))
    try:
        _write_converted(file, staging, progress)
        try:
            staging.rename(folder)
        except OSError:  # another process has converted the same bytes meanwhile
            if not (folder / "config.json").is_file():
                raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return folder


def _write_converted(file: Path, folder: Path, progress: Progress) -> None:
    progress("conversion", 0, 2)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        with _parsed_once():
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
            progress("conversion", 1, 2)
            quantized, report = AutoModelForCausalLM.from_pretrained(
                file.parent, gguf_file=file.name, dtype=torch.float32, output_loading_info=True
            )
        _refuse_missing(report, str(file))
        # transformers will not save a model that it marked as quantized, so its weights move into a plain one.
        config = type(quantized.config).from_dict(
            {key: value for key, value in quantized.config.to_dict().items() if key != "quantization_config"}
        )
        with torch.device("meta"):
            plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        plain.load_state_dict(quantized.state_dict(), assign=True)
        plain.tie_weights()
    except CfbuildError:
        raise
    except Exception as error:
        raise ModelError(f"{file}: is not a GGUF model that can be read ({_first_line(error)})") from error
    plain.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    progress("conversion", 2, 2)


@contextmanager
def _parsed_once() -> Iterator[None]:
    """Keep, while open, what transformers asks of the package `gguf`.

    Else it would parse a file's words anew for the tokenizer, the configuration and the weights, some seconds each, and
    make the table of the tensors' names for every module of the model.
    """
    import gguf

    with ExitStack() as restored:
        for name in ("GGUFReader", "get_tensor_name_map"):
            original = getattr(gguf, name)
            restored.callback(setattr, gguf, name, original)
            setattr(gguf, name, cache(original))
        yield


def _load(plan: _LoadPlan) -> LanguageModel:
    try:
        family, tokenizer, model = _read(plan)
    except CfbuildError:
        raise
    except Exception as error:
        raise ModelError(
            f"{plan.location}: cannot be loaded ({_first_line(error)}); expected a preset ({', '.join(PRESETS)}), a "
            "folder or Hub repository with safetensors weights, or a .gguf file. Pickled weights and code of a "
            "repository are allowed only where --trust names the model"
        ) from error
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"{plan.location}: its tokenizer has no fast version, which finding the subject's tokens needs"
        )
    _refuse_scattered(model, plan.location)
    model.requires_grad_(False)
    lm = LanguageModel(
        model=model.to(plan.device).eval(),
        tokenizer=tokenizer,
        family=family,
        name=plan.source.preset or _public_name(plan.source.location),
        preset=plan.source.preset,
        revision=plan.identity or cached_commit(plan.location, plan.source.revision) or "unknown",
        trusted=plan.trusted,
    )
    _check(lm, plan.location)
    return lm


def _read(plan: _LoadPlan) -> tuple[Family, Any, Any]:
    """Return the family, the tokenizer and the model as transformers reads them."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    options: dict[str, Any] = {**plan.hub, "trust_remote_code": plan.trusted}
    if plan.trusted:
        refuse_code_elsewhere(plan.location, **plan.hub)
    config = AutoConfig.from_pretrained(plan.location, **options)
    family = None if plan.trusted and getattr(config, "auto_map", None) else family_of(config.model_type)
    tokenizer = AutoTokenizer.from_pretrained(plan.location, **options)
    model, report = AutoModelForCausalLM.from_pretrained(
        plan.location,
        config=config,
        dtype=_choose_dtype(plan, config),
        # A trusted model's safetensors are preferred too, and its pickles are read as weights and nothing else.
        use_safetensors=None if plan.trusted else True,
        weights_only=True,
        output_loading_info=True,
        **options,
    )
    if is_own_code(model):
        family = family_of_code(model)
    _refuse_missing(report, plan.location)
    return family or family_of(config.model_type), tokenizer, model


def _refuse_missing(report: Mapping[str, Any], location: str) -> None:
    """Raise ModelError if the files lack weights of the model, by the `report` of transformers."""
    missing = sorted(report.get("missing_keys", ()))
    if missing:
        raise ModelError(
            f"{location}: its files lack {len(missing)} of the model's weights ({', '.join(missing[:3])}...); they "
            "would be random numbers"
        )


def _refuse_scattered(model: Any, location: str) -> None:
    """Raise ModelError unless all weights are on one device."""
    devices = {str(weight.device) for weight in model.parameters()}
    if len(devices) > 1 or "meta" in devices:
        raise ModelError(f"{location}: its weights are on {', '.join(sorted(devices))}; they must be on one device")


def _check(lm: LanguageModel, location: str) -> None:
    """Raise ModelError if the model fails a check of `agreement.py`, or cannot be run at all."""
    try:
        check_model(lm)
    except Exception as error:
        raise ModelError(f"{location}: cannot be run ({_first_line(error)})") from error


def _public_name(location: str) -> str:
    """Return a model's name for published files: its Hub id, or the name of the file or folder without the path."""
    path = Path(location).expanduser()
    return path.resolve().name if path.exists() else location


def _choose_dtype(plan: _LoadPlan, config: Any) -> torch.dtype:
    """Return the number format to load weights in; `auto` prefers float32. Raises ConfigError for an unknown one."""
    if plan.dtype != "auto":
        if plan.dtype not in DTYPES:
            raise ConfigError(f"--dtype {plan.dtype}: expected auto or one of {', '.join(DTYPES)}")
        note_slow_format(f"--dtype {plan.dtype}", plan.device, DTYPES[plan.dtype])
        return DTYPES[plan.dtype]
    if plan.device.type == "cpu":
        return torch.float32
    size, free = _size_in_float32(config, plan.trusted), free_memory(plan.device)
    if free is None:
        log_once(
            f"--dtype auto: torch does not say how much memory {plan.device} has, so {plan.location} is loaded in "
            "float32; if that does not fit, try --dtype bfloat16"
        )
        return torch.float32
    if size <= SHARE_OF_DEVICE_FOR_FLOAT32 * free:
        return torch.float32
    log_once(
        f"--dtype auto: {plan.location} takes {size / GIB:.1f} GiB in float32 and {plan.device} has "
        f"{free / GIB:.1f} free, so it is loaded in bfloat16, whose figures differ a little"
    )
    return torch.bfloat16


def _size_in_float32(config: Any, trusted: bool) -> int:
    """Return the bytes of a configuration's weights in float32, without making them."""
    from transformers import AutoModelForCausalLM

    own = {"trust_remote_code": True, "code_revision": getattr(config, "_commit_hash", None)}
    code = own if trusted and "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {}) else {}
    with torch.device("meta"):
        weights = AutoModelForCausalLM.from_config(config, **code).parameters()
    numbers: int = sum(weight.numel() for weight in weights)
    return 4 * numbers


def _check_weights(folder: Path) -> None:
    """Raise ModelError for a weights file that is cut short or broken, or an index that names files elsewhere."""
    from safetensors import SafetensorError, safe_open

    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{file}: is not a safetensors file that can be read ({_first_line(error)})") from error
    for kind, shard in SHARDS.items():
        for file in sorted(folder.glob(f"*.{kind}.index.json")):
            index = read_json(file)
            shards = index.get("weight_map") if isinstance(index, dict) else None
            if not isinstance(shards, dict) or not all(map(shard.fullmatch, map(str, shards.values()))):
                raise ModelError(f"{file}: expected a weight_map that names {kind} files of the same folder")


def _digest_folder(folder: Path, trusted: bool, progress: Progress) -> str:
    """Return the digest of a model's configuration, tokenizer and weights, and if trusted its pickles and code."""
    digest = hashlib.sha256()
    files = [file for file in folder.iterdir() if file.suffix in (".safetensors", ".json", ".model")]
    if trusted:
        files += [file for kind in ("*.bin", "*.py") for file in folder.rglob(kind)]
    total, before = sum(file.stat().st_size for file in files), 0

    def done(count: int) -> None:
        progress("bytes read", before + count, total)

    for file in sorted(files):
        digest.update(f"{file.relative_to(folder).as_posix()} {sha256_file(file, done)}\n".encode())
        before += file.stat().st_size
    return digest.hexdigest()[:16]


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
