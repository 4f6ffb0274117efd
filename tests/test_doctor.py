"""The report on a machine: packages, devices, cache, services, and faults to mend."""

from __future__ import annotations

import importlib.metadata
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from typer.testing import CliRunner

from cfbuild.cli import app
from cfbuild.errors import ConfigError
from cfbuild.pipeline import doctor
from cfbuild.pipeline.doctor import DoctorOptions, examine


def test_this_machine_has_no_fault() -> None:
    ran = CliRunner().invoke(app, ["doctor", "--json", "--quiet"])
    assert ran.exit_code == 0, ran.output
    found = json.loads(ran.stdout)
    assert found["faults"] == [] and found["services"] == []
    packages = {package["name"]: package for package in found["packages"]}
    assert packages["torch"]["version"] == importlib.metadata.version("torch") and packages["torch"]["fits"]
    assert packages["torch"]["extra"] is None and packages["matplotlib"]["extra"] == "bench"
    (cpu, *_) = found["devices"]
    assert cpu["device"] == "cpu" and cpu["gflops"] > 0 and cpu["total_bytes"] >= cpu["free_bytes"] > 0
    assert found["cache"]["free_bytes"] > 0
    ran = CliRunner().invoke(app, ["doctor", "--quiet"])
    assert ran.exit_code == 0 and "torch" in ran.stdout and "GFLOP/s" in ran.stdout


def test_a_package_that_is_missing_or_too_old_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "spacy":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.13.1" if name == "torch" else real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    faults = examine(DoctorOptions()).faults
    assert [fault.split(" ")[0] for fault in faults] == ["spacy", "torch"]
    assert "pip install 'spacy" in faults[0] and "1.13.1 is out of the range" in faults[1]
    assert CliRunner().invoke(app, ["doctor", "--quiet"]).exit_code == 1


@pytest.fixture
def service() -> Iterator[str]:
    """Yield the address of a service that answers at /yes and is out of order everywhere else."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path.startswith("/yes") else 503)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_services_that_do_not_answer_are_named(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = "http://127.0.0.1:9/yes"
    services = {"good": f"{service}/yes?x", "ill": f"{service}/no", "gone": nobody}
    monkeypatch.setattr(doctor, "SERVICES", services)
    found = examine(DoctorOptions(network=True))
    assert [(one.service, one.answered, one.detail) for one in found.services] == [
        ("good", True, "HTTP 200"),
        ("ill", False, "HTTP 503"),
        ("gone", False, "ConnectionError"),
    ]
    assert [fault.split(" ")[0] for fault in found.faults] == ["ill", "gone"]


def test_public_services_are_not_asked_without_a_contact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CFBUILD_CONTACT", raising=False)
    with pytest.raises(ConfigError, match="wants to know who sends requests"):
        examine(DoctorOptions(network=True))
