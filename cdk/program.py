"""What all processes of the program share: their settings, where they run, where they log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import aws_cdk as aws
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from cdk.database import Database
from cdk.network import Network
from cdk.parameters import Parameters, chosen, reference
from cdk.payload_bucket import PayloadBucket
from cdk.permissions import Permissions, Role, run_in_vpc, write_logs
from cdk.profiles import FunctionNumbers, Profile
from cdk.queues import Queues

# The certificate authorities of RDS and of RDS Proxy: in the zip files (deployment/packaging), or in the image.
FUNCTION_CA_FILE = "/var/task/rds-ca-bundle.pem"
IMAGE_CA_FILE = "/opt/taskflow/rds-ca-bundle.pem"
SERVICES = ("api", "worker", "long-worker", "maintenance", "dead-letters", "migrate", "network")


class Program:
    """No construct: makes functions and log groups inside those of each capability, all alike."""

    def __init__(
        self,
        profile: Profile,
        parameters: Parameters,
        network: Network,
        queues: Queues,
        payloads: PayloadBucket,
        database: Database,
    ) -> None:
        self.profile, self.parameters, self.network = profile, parameters, network
        self.permissions = Permissions(
            ordinary=queues.ordinary,
            long=queues.long,
            bucket=payloads.bucket,
            secret_arn=database.secret_arn,
        )
        self._bucket_name, self._database = payloads.bucket.bucket_name, database

    def function_environment(self, settings: Mapping[str, str]) -> dict[str, str]:
        parameters = self.parameters
        tls = _tls(parameters.database_tls, parameters.verifies_database, FUNCTION_CA_FILE)
        return {**self._environment(), **tls, **settings}

    def container_environment(self, settings: Mapping[str, str]) -> dict[str, str]:
        parameters = self.parameters
        tls = _tls(parameters.image_database_tls, parameters.image_verifies_database, IMAGE_CA_FILE)
        return {**self._environment(), **tls, **settings}

    def _environment(self) -> dict[str, str]:
        """Settings of any process. No secret: the database's login is read from Secrets Manager."""
        profile, parameters = self.profile, self.parameters
        return {
            "TASKFLOW_BACKEND": "aws",
            "TASKFLOW_QUEUE_PREFIX": aws.Aws.STACK_NAME,
            "TASKFLOW_S3_BUCKET": self._bucket_name,
            "TASKFLOW_DATABASE_URL": self._database.url,
            "TASKFLOW_DATABASE_SECRET_ARN": self._database.secret_arn,
            "TASKFLOW_TASKS": reference(parameters.task_modules),
            "TASKFLOW_DEFAULT_TIMEOUT": str(profile.default_timeout_seconds),
            "TASKFLOW_LONG_TASK_SECONDS": str(profile.long_task_seconds),
            "TASKFLOW_RETENTION_DAYS": reference(parameters.retention_days),
            "TASKFLOW_LOG_FORMAT": "json",
            "TASKFLOW_LOG_LEVEL": reference(parameters.log_level),
            "TASKFLOW_METRICS_EMF": "true",
            **({"AWS_USE_DUALSTACK_ENDPOINT": "true"} if profile.network.ipv6_only else {}),
        }

    def log_group(self, scope: Construct, id_: str, service: str) -> logs.CfnLogGroup:
        assert service in SERVICES, service
        return logs.CfnLogGroup(
            scope,
            id_,
            log_group_name=f"/taskflow/{aws.Aws.STACK_NAME}/{service}",
            retention_in_days=aws.Token.as_number(self.parameters.log_retention_days.value),
        )


def _tls(mode: aws.CfnParameter, verifies: aws.CfnCondition, ca_file: str) -> dict[str, str]:
    """libpq verifies as soon as it is given authorities: with `require` it is given none."""
    return {
        "TASKFLOW_DATABASE_TLS": reference(mode),
        "TASKFLOW_DATABASE_TLS_ROOT_CERT": chosen(verifies, ca_file, "").to_string(),
    }


class Function(Construct):
    """A handler of lambdas/, in the VPC, with a role and a log group of its own."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        program: Program,
        *,
        service: str,
        permissions: Sequence[iam.PolicyStatement],
        handler: str,
        code_key: aws.CfnParameter,
        numbers: FunctionNumbers,
        memory: aws.CfnParameter | None = None,
        settings: Mapping[str, str],
        concurrency: aws.IResolvable | None = None,
    ) -> None:
        super().__init__(scope, id_)
        parameters, network = program.parameters, program.network
        self.log_group = program.log_group(self, "Logs", service)
        role = Role(
            scope,
            f"{id_.removesuffix('Function')}Role",
            "lambda.amazonaws.com",
            [*permissions, write_logs(self.log_group.attr_arn), *run_in_vpc()],
        )
        self.function = lambda_.CfnFunction(
            self,
            "Resource",
            description=f"TaskFlow {service}",
            runtime=reference(parameters.lambda_runtime),
            architectures=["x86_64"],
            handler=handler,
            code=lambda_.CfnFunction.CodeProperty(
                s3_bucket=reference(parameters.code_bucket), s3_key=reference(code_key)
            ),
            role=role.arn,
            memory_size=memory.value_as_number if memory else numbers.memory_mib,
            timeout=numbers.timeout_seconds,
            reserved_concurrent_executions=(
                aws.Token.as_number(concurrency) if concurrency else None
            ),
            environment=lambda_.CfnFunction.EnvironmentProperty(
                variables=program.function_environment(settings)
            ),
            vpc_config=lambda_.CfnFunction.VpcConfigProperty(
                subnet_ids=network.subnet_ids(),
                security_group_ids=[network.program_security_group.attr_group_id],
                ipv6_allowed_for_dual_stack=True,
            ),
            logging_config=lambda_.CfnFunction.LoggingConfigProperty(
                log_format="Text",  # the program's lines are JSON already
                log_group=self.log_group.ref,
            ),
        )
