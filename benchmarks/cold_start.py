"""Cold start of the worker function: its package, unpacked, in an interpreter that has nothing else but boto3."""

from __future__ import annotations

import importlib.util
import statistics
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from benchmarks.figures import Effort, Figure, command
from deployment.packaging import build

_IMPORT_MS = 400
_SHIPPED = ("boto3", "botocore", "dateutil", "jmespath", "s3transfer", "six", "urllib3")
# As on AWS, but for a database that refuses: connecting is no import, and is tried again when it is needed.
_SETTINGS = {
    "TASKFLOW_BACKEND": "aws",
    "TASKFLOW_DATABASE_URL": "postgresql://127.0.0.1:1/nobody",
    "TASKFLOW_S3_BUCKET": "payloads",
    "TASKFLOW_LOG_LEVEL": "error",
    "AWS_REGION": "eu-west-1",
    "AWS_ACCESS_KEY_ID": "benchmark",
    "AWS_SECRET_ACCESS_KEY": "benchmark",
    "AWS_EC2_METADATA_DISABLED": "true",
}
_IMPORT = """
import sys, time
sys.path[:0], sys.path[len(sys.path):] = [sys.argv[1]], [sys.argv[2]]
wall, cpu = time.perf_counter(), time.process_time()
import lambdas.worker
print((time.perf_counter() - wall) * 1000, (time.process_time() - cpu) * 1000)
"""


def imports(package: Path, shipped: Path) -> tuple[float, float]:
    """Wall and CPU time in ms of `import lambdas.worker`, which makes the clients, too. -I -S: no other packages."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _IMPORT, str(package), str(shipped)],
        env=_SETTINGS,
        cwd=package,
        check=True,
        capture_output=True,
        text=True,
    )
    wall, cpu = done.stdout.split()
    return float(wall), float(cpu)


def measure(effort: Effort, stored: Path | None = None) -> list[Figure]:
    """Medians; the CPU's least, which says more on a busy machine."""
    with tempfile.TemporaryDirectory() as directory:
        out, package, shipped = (Path(directory) / name for name in ("out", "package", "shipped"))
        built = build(
            "worker",
            root=Path.cwd(),
            task_modules=[],
            requirements=None,
            python_version=f"{sys.version_info.major}.{sys.version_info.minor}",
            out=out,
        )
        with zipfile.ZipFile(built.path) as archive:
            archive.extractall(package)
        _ship(shipped)
        imports(package, shipped)  # the files are in memory from here on
        runs = [imports(package, shipped) for _ in range(effort.starts * 3)]
    walls, cpus = (tuple(values) for values in zip(*runs, strict=True))
    return [
        Figure("function: zip of the worker", built.size_bytes / 2**20, "MB", at_most=50),
        Figure(
            "function: cold import of the worker",
            statistics.median(walls),
            "ms",
            at_most=_IMPORT_MS,
            runs=walls,
            note="lambdas.worker with its clients",
        ),
        Figure("function: the same, CPU", min(cpus), "ms", runs=cpus, note="the least"),
    ]


def _ship(directory: Path) -> None:
    """What Lambda's runtime brings, and nothing beside it."""
    directory.mkdir()
    for name in _SHIPPED:
        found = importlib.util.find_spec(name)
        assert found is not None
        assert found.origin is not None
        origin = Path(found.origin)
        origin = origin.parent if origin.name == "__init__.py" else origin
        (directory / origin.name).symlink_to(origin)


if __name__ == "__main__":
    command([measure], __doc__)
