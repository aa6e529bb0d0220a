"""TaskFlow installed without its extra for AWS."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

ASKED = {
    "TASKFLOW_QUEUE_BACKEND=sqs": "build_queue(load(queue_backend='sqs'), build_clock(), works=True)",
    "TASKFLOW_PAYLOAD_BACKEND=s3": "build_payload_store(load(payload_backend='s3', s3_bucket='any'))",
    "TASKFLOW_DATABASE_SECRET_ARN": "build_database(load(database_secret_arn='any'), build_clock())",
    "CloudWatch": "logs_client('us-east-1')",
}
PROGRAM = """
import sys
sys.modules.update(dict.fromkeys(["boto3", "botocore", "botocore.session", "botocore.exceptions"]))
import json
from taskflow.bootstrap import build_clock, build_database, build_payload_store, build_queue
from taskflow.core.errors import ConfigurationError
from taskflow.observability.cloudwatch import logs_client
from taskflow.settings import load

said = {}
for what, asked in json.loads(sys.argv[1]).items():
    try:
        eval(asked)
    except ConfigurationError as exc:
        said[what] = exc.detail
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said() -> dict[str, str]:
    """Of a process where boto3 cannot be imported, by what was asked for."""
    command = [sys.executable, "-c", PROGRAM, json.dumps(ASKED)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    found: dict[str, str] = json.loads(ran.stdout)
    return found


@pytest.mark.parametrize("what", ASKED)
def test_it_is_said_what_needs_it_and_how_it_is_installed(said: dict[str, str], what: str) -> None:
    assert said[what] == f"{what} needs boto3, which is not installed: pip install 'taskflow[aws]'"
