"""What the package imports is what it declares: a fresh installation has no development tools to lean on."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Imported by name, and pinned by the one that is declared.
COMES_WITH = {
    "pydantic-core": "pydantic",
    "starlette": "fastapi",
    "anyio": "httpx",
    "botocore": "boto3",
}
EXTRAS = {
    # extra `aws`, as the next
    "boto3": ("taskflow.adapters", "taskflow.aws", "taskflow.observability.cloudwatch"),
    "mangum": "taskflow.serverless",
    "psycopg2-binary": ("taskflow.adapters.metadata", "taskflow.cluster"),
    "psycopg": "taskflow.adapters.metadata.callers_transaction",  # whoever passes its connection has it
    "trustme": "taskflow.cluster.certificate",  # extra `cluster`
    "pytest": "taskflow.testing.plugin",  # whoever loads the plugin has pytest
}


def canonical(requirement: str) -> str:
    name = re.match(r"[\w.-]+", requirement)
    assert name is not None
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def test_every_third_party_import_is_a_declared_dependency() -> None:
    declared = {canonical(requirement) for requirement in PROJECT["dependencies"]}
    owners = packages_distributions()
    graph = grimp.build_graph("taskflow", include_external_packages=True, cache_dir=None)
    missing = []
    for module in sorted(graph.modules):
        if not module.startswith("taskflow"):
            continue
        for imported in graph.find_modules_directly_imported_by(module):
            top = imported.partition(".")[0]
            if top == "taskflow" or top in sys.stdlib_module_names:
                continue
            names = {canonical(name) for name in owners[top]}
            names |= {COMES_WITH[name] for name in names if name in COMES_WITH}
            allowed = {name for name, user in EXTRAS.items() if module.startswith(user)}
            if not names & (declared | allowed):
                missing.append(f"{module} imports {top}")
    assert missing == []


def test_a_package_that_is_looked_up_by_name_is_declared_too() -> None:
    """`find_spec("fastapi_offline")` is an import that no import statement shows."""
    declared = {canonical(requirement) for requirement in PROJECT["dependencies"]}
    names = set()
    for path in (ROOT / "src").rglob("*.py"):
        names |= set(re.findall(r'^_\w*PACKAGE = "(\w+)"', path.read_text(), re.MULTILINE))
    assert names
    assert {canonical(name) for name in names} <= declared
