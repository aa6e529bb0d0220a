"""The checked-in templates, complete, from nothing to a stack that serves and back, on moto."""

from __future__ import annotations

import re
import ssl
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography import x509

from deployment import env_file
from deployment.certificate import self_signed
from tests.infra.deploy.cloud import operation
from tests.infra.deploy.conftest import Cloud
from tests.support import aws

pytestmark = pytest.mark.timeout(600)  # packages are built by whoever needs them first

TASKS = ("--tasks", "shop.tasks")


def test_a_stage_from_nothing_to_its_end(full: Cloud, postgres_database: str) -> None:
    deploy, stage = full.deploy, aws.unique("s")[:14].rstrip("-")
    common = ("--stage", stage, "--build-directory", str(full.packages))
    stack = f"taskflow-{stage}"

    done = deploy.good("up", "--profile", "serverless", *common, *TASKS, "--yes")
    assert "made a self-signed certificate and imported it into ACM" in done.output
    assert "Create" not in done.output  # --yes: nobody is asked
    assert_order(
        full, "cloudformation:ExecuteChangeSet", "lambda:Invoke", "cloudformation:ExecuteChangeSet"
    )
    engine = sa.create_engine(postgres_database)
    assert "tasks" in sa.inspect(engine).get_table_names()  # the function has really migrated it
    engine.dispose()

    # The smoke test: HTTPS, verified against the certificate that was made for the load balancer's name.
    written = env_file.read(deploy.directory / ".env")
    name = written["TASKFLOW_URL"].removeprefix("https://").lower()
    assert set(full.balancer.asked) == {f"{name}:443"}
    for found in ("health: HTTPS 200", "handlers: ", "task: echo "):
        assert found in done.output
    certificate = x509.load_pem_x509_certificate(full.balancer.certificates[-1])
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert name in names.get_values_for_type(x509.DNSName)
    trusted = packages_pem(full, stack)
    assert ssl.PEM_cert_to_DER_cert(trusted)

    # .env: addresses, no secrets.
    assert written["TASKFLOW_BACKEND"] == "aws"
    assert written["TASKFLOW_QUEUE_PREFIX"] == stack
    assert written["TASKFLOW_DATABASE_SECRET_ARN"].startswith("arn:aws:secretsmanager:")
    assert written["AWS_REGION"] == aws.REGION
    assert (deploy.directory / ".env").stat().st_mode & 0o777 == 0o600

    # Again: nothing to do, and nothing done.
    full.proxy.forget()
    again = deploy.good("up", *common, "--json", "--yes").json
    assert (again["changes"], again["migrated"], again["profile"]) == ([], None, "serverless")
    done_calls = {operation(request) for request in full.proxy.requests}
    assert not done_calls & {
        "cloudformation:ExecuteChangeSet", "lambda:Invoke", "acm:ImportCertificate"
    }  # fmt: skip

    # A changed setting, planned first.
    setting = ("--set", "WorkerMemory=2048")
    planned = deploy.good("plan", *common, *setting, "--json").json
    assert {change["logical_id"] for change in planned["changes"]} == {"WorkerFunction"}
    assert planned["parameters"]["ApiConcurrency"] == "20"
    assert_costs(deploy.good("plan", *common, *setting).output, planned["costs"])
    deploy.good("up", *common, *setting, "--yes")
    with closing(full.client("lambda")) as functions:
        worker = functions.get_function_configuration(
            FunctionName=again["outputs"]["WorkerFunction"]
        )
    assert worker["MemorySize"] == 2048
    assert deploy.good("plan", *common, "--json").json["changes"] == []  # it is kept

    status = deploy.good("status", "--stage", stage, "--json").json
    assert status["is_well"]
    assert {queue["name"] for queue in status["queues"]} >= {
        f"{stack}-critical",
        f"{stack}-low-dead",
    }
    assert status["state"]["is_protected"]

    refused = deploy.run("destroy", "--stage", stage, "--yes")
    assert refused.code == 1
    assert "--delete-database" in refused.errors
    with closing(full.client("s3")) as s3:
        s3.put_object(Bucket=written["TASKFLOW_S3_BUCKET"], Key="payload", Body=b"x")
    refused = deploy.run("destroy", "--stage", stage, "--yes", "--delete-database", "--json")
    assert refused.json["error"]["code"] == "holds_data"
    assert "--delete-payloads" in refused.json["error"]["next_step"]
    assert deploy.good("status", "--stage", stage, "--json").json["is_well"]

    with closing(full.client("rds")) as rds:  # as the template has it, and moto does not
        name = again["outputs"]["DatabaseInstance"]
        rds.modify_db_instance(DBInstanceIdentifier=name, DeletionProtection=True)
        [database] = rds.describe_db_instances(DBInstanceIdentifier=name)["DBInstances"]
        assert database["DeletionProtection"] is True
    full.proxy.forget()
    gone = deploy.good(
        "destroy", "--stage", stage, "--yes", "--delete-database", "--delete-payloads"
    )
    assert_order(
        full,
        "rds:ModifyDBInstance",
        "s3:POST",  # DeleteObjects
        "cloudformation:UpdateTerminationProtection",
        "cloudformation:DeleteStack",
        "s3:POST",  # packages
    )
    assert f"taking the deletion protection off the database {name}" in gone.output
    assert f"deleted: stack {stack}" in gone.output
    assert "TASKFLOW_URL" not in (deploy.directory / ".env").read_text()
    assert deploy.run("status", "--stage", stage).code == 1
    with closing(full.client("acm")) as acm:
        there = acm.list_certificates(Includes={"keyTypes": ["EC_prime256v1"]})[
            "CertificateSummaryList"
        ]
        assert f"{stack}.taskflow.internal" not in {one["DomainName"] for one in there}
    with closing(full.client("s3")) as s3:
        buckets = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
        assert written["TASKFLOW_S3_BUCKET"] not in buckets
    assert "nothing is left" in deploy.good("destroy", "--stage", stage, "--yes").output


