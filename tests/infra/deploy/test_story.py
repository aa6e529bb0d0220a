"""A stage on MiniStack, which rolls back, protects, refuses what is too large, and runs the migrate function."""

from __future__ import annotations

from contextlib import closing

import pytest
import sqlalchemy as sa

from tests.infra.deploy.cloud import operation, parameters, rewriting
from tests.infra.deploy.conftest import Small
from tests.support import aws, packages
from tests.support.aws_proxy import Answer, Request

pytestmark = pytest.mark.timeout(600)

_BAD_QUEUE = {
    "Type": "AWS::SQS::Queue",
    "Properties": {
        "RedrivePolicy": {
            "deadLetterTargetArn": "arn:aws:sqs:us-east-1:123456789012:nowhere",
            "maxReceiveCount": 3,
        }
    },
}


def test_up_again_changed_failing_mended_destroyed(stage: Small, postgres_database: str) -> None:
    first = stage.up()
    assert first.code == 0, first
    engine = sa.create_engine(postgres_database)
    assert "tasks" in sa.inspect(engine).get_table_names()
    engine.dispose()
    assert "task: echo " in first.output
    assert stage.status() in {"CREATE_COMPLETE", "UPDATE_COMPLETE"}

    again = stage.up("--json").json
    assert (again["changes"], again["migrated"]) == ([], None)

    changed = stage.up("--set", "WorkerMemory=2048", "--json").json
    [change] = changed["changes"]
    assert (change["logical_id"], change["action"]) == ("WorkerFunction", "change")
    assert [text.partition(":")[0] for text in change["properties"]] == ["MemorySize"], change

    # A resource that cannot be made: rolled back, told with its reason, and everything goes on as before.
    stage.template["Resources"]["BadQueue"] = _BAD_QUEUE
    stage.write_template()
    failed = stage.up()
    assert failed.code == 1, failed
    assert (
        "was rolled back; it runs as before (UPDATE_ROLLBACK_COMPLETE): BadQueue (AWS::SQS::Queue): "
        in failed.errors
    )
    assert "run `deploy.py up` again" in failed.errors
    said = stage.deploy.good("status", *stage.common).output
    assert "failed: BadQueue" in said
    del stage.template["Resources"]["BadQueue"]
    stage.write_template()
    mended = stage.up()
    assert mended.code == 0, mended

    # Paused: the same stack by its own template, whatever is checked in by now; and on again.
    stage.template["Resources"]["BadQueue"] = _BAD_QUEUE
    stage.write_template()
    paused = stage.deploy.good("pause", *stage.common, "--yes").output
    assert "is paused: nothing takes traffic or tasks" in paused
    assert stage.parameters()["Serving"] == "false"
    assert "was paused already" in stage.deploy.good("pause", *stage.common, "--yes").output
    del stage.template["Resources"]["BadQueue"]
    stage.write_template()
    assert stage.up().code == 0
    assert stage.parameters()["Serving"] == "true"

    # What would lose data is refused, in the plan's own words, and nothing is begun.
    properties = stage.template["Resources"]["CriticalQueue"]["Properties"]
    properties["QueueName"] = f"{stage.stack}-other"
    stage.write_template()
    stage.proxy.forget()
    refused = stage.up("--json")
    assert (refused.code, refused.json["error"]["code"]) == (1, "replacement_refused")
    assert "replace CriticalQueue" in refused.errors
    assert "cloudformation:ExecuteChangeSet" not in {operation(r) for r in stage.proxy.requests}
    allowed = stage.up("--allow-replacement")
    assert allowed.code == 0, allowed

    with closing(aws.client("cloudformation", stage.proxy.url)) as client:
        refusal = None
        try:
            client.delete_stack(StackName=stage.stack)
        except client.exceptions.ClientError as exc:
            refusal = str(exc)
        assert refusal is not None, "the stack is not protected"
        assert "TerminationProtection" in refusal
    gone = stage.deploy.good("destroy", *stage.common, "--yes")
    assert f"deleted: stack {stage.stack}" in gone.output
    assert stage.deploy.run("status", *stage.common).code == 1


def test_new_code_comes_after_the_database_was_migrated_with_it(stage: Small) -> None:
    assert stage.up().code == 0
    old = stage.parameters()["WorkerCodeKey"]
    rates = stage.deploy.directory / "shop_rates.py"
    text = rates.read_text()
    rates.unlink()  # a link into the project
    rates.write_text(f"{text}\n# a new release\n")
    packages.package("worker", root=stage.deploy.directory)  # here, where there is an index
    stage.proxy.forget()
    deployed = stage.up("--json").json
    assert "error" not in deployed, deployed
    assert deployed["migrated"]["before"] == deployed["migrated"]["revision"]
    assert stage.parameters()["WorkerCodeKey"] != old
    # Over HTTP, UpdateFunctionCode is a PUT.
    steps = ["lambda:PUT", "lambda:Invoke", "cloudformation:ExecuteChangeSet"]
    calls = [operation(request) for request in stage.proxy.requests]
    assert [call for call in calls if call in steps] == steps


