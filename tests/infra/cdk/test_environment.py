"""The program understands the settings that the template gives each of its processes."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cdk.profiles import PROFILES
from taskflow.settings import Settings, load
from tests.infra.cdk.reading import at, resources, template

_VALUES = {
    "AWS::StackName": "taskflow-prod",
    "PayloadBucket": "payloads-1",
    "TaskModules": "shop.tasks",
    "RetentionDays": "30",
    "DatabaseTls": "verify-full",
    "ImageDatabaseTls": "require",
    "DomainName": "",
    "LogLevel": "warning",
}


def _processes(profile: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for id_, function in resources(profile, "AWS::Lambda::Function").items():
        yield id_, at(function, "Properties.Environment.Variables")
    for id_, definition in resources(profile, "AWS::ECS::TaskDefinition").items():
        pairs = at(definition, "Properties.ContainerDefinitions.0.Environment")
        yield id_, {pair["Name"]: pair["Value"] for pair in pairs}


def _resolved(value: Any) -> str:
    match value:
        case {"Ref": name}:
            return _VALUES[name]
        case {"Fn::GetAtt": [_, attribute]}:
            return f"arn:aws:secretsmanager:eu-west-1:1:secret:{attribute}"
        case {"Fn::Join": [separator, parts]}:
            return str(separator).join(map(_resolved, parts))
        case {"Fn::If": [_, yes, _]}:
            return _resolved(yes)
    return str(value)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_variable_is_a_setting_and_its_value_is_taken(
    profile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {f"TASKFLOW_{name.upper()}" for name in Settings.model_fields}
    for id_, variables in _processes(profile):
        ours = {
            name: _resolved(found)
            for name, found in variables.items()
            if name.startswith("TASKFLOW_")
        }
        assert set(ours) <= fields, id_
        with monkeypatch.context() as environment:
            for name, value in ours.items():
                environment.setenv(name, value)
            settings = load()
        assert settings.resolved_queue_backend == "sqs", id_
        assert settings.resolved_payload_backend == "s3"
        assert settings.queue_prefix == "taskflow-prod"
        assert settings.resolved_database_url.startswith("postgresql://")
        assert "@" not in settings.resolved_database_url  # the login is in the secret
        assert settings.database_tls in {"verify-full", "require"}
        assert settings.log_format == "json"
        assert settings.metrics_emf
        assert settings.log_level == "warning"


@pytest.mark.parametrize("profile", PROFILES)
def test_every_handler_is_there(profile: str) -> None:
    for function in resources(profile, "AWS::Lambda::Function").values():
        module, _, name = function["Properties"]["Handler"].rpartition(".")
        spec = importlib.util.find_spec(module)
        assert spec is not None
        assert spec.origin is not None
        tree = ast.parse(Path(spec.origin).read_text("utf-8"))
        assigned = {
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        assert name in assigned


@pytest.mark.parametrize("profile", PROFILES)
def test_no_variable_of_a_function_is_longer_than_lambda_takes(profile: str) -> None:
    """Lambda Developer Guide, "Lambda quotas": 4 KB in all."""
    for function in resources(profile, "AWS::Lambda::Function").values():
        variables = at(function, "Properties.Environment.Variables")
        text = "".join(name + _resolved(value) for name, value in variables.items())
        assert len(text) < 3_000


def test_tasks_reach_the_queues_that_there_are() -> None:
    for name, profile in PROFILES.items():
        long = [
            id_
            for id_ in template(name)["Resources"]
            if id_.startswith("Long") and id_.endswith("Queue")
        ]
        assert bool(long) == bool(profile.long_task_seconds)
