from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.balancer import BalancerProcess, balancing
from tests.support.instance import Instance, running


@pytest.fixture(scope="module")
def instances() -> Iterator[list[Instance]]:
    with ExitStack() as stack:
        yield [stack.enter_context(running(Instance())) for _ in range(2)]


@pytest.fixture(scope="module")
def shared_balancer(
    instances: list[Instance], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BalancerProcess]:
    directory = tmp_path_factory.mktemp("balancer")
    with balancing(directory, [instance.url for instance in instances]) as balancer:
        yield balancer


@pytest.fixture
def balancer(
    shared_balancer: BalancerProcess, instances: list[Instance]
) -> Iterator[BalancerProcess]:
    """One balancer over two instances, with default settings; what the instances remember is of this test alone."""
    for instance in instances:
        instance.seen.clear()
        instance.released.clear()
        instance.arrived.clear()
        instance.gone.clear()
    yield shared_balancer
    assert [instance.broken for instance in instances] == [[], []], "instances got invalid HTTP"


@pytest.fixture
def instance() -> Iterator[Instance]:
    """One of this test's own."""
    with running(Instance()) as one:
        yield one


@pytest.fixture
def other_instance() -> Iterator[Instance]:
    with running(Instance()) as one:
        yield one


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path
