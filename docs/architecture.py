"""The picture of a deployment, drawn from its CloudFormation template: what is not there is not in the picture.

Boxes are its load balancer, containers, functions, queues, database and bucket; arrows are its listeners, event source
mappings, redrive policies, schedules, and what the roles allow. `docs/generate.py` writes it into docs/architecture.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

_SEND, _RECEIVE = "sqs:SendMessage", "sqs:ReceiveMessage"
_LISTENER = "AWS::ElasticLoadBalancingV2::Listener"
_TARGETS = "AWS::ElasticLoadBalancingV2::TargetGroup"


class Arrow(NamedTuple):
    source: str
    target: str
    label: str


class Picture:
    """One template's boxes and arrows. A box is a resource, or the queues that are used alike."""

    def __init__(self, template: Mapping[str, Any]) -> None:
        self._template = template
        self._resources: Mapping[str, Any] = template["Resources"]
        self._box_of: dict[str, str] = {}  # queue -> the box that stands for it and its like
        self.boxes: dict[str, str] = {}  # id -> label
        self._draw_queues()
        for id_, label in self._parts():
            self.boxes[id_] = label
        self.arrows = sorted(set(self._arrows()))

    def mermaid(self) -> str:
        lines = ["```mermaid", "flowchart LR", '    clients(["clients"])']
        lines += [f"    {id_}{_shape(self._type(id_), label)}" for id_, label in self.boxes.items()]
        drawn = {(source, target) for source, target, label in self.arrows if not label}
        for source, target, label in self.arrows:
            both = not label and (target, source) in drawn
            if both and source > target:
                continue
            arrow = "<-->" if both else f"-- {label} -->" if label else "-->"
            lines.append(f"    {source} {arrow} {target}")
        return "\n".join([*lines, "```"])

    # Boxes

    def _parts(self) -> Iterator[tuple[str, str]]:
        for id_, resource in self._resources.items():
            properties = resource.get("Properties", {})
            match resource["Type"]:
                case "AWS::ElasticLoadBalancingV2::LoadBalancer":
                    yield id_, "Application Load Balancer"
                case "AWS::ECS::Service":
                    task = self._resources[self._target(properties["TaskDefinition"])]["Properties"]
                    size = f"{int(self._value(task['Cpu'])) / 1024:g} vCPU, {self._value(task['Memory'])} MiB"
                    yield id_, f"{_words(id_)}<br/>Fargate {self._counts(id_)} × {size}"
                case "AWS::Lambda::Function":
                    size = f"{self._value(properties['MemorySize'])} MiB, {properties['Timeout']} s"
                    yield id_, f"{_words(id_)}<br/>Lambda {size}"
                case "AWS::RDS::DBInstance":
                    standby = self._value(properties["MultiAZ"])
                    kind = self._value(properties["DBInstanceClass"])
                    zones = "with a standby in another zone" if standby else "in one zone"
                    version = properties["EngineVersion"]
                    yield id_, f"RDS PostgreSQL {version}<br/>{kind}, {zones}"
                case "AWS::S3::Bucket":
                    yield id_, "S3<br/>payloads, results, artifacts"
                case "AWS::Scheduler::Schedule":
                    yield id_, f"EventBridge Scheduler<br/>{properties['ScheduleExpression']}"
                case "AWS::SNS::Topic":
                    yield id_, f"SNS topic<br/>{self._count('AWS::CloudWatch::Alarm')} alarms"

    def _draw_queues(self) -> None:
        """Queues that feed the same resource, and their dead letters, are one box each."""
        fed: dict[str, list[str]] = {}
        for queue, consumer in self._consumers():
            fed.setdefault(consumer, []).append(queue)
        for queues in fed.values():
            box = queues[0]
            self._box_of.update(dict.fromkeys(queues, box))
            names = [self._queue_name(queue) for queue in queues]
            self.boxes[box] = f"SQS<br/>{'<br/>'.join(names)}"

    def _consumers(self) -> Iterator[tuple[str, str]]:
        for resource in self._of("AWS::Lambda::EventSourceMapping"):
            yield self._target(resource["EventSourceArn"]), self._target(resource["FunctionName"])
        for service, role in self._roles():
            if self._type(service) == "AWS::ECS::Service":
                for action, target in self._allowed(role):
                    if action == _RECEIVE:
                        yield target, service

    # Arrows

    def _arrows(self) -> Iterator[Arrow]:
        for resource in self._of(_LISTENER):
            balancer = self._target(resource["LoadBalancerArn"])
            port = f"{resource['Protocol']} {resource['Port']}"
            for action in _serving(resource["DefaultActions"]):
                if action["Type"] == "redirect":
                    port += f" to {action['RedirectConfig']['Protocol']}"
                else:
                    yield from self._behind(balancer, self._target(action["TargetGroupArn"]))
            yield Arrow("clients", balancer, port)
        for queue, consumer in self._consumers():
            yield Arrow(self._box_of[queue], consumer, "")
        for id_, resource in self._resources.items():
            redrive = resource.get("Properties", {}).get("RedrivePolicy")
            if resource["Type"] == "AWS::SQS::Queue" and redrive:
                dead = self._target(redrive["deadLetterTargetArn"])
                yield Arrow(
                    self._box_of[id_], self._box_of[dead], f"{redrive['maxReceiveCount']} receives"
                )
            if resource["Type"] == "AWS::Scheduler::Schedule":
                yield Arrow(id_, self._target(resource["Properties"]["Target"]["Arn"]), "")
        for id_, role in self._roles():
            for action, target in self._allowed(role):
                yield from self._use(id_, action, target)

    def _behind(self, balancer: str, targets: str) -> Iterator[Arrow]:
        group = self._resources[targets]["Properties"]
        for target in group.get("Targets", ()):
            yield Arrow(balancer, self._target(target["Id"]), "")
        for id_, resource in self._resources.items():
            for member in resource.get("Properties", {}).get("LoadBalancers", ()):
                if isinstance(member, dict) and self._target(member["TargetGroupArn"]) == targets:
                    yield Arrow(balancer, id_, f"round robin<br/>{group['HealthCheckPath']}")

    def _use(self, id_: str, action: str, target: str) -> Iterator[Arrow]:
        match action, self._type(target):
            case "sqs:SendMessage", "AWS::SQS::Queue":
                if self._resources[target]["Properties"].get("RedrivePolicy"):
                    yield Arrow(id_, self._box_of[target], "")
            case "s3:GetObject" | "s3:DeleteObject", "AWS::S3::Bucket":
                yield Arrow(id_, target, "")
            case "secretsmanager:GetSecretValue", "AWS::RDS::DBInstance":
                yield Arrow(id_, target, "")

    # Reading the template

    def _roles(self) -> Iterator[tuple[str, str]]:
        """Functions and services, with the role of what runs in them."""
        for id_, resource in self._resources.items():
            if resource["Type"] == "AWS::Lambda::Function":
                yield id_, self._target(resource["Properties"]["Role"])
            elif resource["Type"] == "AWS::ECS::Service":
                task = self._target(resource["Properties"]["TaskDefinition"])
                yield id_, self._target(self._resources[task]["Properties"]["TaskRoleArn"])

    def _allowed(self, role: str) -> Iterator[tuple[str, str]]:
        """Actions, and the resources they are allowed on."""
        for policy in self._resources[role]["Properties"].get("Policies", ()):
            for statement in policy["PolicyDocument"]["Statement"]:
                if statement["Effect"] == "Allow":
                    for resource in _list(statement["Resource"]):
                        if target := self._target(resource):
                            for action in _list(statement["Action"]):
                                yield action, target

    def _target(self, value: Any) -> str:
        """The resource that an intrinsic function names; of several the first. Empty: none."""
        match value:
            case {"Ref": str(name)} if name in self._resources:
                return name
            case {"Fn::GetAtt": [str(name), *_]}:
                return name
            case dict() | list():
                parts = value.values() if isinstance(value, dict) else value
                return next((found for part in parts if (found := self._target(part))), "")
        return ""

    def _value(self, value: Any) -> Any:
        """With the parameters' defaults."""
        match value:
            case {"Ref": str(name)}:
                return self._template["Parameters"][name]["Default"]
            case {"Fn::If": [str(condition), yes, no]}:
                return self._value(yes if self._holds(condition) else no)
        return value

    def _holds(self, condition: str) -> bool:
        left, right = self._template["Conditions"][condition]["Fn::Equals"]
        return bool(self._value(left) == self._value(right))

    def _counts(self, service: str) -> str:
        """How many containers, when it serves."""
        for scaling in self._of("AWS::ApplicationAutoScaling::ScalableTarget"):
            if self._names(scaling["ResourceId"], service):
                least, most = (_serving(scaling[f"{bound}Capacity"]) for bound in ("Min", "Max"))
                return f"{self._value(least)} to {self._value(most)}"
        return str(self._value(_serving(self._resources[service]["Properties"]["DesiredCount"])))

    def _names(self, value: Any, resource: str) -> bool:
        if isinstance(value, dict):
            return value.get("Fn::GetAtt", [None])[0] == resource or any(
                self._names(part, resource) for part in value.values()
            )
        return isinstance(value, list) and any(self._names(part, resource) for part in value)

    def _queue_name(self, queue: str) -> str:
        joined = self._resources[queue]["Properties"]["QueueName"]["Fn::Join"][1]
        return "".join(part for part in joined if isinstance(part, str)).removeprefix("-")

    def _of(self, type_: str) -> Iterator[Mapping[str, Any]]:
        for resource in self._resources.values():
            if resource["Type"] == type_:
                yield resource["Properties"]

    def _count(self, type_: str) -> int:
        return sum(1 for _ in self._of(type_))

    def _type(self, id_: str) -> str:
        return str(self._resources[id_]["Type"]) if id_ in self._resources else ""


def _serving(value: Any) -> Any:
    return value["Fn::If"][1] if isinstance(value, dict) and "Fn::If" in value else value


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _words(id_: str) -> str:
    """`LongWorkerService`: long worker."""
    name = id_.removesuffix("Service").removesuffix("Function")
    spaced = "".join(f" {c.lower()}" if c.isupper() else c for c in name).strip()
    return "API" if spaced == "api" else spaced.capitalize()


def _shape(type_: str, label: str) -> str:
    match type_:
        case "AWS::RDS::DBInstance" | "AWS::S3::Bucket":
            return f'[("{label}")]'
        case "AWS::SQS::Queue":
            return f'[/"{label}"/]'
        case _:
            return f'["{label}"]'


def picture(template: Path) -> str:
    """Of a template in cloudformation/, as Mermaid, which GitHub draws."""
    return Picture(yaml.safe_load(template.read_text())).mermaid()
