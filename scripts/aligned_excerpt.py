"""Make an aligned build of the excerpt of Wikidata, print what is there in each language, and audit every file.

    python scripts/aligned_excerpt.py build/aligned
    cfbuild across --build build/aligned --model smollm2-135m --limit 30

The second command scores SmolLM2 on 30 of the cases, in each language and across them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from small_world import write_excerpt  # noqa: E402

from cfbuild.cli.generate import _lines  # noqa: E402
from cfbuild.pipeline.audit import AuditOptions, audit  # noqa: E402
from cfbuild.pipeline.generate import GenerateOptions, generate  # noqa: E402
from cfbuild.records.aligned import record_files  # noqa: E402
from cfbuild.records.factset import read_facts  # noqa: E402
from cfbuild.store.folder import BuildFolder  # noqa: E402
from cfbuild.templates import builtin  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path, help="the folder to make")
    parser.add_argument("--excerpt", type=Path, default=ROOT.parent / "shared" / "data" / "wikidata-excerpt.nt.gz")
    parser.add_argument("--languages", default="en,fr,de")
    parser.add_argument("--limit", type=int, default=300)
    given = parser.parse_args()
    codes = tuple(given.languages.split(","))
    folder = BuildFolder(write_excerpt(given.build, given.excerpt, language=codes[0]))
    # A relation that a language has no templates of makes no aligned case.
    written = set.intersection(*(set(builtin.relations(code)) for code in codes))
    relations = tuple(one for one in read_facts(folder.root).relations if one in written)
    prefixes = "builtin" if codes[0] == "en" else "none"
    options = GenerateOptions(languages=codes, limit=given.limit, relations=relations, prefixes=prefixes)
    print("\n".join(_lines(generate(folder, options), options)))
    for code, file in record_files(folder.manifest()).items():
        found = audit(AuditOptions(folder.path(file), folder))
        print(f"audit of {file} in {code}: {found.rows} rows, {found.faulty} with faults {dict(found.rules) or ''}")


if __name__ == "__main__":
    main()
