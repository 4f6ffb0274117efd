"""`cfbuild train-editor`: the network of MEND or KE from records or texts, resumably; records are kept for tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cfbuild import __version__
from cfbuild.edit import TRAINED
from cfbuild.errors import ConfigError
from cfbuild.option import REQUIRED, WORD, option, restart_option, seed_option, values_of
from cfbuild.progress import Progress, silent
from cfbuild.store.codec import encode_record
from cfbuild.store.files import sha256_file
from cfbuild.store.jsonl import write_jsonl

if TYPE_CHECKING:
    from cfbuild.edit.trained.lessons import Lessons, Parts
    from cfbuild.edit.trained.training import TrainingSettings, Validation
    from cfbuild.lm.model import LanguageModel
    from cfbuild.store.folder import BuildFolder

VERB = "train-editor"
TEST, HISTORY = "test.jsonl", "training.jsonl"
"""The files beside a network: the records that it must be tested on, and its validations."""
LEARNING_RATES = {"mend": 1e-5, "ke": 5e-4}
"""Learning rates by network. The released ones, 1e-6 and 1e-5, are for hundreds of thousands of iterations."""
GENERAL_TEXTS = 64
"""General texts that the model writes where no file of texts is given."""
ABOUT_LEARNING = "Learning"


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """Options of `cfbuild train-editor`. Raises ConfigError for an unknown editor or a number that makes no sense.

    From records the editor is `mend-cf` or `ke-cf`, from texts alone `mend` or `ke`.
    """

    editor: str = option(REQUIRED, "mend or ke: what is trained.", metavar="EDITOR", form=WORD.naming(*LEARNING_RATES))
    records: Path | None = option(
        None, "Records to learn from, any CounterFact-format file. [default: the build's records]"
    )
    texts: Path | None = option(
        None,
        "A text file, one text a paragraph, to learn from in place of records; with --records, the general texts whose "
        "predictions must stay. [default: texts that the model writes]",
    )
    limit: int | None = option(None, "Use only the first N records or texts.")
    train: int = option(10_000, "Most records to train on; a fifth of a small file is left for tests.")
    valid: int = option(500, "Most records to validate on; a twentieth of a small file.")
    rank: int = option(256, "mend: rank of its network's blocks; released: 1920.", panel=ABOUT_LEARNING)
    steps: int = option(1500, "Most steps.", panel=ABOUT_LEARNING)
    batch: int = option(10, "Edits of a step.", panel=ABOUT_LEARNING)
    learning_rate: float | None = option(
        None, "Of the network. [default: 1e-5 for mend, 5e-4 for ke]", panel=ABOUT_LEARNING
    )
    rate_learning_rate: float = option(2e-5, "mend: of the rates that it learns.", panel=ABOUT_LEARNING)
    edit_weight: float = option(0.1, "Weight of the edits beside that of what must stay, 1.", panel=ABOUT_LEARNING)
    text_tokens: int = option(24, "Most tokens of a general text; released: 200.", panel=ABOUT_LEARNING)
    valid_every: int = option(100, "Steps from one validation and checkpoint to the next.", panel=ABOUT_LEARNING)
    patience: int = option(8, "Validations without a better loss after which training ends.", panel=ABOUT_LEARNING)
    seed: int = seed_option()
    restart: bool = restart_option()

    def __post_init__(self) -> None:
        if self.editor not in LEARNING_RATES:
            raise ConfigError(f"train-editor {self.editor}: expected {' or '.join(LEARNING_RATES)}")
        for name in ("limit", "train", "valid", "rank", "text_tokens"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 1")

    @property
    def is_of_texts(self) -> bool:
        """True if the editor learns from texts and no records."""
        return self.texts is not None and self.records is None

    @property
    def name(self) -> str:
        """The name of the trained editor in the table of editors."""
        return self.editor if self.is_of_texts else f"{self.editor}-cf"


@dataclass(frozen=True, slots=True)
class TrainSummary:
    """A finished training: the editor, its folder, the steps done, and the figures of the best validation.

    `train` and `valid` are numbers of lessons, `test` the case ids of the records in `folder`/test.jsonl.
    """

    editor: str
    folder: str
    steps: int
    train: int
    valid: int
    test: tuple[int, ...]
    best: Mapping[str, Any]


def train_editor(
    folder: BuildFolder,
    options: TrainOptions,
    lm: LanguageModel,
    progress: Progress = silent,
    note: Callable[[Validation], None] = lambda validation: None,
) -> TrainSummary:
    """Train a network and write it into the build's `editors/NAME`, with the records kept for tests; return a summary.

    `note` gets each validation. A training that was interrupted goes on from its last validation, with the same bytes;
    a finished one is not repeated. Raises SchemaError for a file of records with violations, BuildStateError for work
    made with other settings, ConfigError for too few records or texts.
    """
    entry = f"{VERB}/{options.name}"
    home = f"{TRAINED}/{options.name}"
    source = options.texts if options.is_of_texts else options.records or folder.require("records.jsonl")
    assert source is not None
    config = _config(options, lm, source)
    with folder.lock(VERB):
        if folder.begin(entry, config, restart=options.restart):
            made = _train(folder, options, lm, source, (progress, note))
            files = {f"{home}/{name}": rows for name, rows in made.pop("files").items()}
            folder.finish(entry, config, files, made)
        folder.discard(entry)  # also what was killed between the last two steps
        counted = folder.manifest().entry(entry).counted
    return TrainSummary(options.name, str(folder.path(home)), **{**counted, "test": tuple(counted["test"])})


def _config(options: TrainOptions, lm: LanguageModel, source: Path) -> dict[str, Any]:
    """Return everything that the network's bytes depend on."""
    config = {**values_of(options), "cfbuild": __version__, **lm.identity}
    del config["restart"]
    config["learning_rate"] = options.learning_rate or LEARNING_RATES[options.editor]
    if options.editor != "mend":
        config["rank"] = config["rate_learning_rate"] = None
    config["records"] = sha256_file(source) if options.records else None
    config["learned_from"] = sha256_file(source)
    config["texts"] = sha256_file(options.texts) if options.texts else None
    return config