def test_a_rollback_that_fails_leads_to_recover(stage: Small) -> None:
    assert stage.up("--no-smoke-test").code == 0
    stage.template["Resources"]["BadQueue"] = _BAD_QUEUE
    stage.write_template()

    def fail(body: str) -> str:
        return body.replace("UPDATE_ROLLBACK_COMPLETE</", "UPDATE_ROLLBACK_FAILED</")

    with rewriting(stage.proxy, "cloudformation:DescribeStacks", fail):
        failed = stage.up("--json")
        assert failed.json["error"]["code"] == "stack_update_rollback_failed"
        assert "failed and left it UPDATE_ROLLBACK_FAILED: BadQueue" in failed.errors
        assert "`deploy.py recover`, and `deploy.py up` again" in failed.errors
        assert "deploy.py recover" in stage.deploy.run("status", *stage.common).output


def test_the_bucket_of_all_stages_is_made_again_if_the_end_of_another_one_took_it(
    stage: Small,
) -> None:
    refused: list[str] = []
    gone = Answer(404, {"Content-Type": "text/xml"}, b"<Error><Code>NoSuchBucket</Code></Error>")

    def refuse(request: Request) -> Answer | None:
        if request.method != "PUT" or f"/{stage.stack}/" not in request.path or refused:
            return None
        refused.append(request.path)
        return gone

    with stage.proxy.intercepting(refuse):
        done = stage.up("--no-smoke-test")
    assert done.code == 0, done
    puts = [one.path for one in stage.proxy.requests if one.method == "PUT"]
    assert puts.count(refused[0]) == 2


def test_a_template_that_is_too_large_for_a_call_goes_by_way_of_the_bucket(stage: Small) -> None:
    """As the real ones are. MiniStack refuses larger ones in a call, as AWS does."""
    stage.template["Metadata"] = {"Filler": "x" * 51_200}
    stage.write_template()
    tasks = ("--tasks", ",".join(packages.TASKS), "--image", "none")
    build = ("--build-directory", str(stage.packages))
    planned = stage.deploy.good("plan", *stage.common, *tasks, *build, "--json")
    assert planned.json["changes"]
    [call] = [
        parameters(request)
        for request in stage.proxy.requests
        if operation(request) == "cloudformation:CreateChangeSet"
    ]
    assert "TemplateBody" not in call
    assert f"/{stage.stack}/template-" in call["TemplateURL"]


def test_an_image_of_somebody_else_has_none_of_ours_properties(stage: Small) -> None:
    """As Docker's build here sets them: another image may be for another processor, and have no certificates."""
    ours = f"123456789012.dkr.ecr.{aws.REGION}.amazonaws.com/{stage.stack}:1"
    built = ("--set", "ImageArchitecture=ARM64", "--set", "ImageDatabaseTls=verify-full")
    assert stage.up("--image", ours, *built, "--no-smoke-test").code == 0
    assert image_of(stage) == (ours, "ARM64", "verify-full")
    assert stage.up("--image", "shop/taskflow:1", "--no-smoke-test").code == 0
    assert image_of(stage) == ("shop/taskflow:1", "X86_64", "require")
    said = ("--set", "ImageArchitecture=ARM64")
    assert stage.up("--image", "shop/taskflow:2", *said, "--no-smoke-test").code == 0
    assert stage.up("--image", "shop/taskflow:3", "--no-smoke-test").code == 0
    assert image_of(stage) == ("shop/taskflow:3", "ARM64", "require")  # what was set stays


def image_of(stage: Small) -> tuple[str, str, str]:
    found = stage.parameters()
    return found["ImageUri"], found["ImageArchitecture"], found["ImageDatabaseTls"]


def test_what_is_not_there_cannot_be_paused(stage: Small) -> None:
    refused = stage.deploy.run("pause", *stage.common, "--yes")
    assert refused.code == 2
    assert "There is no stack" in refused.errors


def test_a_creation_that_failed_is_deleted_and_begun_anew(stage: Small) -> None:
    stage.template["Resources"]["BadQueue"] = _BAD_QUEUE
    stage.write_template()
    failed = stage.up()
    assert failed.code == 1, failed
    assert f"{stage.stack} could not be created and is ROLLBACK_COMPLETE: BadQueue" in failed.errors
    planned = stage.deploy.run(
        "plan", *stage.common, "--image", "none", "--build-directory", str(stage.packages)
    )
    assert planned.code == 1
    assert "begins anew" in planned.errors
    del stage.template["Resources"]["BadQueue"]
    stage.write_template()
    done = stage.up()
    assert done.code == 0, done
    assert "DELETE_COMPLETE" in done.output
    assert "task: echo " in done.output
    stage.deploy.good("destroy", *stage.common, "--yes")


def test_a_plan_leaves_nothing_behind(stage: Small) -> None:
    tasks = ("--tasks", "shop.tasks", "--image", "none", "--build-directory", str(stage.packages))
    planned = stage.deploy.good("plan", "--profile", "standard", *stage.common, *tasks)
    assert "to add" in planned.output
    assert "PART" in planned.output
    assert "PostgreSQL" in planned.output
    assert stage.deploy.run("status", *stage.common).code == 1
    with closing(aws.client("acm", stage.proxy.url)) as acm:
        there = acm.list_certificates(Includes={"keyTypes": ["EC_prime256v1"]})[
            "CertificateSummaryList"
        ]
        assert f"{stage.stack}.taskflow.internal" not in {one.get("DomainName") for one in there}
