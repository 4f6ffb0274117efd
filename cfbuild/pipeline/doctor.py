"""`cfbuild doctor`: what this machine has of what cfbuild needs, and whether services answer from here."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cfbuild import __version__
from cfbuild.option import option
from cfbuild.progress import Progress, silent
from cfbuild.sources.http import NetworkOptions, require_contact
from cfbuild.sources.reach import SERVICES, ServiceCheck, reach
from cfbuild.store.cache import cache_folder

if TYPE_CHECKING:
    from cfbuild.lm.machine import Device

TIMEOUT_S = 10.0
"""Seconds to wait for a service: one that takes longer to say yes is as good as gone."""


@dataclass(frozen=True)
class DoctorOptions(NetworkOptions):
    """Options of `cfbuild doctor`."""

    network: bool = option(False, "Ask the public services for an answer, too: SPARQL, Wikipedia, the Hub.")


@dataclass(frozen=True, slots=True)
class Package:
    """A package that cfbuild asks for: the range, the version here (None: missing), and the extra it belongs to."""

    name: str
    wanted: str
    version: str | None
    extra: str | None
    fits: bool


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that is written to: the bytes in it, and those that are free beside it."""

    path: str
    used_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All that was found. `models` are the presets whose weights are here, and where; `faults` what must be mended."""

    cfbuild: str
    python: str
    system: str
    packages: tuple[Package, ...]
    devices: tuple[Device, ...]
    cache: Folder
    models: Mapping[str, str]
    services: tuple[ServiceCheck, ...]
    faults: tuple[str, ...]


def examine(options: DoctorOptions, progress: Progress = silent) -> Diagnosis:
    """Return what this machine has; services are asked where the options say so.

    Raises ConfigError where services are asked and want to be told by whom.
    """
    from cfbuild.lm.machine import devices

    packages = tuple(_packages())
    wanted = list(SERVICES.items()) if options.network else []
    for _, url in wanted:
        require_contact(url, options.contact_address)
    services = []
    for number, (service, url) in enumerate(wanted):
        progress("services asked", number, len(wanted))
        services.append(reach(service, url, options.contact_address, min(TIMEOUT_S, options.timeout_s)))
    return Diagnosis(
        cfbuild=__version__,
        python=platform.python_version(),
        system=platform.platform(),
        packages=packages,
        devices=tuple(devices()),
        cache=_folder(cache_folder()),
        models=dict(_models()),
        services=tuple(services),
        faults=tuple(_faults(packages, services)),
    )


def _packages() -> Iterator[Package]:
    """Yield what the installed cfbuild asks for, in its order; extras that are not here are told, and are no fault."""
    from packaging.requirements import Requirement

    for line in importlib.metadata.requires("cfbuild") or ():
        requirement = Requirement(line)
        extra = None
        if requirement.marker is not None and "extra" in str(requirement.marker):
            extra = str(requirement.marker).rsplit("==", 1)[1].strip().strip("\"'")
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            version = None
        fits = version is not None and requirement.specifier.contains(version, prereleases=True)
        yield Package(requirement.name, str(requirement.specifier), version, extra, fits)


def _models() -> Iterator[tuple[str, str]]:
    """Yield the presets whose weights need no download: in an installed package, or in the Hub's cache."""
    from cfbuild.lm.families import PRESETS
    from cfbuild.lm.load import find
    from cfbuild.lm.remote import cached_commit

    for name in PRESETS:
        source = find(name)
        if source.gguf is not None:
            yield name, "installed"
        elif cached_commit(source.location, None):
            yield name, "in the Hub's cache"


def _folder(path: Path) -> Folder:
    used = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    return Folder(str(path), used, shutil.disk_usage(there).free)


def _faults(packages: tuple[Package, ...], services: list[ServiceCheck]) -> Iterator[str]:
    for package in packages:
        if package.version is None and package.extra is None:
            yield f"{package.name} is not installed; pip install '{package.name}{package.wanted}'"
        elif package.version is not None and not package.fits:
            yield f"{package.name} {package.version} is out of the range {package.wanted}"
    for service in services:
        if not service.answered:
            yield f"{service.service} did not answer: {service.detail} ({service.url})"
