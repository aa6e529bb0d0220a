"""The user's part of a package: the modules that TASKFLOW_TASKS names, and what these import from beside them."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from deployment.packaging.errors import PackagingError
from deployment.packaging.files import python_files

_OURS = {"taskflow", "lambdas"}


class TaskCode:
    """``names`` as TASKFLOW_TASKS has them; their modules are under ``root``, or under its ``src``.

    A top-level package comes as a whole, with its data files. What its modules import from beside it comes too.
    Raises PackagingError when a module is not where its name says.
    """

    def __init__(self, names: Sequence[str], root: Path) -> None:
        self._bases = [base for base in (root, root / "src") if base.is_dir()]
        self._root = root
        self._found: dict[str, Path] = {}
        self.elsewhere: list[str] = []  # must come with the user's requirements
        for name in names:
            self._add(name)

    def files(self) -> Iterator[tuple[PurePosixPath, Path]]:
        """Paths in the zip, and where they are."""
        for top, path in sorted(self._found.items()):
            if path.is_file():
                yield PurePosixPath(path.name), path
            else:
                for file in python_files(path):
                    yield PurePosixPath(top, file.relative_to(path).as_posix()), file

    def refuse_missing(self, installed: Path) -> None:
        """What is not under the root must be among what was installed. Raises PackagingError."""
        for name in self.elsewhere:
            if _module(installed, name) is None:
                top = name.partition(".")[0]
                places = " or ".join(str(base / top) for base in self._bases)
                raise PackagingError(
                    f"TASKFLOW_TASKS names {name!r}, but there is no {places} (package or .py), "
                    "and no requirement brings it.",
                    "Run deploy.py in the directory that holds the module, or correct the name.",
                )

    def _add(self, name: str) -> None:
        parts = name.split(".")
        if not all(part.isidentifier() for part in parts):
            raise PackagingError(
                f"TASKFLOW_TASKS names {name!r}, which is not the name of a module.",
                "Name modules as in an import statement, such as shop.tasks.",
            )
        if parts[0] in _OURS:
            return
        found = self._find(parts[0])
        if found is None:
            self.elsewhere.append(name)
        elif _module(found.parent, name) is None:
            raise PackagingError(
                f"TASKFLOW_TASKS names {name!r}, but {found} has no such module.",
                "Correct the name, or put the module there.",
            )
        else:
            self._take(parts[0], found)

    def _find(self, top: str) -> Path | None:
        for base in self._bases:
            directory, file = base / top, base / f"{top}.py"
            if directory.is_dir() and any(python_files(directory)):
                return directory
            if file.is_file():
                return file
        return None

    def _take(self, top: str, path: Path) -> None:
        if top in self._found:
            return
        self._found[top] = path
        files = [path] if path.is_file() else python_files(path)
        for file in files:
            if file.suffix == ".py":
                for imported in sorted(_imported(file) - _OURS - sys.stdlib_module_names):
                    beside = self._find(imported)
                    if beside is not None:
                        self._take(imported, beside)


def _module(base: Path, name: str) -> Path | None:
    path = base.joinpath(*name.split("."))
    return next((p for p in (path.with_name(f"{path.name}.py"), path) if p.exists()), None)


def _imported(file: Path) -> set[str]:
    """Top-level names; of a file that is no Python, none: the compiler says so in better words."""
    try:
        tree = ast.parse(file.read_bytes(), file)
    except (SyntaxError, ValueError):
        return set()
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found
