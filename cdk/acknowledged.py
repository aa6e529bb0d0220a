"""What cdk-nag (AwsSolutions) finds and is meant to be so, with the reason. Everything else fails tests/infra/cdk."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import aws_cdk as aws

from cdk.permissions import IMAGE_REPOSITORY, TASKS_OF_CLUSTER
from cdk.profiles import PROFILES


class Finding(NamedTuple):
    """``rule``: without its prefix. ``path``: regular expression of the constructs, below the stack."""

    rule: str
    path: str
    reason: str
    profiles: tuple[str, ...] = tuple(PROFILES)


_PAYLOADS = (
    "objects are named after tenants and tasks: the program's keys are all keys of its bucket"
)
_ATTACH = (
    "Lambda puts functions into the VPC in their name, before their interfaces have names; "
    "a statement denies the same to the functions' own code"
)
FINDINGS: Final = (
    Finding("IAM5[Resource::<PayloadBucket.Arn>/*]", r".*Role/Resource", _PAYLOADS),
    Finding(
        "IAM5[Resource::*]",
        r"(Api|Workers|DeadLetters|Maintenance)/\w+Role/Resource",
        _ATTACH,
    ),
    Finding(
        "IAM5[Resource::*]",
        r".*/ExecutionRole/Resource",
        "ecr:GetAuthorizationToken logs in to the registry as a whole: there is no narrower resource",
    ),
    Finding(
        f"IAM5[Resource::{IMAGE_REPOSITORY}]",
        r".*/ExecutionRole/Resource",
        "a repository's name may have more parts than CloudFormation can read from an image's address",
    ),
    Finding(
        f"IAM5[Resource::{TASKS_OF_CLUSTER}]",
        r"LongWorkers/LongWorker/Role/Resource",
        "containers get their ids when they start; these are those of the one cluster",
    ),
    Finding(
        "VPC7",
        r"Network/Vpc",
        "refused connections are recorded in profile standard; elsewhere they would cost more than they tell",
        profiles=("serverless", "dev"),
    ),
    Finding(
        "S1",
        r"Payloads/PayloadBucket/Resource",
        "only the program's roles reach the bucket, and the program logs whose task each access is for",
    ),
    Finding(
        "ELB2",
        r"Edge/LoadBalancer",
        "the API logs every request with its id; the balancer's own logs would keep it a second time",
    ),
    Finding(
        "EC23",
        r"Edge/LoadBalancerSecurityGroup",
        "it is the public door, unless AllowedCidr says for whom; HTTP is only sent to HTTPS",
    ),
    Finding("RDS3", r"Database/Database", "a parameter says whether there is a standby"),
    Finding(
        "RDS11",
        r"Database/Database",
        "another port hides nothing: security groups let in the program alone",
    ),
    Finding("RDS10", r"Database/Database", "it is to be destroyed at will", profiles=("dev",)),
    Finding(
        "ECS2",
        r".*/TaskDefinition",
        "the variables are addresses and numbers; the one secret is named by its ARN",
    ),
    Finding(
        "ECS4",
        r"Containers/Cluster",
        "Container Insights cost more than the container",
        profiles=("dev",),
    ),
    Finding("L1", r".*Function/Resource", "the runtime is a parameter: that of the zip's bytecode"),
)


def acknowledge(stack: aws.Stack, profile: str) -> None:
    """After all constructs are there."""
    for construct in stack.node.find_all():
        _, _, path = construct.node.path.partition("/")
        for finding in FINDINGS:
            if profile in finding.profiles and re.fullmatch(finding.path, path):
                aws.Validations.of(construct).acknowledge(
                    aws.Acknowledgment(
                        id=f"AwsSolutions::AwsSolutions-{finding.rule}", reason=finding.reason
                    )
                )
