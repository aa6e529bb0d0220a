"""The API on Fargate: instances behind the load balancer, checked, drained, replaced one by one, scaled by load."""

from __future__ import annotations

import aws_cdk as aws
from aws_cdk import aws_applicationautoscaling as scaling
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_elasticloadbalancingv2 as elb
from constructs import Construct

from cdk.containers import Container, Containers
from cdk.edge import Edge
from cdk.parameters import chosen, nothing, reference
from cdk.profiles import API_PORT, ApiContainers
from cdk.program import Program


class ContainerApi(Construct):
    def __init__(
        self,
        scope: Construct,
        id_: str,
        numbers: ApiContainers,
        program: Program,
        containers: Containers,
        edge: Edge,
    ) -> None:
        super().__init__(scope, id_)
        self._numbers, self._program = numbers, program
        self._containers, self._edge = containers, edge
        parameters, network = program.parameters, program.network
        ec2.CfnSecurityGroupIngress(
            self,
            "LoadBalancerToApi",
            group_id=network.api_security_group.attr_group_id,
            ip_protocol="tcp",
            from_port=API_PORT,
            to_port=API_PORT,
            source_security_group_id=edge.security_group.attr_group_id,
            description="The load balancer",
        )
        self.api = Container(
            self,
            "Api",
            program,
            service="api",
            command=["api"],
            permissions=program.permissions.api(),
            cpu=parameters.api_cpu,
            memory=parameters.api_memory,
            stop_seconds=numbers.stop_seconds,
            settings={
                "TASKFLOW_URL": edge.url,
                "TASKFLOW_DRAIN_SECONDS": str(numbers.drain_seconds),
            },
        )
        self.target_group = self._targets()
        listener = edge.serve(
            [elb.CfnListener.ActionProperty(type="forward", target_group_arn=self.target_group.ref)]
        )
        self.service = self._service()
        self.service.add_resource_dependency(listener)
        self._scaling()

    def _targets(self) -> elb.CfnTargetGroup:
        numbers = self._numbers
        return elb.CfnTargetGroup(
            self,
            "ApiTargets",
            target_type="ip",
            vpc_id=self._program.network.vpc.ref,
            port=API_PORT,
            protocol="HTTP",
            health_check_path="/health",
            health_check_interval_seconds=numbers.health_interval_seconds,
            health_check_timeout_seconds=numbers.health_interval_seconds // 2,
            healthy_threshold_count=numbers.healthy_checks,
            unhealthy_threshold_count=numbers.unhealthy_checks,
            matcher=elb.CfnTargetGroup.MatcherProperty(http_code="200"),
            target_group_attributes=[
                elb.CfnTargetGroup.TargetGroupAttributeProperty(key=key, value=value)
                for key, value in (
                    ("deregistration_delay.timeout_seconds", str(numbers.deregistration_seconds)),
                    ("load_balancing.algorithm.type", "round_robin"),
                )
            ],
        )

    def _service(self) -> ecs.CfnService:
        parameters, network = self._program.parameters, self._program.network
        service = ecs.CfnService
        return ecs.CfnService(
            self,
            "ApiService",
            cluster=self._containers.cluster.ref,
            task_definition=self.api.task_definition.ref,
            launch_type="FARGATE",
            # Scaling's business, which starts with its least; an update under load must not undo what it did.
            desired_count=aws.Token.as_number(chosen(parameters.is_serving, nothing(), 0)),
            health_check_grace_period_seconds=60,
            deployment_configuration=service.DeploymentConfigurationProperty(
                minimum_healthy_percent=100,
                maximum_percent=200,
                deployment_circuit_breaker=service.DeploymentCircuitBreakerProperty(
                    enable=True, rollback=True
                ),
            ),
            load_balancers=[
                service.LoadBalancerProperty(
                    container_name="api",
                    container_port=API_PORT,
                    target_group_arn=self.target_group.ref,
                )
            ],
            network_configuration=service.NetworkConfigurationProperty(
                awsvpc_configuration=service.AwsVpcConfigurationProperty(
                    subnets=network.subnet_ids(),
                    security_groups=[network.api_security_group.attr_group_id],
                    assign_public_ip="DISABLED",
                )
            ),
            propagate_tags="SERVICE",
        )

    def _scaling(self) -> None:
        parameters, numbers = self._program.parameters, self._numbers
        target = scaling.CfnScalableTarget(
            self,
            "ApiScaling",
            service_namespace="ecs",
            scalable_dimension="ecs:service:DesiredCount",
            resource_id=f"service/{self._containers.cluster.ref}/{self.service.attr_name}",
            min_capacity=aws.Token.as_number(
                chosen(parameters.is_serving, reference(parameters.api_count), 0)
            ),
            max_capacity=aws.Token.as_number(
                chosen(parameters.is_serving, reference(parameters.api_max_count), 0)
            ),
        )
        load_balancer = self._edge.load_balancer.attr_load_balancer_full_name
        policy = scaling.CfnScalingPolicy
        for name, value, metric, label in (
            ("ApiCpuScaling", numbers.cpu_target_percent, "ECSServiceAverageCPUUtilization", None),
            (
                "ApiRequestScaling",
                numbers.requests_target_per_minute,
                "ALBRequestCountPerTarget",
                f"{load_balancer}/{self.target_group.attr_target_group_full_name}",
            ),
        ):
            scaling.CfnScalingPolicy(
                self,
                name,
                policy_name=f"{aws.Aws.STACK_NAME}-{name}",
                policy_type="TargetTrackingScaling",
                scaling_target_id=target.ref,
                target_tracking_scaling_policy_configuration=(
                    policy.TargetTrackingScalingPolicyConfigurationProperty(
                        target_value=value,
                        scale_out_cooldown=60,
                        scale_in_cooldown=300,
                        predefined_metric_specification=(
                            policy.PredefinedMetricSpecificationProperty(
                                predefined_metric_type=metric, resource_label=label
                            )
                        ),
                    )
                ),
            )
