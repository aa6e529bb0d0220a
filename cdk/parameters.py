"""What a deployment tells the template, and the conditions that follow from it."""

from __future__ import annotations

from collections.abc import Sequence

import aws_cdk as aws
from constructs import Construct

from cdk.profiles import (
    ANYWHERE,
    LAMBDA_RUNTIMES,
    LOG_RETENTION_DAYS,
    LONGEST_DELAY_DAYS,
    RETENTION_DAYS,
    ApiContainers,
    ApiFunction,
    Profile,
)

_EITHER = ("true", "false")
_TLS = ("verify-full", "require")


class Parameters(Construct):
    """Each has the profile's number as its default; what only some profiles have is None in the others."""

    def __init__(self, scope: Construct, id_: str, profile: Profile) -> None:
        super().__init__(scope, id_)
        self._code()
        self._sizes(profile)
        self._address()
        self._containers(profile)
        self.serving = self._flag(
            "Serving",
            True,
            "false: everything is there, but nothing takes traffic or tasks; for the first migration of the database",
        )
        self.is_serving = self._is_true("IsServing", self.serving)

    def _code(self) -> None:
        self.code_bucket = self._text("CodeBucket", "Bucket of the zip files, in this region")
        self.worker_code_key = self._text(
            "WorkerCodeKey", "Key of the zip file of worker, maintenance, dead letters, migration"
        )
        self.lambda_runtime = self._text(
            "LambdaRuntime",
            "Python of the functions: the one that the zip file's bytecode is for",
            default="python3.13",
            allowed=LAMBDA_RUNTIMES,
        )
        self.task_modules = self._text(
            "TaskModules",
            "Modules that register tasks, comma-separated (TASKFLOW_TASKS)",
            default="",
        )

        self.database_tls = self._text(
            "DatabaseTls",
            "verify-full: the zip files hold AWS's certificates for RDS (rds-ca-bundle.pem); require: they do not",
            default="require",
            allowed=_TLS,
        )
        self.verifies_database = self._is("VerifiesDatabase", self.database_tls, _TLS[0])

    def _sizes(self, profile: Profile) -> None:
        database, functions = profile.database, profile.functions
        self.database_instance_class = self._text(
            "DatabaseInstanceClass", "Size of PostgreSQL", default=database.instance_class
        )
        self.database_storage = self._number(
            "DatabaseStorageGiB", database.storage_gib, "Grows by itself", 20, 65_536
        )
        self.database_max_storage = self._number(
            "DatabaseMaxStorageGiB", database.max_storage_gib, "How far it may grow", 22, 65_536
        )
        self.database_multi_az = self._flag(
            "DatabaseMultiAz", database.multi_az, "A standby in another zone takes over"
        )
        self.has_standby = self._is_true("HasStandby", self.database_multi_az)
        self.database_proxy = self._flag(
            "DatabaseProxy",
            database.proxy,
            "RDS Proxy before PostgreSQL: many functions, few logins",
        )
        self.has_proxy = self._is_true("HasDatabaseProxy", self.database_proxy)
        self.nat_gateways = self._text(
            "NatGateways",
            "For tasks that call addresses in the internet over IPv4: 0, 1, or 2 (one per zone). IPv6 needs none",
            default=str(profile.network.nat_gateways),
            allowed=("0", "1", "2"),
        )
        self.has_nat = self._unless("HasNat", self.nat_gateways, "0")
        self.has_two_nats = self._is("HasTwoNats", self.nat_gateways, "2")
        self.worker_memory = self._number(
            "WorkerMemory", functions.worker.memory_mib, "MiB; 1,769 is a whole vCPU", 256, 10_240
        )
        self.retention_days = self._text(
            "RetentionDays",
            "Days a task and its payload are kept once it is final (TASKFLOW_RETENTION_DAYS)",
            default=str(profile.retention_days),
            allowed=[str(days) for days in RETENTION_DAYS],
        )
        self.longest_delay_days = self._text(
            "LongestDelayDays",
            "S3 deletes what is older than this plus RetentionDays: no task with a payload in S3 may wait longer",
            default=str(LONGEST_DELAY_DAYS[-1]),
            allowed=[str(days) for days in LONGEST_DELAY_DAYS],
        )
        self.log_level = self._text(
            "LogLevel",
            "Least level that is logged; info: a line per attempt, which most saved queries read (TASKFLOW_LOG_LEVEL)",
            default="info",
            allowed=("debug", "info", "warning", "error"),
        )
        self.log_retention_days = self._text(
            "LogRetentionDays",
            "Days logs are kept",
            default=str(profile.log_retention_days),
            allowed=[str(days) for days in LOG_RETENTION_DAYS],
        )

    def _address(self) -> None:
        self.certificate_arn = self._text(
            "CertificateArn",
            "Certificate in ACM, in this region; empty: one is made for DomainName",
            "",
        )
        self.domain_name = self._text("DomainName", "Name of the API, e.g. tasks.example.com", "")
        self.hosted_zone_id = self._text(
            "HostedZoneId",
            "Zone of Route 53 that DomainName is in; empty: it is pointed here by hand",
            "",
        )
        self.allowed_cidr = self._text(
            "AllowedCidr",
            "IPv4 addresses that the load balancer accepts requests from, e.g. 203.0.113.0/24",
            ANYWHERE,
        )
        self.alarm_email = self._text("AlarmEmail", "Who is told of alarms; empty: nobody", "")
        has_domain = self._unless("HasDomain", self.domain_name, "")
        has_zone = self._unless("HasHostedZone", self.hosted_zone_id, "")
        self.has_domain = has_domain
        self.makes_record = self._both("MakesRecord", has_domain, has_zone)
        has_no_certificate = self._is("HasNoCertificate", self.certificate_arn, "")
        self.makes_certificate = self._both(
            "MakesCertificate", self.makes_record, has_no_certificate
        )

    def _containers(self, profile: Profile) -> None:
        """Of the API, and of the long worker."""
        self.image_uri: aws.CfnParameter | None = None
        self.api_code_key: aws.CfnParameter | None = None
        match profile.api:
            case ApiFunction() as api:
                self.api_code_key = self._text("ApiCodeKey", "Key of the zip file of the API")
                self.api_memory = self._number(
                    "ApiMemory", api.function.memory_mib, "MiB; 1,769 is a whole vCPU", 256, 10_240
                )
                self.api_concurrency = self._number(
                    "ApiConcurrency",
                    api.concurrency,
                    "Invocations of the API at once, each with a connection to PostgreSQL; 0: what the account allows "
                    "(new accounts: 10, of which none can be set aside)",
                    0,
                    1_000,
                )
                self.limits_api = self._unless("LimitsApi", self.api_concurrency, "0")
            case ApiContainers() as api:
                self.image_uri = self._text(
                    "ImageUri",
                    "Image of API and long worker: in ECR of this account; a public one needs NatGateways",
                )
                self.image_architecture = self._text(
                    "ImageArchitecture",
                    "Of the image",
                    default="X86_64",
                    allowed=("X86_64", "ARM64"),
                )
                self.image_database_tls = self._text(
                    "ImageDatabaseTls",
                    "verify-full: the image holds the certificates as /opt/taskflow/rds-ca-bundle.pem",
                    default="require",
                    allowed=_TLS,
                )
                self.image_verifies_database = self._is(
                    "ImageVerifiesDatabase", self.image_database_tls, _TLS[0]
                )
                self.api_count = self._number(
                    "ApiCount", api.count, "API instances, at least", 1, 100
                )
                self.api_max_count = self._number(
                    "ApiMaxCount", api.max_count, "API instances, at most", 1, 100
                )
                self.api_cpu = self._number("ApiCpu", api.cpu, "1024: one vCPU", 256, 16_384)
                self.api_memory = self._number("ApiMemory", api.memory_mib, "MiB", 512, 122_880)
        if (workers := profile.long_workers) is not None:
            self.long_worker_max_count = self._number(
                "LongWorkerMaxCount",
                workers.max_count,
                "Containers for long tasks, at most; without such tasks there is none",
                0,
                100,
            )
            self.long_worker_cpu = self._number(
                "LongWorkerCpu", workers.cpu, "1024: one vCPU", 256, 16_384
            )
            self.long_worker_memory = self._number(
                "LongWorkerMemory", workers.memory_mib, "MiB", 512, 122_880
            )

    def _text(
        self,
        name: str,
        description: str,
        default: str | None = None,
        *,
        allowed: Sequence[str] | None = None,
    ) -> aws.CfnParameter:
        return aws.CfnParameter(
            self,
            name,
            type="String",
            description=description,
            default=default,
            allowed_values=list(allowed) if allowed else None,
            min_length=1 if default is None else None,
        )

    def _flag(self, name: str, default: bool, description: str) -> aws.CfnParameter:
        return self._text(name, description, str(default).lower(), allowed=_EITHER)

    def _number(
        self, name: str, default: int, description: str, least: int, most: int
    ) -> aws.CfnParameter:
        return aws.CfnParameter(
            self,
            name,
            type="Number",
            description=description,
            default=default,
            min_value=least,
            max_value=most,
        )

    def _is_true(self, name: str, parameter: aws.CfnParameter) -> aws.CfnCondition:
        return self._is(name, parameter, "true")

    def _is(self, name: str, parameter: aws.CfnParameter, value: str) -> aws.CfnCondition:
        return aws.CfnCondition(
            self, name, expression=aws.Fn.condition_equals(reference(parameter), value)
        )

    def _unless(self, name: str, parameter: aws.CfnParameter, value: str) -> aws.CfnCondition:
        is_it = aws.Fn.condition_equals(reference(parameter), value)
        return aws.CfnCondition(self, name, expression=aws.Fn.condition_not(is_it))

    def _both(self, name: str, one: aws.CfnCondition, other: aws.CfnCondition) -> aws.CfnCondition:
        both = aws.Fn.condition_and(one, other)  # type: ignore[arg-type]  # jsii's stubs forget that it is one
        return aws.CfnCondition(self, name, expression=both)


def reference(parameter: aws.CfnParameter) -> str:
    """Its value as text, whatever its type."""
    return aws.Fn.ref(parameter.logical_id)


def chosen(condition: aws.CfnCondition, yes: object, no: object) -> aws.IResolvable:
    """``Fn::If``, of whatever type the property wants."""
    return aws.Fn.condition_if(condition.logical_id, yes, no)


def nothing() -> aws.IResolvable:
    """The property is not given at all."""
    return aws.Token.as_any({"Ref": "AWS::NoValue"})
