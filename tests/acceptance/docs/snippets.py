"""Finds the fenced blocks of the documentation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Snippet(NamedTuple):
    page: Path
    line: int
    language: str
    code: str

    @property
    def id(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def expected(self) -> list[str]:
        """What the page says is printed, in order: comments that start with ``# ->``."""
        return re.findall(r"^\s*# -> (.*)$", self.code, re.MULTILINE)


def snippets(*languages: str) -> Iterator[Snippet]:
    """All of them, or those in these languages."""
    for page in PAGES:
        text = page.read_text()
        for found in _FENCE.finditer(text):
            if not languages or found[1] in languages:
                line = text.count("\n", 0, found.start()) + 1
                yield Snippet(page, line, found[1], found[2])
