"""What must not change unseen: the logical id of every resource, and every statement of every policy.

After a change that is meant: `python -m tests.infra.cdk.pinned` writes the lists anew, and the review sees it. A
logical id that has gone means that CloudFormation deletes what had it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cdk.profiles import PROFILES
from tests.infra.cdk.reading import listed, readable, statements, template

DIRECTORY = Path(__file__).parent / "pinned"


def files() -> dict[str, str]:
    """Text by file name."""
    texts = {}
    for profile in PROFILES:
        texts[f"{profile}-logical-ids.txt"] = _lines(
            f"{id_} {resource['Type']}" for id_, resource in template(profile)["Resources"].items()
        )
        texts[f"{profile}-statements.txt"] = _lines(
            _statement(id_, statement) for id_, statement in statements(profile)
        )
    return texts


def _statement(id_: str, statement: dict[str, Any]) -> str:
    parts = [id_, str(statement["Effect"]).lower(), " ".join(listed(statement["Action"]))]
    if "Principal" in statement:
        parts.append(f"by {readable(statement['Principal'])}")
    if "Resource" in statement:
        parts.append(f"on {' '.join(map(readable, listed(statement['Resource'])))}")
    if "Condition" in statement:
        parts.append(f"if {statement['Condition']}")
    return " | ".join(parts)


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in sorted(lines))


def main() -> None:
    DIRECTORY.mkdir(exist_ok=True)
    for name, text in files().items():
        (DIRECTORY / name).write_text(text, "utf-8")


if __name__ == "__main__":
    main()
