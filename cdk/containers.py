"""What every service on Fargate has: the cluster, a role that starts it, a task definition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import aws_cdk as aws
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from constructs import Construct

from cdk.parameters import reference
from cdk.permissions import Role, pull_image, tasks_of, write_logs
from cdk.profiles import API_PORT, Profile
from cdk.program import Program

_HEALTH = (
    "import urllib.request; "
    f"urllib.request.urlopen('http://127.0.0.1:{API_PORT}/health', timeout=2)"
)
_SERVICE = "ecs-tasks.amazonaws.com"


class Containers(Construct):
    def __init__(self, scope: Construct, id_: str, profile: Profile) -> None:
        super().__init__(scope, id_)
        self.cluster = ecs.CfnCluster(
            self,
            "Cluster",
            cluster_settings=[
                ecs.CfnCluster.ClusterSettingsProperty(
                    name="containerInsights",
                    value="enabled" if profile.container_insights else "disabled",
                )
            ],
        )
        self.tasks_arn = tasks_of(self.cluster.ref)


class Container(Construct):
    """The image with one command. ``id_`` Api makes ApiTaskDefinition, ApiRole, ApiExecutionRole, ApiLogs."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        program: Program,
        *,
        service: str,
        command: Sequence[str],
        permissions: Sequence[iam.PolicyStatement],
        cpu: aws.CfnParameter,
        memory: aws.CfnParameter,
        stop_seconds: int,
        settings: Mapping[str, str],
    ) -> None:
        super().__init__(scope, id_)
        parameters = program.parameters
        assert parameters.image_uri is not None
        image = reference(parameters.image_uri)
        self.log_group = program.log_group(self, "Logs", service)
        role = Role(self, "Role", _SERVICE, permissions)
        starter = Role(
            self,
            "ExecutionRole",
            _SERVICE,
            [*pull_image(image), write_logs(self.log_group.attr_arn)],
        )
        container = ecs.CfnTaskDefinition
        self.task_definition = ecs.CfnTaskDefinition(
            self,
            "TaskDefinition",
            family=f"{aws.Aws.STACK_NAME}-{service}",
            requires_compatibilities=["FARGATE"],
            network_mode="awsvpc",
            cpu=reference(cpu),
            memory=reference(memory),
            runtime_platform=container.RuntimePlatformProperty(
                cpu_architecture=reference(parameters.image_architecture),
                operating_system_family="LINUX",
            ),
            task_role_arn=role.arn,
            execution_role_arn=starter.arn,
            container_definitions=[
                container.ContainerDefinitionProperty(
                    name=service,
                    image=image,
                    essential=True,
                    command=list(command),
                    environment=[
                        container.KeyValuePairProperty(name=name, value=value)
                        for name, value in program.container_environment(settings).items()
                    ],
                    port_mappings=[container.PortMappingProperty(container_port=API_PORT)],
                    health_check=container.HealthCheckProperty(
                        command=["CMD", "python", "-c", _HEALTH],
                        interval=10,
                        timeout=5,
                        retries=3,
                        start_period=60,
                    ),
                    stop_timeout=stop_seconds,
                    linux_parameters=container.LinuxParametersProperty(init_process_enabled=True),
                    log_configuration=container.LogConfigurationProperty(
                        log_driver="awslogs",
                        options={
                            "awslogs-group": self.log_group.ref,
                            "awslogs-region": aws.Aws.REGION,
                            "awslogs-stream-prefix": service,
                            # Lines may be lost when CloudWatch is away; tasks must not wait for it.
                            "mode": "non-blocking",
                            "max-buffer-size": "25m",
                        },
                    ),
                )
            ],
        )
