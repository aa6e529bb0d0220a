"""What a role of a CloudFormation template allows, decided as IAM does: no by default, no whatever else if denied.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html. Known are the intrinsic
functions, the kinds of resources and the condition operators that the templates use; anything else is an error here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

PARTITION, REGION, ACCOUNT = "aws", "us-east-1", "123456789012"
_FROM_THE_NETWORK = {"aws:SecureTransport": "true"}  # clients use HTTPS wherever AWS answers


@dataclass(frozen=True)
class Decision:
    allowed: bool
    reason: str


@dataclass(frozen=True)
class Statement:
    sid: str
    effect: str
    actions: Sequence[str]
    resources: Sequence[str]
    conditions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def concerns(self, action: str, resource: str, context: Mapping[str, str]) -> bool:
        return (
            any(_matches(pattern.lower(), action.lower()) for pattern in self.actions)
            and any(_matches(pattern, resource) for pattern in self.resources)
            and all(
                _holds(operator, key, wanted, context)
                for operator, tests in self.conditions.items()
                for key, wanted in tests.items()
            )
        )


class Policy:
    """Statements of a role, and those of resources that deny something to everybody."""

    def __init__(self, statements: Iterable[Statement]) -> None:
        self.statements = tuple(statements)

    def decide(
        self, action: str, resource: str, context: Mapping[str, str] | None = None
    ) -> Decision:
        """``action`` like ``sqs:SendMessage``, ``resource`` an ARN without wildcards."""
        known = {**_FROM_THE_NETWORK, **(context or {})}
        found = [s for s in self.statements if s.concerns(action, resource, known)]
        denied = [statement.sid for statement in found if statement.effect == "Deny"]
        if denied:
            return Decision(False, f"{denied[0]} denies {action} on {resource}")
        if not found:
            return Decision(False, f"no statement allows {action} on {resource}")
        return Decision(True, found[0].sid)


class Template:
    """``names``: what CloudFormation would name by itself, like ``{"PayloadBucket": "my-bucket"}``, or of an attribute
    ``{"Database.MasterUserSecret.SecretArn": "arn:…"}``; ``parameters`` win over their defaults."""

    def __init__(
        self,
        body: Mapping[str, Any],
        *,
        stack: str,
        names: Mapping[str, str] | None = None,
        parameters: Mapping[str, str] | None = None,
    ) -> None:
        self._resources: Mapping[str, Any] = body["Resources"]
        self._names = dict(names or {})
        defaults = {k: v.get("Default", "") for k, v in body.get("Parameters", {}).items()}
        self._values = {
            **{name: str(value) for name, value in defaults.items()},
            **(parameters or {}),
            "AWS::StackName": stack,
            "AWS::Region": REGION,
            "AWS::AccountId": ACCOUNT,
            "AWS::Partition": PARTITION,
        }

    def role(self, logical_id: str) -> Policy:
        """Raises KeyError if the template has no such role."""
        role = self._resources[logical_id]
        if role["Type"] != "AWS::IAM::Role":
            raise KeyError(f"{logical_id} is a {role['Type']}, not a role")
        properties = role["Properties"]
        if managed := properties.get("ManagedPolicyArns"):
            raise ValueError(f"{logical_id}: nobody here knows what {managed} allow")
        documents = [policy["PolicyDocument"] for policy in properties.get("Policies", ())]
        own = [self._statement(s) for d in documents for s in _listed(d["Statement"])]
        return Policy([*own, *self._denied_to_everybody()])

    def _denied_to_everybody(self) -> list[Statement]:
        return [
            self._statement(statement)
            for resource in self._resources.values()
            if resource["Type"] in ("AWS::S3::BucketPolicy", "AWS::SQS::QueuePolicy")
            for statement in _listed(resource["Properties"]["PolicyDocument"]["Statement"])
            if statement["Effect"] == "Deny"
        ]

    def _statement(self, statement: Mapping[str, Any]) -> Statement:
        if unknown := statement.keys() & {"NotAction", "NotResource", "NotPrincipal"}:
            raise ValueError(f"not understood: {sorted(unknown)}")
        return Statement(
            statement.get("Sid", "a statement"),
            statement["Effect"],
            [str(action) for action in _listed(statement["Action"])],
            [self.resolve(resource) for resource in _listed(statement["Resource"])],
            statement.get("Condition", {}),
        )

    def resolve(self, value: Any) -> str:
        """A text with intrinsic functions, as CloudFormation would put it in."""
        if isinstance(value, str | int | float):
            return str(value)
        [(function, given)] = value.items()
        match function:
            case "Ref":
                return self._values[given] if given in self._values else self._physical_id(given)
            case "Fn::GetAtt":
                parts = given.split(".") if isinstance(given, str) else given
                return self._attribute(parts[0], ".".join(parts[1:]))
            case "Fn::Join":
                return str(given[0]).join(self.resolve(part) for part in given[1])
            case "Fn::Sub" if isinstance(given, str):
                return re.sub(r"\$\{([^!}][^}]*)\}", lambda found: self._named(found[1]), given)
            case "Fn::Select":
                index, parts = given
                return self._parts(parts)[int(index)]
        raise ValueError(f"not understood: {function}")

    def _parts(self, value: Any) -> list[str]:
        if isinstance(value, list):
            return [self.resolve(part) for part in value]
        separator, text = value["Fn::Split"]
        return self.resolve(text).split(separator)

    def _named(self, name: str) -> str:
        return self.resolve({"Fn::GetAtt": name} if "." in name else {"Ref": name})

    def _physical_id(self, logical_id: str) -> str:
        if logical_id in self._names:
            return self._names[logical_id]
        properties = self._resources[logical_id].get("Properties", {})
        for key in ("QueueName", "BucketName", "LogGroupName", "ClusterName"):
            if key in properties:
                return self.resolve(properties[key])
        return f"generated-{logical_id}"

    def _attribute(self, logical_id: str, attribute: str) -> str:
        if (given := self._names.get(f"{logical_id}.{attribute}")) is not None:
            return given
        name = self._physical_id(logical_id)
        here = f"{REGION}:{ACCOUNT}"
        match self._resources[logical_id]["Type"], attribute:
            case "AWS::SQS::Queue", "Arn":
                return f"arn:{PARTITION}:sqs:{here}:{name}"
            case "AWS::S3::Bucket", "Arn":
                return f"arn:{PARTITION}:s3:::{name}"
            case "AWS::Logs::LogGroup", "Arn":
                return f"arn:{PARTITION}:logs:{here}:log-group:{name}:*"
        return (
            f"generated:{logical_id}.{attribute}"  # matches nothing that a client of ours asks for
        )


@lru_cache
def load(path: Path) -> dict[str, Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    body: dict[str, Any] = yaml.load(path.read_text(), loader)
    return body


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@lru_cache(maxsize=4096)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(
        "".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in text), re.DOTALL
    )


def _matches(pattern: str, text: str) -> bool:
    return _pattern(pattern).fullmatch(text) is not None


def _holds(operator: str, key: str, wanted: Any, context: Mapping[str, str]) -> bool:
    values, known = [str(value) for value in _listed(wanted)], context.get(key)
    if operator == "Null":
        return (known is None) == (values == ["true"])
    if operator.endswith("IfExists") and known is None:
        return True
    match operator.removesuffix("IfExists"):
        case "Bool":
            return known is not None and known.lower() in [value.lower() for value in values]
        case "StringEquals" | "ArnEquals":
            return known in values
        case "StringNotEquals":
            return known not in values
        case "StringLike" | "ArnLike":
            return known is not None and any(_matches(value, known) for value in values)
    raise ValueError(f"not understood: the condition {operator}")
