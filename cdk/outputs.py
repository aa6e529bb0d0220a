"""What a deployment tells: the same names in every profile that has the thing. deploy.py maps them into `.env`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as aws

if TYPE_CHECKING:
    from cdk.stack import TaskFlowStack


def write_outputs(stack: TaskFlowStack) -> None:
    """No secret among them: the database's login is named by its ARN."""
    database, edge = stack.database, stack.edge
    maintenance = stack.maintenance
    outputs = {
        "Profile": (stack.profile.name, "Profile of cdk/profiles.py"),
        "Region": (aws.Aws.REGION, "Where it runs"),
        "ApiUrl": (edge.url, "The API"),
        "LoadBalancerDns": (
            edge.load_balancer.attr_dns_name,
            "What a name of your own has to point to",
        ),
        "QueuePrefix": (aws.Aws.STACK_NAME, "TASKFLOW_QUEUE_PREFIX"),
        "PayloadBucket": (stack.payloads.bucket.bucket_name, "TASKFLOW_S3_BUCKET"),
        "DatabaseHost": (database.host, "PostgreSQL, or RDS Proxy before it"),
        "DatabaseUrl": (database.url, "TASKFLOW_DATABASE_URL, without login"),
        "DatabaseSecretArn": (database.secret_arn, "TASKFLOW_DATABASE_SECRET_ARN"),
        "DatabaseInstance": (database.instance.ref, "Identifier of the instance, for restoring"),
        "WorkerFunction": (stack.workers.worker.function.ref, "Runs tasks"),
        "MaintenanceFunction": (maintenance.maintenance.function.ref, "The tick of a minute"),
        "MigrateFunction": (maintenance.migrate.function.ref, "Brings the schema up to date"),
    }
    if stack.containers is not None:
        outputs["ClusterName"] = (stack.containers.cluster.ref, "Cluster of the containers")
    for name, (value, description) in outputs.items():
        output = aws.CfnOutput(stack, f"{name}Output", value=value, description=description)
        output.override_logical_id(name)
