"""The evaluator of IAM policies that guards the behaviour suites: it has to decide as IAM does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.iam import Policy, Template

QUEUE = "arn:aws:sqs:us-east-1:123456789012:shop-high"


def template(*statements: Mapping[str, Any], **resources: Any) -> Template:
    policies = [{"PolicyName": "P", "PolicyDocument": {"Statement": list(statements)}}]
    body = {
        "Parameters": {"Suffix": {"Type": "String", "Default": "high"}},
        "Resources": {
            "Role": {"Type": "AWS::IAM::Role", "Properties": {"Policies": policies}},
            "High": {
                "Type": "AWS::SQS::Queue",
                "Properties": {"QueueName": {"Fn::Sub": "${AWS::StackName}-high"}},
            },
            "Bucket": {"Type": "AWS::S3::Bucket"},
            "Logs": {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": "/a"}},
            "Database": {"Type": "AWS::RDS::DBInstance"},
            **resources,
        },
    }
    names = {"Bucket": "things", "Database.MasterUserSecret.SecretArn": "arn:secret"}
    return Template(body, stack="shop", names=names)


def allow(action: Any, resource: Any = QUEUE, **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(action: Any, resource: Any = QUEUE, **more: Any) -> dict[str, Any]:
    return {**allow(action, resource, **more), "Effect": "Deny", "Sid": "No"}


def policy(*statements: Mapping[str, Any], **resources: Any) -> Policy:
    return template(*statements, **resources).role("Role")


@pytest.mark.parametrize(
    ("actions", "allowed"),
    [
        ("sqs:SendMessage", True),
        (["sqs:ReceiveMessage", "sqs:SendMessage"], True),
        ("sqs:Send*", True),
        ("SQS:sendmessage", True),
        ("sqs:SendMessag?", True),
        ("*", True),
        ("sqs:SendMessageBatch", False),
        ("sqs:Send", False),
        ("sns:SendMessage", False),
        ([], False),
    ],
)
def test_an_action_is_allowed_by_its_name_or_a_pattern(actions: Any, allowed: bool) -> None:
    assert policy(allow(actions)).decide("sqs:SendMessage", QUEUE).allowed is allowed


@pytest.mark.parametrize(
    ("resource", "allowed"),
    [
        (QUEUE, True),
        ([QUEUE + "-dead", QUEUE], True),
        ("*", True),
        ("arn:aws:sqs:*:*:shop-*", True),
        (QUEUE.upper(), False),
        (QUEUE + "-dead", False),
        ({"Fn::GetAtt": ["High", "Arn"]}, True),
        ({"Fn::GetAtt": "High.Arn"}, True),
        ({"Fn::Sub": "arn:${AWS::Partition}:sqs:${AWS::Region}:${AWS::AccountId}:shop-${Suffix}"}, True),
        ({"Fn::Sub": "arn:aws:sqs:us-east-1:123456789012:${High}"}, True),
        ({"Fn::Join": ["", ["arn:aws:sqs:us-east-1:123456789012:", {"Ref": "High"}]]}, True),
        ({"Fn::Select": [1, {"Fn::Split": ["|", f"x|{QUEUE}|y"]}]}, True),
        ({"Fn::Select": ["0", [{"Fn::GetAtt": ["High", "Arn"]}, "x"]]}, True),
        ({"Fn::GetAtt": ["Bucket", "Arn"]}, False),
    ],
)  # fmt: skip
def test_a_resource_is_found_by_its_arn(resource: Any, allowed: bool) -> None:
    assert policy(allow("sqs:*", resource)).decide("sqs:SendMessage", QUEUE).allowed is allowed


@pytest.mark.parametrize(
    ("resource", "arn"),
    [
        ({"Fn::GetAtt": ["Bucket", "Arn"]}, "arn:aws:s3:::things"),
        ({"Fn::GetAtt": ["Logs", "Arn"]}, "arn:aws:logs:us-east-1:123456789012:log-group:/a:*"),
        ({"Fn::GetAtt": ["Database", "MasterUserSecret.SecretArn"]}, "arn:secret"),
    ],
)
def test_arns_look_as_those_of_aws(resource: Any, arn: str) -> None:
    assert template().resolve(resource) == arn


def test_what_is_denied_is_denied_whatever_allows_it() -> None:
    decision = policy(allow("*", "*"), deny("sqs:Delete*")).decide("sqs:DeleteMessage", QUEUE)
    assert (decision.allowed, decision.reason) == (False, f"No denies sqs:DeleteMessage on {QUEUE}")
    assert policy(allow("*", "*"), deny("sqs:Delete*")).decide("sqs:SendMessage", QUEUE).allowed


def test_what_a_resource_denies_to_everybody_is_denied_too() -> None:
    def queue_policy(**conditions: str) -> dict[str, Any]:
        document = {"Statement": deny("sqs:*", Principal="*", Condition={"Bool": conditions})}
        return {"Type": "AWS::SQS::QueuePolicy", "Properties": {"PolicyDocument": document}}

    over_http = queue_policy(**{"aws:SecureTransport": "false"})
    found = policy(allow("*"), Policy=over_http)
    assert found.decide("sqs:SendMessage", QUEUE).allowed  # HTTPS, as AWS's endpoints are
    insecure = {"aws:SecureTransport": "false"}
    assert not found.decide("sqs:SendMessage", QUEUE, insecure).allowed


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ({"StringEquals": {"k": ["a", "b"]}}, True),
        ({"StringEquals": {"k": "c"}}, False),
        ({"StringNotEquals": {"k": "c"}}, True),
        ({"StringLike": {"k": "?"}}, True),
        ({"ArnLike": {"k": "b*"}}, False),
        ({"Bool": {"missing": "true"}}, False),
        ({"BoolIfExists": {"missing": "true"}}, True),
        ({"Null": {"missing": "true"}}, True),
        ({"Null": {"k": "true"}}, False),
        ({"StringEquals": {"k": "a"}, "Null": {"missing": "false"}}, False),
    ],
)
def test_a_statement_counts_when_all_its_conditions_hold(
    condition: dict[str, Any], holds: bool
) -> None:
    found = policy(allow("sqs:*", Condition=condition))
    assert found.decide("sqs:SendMessage", QUEUE, {"k": "a"}).allowed is holds


@pytest.mark.parametrize(
    "statement",
    [
        allow("*", {"Fn::ImportValue": "x"}),
        {"Effect": "Allow", "NotAction": "sqs:*", "Resource": "*"},
        allow("*", Condition={"DateLessThan": {"aws:CurrentTime": "2030-01-01"}}),
    ],
)
def test_what_it_does_not_understand_it_does_not_guess(statement: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not understood"):
        policy(statement).decide("sqs:SendMessage", QUEUE)


def test_only_roles_are_roles_and_managed_policies_are_unknown() -> None:
    with pytest.raises(KeyError, match="not a role"):
        template().role("High")
    managed = {"Type": "AWS::IAM::Role", "Properties": {"ManagedPolicyArns": ["arn"]}}
    with pytest.raises(ValueError, match="nobody here knows"):
        template(Role=managed).role("Role")
