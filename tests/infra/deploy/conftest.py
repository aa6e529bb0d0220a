"""deploy.py as a process before emulators of AWS, with a program that serves behind the load balancer's name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.infra.deploy import small
from tests.infra.deploy.cloud import Functions
from tests.infra.deploy.endpoint import LoadBalancer, load_balancer
from tests.infra.deploy.program import ROOT, Done, Program, checkout, program, write_template
from tests.support import aws, packages, run
from tests.support.aws_proxy import AwsProxy, aws_proxy
from tests.support.server import ServerProcess, serving


@pytest.fixture(scope="session")
def moto_cloudformation_url() -> str:
    """Endpoint of this run's moto whose CloudFormation knows all that our templates need."""
    return aws.endpoint("moto-cloudformation")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """TaskFlow, for smoke tests."""
    with serving(tmp_path_factory.mktemp("served")) as process:
        yield process


@dataclass
class Cloud:
    proxy: AwsProxy
    balancer: LoadBalancer
    functions: Functions
    deploy: Program
    packages: Path

    def client(self, service: str) -> Any:
        return aws.client(service, self.proxy.url)


@pytest.fixture
def full(
    moto_cloudformation_url: str,
    served: ServerProcess,
    postgres_database: str,
    tmp_path: Path,
) -> Iterator[Cloud]:
    """The checked-in templates: moto behind a proxy that runs functions on a real database."""
    for kind in ("worker", "api"):
        packages.package(kind)
    with ExitStack() as closing:
        proxy = closing.enter_context(aws_proxy(moto_cloudformation_url))
        balancer = closing.enter_context(load_balancer(served.port))
        closing.enter_context(proxy.intercepting(balancer.watch))
        functions = Functions(
            proxy, tmp_path, postgres_database, lambda _: packages.unpacked("worker")
        )
        closing.callback(functions.close)
        closing.enter_context(proxy.intercepting(functions))
        environment = {**aws.environment(proxy.url), "HTTPS_PROXY": balancer.proxy_url}
        user = tmp_path / "user"
        user.mkdir()
        (user / "shop").symlink_to(packages.PROJECT / "shop")
        (user / "shop_rates.py").symlink_to(packages.PROJECT / "shop_rates.py")
        deploy = closing.enter_context(program(ROOT, user, environment))
        yield Cloud(proxy, balancer, functions, deploy, run.directory() / "packages")


@dataclass
class Small:
    """A stage on MiniStack with a template of the test's own."""

    proxy: AwsProxy
    balancer: LoadBalancer
    deploy: Program
    template: dict[str, Any]
    checkout: Path
    stage: str
    packages: Path

    @property
    def stack(self) -> str:
        return f"taskflow-{self.stage}"

    @property
    def common(self) -> tuple[str, ...]:
        return ("--stage", self.stage)

    def up(self, *arguments: str, **environment: str) -> Done:
        """With everything that has to be said to begin with."""
        tasks = ("--tasks", ",".join(packages.TASKS), "--image", "none")
        where = ("--build-directory", str(self.packages))
        return self.deploy.run(
            "up", *self.common, *tasks, *where, "--yes", *arguments, environment=environment
        )

    def write_template(self) -> None:
        write_template(self.checkout, small.FILE, self.template)

    def status(self) -> str:
        found: str = self.deploy.run("status", *self.common, "--json").json["state"]["status"]
        return found

    def parameters(self) -> dict[str, str]:
        with closing(aws.client("cloudformation", self.proxy.url)) as cloudformation:
            [stack] = cloudformation.describe_stacks(StackName=self.stack)["Stacks"]
        return {one["ParameterKey"]: one["ParameterValue"] for one in stack["Parameters"]}


@pytest.fixture
def stage(
    ministack_url: str, served: ServerProcess, postgres_database: str, tmp_path: Path
) -> Iterator[Small]:
    packages.package("worker")
    user = tmp_path / "user"
    user.mkdir()
    for name in ("shop", "shop_rates.py"):
        (user / name).symlink_to(packages.PROJECT / name)
    address = sa.make_url(postgres_database)
    settings = {
        "AWS_ENDPOINT_URL": ministack_url,
        "TASKFLOW_DATABASE_URL": address.render_as_string(hide_password=False),
        "TASKFLOW_DATABASE_SECRET_ARN": "",
        "TASKFLOW_DATABASE_TLS": "disable",
    }
    made = small.template(settings)
    with ExitStack() as closing:
        proxy = closing.enter_context(aws_proxy(ministack_url))
        balancer = closing.enter_context(load_balancer(served.port))
        closing.enter_context(proxy.intercepting(balancer.watch))
        source = checkout(tmp_path / "checkout", {small.FILE: made})
        environment = {**aws.environment(proxy.url), "HTTPS_PROXY": balancer.proxy_url}
        deploy = closing.enter_context(program(source, user, environment))
        name = aws.unique("m")[:14].rstrip("-")
        yield Small(proxy, balancer, deploy, made, source, name, run.directory() / "packages")
