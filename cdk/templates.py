"""`python -m cdk.templates` writes cloudformation/*.yaml; with `--check` it only says whether they are up to date."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from cdk.profiles import PROFILES

DIRECTORY = Path(__file__).parents[1] / "cloudformation"
_HEADER = "# Written by `python -m cdk.templates` from cdk/: change that, not this.\n"


def render(template: Mapping[str, Any]) -> str:
    """The same bytes for the same template, everywhere."""
    return _HEADER + yaml.safe_dump(dict(template), sort_keys=False, width=120, allow_unicode=True)


def out_of_date(texts: Mapping[str, str], directory: Path) -> list[str]:
    """File names in ``directory`` whose content is not that of ``texts``, missing ones too."""
    return [
        name
        for name, text in texts.items()
        if not (directory / name).is_file() or (directory / name).read_text("utf-8") != text
    ]


def synthesised() -> dict[str, str]:
    """Text by file name."""
    from cdk.app import synthesise  # starts Node

    with tempfile.TemporaryDirectory() as directory:
        templates = synthesise(Path(directory))
    return {PROFILES[name].template: render(template) for name, template in templates.items()}


def check(texts: Mapping[str, str], directory: Path) -> int:
    """Exit code: 1 if a file differs."""
    stale = out_of_date(texts, directory)
    for name in stale:
        sys.stderr.write(
            f"cloudformation/{name} is not what cdk/ says: run `python -m cdk.templates` and commit it\n"
        )
    return int(bool(stale))


def write(texts: Mapping[str, str], directory: Path) -> None:
    directory.mkdir(exist_ok=True)
    for name in out_of_date(texts, directory):
        (directory / name).write_text(texts[name], "utf-8")


def main(arguments: Sequence[str]) -> int:
    if unknown := set(arguments) - {"--check"}:
        sys.stderr.write(f"{' '.join(unknown)}: only --check is known\n")
        return 2
    texts = synthesised()
    if "--check" in arguments:
        return check(texts, DIRECTORY)
    write(texts, DIRECTORY)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
