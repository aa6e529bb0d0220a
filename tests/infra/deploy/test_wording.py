"""Every failure is one clear sentence and the next step."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import botocore.session
import pytest
from botocore import exceptions as boto
from botocore.exceptions import ClientError

from deployment.aws_errors import explained
from deployment.errors import DeployError
from deployment.failures import failed
from deployment.stack_states import Readiness, decision_needed, readiness
from deployment.stacks import StackState


def answered(
    code: str, message: str = "said AWS", operation: str = "CreateChangeSet", status: int = 400
) -> ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(response, operation)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("ExpiredToken", "credentials_expired"),
        ("ExpiredTokenException", "credentials_expired"),
        ("InvalidClientTokenId", "credentials_refused"),
        ("SignatureDoesNotMatch", "clock_skew"),
        ("AccessDenied", "denied"),
        ("AccessDeniedException", "denied"),
        ("UnauthorizedOperation", "denied"),
        ("403", "denied"),
        ("Throttling", "throttled"),
        ("TooManyRequestsException", "throttled"),
        ("LimitExceededException", "quota"),
        ("TooManyBuckets", "quota"),
        ("AlreadyExistsException", "name_taken"),
        ("BucketAlreadyExists", "name_taken"),
        ("OptInRequired", "not_enabled"),
        ("ServiceUnavailable", "aws_unavailable"),
        ("NewCodeOfNextYear", "aws_error"),
    ],
)
def test_what_aws_answers(code: str, told: str) -> None:
    failure = explained(answered(code))
    assert failure.code == told
    assert_readable(failure)


def test_a_denied_call_says_which_one_and_what_aws_said() -> None:
    failure = explained(answered("AccessDenied", "User x is not authorized to perform: {odd}"))
    assert failure.message == (
        "AWS denied CloudFormation CreateChangeSet: User x is not authorized to perform: {odd}"
    )


def test_a_quota_in_a_validation_error_is_recognised() -> None:
    assert (
        explained(answered("ValidationError", "Stack limit exceeded for account")).code == "quota"
    )
    assert explained(answered("ValidationError", "Parameter X must match")).code == "aws_error"


def test_an_unknown_code_with_a_server_error_is_awss_fault() -> None:
    assert explained(answered("Odd", status=503)).code == "aws_unavailable"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (boto.NoCredentialsError(), "no_credentials"),
        (boto.PartialCredentialsError(provider="env", cred_var="x"), "no_credentials"),
        (boto.ProfileNotFound(profile="x"), "no_credentials"),
        (boto.UnauthorizedSSOTokenError(), "credentials_expired"),
        (boto.SSOTokenLoadError(error_msg="x"), "credentials_expired"),
        (boto.NoRegionError(), "no_region"),
        (boto.SSLError(endpoint_url="https://x", error="bad certificate"), "tls"),
        (boto.EndpointConnectionError(endpoint_url="https://x", error="x"), "no_connection"),
        (boto.ReadTimeoutError(endpoint_url="https://x", error="x"), "no_connection"),
        (boto.ProxyConnectionError(proxy_url="http://x", error="x"), "no_connection"),
        (boto.ParamValidationError(report="x"), "usage"),
        (boto.BotoCoreError(), "aws_error"),
    ],
)
def test_what_never_reached_aws(error: boto.BotoCoreError, told: str) -> None:
    failure = explained(error)
    assert failure.code == told
    assert_readable(failure)


def aws_statuses() -> list[str]:
    """Every status that botocore's own model of CloudFormation knows."""
    model = botocore.session.Session().get_service_model("cloudformation")
    statuses: list[str] = model.shape_for("StackStatus").enum
    return statuses


@pytest.mark.parametrize("status", aws_statuses())
def test_every_status_of_a_stack_is_known_and_says_what_to_do(status: str) -> None:
    assert isinstance(readiness(status), Readiness)
    failure = decision_needed("taskflow-prod", status, "why")
    assert f"taskflow-prod is {status} (why)." == failure.message.removeprefix("Stack ")
    assert "deploy.py" in failure.next_step
    assert failure.code == f"stack_{status.lower()}"


def test_names_of_queues_that_are_free_only_after_a_minute() -> None:
    """What SQS says when a stage is made again right after it was destroyed."""
    reason = (
        "CriticalQueue (AWS::SQS::Queue): You must wait 60 seconds after deleting a queue before you can create "
        "another with the same name. (Service: Sqs, Status Code: 400)"
    )
    state = StackState(
        "taskflow-prod", "arn", "ROLLBACK_COMPLETE", "", {}, {}, {}, datetime.now(UTC), False
    )
    failure = failed("taskflow-prod", state, [reason])
    assert failure.next_step.startswith("Wait a minute: SQS")
    assert "run `deploy.py up` again" in failure.next_step


def test_a_status_of_the_future_is_told_not_guessed() -> None:
    with pytest.raises(DeployError, match="does not know: PAUSED_FOR_LUNCH"):
        readiness("PAUSED_FOR_LUNCH")


def assert_readable(failure: DeployError) -> None:
    for text in (failure.message, failure.next_step):
        assert text
        assert "{" not in text
        assert "\n" not in text
        assert text[0].isupper() or text[0] in "`'"
    assert failure.next_step.endswith(".")
