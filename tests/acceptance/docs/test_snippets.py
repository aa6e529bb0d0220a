"""Every snippet of README and docs does what the page says: Python as it stands, bash against a real server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.docs.snippets import PAGES, ROOT, Snippet, snippets
from tests.support.server import ServerProcess, serving

pytestmark = pytest.mark.xdist_group("docs")  # they share one server

RUN = {"python", "bash"}
SHOWN = {
    "console",
    "json",
    "mermaid",
    "text",
}  # `console` shows what only a person does: clone, and look
CURL = '#!/bin/sh\nexec "{python}" "{script}" "$@"\n'
PRELUDE = """set -euo pipefail
curl() { command curl -sS --fail-with-body "$@"; echo; }
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with serving(tmp_path_factory.mktemp("docs-server")) as process:
        yield process


@pytest.fixture
def surroundings(tmp_path: Path) -> dict[str, str]:
    """The environment of a snippet: our commands on the PATH, a home of its own."""
    tools = tmp_path / "tools"
    tools.mkdir()
    if shutil.which("curl") is None:
        script = ROOT / "tests" / "support" / "curl.py"
        (tools / "curl").write_text(CURL.format(python=sys.executable, script=script))
        (tools / "curl").chmod(0o755)
    path = f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "TASKFLOW_HOME": str(tmp_path / "home")}


def run(
    command: list[str | Path], directory: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command,
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.mark.parametrize("snippet", list(snippets("python")), ids=lambda snippet: snippet.id)
def test_a_python_snippet_runs_and_prints_what_it_says(
    snippet: Snippet, tmp_path: Path, surroundings: dict[str, str], request: pytest.FixtureRequest
) -> None:
    code = snippet.code
    if "localhost:8000" in code:
        server: ServerProcess = request.getfixturevalue("server")
        code = code.replace("localhost:8000", f"127.0.0.1:{server.port}")
    if "localhost/shop" in code:
        url = request.getfixturevalue("postgres_database").partition("://")[2]
        code = code.replace("localhost/shop", url)
    script = tmp_path / "snippet.py"
    script.write_text(code)
    done = run([sys.executable, script], tmp_path, surroundings)
    assert done.stdout.splitlines() == snippet.expected


@pytest.mark.parametrize("snippet", list(snippets("bash")), ids=lambda snippet: snippet.id)
def test_a_bash_snippet_works_against_a_server(
    snippet: Snippet, tmp_path: Path, surroundings: dict[str, str], server: ServerProcess
) -> None:
    script = tmp_path / "snippet.sh"
    script.write_text(PRELUDE + snippet.code.replace("localhost:8000", f"127.0.0.1:{server.port}"))
    here = {**surroundings, "TASKFLOW_HOME": str(server.home), "TASKFLOW_PORT": str(server.port)}
    run(["bash", script], tmp_path, here)


def test_no_snippet_escapes_by_its_language() -> None:
    unknown = [s.id for s in snippets() if s.language not in RUN | SHOWN]
    assert unknown == []


def test_there_are_snippets_of_both_kinds_in_the_readme() -> None:
    kinds = [snippet.language for snippet in snippets() if snippet.page == ROOT / "README.md"]
    assert kinds.count("python") >= 6
    assert kinds.count("bash") >= 3


def test_links_between_pages_lead_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert broken == []


def test_every_decision_is_in_the_index() -> None:
    index = (ROOT / "docs" / "decisions" / "index.md").read_text()
    pages = {page.name for page in (ROOT / "docs" / "decisions").glob("*.md")} - {"index.md"}
    assert {name for name in pages if f"]({name})" not in index} == set()
