"""The pages that list things by hand list all of them: paths, error codes, handlers."""

from __future__ import annotations

import re
from pathlib import Path

from taskflow.api.app import create_app
from taskflow.api.errors import PROBLEMS
from taskflow.bootstrap import build
from taskflow.core.registry import Registry
from taskflow.settings import load

DOCS = Path(__file__).parents[3] / "docs"
API = (DOCS / "http-api.md").read_text()


def test_the_map_of_the_api_has_every_path_and_no_other(tmp_path: Path) -> None:
    runtime = build(load(home=tmp_path), registry=Registry(), with_worker=False)
    try:
        paths = create_app(runtime).openapi()["paths"]
    finally:
        runtime.close()
    served = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    listed = set(re.findall(r"^\| `((?:GET|POST|PUT|PATCH|DELETE) [^`]+)` \|", API, re.MULTILINE))
    assert listed == served


def test_the_table_of_errors_has_every_code_under_its_status() -> None:
    listed = {
        (int(status), code)
        for status, codes in re.findall(r"^\| (\d{3}) \| (.*) \|$", API, re.MULTILINE)
        for code in re.findall(r"`([a-z_]+)`", codes)
    }
    assert listed == {(status, code) for code, (status, _) in PROBLEMS.items()}


def test_the_page_of_handlers_has_every_builtin_with_all_its_arguments(tmp_path: Path) -> None:
    runtime = build(load(home=tmp_path), registry=Registry(), with_worker=False)
    runtime.close()
    page = (DOCS / "handlers.md").read_text()
    for handler in runtime.registry.handlers():
        [row] = re.findall(rf"^\| `{handler.name}` \|([^|]*)\|", page, re.MULTILINE)
        listed = set(re.findall(r"`(\w+)`", row))
        assert listed == set(handler.signature.names) - {"echoed"}