def _train(
    folder: BuildFolder,
    options: TrainOptions,
    lm: LanguageModel,
    source: Path,
    shown: tuple[Progress, Callable[[Validation], None]],
) -> dict[str, Any]:
    """Train, write all files, and return the manifest's counts; `files` in them are rows by name in the home folder."""
    from cfbuild.edit.trained.artefact import MADE_OF, NETWORK, new_network, write_network
    from cfbuild.edit.trained.training import Training

    progress, note = shown
    config = _config(options, lm, source)
    parts, lessons = _lessons(options, lm, source, progress)
    network = new_network(options.editor, lm, options.seed, options.rank, lessons.tokens)
    training = Training(lm, network, network.weights, lessons, _settings(options))
    training.run(folder.progress(f"{VERB}/{options.name}"), progress, note)
    home = folder.path(f"{TRAINED}/{options.name}")
    made_of = {"editor": options.name, "settings": config, "steps": training.step, "best": asdict(training.best)}
    write_network(home, lm, network, made_of)
    rows = {NETWORK: 1, MADE_OF: 1}
    rows[HISTORY] = write_jsonl(home / HISTORY, map(asdict, training.history))
    if parts is not None:
        rows[TEST] = write_jsonl(home / TEST, map(encode_record, parts.test))
    return {
        "steps": training.step,
        "train": len(lessons.train),
        "valid": len(lessons.valid),
        "test": [record.case_id for record in parts.test] if parts else [],
        "best": asdict(training.best),
        "files": rows,
    }


def _settings(options: TrainOptions) -> TrainingSettings:
    from cfbuild.edit.trained.training import TrainingSettings

    return TrainingSettings(
        steps=options.steps,
        batch=options.batch,
        learning_rate=options.learning_rate or LEARNING_RATES[options.editor],
        rate_learning_rate=options.rate_learning_rate,
        edit_weight=options.edit_weight,
        valid_every=options.valid_every,
        patience=options.patience,
        seed=options.seed,
    )


def _lessons(
    options: TrainOptions, lm: LanguageModel, source: Path, progress: Progress
) -> tuple[Parts | None, Lessons]:
    """Return the parts of the records (None for texts), and the lessons."""
    from cfbuild.audit.validate import read_records
    from cfbuild.edit.corpus import open_corpus
    from cfbuild.edit.trained.lessons import record_lessons, split, text_lessons
    from cfbuild.lm.sample import sample_texts

    if options.is_of_texts:
        texts = list(open_corpus(str(source)).texts)[: options.limit]
        return None, text_lessons(lm, texts, options.seed, options.text_tokens, options.valid, progress)
    records = read_records(source).all_valid().records[: options.limit]
    parts = split(records, options.seed, options.train, options.valid)
    general = (
        list(open_corpus(str(options.texts)).texts)
        if options.texts
        else sample_texts(
            lm,
            options.seed,
            GENERAL_TEXTS,
            options.text_tokens,
            lambda count: progress("general texts", count, GENERAL_TEXTS),
        )
    )
    return parts, record_lessons(lm, parts, general, options.seed, options.text_tokens)
