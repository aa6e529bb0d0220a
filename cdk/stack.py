"""One stage of TaskFlow: every capability, wired."""

from __future__ import annotations

import re

import aws_cdk as aws
from constructs import Construct

from cdk.acknowledged import acknowledge
from cdk.api_containers import ContainerApi
from cdk.api_function import ServerlessApi
from cdk.containers import Containers
from cdk.database import Database
from cdk.edge import Edge
from cdk.flow_logs import FlowLogs
from cdk.long_workers import LongWorkers
from cdk.maintenance import Maintenance
from cdk.network import Network
from cdk.observability import Observability
from cdk.outputs import write_outputs
from cdk.parameters import Parameters
from cdk.payload_bucket import PayloadBucket
from cdk.profiles import ApiContainers, ApiFunction, Profile
from cdk.program import Program
from cdk.queues import Queues
from cdk.workers import DeadLetters, Workers

_NOT_SAID = ("Resource", "Default")  # the CDK's names for "the resource itself"


class TaskFlowStack(aws.Stack):
    """Its parts are attributes, for whoever adds to them. Logical ids: see `_allocate_logical_id`."""

    def __init__(self, scope: Construct, profile: Profile) -> None:
        super().__init__(
            scope,
            profile.name,
            description=f"TaskFlow, profile {profile.name}. {profile.description}",
            synthesizer=aws.LegacyStackSynthesizer(),  # needs no bootstrap, leaves no trace
        )
        self.profile = profile
        self.parameters = Parameters(self, "Parameters", profile)
        self.network = Network(self, "Network", profile.network, self.parameters)
        self.queues = Queues(self, "Queues", profile)
        self.payloads = PayloadBucket(self, "Payloads", profile, self.parameters)
        self.database = Database(self, "Database", profile, self.network, self.parameters)
        self.program = Program(
            profile, self.parameters, self.network, self.queues, self.payloads, self.database
        )
        self.edge = Edge(self, "Edge", self.network, self.parameters)
        self.containers = (
            Containers(self, "Containers", profile) if profile.has_containers else None
        )
        self.api = self._api()
        self.workers = Workers(self, "Workers", profile, self.program, self.queues)
        self.dead_letters = DeadLetters(self, "DeadLetters", profile, self.program, self.queues)
        self.long_workers = self._long_workers()
        self.maintenance = Maintenance(self, "Maintenance", profile, self.program)
        if profile.flow_logs:
            FlowLogs(self, "FlowLogs", self.program)
        self.observability = Observability(self, "Observability")
        write_outputs(self)
        acknowledge(self, profile.name)

    def _api(self) -> ContainerApi | ServerlessApi:
        match self.profile.api:
            case ApiContainers() as numbers:
                assert self.containers is not None
                return ContainerApi(self, "Api", numbers, self.program, self.containers, self.edge)
            case ApiFunction() as numbers:
                return ServerlessApi(self, "Api", numbers, self.program, self.edge)

    def _long_workers(self) -> LongWorkers | None:
        if self.profile.long_workers is None or self.containers is None:
            return None
        return LongWorkers(
            self,
            "LongWorkers",
            self.profile.long_workers,
            self.program,
            self.containers,
            self.queues.long,
        )

    def _allocate_logical_id(self, element: aws.CfnElement) -> str:
        """The path below the capability: `Workers/WorkerFunction/Logs` is WorkerFunctionLogs.

        A changed id is another resource to CloudFormation, which would replace the old one, data and all:
        tests/infra/cdk/logical_ids pins them. Two of the same name fail at synthesis.
        """
        _, *path = element.node.path.split("/")
        below = path[1:] or path
        parts = [re.sub(r"[^A-Za-z0-9]", "", part) for part in below if part not in _NOT_SAID]
        said: list[str] = []
        for part in parts:
            if not (said and said[-1].endswith(part)):
                said.append(part)
        return "".join(said)
