"""What AWS may answer instead, on a stage that is there: each is one sentence, the next step, and an exit code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.infra.deploy.cloud import operation, parameters, refusal, refusing, rewriting
from tests.infra.deploy.conftest import Small
from tests.infra.deploy.program import Done
from tests.support import aws
from tests.support.aws_proxy import Answer, Request

pytestmark = pytest.mark.timeout(600)

_STACKS = "cloudformation:DescribeStacks"


def assert_told(done: Done, code: str, *words: str, exit_code: int = 1) -> None:
    """On stdout JSON alone, on stderr the same for people, and never a traceback."""
    assert done.code == exit_code, done
    assert done.json["error"]["code"] == code, done
    assert "Traceback" not in done.errors
    assert "→" in done.errors
    for word in words:
        assert word in done.errors, done


def in_state(stage: Small, status: str) -> Iterator[None]:
    """The stack as if it were in this state."""

    def rewrite(body: str) -> str:
        return re.sub(
            r"<StackStatus>\w+</StackStatus>", f"<StackStatus>{status}</StackStatus>", body
        )

    with rewriting(stage.proxy, _STACKS, rewrite):
        yield


@pytest.fixture
def there(stage: Small) -> Small:
    """A stack of this name, made by hand in as few resources as possible."""
    with closing(aws.client("cloudformation", stage.proxy.url)) as client:
        client.create_stack(
            StackName=stage.stack,
            TemplateBody='{"Resources": {"Q": {"Type": "AWS::SQS::Queue"}}}',
            Tags=[{"Key": "taskflow:profile", "Value": "standard"}],
        )
        client.get_waiter("stack_create_complete").wait(
            StackName=stage.stack, WaiterConfig={"Delay": 1}
        )
    return stage


def test_no_credentials(stage: Small) -> None:
    nobody = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    done = stage.deploy.run("up", *stage.common, "--yes", "--json", environment=nobody)
    assert_told(done, "no_credentials", "no AWS credentials", "aws sso login")


def test_no_region(stage: Small) -> None:
    done = stage.deploy.run(
        "status", *stage.common, "--json", environment={"AWS_REGION": "", "AWS_DEFAULT_REGION": ""}
    )
    assert_told(done, "no_region", "--region")


@pytest.mark.parametrize(
    ("name", "code", "message", "told"),
    [
        (
            "sts:GetCallerIdentity",
            "ExpiredToken",
            "The security token is expired",
            "credentials_expired",
        ),
        (
            "sts:GetCallerIdentity",
            "InvalidClientTokenId",
            "The token is invalid",
            "credentials_refused",
        ),
        ("cloudformation:DescribeStacks", "AccessDenied", "not authorized to perform", "denied"),
        ("cloudformation:CreateChangeSet", "AccessDenied", "not authorized to perform", "denied"),
        ("cloudformation:CreateChangeSet", "LimitExceededException", "Stack limit", "quota"),
    ],
)
def test_aws_says_no(stage: Small, name: str, code: str, message: str, told: str) -> None:
    with refusing(stage.proxy, name, refusal(code, message)):
        done = stage.up("--json")
    assert_told(done, told)


def test_throttling_is_waited_out(stage: Small) -> None:
    answer = refusal("Throttling", "Rate exceeded")
    with refusing(stage.proxy, "cloudformation:DescribeStacks", answer, times=2) as refused:
        done = stage.deploy.run("status", *stage.common)
    assert len(refused) == 2
    assert "There is no stack" in done.output


def test_throttling_that_does_not_end_is_told(stage: Small) -> None:
    answer = refusal("Throttling", "Rate exceeded")
    with refusing(stage.proxy, "cloudformation:DescribeStacks", answer) as refused:
        done = stage.deploy.run(
            "status", *stage.common, "--json", environment={"AWS_MAX_ATTEMPTS": "2"}
        )
    assert len(refused) == 2
    assert_told(done, "throttled", "throttling CloudFormation DescribeStacks", "Wait a minute")


def test_a_bucket_of_somebody_else(stage: Small) -> None:
    forbidden = Answer(403, {}, b"")

    def refuse(request: Request) -> Answer | None:
        return forbidden if operation(request) == "s3:HEAD" else None

    with stage.proxy.intercepting(refuse):
        done = stage.up("--json")
    assert_told(done, "name_taken", "belongs to another account")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("UPDATE_ROLLBACK_FAILED", "deploy.py recover"),
        ("UPDATE_FAILED", "deploy.py recover"),
        ("DELETE_FAILED", "deploy.py destroy"),
    ],
)
def test_a_state_that_needs_a_decision(there: Small, status: str, words: str) -> None:
    for _ in in_state(there, status):
        done = there.up("--json")
        assert_told(done, f"stack_{status.lower()}", f"is {status}", words)
        shown = there.deploy.run("status", *there.common)
        assert (shown.code, words in shown.output) == (1, True)


def test_nothing_is_planned_while_another_run_is_at_work(there: Small) -> None:
    for _ in in_state(there, "UPDATE_IN_PROGRESS"):
        done = there.deploy.run("plan", *there.common, "--json")
        assert_told(done, "stack_update_in_progress", "Wait until it is over")


def test_another_run_is_waited_for(there: Small) -> None:
    looks: list[str] = []

    def rewrite(body: str) -> str:
        looks.append(body)
        busy = "UPDATE_IN_PROGRESS" if len(looks) <= 3 else "UPDATE_ROLLBACK_FAILED"
        return re.sub(r"<StackStatus>\w+</StackStatus>", f"<StackStatus>{busy}</StackStatus>", body)

    with rewriting(there.proxy, _STACKS, rewrite):
        done = there.up("--json")
    assert len(looks) > 3
    assert "waiting for its end" in done.errors
    assert_told(done, "stack_update_rollback_failed")


@pytest.mark.parametrize(
    ("status", "call", "skip"),
    [
        ("UPDATE_ROLLBACK_FAILED", "ContinueUpdateRollback", ("--skip", "Q")),
        ("UPDATE_FAILED", "RollbackStack", ()),
    ],
)
def test_recover_finishes_a_rollback_and_leaves_out_what_it_is_told_to(
    there: Small, status: str, call: str, skip: tuple[str, ...]
) -> None:
    asked: list[dict[str, str]] = []

    def roll_back(request: Request) -> Answer | None:
        if operation(request) != f"cloudformation:{call}":
            return None
        asked.append(parameters(request))
        body = f"<{call}Response><{call}Result/></{call}Response>"
        return Answer(200, {"Content-Type": "text/xml"}, body.encode())

    def rewrite(body: str) -> str:
        now = "UPDATE_ROLLBACK_COMPLETE" if asked else status
        return re.sub(r"<StackStatus>\w+</StackStatus>", f"<StackStatus>{now}</StackStatus>", body)

    def event(body: str) -> str:
        """The rollback shows in the events, too: its end is the newest."""
        return re.sub(r"<EventId>", "<EventId>new-", body, count=1) if asked else body

    with (
        there.proxy.intercepting(roll_back),
        rewriting(there.proxy, _STACKS, rewrite),
        rewriting(there.proxy, "cloudformation:DescribeStackEvents", event),
    ):
        done = there.deploy.good("recover", *there.common, *skip, "--yes", "--json")
    assert done.json == {"stack": there.stack, "status": "UPDATE_ROLLBACK_COMPLETE"}
    [told] = asked
    assert told["StackName"] == there.stack
    assert told.get("ResourcesToSkip.member.1") == ("Q" if skip else None)


def test_there_may_be_nothing_to_recover_from(there: Small, stage: Small) -> None:
    done = there.deploy.good("recover", *there.common, "--yes", "--json")
    assert done.json["status"] == "CREATE_COMPLETE"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("up", "--profile", "enterprise"), "Choose one of: standard, serverless, dev"),
        (("up", "--stage", "Not A Stage"), "lower-case letters"),
        (("up", "--set", "Serving=false"), "deploy.py decides it"),
        (("up", "--set", "Nonsense=1"), "It has: "),
        (("up", "--set", "Nonsense"), "is not NAME=VALUE"),
        (("up", "--tasks", "no-module"), "not the name of a module"),
        (("up", "--certificate-arn", "arn:nothing"), "not the ARN of a certificate"),
        (
            ("up", "--certificate-arn", "arn:aws:acm:eu-west-1:1:certificate/x"),
            "the stack in us-east-1",
        ),
    ],
)
def test_a_command_line_that_cannot_be(
    stage: Small, arguments: tuple[str, ...], words: str
) -> None:
    image = ("--image", "none", "--build-directory", str(stage.packages))
    done = stage.deploy.run(*arguments, *image, "--yes", "--json")
    assert_told(done, "usage", words, exit_code=2)


def test_nobody_is_asked_where_nobody_sits(stage: Small) -> None:
    tasks = ("--tasks", "shop.tasks", "--image", "none", "--build-directory", str(stage.packages))
    done = stage.deploy.run("up", *stage.common, *tasks, "--json")
    assert_told(done, "usage", "Add --yes", exit_code=2)


def test_no_is_taken_for_an_answer_by_up(stage: Small) -> None:
    tasks = ("--tasks", "shop.tasks", "--image", "none", "--build-directory", str(stage.packages))
    done = stage.deploy.answer("n", "up", *stage.common, *tasks)
    assert done.code == 1
    assert f"Create {stage.stack} in {aws.REGION}? [y/N]" in done.output
    assert "Nothing was changed." in done.errors
    assert stage.deploy.run("status", *stage.common).code == 1  # not even the empty stack is left
    calls = {operation(request) for request in stage.proxy.requests}
    assert "cloudformation:ExecuteChangeSet" not in calls


def test_no_is_taken_for_an_answer_by_destroy(there: Small) -> None:
    done = there.deploy.answer("", "destroy", *there.common)  # Enter alone is no, too
    assert done.code == 1
    assert "for ever? [y/N]" in done.output
    assert "Nothing was deleted." in done.errors
    assert there.status() == "CREATE_COMPLETE"


def test_no_is_taken_for_an_answer_by_recover(there: Small) -> None:
    for _ in in_state(there, "UPDATE_ROLLBACK_FAILED"):
        done = there.deploy.answer("no", "recover", *there.common)
    assert done.code == 1
    assert "what it was before the failed update? [y/N]" in done.output
    assert "Nothing was changed." in done.errors
    calls = {operation(request) for request in there.proxy.requests}
    assert "cloudformation:ContinueUpdateRollback" not in calls
