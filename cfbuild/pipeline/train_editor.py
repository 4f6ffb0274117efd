"""`cfbuild train-editor`: the network of MEND or KE, trained on records or texts; some records are kept for tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cfbuild import __version__
from cfbuild.edit import TRAINED
from cfbuild.errors import ConfigError, check_least
from cfbuild.option import REQUIRED, WORD, option, restart_option, seed_option, values_of
from cfbuild.progress import Progress, silent
from cfbuild.store.codec import encode_record
from cfbuild.store.files import sha256_file
from cfbuild.store.jsonl import write_jsonl

if TYPE_CHECKING:
    from cfbuild.edit.trained.lessons import Lessons, Parts
    from cfbuild.edit.trained.training import Validation
    from cfbuild.lm.model import LanguageModel
    from cfbuild.store.folder import BuildFolder

VERB = "train-editor"
TEST, HISTORY = "test.jsonl", "training.jsonl"
"""The files beside a network: the records to test it on, and its validations."""
LEARNING_RATES = {"mend": 1e-5, "ke": 5e-4}
"""Learning rates by network. The released ones, 1e-6 and 1e-5, are for hundreds of thousands of iterations."""
GENERAL_TEXTS = 64
"""General texts that the model writes if no file of texts is given; a choice of ours, written in about a minute."""
ABOUT_LEARNING = "Learning"
"""The panel of the help that has the options of the training."""


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """Options of `cfbuild train-editor`. Raises ConfigError for an unknown editor or a number that makes no sense.

    Trained on records the editor is `mend-cf` or `ke-cf`, on texts alone `mend` or `ke`.
    """

    editor: str = option(
        REQUIRED, "The kind of network: mend or ke.", metavar="EDITOR", form=WORD.naming(*LEARNING_RATES)
    )
    records: Path | None = option(
        None, "Learn from the records of this file of CounterFact's format. [default: the build's records]"
    )
    texts: Path | None = option(
        None,
        "Learn from this text file, one text a paragraph, instead of records. With --records too, these are the "
        "general texts whose predictions must stay. [default: texts that the model writes]",
    )
    limit: int | None = option(None, "Use only the first N records or texts. [default: all]")
    train: int = option(10_000, "Train on N records at most; a fifth of a small file is kept for tests.")
    valid: int = option(500, "Validate on N records at most, and on a twentieth of a small file.")
    rank: int = option(256, "For mend: the rank of its network's blocks; released: 1920.", panel=ABOUT_LEARNING)
    steps: int = option(1500, "Train for N steps at most.", panel=ABOUT_LEARNING)
    batch: int = option(10, "Make N edits in a step.", panel=ABOUT_LEARNING)
    learning_rate: float | None = option(
        None, "The learning rate of the network. [default: 1e-5 for mend, 5e-4 for ke]", panel=ABOUT_LEARNING
    )
    rate_learning_rate: float = option(
        2e-5, "For mend: the learning rate of the step sizes that it learns.", panel=ABOUT_LEARNING
    )
    edit_weight: float = option(
        0.1, "The weight of the edits' loss; that of the predictions that must stay is 1.", panel=ABOUT_LEARNING
    )
    text_tokens: int = option(24, "Use the first N tokens of a general text; released: 200.", panel=ABOUT_LEARNING)
    valid_every: int = option(100, "Validate and save the state every N steps.", panel=ABOUT_LEARNING)
    patience: int = option(8, "Stop after N validations without a better loss.", panel=ABOUT_LEARNING)
    seed: int = seed_option()
    restart: bool = restart_option()

    def __post_init__(self) -> None:
        if self.editor not in LEARNING_RATES:
            raise ConfigError(f"train-editor {self.editor}: expected {' or '.join(LEARNING_RATES)}")
        check_least(self, limit=1, train=1, valid=1, rank=1, text_tokens=1)

    @property
    def is_of_texts(self) -> bool:
        """Return True if the editor learns from texts alone."""
        return self.texts is not None and self.records is None

    @property
    def name(self) -> str:
        """Return the name of the trained editor in the table of editors."""
        return self.editor if self.is_of_texts else f"{self.editor}-cf"


@dataclass(frozen=True, slots=True)
class TrainSummary:
    """A finished training: the editor, its folder, the steps done, and the figures of the best validation.

    train, valid: numbers of lessons. test: the case ids of the records in `folder`/test.jsonl.
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
    """Train a network; write it into the build's `editors/NAME`, with the records kept for tests; return a summary.

    note: gets each validation.
    Raises SchemaError for a file of records with violations, BuildStateError for work made with other settings,
    ConfigError for too few records or texts.
    """
    entry, editor_folder = f"{VERB}/{options.name}", f"{TRAINED}/{options.name}"
    source = options.texts if options.is_of_texts else options.records or folder.require("records.jsonl")
    assert source is not None
    config = _config(options, lm, source)
    with folder.lock(VERB):
        if folder.begin(entry, config, restart=options.restart):
            files, counts = _train(folder, options, lm, source, (progress, note))
            folder.finish(entry, config, {f"{editor_folder}/{name}": rows for name, rows in files.items()}, counts)
        counted = folder.manifest().entry(entry).counted
    return TrainSummary(options.name, str(folder.path(editor_folder)), **{**counted, "test": tuple(counted["test"])})


