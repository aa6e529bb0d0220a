"""requirements.lock pins everything the package asks for, and nothing about where it came from."""

from __future__ import annotations

import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[3]
LOCK = (ROOT / "requirements.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DECLARED = [
    *PROJECT["dependencies"],
    *chain.from_iterable(PROJECT["optional-dependencies"].values()),
]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned() -> dict[str, list[Requirement]]:
    pins: dict[str, list[Requirement]] = {}
    for line in LOCK.splitlines():
        requirement = Requirement(line)
        pins.setdefault(canonical(requirement.name), []).append(requirement)
    return pins


def test_the_lock_file_names_no_host_path_or_option() -> None:
    assert re.findall(r".*(?:://|@|^-|(?:^|\s)[./~]).*", LOCK, re.MULTILINE) == []


def test_every_line_pins_one_exact_version() -> None:
    for requirements in pinned().values():
        for requirement in requirements:
            assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)), requirement


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("declared", DECLARED)
def test_every_declared_dependency_is_pinned_within_its_bounds(declared: str, python: str) -> None:
    wanted = Requirement(declared)
    environment = {
        **default_environment(),
        "python_version": python,
        "python_full_version": f"{python}.0",
    }
    if wanted.marker is not None and not wanted.marker.evaluate(environment):
        pytest.fail(f"{declared} is not installed on this platform; tests must run where it is")
    pins = [
        pin
        for pin in pinned().get(canonical(wanted.name), [])
        if pin.marker is None or pin.marker.evaluate(environment)
    ]
    assert len(pins) == 1, f"{declared}: run `make lock`"
    [version] = [specifier.version for specifier in pins[0].specifier]
    assert wanted.specifier.contains(version, prereleases=True), f"{declared}: run `make lock`"


def test_the_build_backend_is_pinned_too() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert {canonical(Requirement(name).name) for name in build} <= pinned().keys()
