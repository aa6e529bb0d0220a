"""Who was refused at the doors of the network, for a person who looks for an intruder or a missing rule."""

from __future__ import annotations

from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from constructs import Construct

from cdk.permissions import Role
from cdk.program import Program


class FlowLogs(Construct):
    """Refused connections only: all of them would cost more than what they are about."""

    def __init__(self, scope: Construct, id_: str, program: Program) -> None:
        super().__init__(scope, id_)
        self.log_group = program.log_group(self, "NetworkLogs", "network")
        role = Role(
            self,
            "FlowLogsRole",
            "vpc-flow-logs.amazonaws.com",
            [
                iam.PolicyStatement(
                    sid="WriteFlowLogs",
                    actions=[
                        "logs:CreateLogStream",
                        "logs:PutLogEvents",
                        "logs:DescribeLogStreams",
                    ],
                    resources=[self.log_group.attr_arn],
                )
            ],
        )
        ec2.CfnFlowLog(
            self,
            "FlowLog",
            resource_type="VPC",
            resource_id=program.network.vpc.ref,
            traffic_type="REJECT",
            log_destination_type="cloud-watch-logs",
            log_group_name=self.log_group.ref,
            deliver_logs_permission_arn=role.arn,
        )