@pytest.mark.parametrize("profile", ["standard", "dev"])
def test_a_profile_with_containers(full: Cloud, profile: str) -> None:
    stage = aws.unique("c")[:14].rstrip("-")
    common = ("--stage", stage, "--build-directory", str(full.packages))
    no_image = full.deploy.run(
        "up", "--profile", profile, *common, *TASKS, "--yes", environment={"PATH": "/nowhere"}
    )
    assert no_image.code == 1
    assert "--image URI" in no_image.errors
    image = "public.ecr.aws/shop/taskflow:1"
    result = full.deploy.good(
        "up", "--profile", profile, *common, *TASKS, "--image", image, "--yes", "--json"
    ).json
    assert result["profile"] == profile
    assert [check["name"] for check in result["checks"]] == ["health", "handlers", "task"]
    state = full.deploy.good("status", "--stage", stage, "--json").json["state"]
    assert state["is_protected"] is (profile == "standard")
    assert state["parameters"]["Serving"] == "true"
    assert state["parameters"]["ImageUri"] == image
    other = full.deploy.run("up", "--profile", "serverless", *common, "--yes")
    assert (other.code, f"has the profile {profile}" in other.errors) == (2, True)


def test_a_domain_whose_zone_is_elsewhere(full: Cloud) -> None:
    """Its name does not resolve yet: the load balancer is asked by its own, and shows the certificate of the domain."""
    full.functions.at_once = 10  # as a new account has it: none can be set aside for the API
    stage, domain = aws.unique("d")[:14].rstrip("-"), f"{aws.unique('tasks')}.shop.test"
    certificate, key = self_signed(domain, [], now=datetime.now(UTC))
    with closing(full.client("acm")) as acm:
        arn = acm.import_certificate(Certificate=certificate, PrivateKey=key)["CertificateArn"]
    done = full.deploy.good(
        "up", "--profile", "serverless", "--stage", stage, "--build-directory", str(full.packages),
        *TASKS, "--domain", domain, "--certificate-arn", arn, "--yes", "--json",
    )  # fmt: skip
    balancer = done.json["outputs"]["LoadBalancerDns"]
    assert done.json["outputs"]["ApiUrl"] == f"https://{domain}"
    assert done.json["record"] == f"{domain} CNAME {balancer}"
    assert f"has this record: {domain} CNAME {balancer}" in done.errors
    assert set(full.balancer.asked) == {f"{balancer.lower()}:443"}
    assert set(full.balancer.named) == {domain}
    assert done.json["parameters"]["ApiConcurrency"] == "0"
    assert "--set ApiConcurrency=20" in done.errors
    assert [check["name"] for check in done.json["checks"]] == ["health", "handlers", "task"]
    written = env_file.read(full.deploy.directory / ".env")
    assert written["TASKFLOW_URL"] == f"https://{domain}"


def assert_costs(output: str, costs: dict[str, Any]) -> None:
    """What people read is what programs get."""
    idle, *_ = costs["estimates"]
    for line in idle["lines"]:
        assert re.search(rf"^{line['item']} +\${line['dollars']:,.2f} ", output, re.MULTILINE), line
    totals = " +".join(rf"\${one['dollars']:,.0f}" for one in costs["estimates"])
    assert re.search(rf"^a month +{totals}$", output, re.MULTILINE), output


def assert_order(cloud: Cloud, *names: str) -> None:
    """These operations happened in this order, and no others of the same names."""
    asked = [operation(request) for request in cloud.proxy.requests]
    assert [name for name in asked if name in names] == list(names)


def packages_pem(cloud: Cloud, stack: str) -> str:
    """What the user was told to trust."""
    return (cloud.packages / f"{stack}.pem").read_text()
