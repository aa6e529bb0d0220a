"""cloudformation/*.yaml is what cdk/ says, bytes and all, and can be uploaded as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cdk.profiles import PROFILES
from cdk.templates import DIRECTORY, check, write
from tests.infra.cdk.reading import at, resources, template
from tests.infra.cdk.synthesis import synthesis


def test_the_checked_in_templates_are_those_of_the_cdk() -> None:
    texts = synthesis().texts

    assert set(texts) == {profile.template for profile in PROFILES.values()}
    for name, text in texts.items():
        assert (DIRECTORY / name).read_text("utf-8") == text, (
            f"cloudformation/{name} is out of date: run `python -m cdk.templates`"
        )


def test_no_other_template_lies_beside_them() -> None:
    assert {path.name for path in DIRECTORY.iterdir()} == {
        profile.template for profile in PROFILES.values()
    }


def test_the_check_notices_a_changed_byte_and_a_missing_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = {"one.yaml": "a: 1\n", "two.yaml": "b: 2\n", "three.yaml": "c: 3\n"}
    write(texts, tmp_path)
    assert check(texts, tmp_path) == 0

    (tmp_path / "one.yaml").write_text("a: 2\n")
    (tmp_path / "two.yaml").unlink()

    assert check(texts, tmp_path) == 1
    said = capsys.readouterr().err
    assert "one.yaml" in said
    assert "two.yaml" in said
    assert "three.yaml" not in said
    assert "python -m cdk.templates" in said


@pytest.mark.parametrize("profile", PROFILES)
def test_a_template_needs_nothing_but_its_parameters(profile: str) -> None:
    """No bootstrap, no assets, no custom resources."""
    found = template(profile)
    text = (DIRECTORY / PROFILES[profile].template).read_text("utf-8")

    assert "BootstrapVersion" not in found["Parameters"]
    assert "Rules" not in found
    assert "cdk-hnb659fds" not in text
    assert not [
        id_
        for id_, resource in found["Resources"].items()
        if resource["Type"].startswith(("Custom::", "AWS::CloudFormation::"))
    ]
    code = [
        at(function, "Properties.Code")
        for function in resources(profile, "AWS::Lambda::Function").values()
    ]
    assert all(part.keys() == {"S3Bucket", "S3Key"} for part in code)
    assert all("Ref" in part["S3Bucket"] and "Ref" in part["S3Key"] for part in code)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_template_stays_within_cloudformations_limits(profile: str) -> None:
    """CloudFormation User Guide, "Understand CloudFormation quotas": by TemplateURL."""
    found = template(profile)
    assert (DIRECTORY / PROFILES[profile].template).stat().st_size < 1_000_000
    assert len(found["Resources"]) <= 500
    assert len(found["Parameters"]) <= 200
    assert len(found["Outputs"]) <= 200


@pytest.mark.parametrize("profile", PROFILES)
def test_every_parameter_is_described_and_has_a_default_unless_nobody_can_know_it(
    profile: str,
) -> None:
    parameters: dict[str, Any] = template(profile)["Parameters"]
    without_default = {name for name, found in parameters.items() if "Default" not in found}

    assert all(found.get("Description") for found in parameters.values())
    code = {"CodeBucket", "WorkerCodeKey"}
    by_profile = {"serverless": {"ApiCodeKey"}}
    assert without_default == code | by_profile.get(profile, {"ImageUri"})


@pytest.mark.parametrize("profile", PROFILES)
def test_the_outputs_tell_what_a_deployment_needs_and_no_secret(profile: str) -> None:
    outputs = template(profile)["Outputs"]
    expected = {
        "ApiUrl",
        "LoadBalancerDns",
        "QueuePrefix",
        "PayloadBucket",
        "DatabaseSecretArn",
        "DatabaseHost",
        "DatabaseUrl",
        "DatabaseInstance",
        "MigrateFunction",
        "WorkerFunction",
        "MaintenanceFunction",
        "AlarmTopicArn",
        "DashboardName",
        "Profile",
        "Region",
    }
    if profile != "serverless":
        expected |= {"ClusterName"}
    assert set(outputs) == expected
    assert outputs["Profile"]["Value"] == profile
    assert not [name for name, found in outputs.items() if "resolve:" in str(found)]
