"""What is in the packages, and that it is the same whoever builds it."""

from __future__ import annotations

import json
import marshal
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deployment.packaging.package import MOST_BYTES
from tests.support import packages

WEB = ("fastapi", "fastapi_offline", "mangum", "rich", "starlette", "typer", "uvicorn", "uvloop")
# What a function's start does without: docs/decisions/start.md.
SLOW = (
    "alembic", "httpx", "prometheus_client", "structlog",
    "sqlalchemy.dialects.mysql", "sqlalchemy.dialects.sqlite", "sqlalchemy.orm",
)  # fmt: skip
UNUSED = ("taskflow/balancer", "taskflow/cli", "taskflow/cluster", "taskflow/testing")
AS_ON_AWS = {
    "TASKFLOW_BACKEND": "aws",
    "TASKFLOW_DATABASE_URL": "postgresql://127.0.0.1:1/nobody",
    "TASKFLOW_S3_BUCKET": "payloads",
    "TASKFLOW_TASKS": "shop.tasks",
    "AWS_REGION": "eu-west-1",
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_EC2_METADATA_DISABLED": "true",
}
_AGAIN = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from deployment.packaging import build
built = build("worker", root=Path(sys.argv[1]), task_modules=["shop.tasks"], requirements=None,
              python_version="%d.%d" % sys.version_info[:2], out=Path(sys.argv[2]))
print(json.dumps(asdict(built), default=str))
"""


def test_built_again_elsewhere_it_has_the_same_bytes(tmp_path: Path) -> None:
    project = tmp_path / "another project"
    for path in packages.PROJECT.rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            copy = project / path.relative_to(packages.PROJECT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
            os.utime(copy, (0, 0))
    done = subprocess.run(
        [sys.executable, "-c", _AGAIN, str(project), str(tmp_path / "out")],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "PYTHONHASHSEED": "4711", "TZ": "Pacific/Auckland"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    again, first = json.loads(done.stdout), packages.package("worker")
    assert (again["sha256_hex"], again["key"]) == (first.sha256_hex, first.key)
    assert Path(again["path"]).read_bytes() == first.path.read_bytes()


@pytest.mark.parametrize("kind", ["worker", "api"])
def test_its_key_says_what_is_in_it_and_it_is_small_enough(kind: Any) -> None:
    built = packages.package(kind)
    assert built.key == f"functions/{kind}-{built.sha256_hex[:32]}.zip"
    assert built.path.stat().st_size == built.size_bytes < MOST_BYTES
    stamp = built.path.stat().st_mtime_ns
    assert packages.package(kind) == built
    assert built.path.stat().st_mtime_ns == stamp  # it was not built again


@pytest.mark.parametrize("kind", ["worker", "api"])
def test_entries_are_sorted_and_carry_no_time_and_no_owner(kind: Any) -> None:
    with zipfile.ZipFile(packages.package(kind).path) as archive:
        entries = archive.infolist()
    assert [entry.filename for entry in entries] == sorted(entry.filename for entry in entries)
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.external_attr >> 16 for entry in entries} <= {0o100644, 0o100755}


def test_the_worker_has_what_its_functions_use_and_nothing_of_the_api(worker: Path) -> None:
    for name in (*WEB, *UNUSED, "boto3", "botocore", "taskflow/api", "lambdas/api.py", "bin"):
        assert not (worker / name).exists(), name
    for name in ("worker", "dead_letters", "maintenance", "migrate"):
        assert (worker / f"lambdas/{name}.py").is_file()
    assert (worker / "taskflow/adapters/metadata/migrations/versions/0001_tasks.py").is_file()
    assert (worker / "shop/prices.json").is_file()
    assert (worker / "shop_rates.py").is_file()  # nobody named it, but shop.tasks imports it


def test_the_api_has_fastapi_and_mangum_and_no_server(api: Path) -> None:
    for name in ("fastapi", "mangum", "taskflow/api", "lambdas/api.py", "shop/tasks.py"):
        assert (api / name).exists(), name
    for name in (*UNUSED, "uvicorn", "typer", "rich", "boto3", "lambdas/worker.py"):
        assert not (api / name).exists(), name


@pytest.mark.parametrize("kind", ["worker", "api"])
def test_every_module_of_ours_in_it_can_be_imported(
    kind: Any, in_lambda: Callable[..., Any]
) -> None:
    """What was left out is used by none of it, and every distribution it needs is there."""
    package = packages.unpacked(kind)
    names = [
        ".".join(path.relative_to(package).with_suffix("").parts)
        for top in ("taskflow", "shop")
        for path in sorted((package / top).rglob("*.py"))
        if "migrations" not in path.parts
    ]
    found = in_lambda(
        package,
        f"import importlib, json\nfor name in {names!r}: importlib.import_module(name)\n"
        "print(json.dumps(len(sys.modules)))",
        **AS_ON_AWS,
    )
    assert found > len(names) > 100


@pytest.mark.parametrize("name", ["worker", "dead_letters", "maintenance", "migrate"])
def test_no_function_of_the_worker_imports_what_it_does_not_need(
    worker: Path, in_lambda: Callable[..., Any], name: str
) -> None:
    code = f"""
import json
from lambdas.{name} import handler
print(json.dumps([sorted(sys.modules), sys.modules["taskflow"].__file__]))
"""
    imported, origin = in_lambda(worker, code, **AS_ON_AWS)
    assert {*WEB, *SLOW}.isdisjoint(imported)
    assert origin == str(worker / "taskflow/__init__.py")


def test_the_api_function_answers_from_its_package(
    api: Path, in_lambda: Callable[..., Any]
) -> None:
    event = {
        "requestContext": {"elb": {"targetGroupArn": "arn"}},
        "httpMethod": "GET",
        "path": "/health/live",
        "multiValueQueryStringParameters": {},
        "multiValueHeaders": {"host": ["x"]},
        "body": "",
        "isBase64Encoded": False,
    }
    code = f"""
import json
from lambdas.api import handler
class Context:
    aws_request_id = "r"
    def get_remaining_time_in_millis(self): return 20_000
print(json.dumps(handler({event!r}, Context())["statusCode"]))
"""
    # Without a store it says so, in the words of the API.
    assert in_lambda(api, code, **AS_ON_AWS) == 503


def test_bytecode_is_of_this_python_unchecked_and_says_where_lambda_has_the_source(
    worker: Path,
) -> None:
    compiled = worker / f"taskflow/core/__pycache__/task.{sys.implementation.cache_tag}.pyc"
    content = compiled.read_bytes()
    flags = int.from_bytes(content[4:8], "little")
    assert flags == 0b01  # PEP 552: by hash, and not checked
    assert marshal.loads(content[16:]).co_filename == "/var/task/taskflow/core/task.py"
    sources = {path for path in worker.rglob("*.py") if "__pycache__" not in path.parts}
    without = [
        path
        for path in sources
        if not (
            path.parent / "__pycache__" / f"{path.stem}.{sys.implementation.cache_tag}.pyc"
        ).exists()
    ]
    assert without == []


def test_versions_can_still_be_asked_for(worker: Path, in_lambda: Callable[..., Any]) -> None:
    code = "import json, importlib.metadata as m; print(json.dumps(m.version('sqlalchemy')))"
    pinned = (Path(__file__).parents[3] / "requirements.lock").read_text()
    assert f"sqlalchemy=={in_lambda(worker, code)}\n" in pinned
