"""One zip for Lambda: TaskFlow, the user's task modules, and what both depend on, compiled for the runtime."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from deployment.packaging.archive import write_archive
from deployment.packaging.bytecode import compile_all, version_for
from deployment.packaging.dependencies import install
from deployment.packaging.errors import PackagingError
from deployment.packaging.own_code import LOCK, Kind, own_files, own_requirements
from deployment.packaging.runtimes import TASK_ROOT, Architecture, platform_of
from deployment.packaging.stripping import strip
from deployment.packaging.task_code import TaskCode

# Lambda Developer Guide, "Lambda quotas": 250 MB unpacked is Lambda's limit. A zip over 50 MB can be deployed from S3,
# but what is loaded from it at each cold start has no place in a function; tasks that need it belong in containers.
MOST_BYTES = 50 * 2**20
MOST_UNPACKED_BYTES = 250 * 2**20

DATABASE_CA = "rds-ca-bundle.pem"
DATABASE_CA_PATH = f"{TASK_ROOT}/{DATABASE_CA}"  # for TASKFLOW_DATABASE_TLS_ROOT_CERT


@dataclass(frozen=True)
class Package:
    """``key``: where it goes in the bucket of code. The same contents have the same key, others never."""

    path: Path
    key: str
    sha256_hex: str
    size_bytes: int


def build(
    kind: Kind,
    *,
    root: Path,
    task_modules: Sequence[str],
    requirements: Path | None,
    python_version: str,
    out: Path,
    architecture: Architecture = "x86_64",
    database_ca: bytes | None = None,
    interpreter: Path | None = None,
) -> Package:
    """``worker``: the functions worker, dead_letters, maintenance and migrate. ``api``: the function api, with FastAPI.

    ``task_modules``: as TASKFLOW_TASKS names them, found under ``root``. ``requirements``: what these need, in pip's
    format. ``interpreter`` (this one) compiles and must be a Python ``python_version``. ``database_ca``: certificates
    that PostgreSQL is trusted by, at `DATABASE_CA_PATH`. ``out`` keeps what was built: what has not changed is not
    built again, also if a requirement that names no version could be had in a newer one by now.

    Raises PackagingError, and leaves no package then.
    """
    platform = platform_of(python_version, architecture)
    python = interpreter or Path(sys.executable)
    compiler = version_for(python, python_version)
    if requirements is not None and not requirements.is_file():
        raise PackagingError(
            f"There is no requirements file {requirements}.",
            "Name the file, or leave the option out.",
        )
    code = TaskCode(task_modules, root)
    files = _no_name_twice([*own_files(kind), *code.files()])
    out.mkdir(parents=True, exist_ok=True)
    inputs = _digest(
        [kind, compiler, platform, *own_requirements(kind), *code.elsewhere],
        [
            LOCK,
            *([requirements] if requirements else []),
            *sorted(Path(__file__).parent.glob("*.py")),
        ],
        files,
        database_ca or b"",
    )
    known = out / f"{kind}-{inputs}.json"
    if (package := _known(known)) is not None:
        return package
    with tempfile.TemporaryDirectory(dir=out) as directory:
        stage = Path(directory) / "stage"
        stage.mkdir()
        install(
            own_requirements(kind),
            requirements,
            stage,
            lock=LOCK,
            python_version=python_version,
            platform=platform,
        )
        strip(stage)
        code.refuse_missing(stage)
        _copy(files, stage)
        if database_ca:
            (stage / DATABASE_CA).write_bytes(database_ca)
        compile_all(stage, python, sorted({name.parts[0] for name in files}))
        package = pack(kind, stage, out)
    # Requirements files that lead to others are read anew each time.
    if requirements is None or not _leads_on(requirements):
        known.write_text(json.dumps(asdict(package), default=str))
    return package


def pack(kind: Kind, stage: Path, out: Path) -> Package:
    """All that is below ``stage``, in ``out``. Raises PackagingError for what is over Lambda's limits."""
    archive = stage.with_suffix(".zip")
    unpacked = write_archive(stage, archive)
    size = archive.stat().st_size
    for what, bytes_, most in (
        ("", size, MOST_BYTES),
        (" unpacked", unpacked, MOST_UNPACKED_BYTES),
    ):
        if bytes_ > most:
            raise PackagingError(
                f"The package of the {kind} function has {_mb(bytes_)}{what}, over the limit of {_mb(most)}; "
                f"the largest in it: {_largest(stage)}.",
                "Leave out what the tasks do not need, or run these tasks in containers.",
            )
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    name = f"{kind}-{digest[:32]}.zip"
    archive.replace(out / name)
    return Package(out / name, f"functions/{name}", digest, size)


def _known(record: Path) -> Package | None:
    try:
        told = json.loads(record.read_text())
        package = Package(**{**told, "path": record.with_name(Path(told["path"]).name)})
        content = package.path.read_bytes()
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return package if hashlib.sha256(content).hexdigest() == package.sha256_hex else None


def _no_name_twice(
    files: Sequence[tuple[PurePosixPath, Path]],
) -> dict[PurePosixPath, Path]:
    found: dict[PurePosixPath, Path] = {}
    for name, path in files:
        if name in found:
            raise PackagingError(
                f"{path} would hide {found[name]}, which has the same name in the package.",
                "Rename one of them.",
            )
        found[name] = path
    return found


def _copy(files: dict[PurePosixPath, Path], stage: Path) -> None:
    installed = {path.name.removesuffix(".py") for path in stage.iterdir()}
    for top in sorted({name.parts[0] for name in files}):
        if top.removesuffix(".py") in installed:
            raise PackagingError(
                f"Your {top} has the name of a dependency, and only one of them could be imported.",
                f"Rename your {top}.",
            )
    for name, path in files.items():
        target = stage / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)


def _digest(
    words: Sequence[str],
    texts: Sequence[Path],
    files: dict[PurePosixPath, Path],
    certificates: bytes,
) -> str:
    digest = hashlib.sha256(json.dumps(words).encode())

    def parts() -> Iterator[tuple[str, bytes]]:
        for path in texts:
            yield path.name, path.read_bytes()
        for name, path in files.items():
            yield f"{name} {path.stat().st_mode & 0o100}", path.read_bytes()
        yield "", certificates

    for name, content in parts():
        digest.update(f"{name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:32]


def _leads_on(requirements: Path) -> bool:
    return any(line.lstrip().startswith("-") for line in requirements.read_text().splitlines())


def _largest(stage: Path) -> str:
    sizes: Counter[str] = Counter()
    for path in stage.rglob("*"):
        if path.is_file():
            sizes[path.relative_to(stage).parts[0]] += path.stat().st_size
    return ", ".join(f"{name} ({_mb(size)})" for name, size in sizes.most_common(5))


def _mb(size: int) -> str:
    return f"{size / 2**20:.1f} MB"
