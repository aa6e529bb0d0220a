"""The API as a function: the load balancer calls it, Mangum turns the event into a request."""

from __future__ import annotations

import aws_cdk as aws
from aws_cdk import aws_elasticloadbalancingv2 as elb
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from cdk.edge import Edge
from cdk.parameters import chosen, nothing, reference
from cdk.profiles import ApiFunction
from cdk.program import Function, Program


class ServerlessApi(Construct):
    """No WebSockets: the page falls back to polling."""

    def __init__(
        self, scope: Construct, id_: str, numbers: ApiFunction, program: Program, edge: Edge
    ) -> None:
        super().__init__(scope, id_)
        parameters = program.parameters
        assert parameters.api_code_key is not None
        self.api = Function(
            self,
            "ApiFunction",
            program,
            service="api",
            permissions=program.permissions.api(),
            handler="lambdas.api.handler",
            code_key=parameters.api_code_key,
            numbers=numbers.function,
            memory=parameters.api_memory,
            settings={"TASKFLOW_URL": edge.url},
            concurrency=chosen(
                parameters.limits_api, reference(parameters.api_concurrency), nothing()
            ),
        )
        permission = lambda_.CfnPermission(
            self,
            "LoadBalancerCallsApi",
            action="lambda:InvokeFunction",
            function_name=self.api.function.attr_arn,
            principal="elasticloadbalancing.amazonaws.com",
            # The target group's own ARN is not known before it may call.
            source_arn=(
                f"arn:{aws.Aws.PARTITION}:elasticloadbalancing:{aws.Aws.REGION}:"
                f"{aws.Aws.ACCOUNT_ID}:targetgroup/*"
            ),
        )
        self.target_group = elb.CfnTargetGroup(
            self,
            "ApiTargets",
            target_type="lambda",
            targets=[elb.CfnTargetGroup.TargetDescriptionProperty(id=self.api.function.attr_arn)],
            target_group_attributes=[
                elb.CfnTargetGroup.TargetGroupAttributeProperty(
                    key="lambda.multi_value_headers.enabled", value="true"
                )
            ],
        )
        self.target_group.add_resource_dependency(permission)
        edge.serve(
            chosen(
                parameters.is_serving,
                [{"Type": "forward", "TargetGroupArn": self.target_group.ref}],
                [{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "503"}}],
            )
        )
