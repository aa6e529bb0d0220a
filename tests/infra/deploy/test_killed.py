"""deploy.py is killed (SIGKILL) at every call that changes something, before and after AWS has done it; each time it is
run again, and goes on. What comes out is what one run makes."""

from __future__ import annotations

import os
import signal
from contextlib import closing
from typing import Any

import pytest
import sqlalchemy as sa

from deployment import env_file
from tests.infra.deploy.cloud import Killer
from tests.infra.deploy.conftest import Small
from tests.support import aws, packages

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_MOST_RUNS = 60
_STAGES = {
    "s3:PUT",
    "acm:ImportCertificate",
    "cloudformation:CreateChangeSet",
    "cloudformation:ExecuteChangeSet",
    "lambda:Invoke",
    "cloudformation:UpdateTerminationProtection",
}
_UPDATE_STAGES = {
    "s3:PUT",
    "cloudformation:CreateChangeSet",
    "lambda:PUT",  # the migrate function gets the new code
    "lambda:Invoke",
    "cloudformation:ExecuteChangeSet",
}


@pytest.fixture
def killer(stage: Small) -> Killer:
    def kill() -> None:
        os.kill(stage.deploy.process_id, signal.SIGKILL)

    return Killer(stage.proxy, kill)


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_a_run_killed_anywhere_is_continued_by_the_next(
    stage: Small, killer: Killer, postgres_database: str, before: bool
) -> None:
    stage.template["Resources"]["PayloadBucket"]["DeletionPolicy"] = "Retain"  # as in `standard`
    stage.write_template()
    own = stage.deploy.directory / ".env"
    own.write_text("MINE=1\n")
    with stage.proxy.intercepting(killer):
        for _ in range(_MOST_RUNS):
            killer.arm(before=before)
            done = stage.up("--no-smoke-test")
            if not killer.is_armed:
                assert done.code == -signal.SIGKILL, done
                continue
            break  # there was no call left at which none had died
        assert done.code == 0, done
    died_at = {place.partition(" ")[2] for place in killer.killed_at}
    assert died_at >= _STAGES
    assert stage.up("--json").json["changes"] == []
    status = stage.deploy.good("status", *stage.common, "--json").json
    assert status["state"]["parameters"]["Serving"] == "true"
    assert status["state"]["is_protected"]
    engine = sa.create_engine(postgres_database)
    assert "tasks" in sa.inspect(engine).get_table_names()
    engine.dispose()
    assert len(certificates(stage)) == 1  # however often it was imported
    bucket = status["outputs"]["PayloadBucket"]
    assert env_file.read(own)["TASKFLOW_S3_BUCKET"] == bucket
    with closing(aws.client("s3", stage.proxy.url)) as s3:
        s3.put_object(Bucket=bucket, Key="payload", Body=b"x")

    with stage.proxy.intercepting(killer):
        for _ in range(_MOST_RUNS):
            killer.arm(before=before)
            done = stage.deploy.run("destroy", *stage.common, "--yes", "--delete-payloads")
            if not killer.is_armed:
                assert done.code == -signal.SIGKILL, done
                continue
            break
        assert done.code == 0, done
    assert stage.deploy.run("status", *stage.common).code == 1
    assert certificates(stage) == []
    with closing(aws.client("s3", stage.proxy.url)) as s3:
        assert bucket not in {one["Name"] for one in s3.list_buckets()["Buckets"]}
    assert env_file.read(own) == {"MINE": "1"}


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_an_update_with_new_code_killed_anywhere_is_continued_by_the_next(
    stage: Small, killer: Killer, before: bool
) -> None:
    assert stage.up("--no-smoke-test").code == 0
    old = stage.parameters()["WorkerCodeKey"]
    rates = stage.deploy.directory / "shop_rates.py"
    text = rates.read_text()
    rates.unlink()  # a link into the project
    rates.write_text(f"{text}\n# a release that is killed {before}\n")
    packages.package("worker", root=stage.deploy.directory)  # here, where there is an index
    with stage.proxy.intercepting(killer):
        for _ in range(_MOST_RUNS):
            killer.arm(before=before)
            done = stage.up("--no-smoke-test")
            if killer.is_armed:
                break
            assert done.code == -signal.SIGKILL, done
    assert done.code == 0, done
    died_at = {place.partition(" ")[2] for place in killer.killed_at}
    assert died_at >= _UPDATE_STAGES
    new = stage.parameters()
    assert new["WorkerCodeKey"] != old
    assert new["Serving"] == "true"
    with closing(aws.client("lambda", stage.proxy.url)) as functions:
        outputs = stage.deploy.good("status", *stage.common, "--json").json["outputs"]
        deployed = {
            functions.get_function_configuration(FunctionName=outputs[name])["CodeSha256"]
            for name in ("WorkerFunction", "MigrateFunction")
        }
    assert len(deployed) == 1
    assert stage.up("--json").json["changes"] == []


def certificates(stage: Small) -> list[str]:
    """In ACM, of this stack."""
    with closing(aws.client("acm", stage.proxy.url)) as acm:
        found = acm.list_certificates()["CertificateSummaryList"]
        return [one["CertificateArn"] for one in found if stage.stack in stacks_of(acm, one)]


def stacks_of(acm: Any, certificate: dict[str, Any]) -> list[str]:
    """None of one that another test has deleted since it was listed."""
    try:
        answer = acm.list_tags_for_certificate(CertificateArn=certificate["CertificateArn"])
    except acm.exceptions.ResourceNotFoundException:
        return []
    return [tag["Value"] for tag in answer.get("Tags", []) if tag["Key"] == "taskflow:stack"]
