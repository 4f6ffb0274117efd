"""`cfbuild doctor`: the packages, devices, cache and models of this machine, and the services that answer."""

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
from cfbuild.sources.endpoints import SERVICES, ServiceCheck, reach
from cfbuild.sources.http import NetworkOptions, require_contact
from cfbuild.store.cache import cache_folder

if TYPE_CHECKING:
    from cfbuild.lm.machine import Device

TIMEOUT_S = 10.0
"""Seconds to wait for a service; one that takes longer for an easy question is of no use to a fetch."""


@dataclass(frozen=True)
class DoctorOptions(NetworkOptions):
    """Options of `cfbuild doctor`."""

    network: bool = option(False, "Also ask the public services for an answer: SPARQL, Wikipedia, the Hub.")


@dataclass(frozen=True, slots=True)
class Package:
    """A package that cfbuild needs: its range of versions, the version here (None: missing), and its extra, if any."""

    name: str
    required: str
    version: str | None
    extra: str | None
    fits: bool


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that cfbuild writes to: the bytes in it, and the bytes that are free on its disk."""

    path: str
    used_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All that was found. `models` says of each preset whose weights are here where they are."""

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
    """Return what this machine has, and with `network` which services answer.

    Raises ConfigError if a service is asked that requires a contact, and none is given.
    """
    from cfbuild.lm.machine import devices

    packages = tuple(_packages())
    urls = SERVICES if options.network else {}
    for url in urls.values():
        require_contact(url, options.contact_address)
    services = []
    for number, (service, url) in enumerate(urls.items()):
        progress("services asked", number, len(urls))
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
    """Yield the packages that the installed cfbuild requires, those of extras too, in the order of its metadata."""
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
    """Yield the presets whose weights need no download, each with the place of the weights."""
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
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    return Folder(str(path), used, shutil.disk_usage(existing).free)


def _faults(packages: tuple[Package, ...], services: list[ServiceCheck]) -> Iterator[str]:
    for package in packages:
        if package.version is None and package.extra is None:
            yield f"{package.name} is not installed; pip install '{package.name}{package.required}'"
        elif package.version is not None and not package.fits:
            yield f"{package.name} {package.version} is out of the range {package.required}"
    for service in services:
        if not service.answered:
            yield f"{service.service} did not answer: {service.detail} ({service.url})"
