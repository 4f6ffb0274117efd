"""`cfbuild report`: report.html of what a build folder holds. `validate-and-score` ends with it too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cfbuild.audit.validate import read_valid
from cfbuild.data import CaseScore, Record
from cfbuild.errors import BuildStateError
from cfbuild.store.codec import decode_case, decode_record
from cfbuild.store.files import sha256_file, write_atomic
from cfbuild.store.folder import BuildFolder
from cfbuild.store.jsonl import read_json, read_values
from cfbuild.store.schema import conforming
from cfbuild.views.page import PageInput, make_page

PAGE = "report.html"


def write_page(folder: BuildFolder, file: Path | None = None) -> Path:
    """Write report.html of the build's records, and of its scores if it has any; return its path.

    `file` is the file of records that was scored if it was not the build's. Raises BuildStateError if there are no
    records, or other ones than those that were scored; DataError for files that cannot be read.
    """
    path = file or folder.require("records.jsonl")
    verbs = folder.manifest()["verbs"]
    scored = verbs.get("validate-and-score")
    if scored and scored["config"].get("records") not in (None, sha256_file(path)):
        raise BuildStateError(
            f"{path} is not the file that was scored in {folder.root}; name that one by --file, or score this one"
        )
    # The build's own rows are taken as they are; another file may be an array, and its invalid rows were skipped.
    records: list[Record] = (
        [decode_record(row) for row in read_valid(file)]
        if file
        else list(read_values(path, conforming("record", decode_record)))
    )
    cases: list[CaseScore] = []
    report: dict[str, Any] | None = None
    if scored and folder.path("report.json").is_file():
        cases = list(read_values(folder.path("cases.jsonl"), conforming("cases", decode_case)))
        report = read_json(folder.path("report.json"))
    generated = verbs.get("generate", {}) if file is None else {}
    given = PageInput(records, cases, report, generated.get("by_rule", {}), _origin(verbs) if file is None else {})
    write_atomic(folder.path(PAGE), make_page(given))
    return folder.path(PAGE)


def _origin(verbs: dict[str, Any]) -> dict[str, str]:
    """Where the build comes from, in the manifest's words."""
    fetched, made = (verbs.get(verb, {}).get("config", {}) for verb in ("fetch", "generate"))
    judge = made.get("model_filter")
    filtered = f"{judge['model']} ({judge['revision']})" if judge else "no model" if made else None
    known = {
        "source": fetched.get("source"),
        "language": made.get("language") or fetched.get("language"),
        "seed": made.get("seed", made.get("build", {}).get("seed")),
        "filtered by": filtered,
    }
    return {name: str(value) for name, value in known.items() if value is not None}
