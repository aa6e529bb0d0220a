"""What the issue of a profile promises, line by line, read in the templates. A table per capability."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from cdk import profiles
from cdk.edge import TLS_POLICY
from cdk.profiles import PROFILES, ApiContainers
from tests.infra.cdk.reading import at, properties, resources, template

_CONTAINERS = ("standard", "dev")
_KEEPING = ("standard", "serverless")
_ALL = tuple(PROFILES)


class Promise(NamedTuple):
    resource: str
    path: str  # below Properties; `^` before it: beside them
    value: Any
    profiles: tuple[str, ...] = _ALL


def _if(condition: str, yes: Any, no: Any) -> dict[str, Any]:
    return {"Fn::If": [condition, yes, no]}


def _ref(name: str) -> dict[str, str]:
    return {"Ref": name}


EDGE = [
    Promise("LoadBalancer", "Scheme", "internet-facing"),
    Promise("LoadBalancer", "LoadBalancerAttributes.routing.http.drop_invalid_header_fields.enabled", "true"),
    Promise("LoadBalancer", "LoadBalancerAttributes.routing.http.desync_mitigation_mode", "strictest"),
    Promise("LoadBalancerSecurityGroup", "SecurityGroupIngress.0.CidrIp", _ref("AllowedCidr")),
    Promise("LoadBalancerSecurityGroup", "SecurityGroupIngress.1.CidrIp", _ref("AllowedCidr")),
    Promise("HttpsListener", "Protocol", "HTTPS"),
    Promise("HttpsListener", "SslPolicy", "ELBSecurityPolicy-TLS13-1-2-Res-PQ-2025-09"),
    Promise("HttpsListener", "Certificates.0.CertificateArn",
            _if("MakesCertificate", _ref("Certificate"), _ref("CertificateArn"))),
    Promise("HttpListener", "DefaultActions.0.Type", "redirect"),
    Promise("HttpListener", "DefaultActions.0.RedirectConfig",
            {"Port": "443", "Protocol": "HTTPS", "StatusCode": "HTTP_301"}),
    Promise("Certificate", "^Condition", "MakesCertificate"),
    Promise("Certificate", "ValidationMethod", "DNS"),
    Promise("DomainRecord", "^Condition", "MakesRecord"),
]  # fmt: skip
API_CONTAINERS = [
    Promise("ApiTargets", "HealthCheckPath", "/health"),
    Promise("ApiTargets", "TargetGroupAttributes.deregistration_delay.timeout_seconds", "30"),
    Promise("ApiTargets", "TargetGroupAttributes.load_balancing.algorithm.type", "round_robin"),
    Promise("ApiService", "DeploymentConfiguration.DeploymentCircuitBreaker", {"Enable": True, "Rollback": True}),
    Promise("ApiService", "DeploymentConfiguration.MinimumHealthyPercent", 100),
    Promise("ApiService", "DesiredCount", _if("IsServing", _ref("AWS::NoValue"), 0)),
    Promise("ApiService", "NetworkConfiguration.AwsvpcConfiguration.AssignPublicIp", "DISABLED"),
    Promise("ApiScaling", "MinCapacity", _if("IsServing", _ref("ApiCount"), 0)),
    Promise("ApiScaling", "MaxCapacity", _if("IsServing", _ref("ApiMaxCount"), 0)),
    Promise("ApiCpuScaling", "PolicyType", "TargetTrackingScaling"),
    Promise("ApiRequestScaling", "PolicyType", "TargetTrackingScaling"),
    Promise("ApiTaskDefinition", "ContainerDefinitions.0.Command", ["api"]),
    Promise("ApiTaskDefinition", "ContainerDefinitions.0.StopTimeout", 60),
    Promise("HttpsListener", "DefaultActions.0.TargetGroupArn", _ref("ApiTargets")),
]  # fmt: skip
API_FUNCTION = [
    Promise("ApiTargets", "TargetType", "lambda"),
    Promise("ApiTargets", "TargetGroupAttributes.lambda.multi_value_headers.enabled", "true"),
    Promise("ApiFunction", "Handler", "lambdas.api.handler"),
    Promise("ApiFunction", "Code.S3Key", _ref("ApiCodeKey")),
    Promise("ApiFunction", "ReservedConcurrentExecutions",
            _if("LimitsApi", _ref("ApiConcurrency"), _ref("AWS::NoValue"))),
    Promise("LoadBalancerCallsApi", "Principal", "elasticloadbalancing.amazonaws.com"),
    Promise("ApiTargets", "^DependsOn", ["LoadBalancerCallsApi"]),
]  # fmt: skip
DATABASE = [
    Promise("Database", "Engine", "postgres"),
    Promise("Database", "StorageEncrypted", True),
    Promise("Database", "PubliclyAccessible", False),
    Promise("Database", "ManageMasterUserPassword", True),
    Promise("Database", "MasterUserPassword", None),
    Promise("Database", "MultiAZ", _if("HasStandby", True, False)),
    Promise("Database", "Port", "5432"),
    Promise("Database", "DBParameterGroupName", _ref("DatabaseParameterGroup")),
    Promise("DatabaseParameterGroup", "Parameters.rds.force_ssl", "1"),
    Promise("Database", "BackupRetentionPeriod", 14, ("standard",)),
    Promise("Database", "BackupRetentionPeriod", 7, ("serverless",)),
    Promise("Database", "DeletionProtection", True, _KEEPING),
    Promise("Database", "DeletionProtection", False, ("dev",)),
    Promise("Database", "^DeletionPolicy", "Snapshot", _KEEPING),
    Promise("Database", "^UpdateReplacePolicy", "Snapshot", _KEEPING),
    Promise("Database", "^DeletionPolicy", "Delete", ("dev",)),
    Promise("DatabaseConnectionProxy", "^Condition", "HasDatabaseProxy"),
    Promise("DatabaseConnectionProxy", "RequireTLS", True),
    Promise("DatabaseConnectionProxyTargets", "^Condition", "HasDatabaseProxy"),
]  # fmt: skip
PAYLOADS = [
    Promise("PayloadBucket", "PublicAccessBlockConfiguration", dict.fromkeys(
        ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"), True)),
    Promise("PayloadBucket", "LifecycleConfiguration.Rules.0.Status", "Enabled"),
    Promise("PayloadBucket", "LifecycleConfiguration.Rules.0.Transitions",
            [{"StorageClass": "GLACIER_IR", "TransitionInDays": 90}]),
    Promise("PayloadBucket", "LifecycleConfiguration.Rules.0.ExpirationInDays",
            {"Fn::FindInMap": ["PayloadExpiryDays", _ref("RetentionDays"), _ref("LongestDelayDays")]}),
    Promise("PayloadBucketPolicy", "PolicyDocument.Statement.0.Effect", "Deny"),
    Promise("PayloadBucketPolicy", "PolicyDocument.Statement.0.Condition", {"Bool": {"aws:SecureTransport": "false"}}),
    Promise("PayloadBucket", "^DeletionPolicy", "Retain", _KEEPING),
    Promise("PayloadBucket", "^DeletionPolicy", "Delete", ("dev",)),
]  # fmt: skip
MAINTENANCE = [
    Promise("MaintenanceSchedule", "ScheduleExpression", "rate(1 minute)"),
    Promise("MaintenanceSchedule", "State", _if("IsServing", "ENABLED", "DISABLED")),
    Promise("MaintenanceSchedule", "Target.Arn", {"Fn::GetAtt": ["MaintenanceFunction", "Arn"]}),
    Promise("MaintenanceInvocations", "MaximumRetryAttempts", 0),
    Promise("MigrateFunction", "Handler", "lambdas.migrate.handler"),
    Promise("MigrateFunction", "Timeout", 900),
]  # fmt: skip
LONG_WORKERS = [
    Promise("LongWorkerTaskDefinition", "ContainerDefinitions.0.Command", ["worker"]),
    Promise("LongWorkerTaskDefinition", "ContainerDefinitions.0.Environment.TASKFLOW_WORKER_QUEUES", "long"),
    Promise("LongWorkerTaskDefinition", "ContainerDefinitions.0.StopTimeout", 120),
    Promise("LongWorkerService", "DesiredCount", _if("IsServing", _ref("AWS::NoValue"), 0)),
    Promise("LongWorkerScaling", "MinCapacity", 0),
    Promise("LongWorkerScaling", "MaxCapacity", _if("IsServing", _ref("LongWorkerMaxCount"), 0)),
    Promise("LongTasksWaiting", "AlarmActions", [_ref("LongWorkerScaleOut")]),
    Promise("LongTasksWaiting", "Metrics.0.Expression", "FILL(critical,0)+FILL(high,0)+FILL(normal,0)+FILL(low,0)"),
    Promise("LongTasksWaiting", "Threshold", 1),
    Promise("LongTasksWaiting", "EvaluationPeriods", 1),
    Promise("NoLongTasksWait", "AlarmActions", [_ref("LongWorkerScaleIn")]),
    Promise("NoLongTasksWait", "Threshold", 0),
    Promise("LongWorkerScaleIn", "StepScalingPolicyConfiguration.StepAdjustments",
            [{"MetricIntervalUpperBound": 0, "ScalingAdjustment": -1}]),
]  # fmt: skip
NETWORK = [
    Promise("S3Endpoint", "VpcEndpointType", "Gateway"),
    Promise("SqsEndpoint", "PrivateDnsEnabled", True, ("standard",)),
    Promise("NatGateway1", "^Condition", "HasNat"),
    Promise("NatGateway2", "^Condition", "HasTwoNats"),
    Promise("PrivateIpv6Route1", "EgressOnlyInternetGatewayId", _ref("EgressOnlyInternetGateway")),
    Promise("PrivateIpv6Route2", "EgressOnlyInternetGatewayId", _ref("EgressOnlyInternetGateway")),
]  # fmt: skip


def _lines() -> list[Any]:
    tables = {
        "edge": (EDGE, _ALL),
        "api": (API_CONTAINERS, _CONTAINERS),
        "serverless-api": (API_FUNCTION, ("serverless",)),
        "database": (DATABASE, _ALL),
        "payloads": (PAYLOADS, _ALL),
        "maintenance": (MAINTENANCE, _ALL),
        "long-workers": (LONG_WORKERS, _CONTAINERS),
        "network": (NETWORK, _ALL),
    }
    return [
        pytest.param(profile, name, table, id=f"{profile}-{name}")
        for name, (table, having) in tables.items()
        for profile in having
    ]


@pytest.mark.parametrize(("profile", "capability", "table"), _lines())
def test_the_template_keeps_the_promise(
    profile: str, capability: str, table: list[Promise]
) -> None:
    for promise in table:
        if profile not in promise.profiles:
            continue
        resource = template(profile)["Resources"][promise.resource]
        found = (
            at(resource, promise.path[1:])
            if promise.path.startswith("^")
            else _property(resource["Properties"], promise.path)
        )
        assert found == promise.value, f"{capability}: {promise.resource} {promise.path}"


def _property(properties: dict[str, Any], path: str) -> Any:
    """Keys of attributes have dots themselves."""
    head, _, rest = path.partition(".")
    value = properties.get(head)
    if isinstance(value, list) and value and "Key" in value[0]:
        return {pair["Key"]: pair["Value"] for pair in value}.get(rest)
    if isinstance(value, dict) and rest in value:
        return value[rest]
    return at(properties, path)


def test_the_tls_policy_knows_tls_13_and_key_exchange_against_quantum_computers() -> None:
    assert "TLS13" in TLS_POLICY
    assert "PQ" in TLS_POLICY


@pytest.mark.parametrize("profile", PROFILES)
def test_every_priority_has_queues_that_are_encrypted_closed_and_have_dead_letters(
    profile: str,
) -> None:
    numbers = PROFILES[profile]
    queues = resources(profile, "AWS::SQS::Queue")
    names = {
        str(found["Properties"]["QueueName"]["Fn::Join"][1][1]): found for found in queues.values()
    }
    kinds = ("-", "-long-") if numbers.long_workers else ("-",)
    assert set(names) == {
        f"{kind}{queue.priority}{dead}"
        for kind in kinds
        for queue in numbers.queues
        for dead in ("", "-dead")
    }  # fmt: skip
    closed = {
        at(policy, "Properties.Queues.0.Ref")
        for policy in resources(profile, "AWS::SQS::QueuePolicy").values()
        if at(policy, "Properties.PolicyDocument.Statement.0.Effect") == "Deny"
    }
    assert closed == set(queues)
    for name, found in names.items():
        assert found["Properties"]["SqsManagedSseEnabled"] is True
        if name.endswith("-dead"):
            assert found["Properties"]["MessageRetentionPeriod"] == 14 * 86_400
            continue
        redrive = found["Properties"]["RedrivePolicy"]
        dead = queues[redrive["deadLetterTargetArn"]["Fn::GetAtt"][0]]
        assert dead is names[f"{name}-dead"]
        assert redrive["maxReceiveCount"] == 100


@pytest.mark.parametrize("profile", PROFILES)
def test_a_message_stays_hidden_for_six_times_its_function(profile: str) -> None:
    """Of every event source, whatever it is for."""
    queues = resources(profile, "AWS::SQS::Queue")
    for source in resources(profile, "AWS::Lambda::EventSourceMapping").values():
        function = properties(profile, source["Properties"]["FunctionName"]["Ref"])
        queue = queues[source["Properties"]["EventSourceArn"]["Fn::GetAtt"][0]]["Properties"]
        assert queue["VisibilityTimeout"] >= 6 * function["Timeout"]


@pytest.mark.parametrize("profile", PROFILES)
def test_event_sources_answer_for_each_message_and_share_the_concurrency_by_priority(
    profile: str,
) -> None:
    numbers = PROFILES[profile]
    sources = resources(profile, "AWS::Lambda::EventSourceMapping")
    for source in sources.values():
        assert source["Properties"]["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        assert source["Properties"]["Enabled"] == _if("IsServing", True, False)
        assert "FilterCriteria" not in source["Properties"]  # Lambda deletes what does not match
    shares = {
        source["Properties"]["EventSourceArn"]["Fn::GetAtt"][0]: at(
            source, "Properties.ScalingConfig.MaximumConcurrency"
        )
        for source in sources.values()
        if source["Properties"]["FunctionName"] == _ref("WorkerFunction")
    }
    assert shares == {
        f"{queue.priority.title()}Queue": queue.function_concurrency for queue in numbers.queues
    }
    dead = {
        source["Properties"]["EventSourceArn"]["Fn::GetAtt"][0]
        for source in sources.values()
        if source["Properties"]["FunctionName"] == _ref("DeadLettersFunction")
    }
    assert dead == {id_ for id_ in resources(profile, "AWS::SQS::Queue") if "DeadLetters" in id_}


@pytest.mark.parametrize("profile", PROFILES)
def test_processes_reach_the_database_and_nobody_else_does(profile: str) -> None:
    found = resources(profile, "AWS::EC2::SecurityGroup")
    sources = {
        rule["SourceSecurityGroupId"]["Fn::GetAtt"][0]
        for rule in found["DatabaseSecurityGroup"]["Properties"]["SecurityGroupIngress"]
    }
    assert sources == {
        "ApiSecurityGroup",
        "ProgramSecurityGroup",
        "DatabaseConnectionProxySecurityGroup",
    }
    assert "SecurityGroupIngress" not in found["ProgramSecurityGroup"]["Properties"]
    public = {
        id_
        for id_, group in found.items()
        for rule in group["Properties"].get("SecurityGroupIngress", [])
        if "CidrIp" in rule or "CidrIpv6" in rule
    }
    assert public == {"LoadBalancerSecurityGroup"}
    for rule in resources(profile, "AWS::EC2::SecurityGroupIngress").values():
        assert rule["Properties"]["SourceSecurityGroupId"] == {
            "Fn::GetAtt": ["LoadBalancerSecurityGroup", "GroupId"]
        }


@pytest.mark.parametrize("profile", PROFILES)
def test_functions_reach_sqs_s3_and_secrets_manager(profile: str) -> None:
    """Through endpoints, a NAT gateway, or over IPv6, where the SDK is told to ask for addresses of both kinds."""
    network = PROFILES[profile].network
    endpoints = {
        str(found["Properties"]["ServiceName"]["Fn::Join"][1][2]).lstrip(".")
        for found in resources(profile, "AWS::EC2::VPCEndpoint").values()
    }
    assert "s3" in endpoints
    for function in resources(profile, "AWS::Lambda::Function").values():
        assert at(function, "Properties.VpcConfig.Ipv6AllowedForDualStack") is True
        variables = at(function, "Properties.Environment.Variables")
        by_ipv6 = variables.get("AWS_USE_DUALSTACK_ENDPOINT") == "true"
        assert {"sqs", "secretsmanager"} <= endpoints or network.nat_gateways or by_ipv6
    if PROFILES[profile].has_containers and not network.nat_gateways:
        assert {"sqs", "secretsmanager", "ecr.api", "ecr.dkr", "logs"} <= endpoints


@pytest.mark.parametrize("profile", PROFILES)
def test_each_service_has_its_log_group_with_an_end(profile: str) -> None:
    groups = {
        str(found["Properties"]["LogGroupName"]["Fn::Join"][1][2]).lstrip("/"): found
        for found in resources(profile, "AWS::Logs::LogGroup").values()
    }
    services = {"api", "worker", "maintenance", "dead-letters", "migrate"}
    if PROFILES[profile].long_workers:
        services |= {"long-worker"}
    if PROFILES[profile].flow_logs:
        services |= {"network"}
    assert set(groups) == services
    for found in groups.values():
        assert found["Properties"]["RetentionInDays"] == _ref("LogRetentionDays")


@pytest.mark.parametrize("profile", PROFILES)
def test_nothing_serves_until_it_is_said(profile: str) -> None:
    """Serving=false: no traffic, no tasks, no tick; for the first migration."""
    found = template(profile)
    assert found["Conditions"]["IsServing"] == {"Fn::Equals": [_ref("Serving"), "true"]}
    waiting = {
        id_
        for id_, resource in found["Resources"].items()
        if "'Fn::If': ['IsServing'" in str(resource)
    }
    sources = set(resources(profile, "AWS::Lambda::EventSourceMapping"))
    api = {"ApiService", "ApiScaling"} if profile in _CONTAINERS else {"HttpsListener"}
    long = {"LongWorkerService", "LongWorkerScaling"} if profile in _CONTAINERS else set()
    assert sources | api | long | {"MaintenanceSchedule"} <= waiting


@pytest.mark.parametrize("profile", PROFILES)
def test_only_what_holds_data_outlives_the_stack_and_in_dev_nothing_does(profile: str) -> None:
    kept = {
        id_
        for id_, resource in template(profile)["Resources"].items()
        if resource.get("DeletionPolicy", "Delete") != "Delete"
    }
    assert kept == ({"Database", "PayloadBucket"} if profile in _KEEPING else set())


def test_standard_runs_in_two_zones_with_two_instances() -> None:
    numbers = PROFILES["standard"]
    assert isinstance(numbers.api, ApiContainers)
    assert numbers.api.count >= 2
    assert template("standard")["Parameters"]["DatabaseMultiAz"]["Default"] == "true"
    zones = [
        at(found, "Properties.AvailabilityZone.Fn::Select.0")
        for found in resources("standard", "AWS::EC2::Subnet").values()
    ]
    assert sorted(zones) == [0, 0, 1, 1]


def test_dev_is_the_smallest_of_standard() -> None:
    standard, dev = (template(name)["Parameters"] for name in ("standard", "dev"))
    sizes = (
        "ApiCount",
        "ApiCpu",
        "ApiMemory",
        "WorkerMemory",
        "LongWorkerCpu",
        "DatabaseStorageGiB",
    )
    assert all(dev[name]["Default"] < standard[name]["Default"] for name in sizes)
    assert profiles.DEV.api.__class__ is profiles.STANDARD.api.__class__
