"""Published files in the hands of people's readers, each from PyPI: `make test-tools` installs them.

pandas, polars and DuckDB are in the tools' environment, the earlier versions of datasets in one each. A reader that is
not there is skipped.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet
from scored_build import record, write_scored
from test_tools import OFFLINE, ROOT, TOOLS

from cfbuild.pipeline.publish import stage

READ = """
import json, pathlib, sys
folder, reader = pathlib.Path(sys.argv[1]), sys.argv[2]
files = sorted(folder.glob("data/*/*.parquet"))
if reader == "datasets":
    from datasets import get_dataset_config_names, load_dataset
    names = get_dataset_config_names(str(folder))
    found = {name: {split: list(rows) for split, rows in load_dataset(str(folder), name).items()} for name in names}
else:
    if reader == "pandas":
        import pandas
        rows_of = lambda path: pandas.read_parquet(path).to_dict("records")
    elif reader == "polars":
        import polars
        rows_of = lambda path: polars.read_parquet(path).to_dicts()
    else:
        import duckdb
        def rows_of(path):
            told = duckdb.execute("SELECT * FROM read_parquet(?)", [str(path)])
            names = [column[0] for column in told.description]
            return [dict(zip(names, row)) for row in told.fetchall()]
    found = {}
    for path in files:
        found.setdefault(path.parent.name, {})[path.name.split("-")[0]] = rows_of(path)
print("RESULT" + json.dumps(found, default=lambda value: value.tolist()))
"""
READERS = {
    "pandas": TOOLS,
    "polars": TOOLS,
    "duckdb": TOOLS,
    "datasets 3": ROOT / ".venv-datasets-3" / "bin" / "python",
    "datasets 4": ROOT / ".venv-datasets-4" / "bin" / "python",
}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a dataset with a row or more in each configuration."""
    build = write_scored(tmp_path_factory.mktemp("readers") / "build", [record(number) for number in range(30)])
    stage(build, "someone/set")
    return build.path("publish")


def without_nan(value: Any) -> Any:
    """Return a value with None for each NaN: pandas has no other word for a number that is not there."""
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value


@pytest.mark.parametrize("reader", READERS)
def test_every_configuration_is_read_as_it_was_written(reader: str, published: Path, tmp_path: Path) -> None:
    python = READERS[reader]
    if not python.is_file():
        pytest.skip(f"{reader} is not installed: `make test-tools` does it")
    done = subprocess.run(
        [str(python), "-c", READ, str(published), reader.split(maxsplit=1)[0]],
        env={**os.environ, **OFFLINE, "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = without_nan(json.loads(done.stdout.split("RESULT", 1)[1]))
    files = sorted(published.glob("data/*/*.parquet"))
    written: dict[str, dict[str, list[Any]]] = {}
    for path in files:
        rows = parquet.read_table(path).to_pylist()
        written.setdefault(path.parent.name, {})[path.name.split("-")[0]] = json.loads(json.dumps(rows))
    assert len(written) >= 5 and found == written