def _config(options: TrainOptions, lm: LanguageModel, source: Path) -> dict[str, Any]:
    """Return everything that the network's bytes depend on, for the manifest. `source` is the file it learns from."""
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
    reports: tuple[Progress, Callable[[Validation], None]],
) -> tuple[dict[str, int], dict[str, Any]]:
    """Train and write all files; return row counts by file, and the manifest's counts."""
    from cfbuild.edit.trained.artefact import MADE_OF, NETWORK, new_network, write_network
    from cfbuild.edit.trained.training import Training, TrainingSettings

    progress, note = reports
    config = _config(options, lm, source)
    parts, lessons = _lessons(options, lm, source, progress)
    network = new_network(options.editor, lm, options.seed, options.rank, lessons.tokens)
    named = {field.name: getattr(options, field.name) for field in fields(TrainingSettings)}
    settings = TrainingSettings(**named | {"learning_rate": config["learning_rate"]})
    training = Training(lm, network, network.weights, lessons, settings)
    training.run(folder.progress(f"{VERB}/{options.name}"), progress, note)
    path, best = folder.path(f"{TRAINED}/{options.name}"), asdict(training.best)
    write_network(path, lm, network, {"editor": options.name, "settings": config, "steps": training.step, "best": best})
    files = {NETWORK: 1, MADE_OF: 1, HISTORY: write_jsonl(path / HISTORY, map(asdict, training.history))}
    if parts is not None:
        files[TEST] = write_jsonl(path / TEST, map(encode_record, parts.test))
    return files, {
        "steps": training.step,
        "train": len(lessons.train),
        "valid": len(lessons.valid),
        "test": [record.case_id for record in parts.test] if parts else [],
        "best": best,
    }


def _lessons(
    options: TrainOptions, lm: LanguageModel, source: Path, progress: Progress
) -> tuple[Parts | None, Lessons]:
    """Return the parts of the records (None if it learns from texts), and the lessons."""
    from cfbuild.audit.validate import read_records
    from cfbuild.edit.corpus import open_corpus
    from cfbuild.edit.trained.lessons import record_lessons, split, text_lessons
    from cfbuild.lm.sample import sample_texts

    if options.is_of_texts:
        texts = list(open_corpus(str(source)).texts())[: options.limit]
        return None, text_lessons(lm, texts, options.seed, options.text_tokens, options.valid, progress)
    records = read_records(source).all_valid().records[: options.limit]
    parts = split(records, options.seed, options.train, options.valid)
    if options.texts:
        general = list(open_corpus(str(options.texts)).texts())
    else:
        count, tokens = GENERAL_TEXTS, options.text_tokens
        general = sample_texts(lm, options.seed, count, tokens, lambda done: progress("general texts", done, count))
    return parts, record_lessons(lm, parts, general, options.seed, options.text_tokens)
