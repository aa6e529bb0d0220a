"""Which zone, which certificate: asked of Route 53 and ACM as moto has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from deployment.account import Account
from deployment.address import Address, AddressOptions
from deployment.certificate import SelfSigned, self_signed
from deployment.cli.terminal import Terminal
from deployment.errors import DeployError, UsageError
from deployment.stacks import StackState
from tests.support import aws

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def account(moto_cloudformation_url: str, monkeypatch: pytest.MonkeyPatch) -> Account:
    for name, value in aws.environment(moto_cloudformation_url).items():
        monkeypatch.setenv(name, value)
    return Account(aws.REGION)


@pytest.fixture
def stack() -> str:
    return aws.unique("taskflow-a")


@pytest.fixture
def address(account: Account, stack: str) -> Address:
    return Address(account, stack, Terminal(json=True, yes=True))


@pytest.fixture
def acm(moto_cloudformation_url: str) -> Iterator[Any]:
    with closing(aws.client("acm", moto_cloudformation_url)) as client:
        yield client


def state(stack: str, **parameters: str) -> StackState:
    moment = datetime.now(UTC)
    return StackState(
        stack, "arn", "CREATE_COMPLETE", "", parameters, {}, {}, moment, is_protected=False
    )


@pytest.fixture
def zone(moto_cloudformation_url: str) -> Iterator[Callable[..., str]]:
    """Makes a zone of this name and returns its id."""
    with closing(aws.client("route53", moto_cloudformation_url)) as route53:

        def make(name: str, *, private: bool = False) -> str:
            private_only: dict[str, Any] = {
                "VPC": {"VPCRegion": aws.REGION, "VPCId": "vpc-1"},
                "HostedZoneConfig": {"PrivateZone": True},
            }
            vpc = private_only if private else {}
            made = route53.create_hosted_zone(Name=name, CallerReference=aws.unique("z"), **vpc)
            return str(made["HostedZone"]["Id"]).rpartition("/")[2]

        yield make


def zone_of(address: Address, domain: str, certificate_arn: str | None = None) -> str:
    options = AddressOptions(certificate_arn, domain)
    return address.parameters(options, None, importing=False)["HostedZoneId"]


def test_the_longest_public_zone_that_holds_the_name_is_taken(
    address: Address, zone: Callable[..., str]
) -> None:
    shop = f"{aws.unique('shop')}.test"
    wide, narrow = zone(shop), zone(f"eu.{shop}")
    zone(f"api.eu.{shop}", private=True)  # only its VPCs would see the name
    zone(shop[1:])  # ends alike, but in the middle of a label
    assert zone_of(address, f"tasks.api.eu.{shop}") == narrow
    assert zone_of(address, f"eu.{shop}") == narrow
    assert zone_of(address, f"tasks.{shop}") == wide


def test_without_a_zone_there_is_no_certificate_to_be_had(
    address: Address, zone: Callable[..., str]
) -> None:
    domain = f"{aws.unique('tasks')}.test"
    zone(domain, private=True)
    with pytest.raises(DeployError, match=f"no public zone for {domain}") as caught:
        zone_of(address, domain)
    assert caught.value.code == "no_hosted_zone"
    assert zone_of(address, domain, certificate_arn="arn:of-its-own") == ""


def test_a_certificate_has_to_be_there_and_issued(address: Address, acm: Any) -> None:
    pending = acm.request_certificate(DomainName="tasks.shop.test")["CertificateArn"]
    with pytest.raises(DeployError, match="is PENDING_VALIDATION") as caught:
        address.check(AddressOptions(pending, None))
    assert caught.value.code == "certificate_not_issued"
    certificate, key = self_signed("tasks.shop.test", [], now=datetime.now(UTC))
    issued = acm.import_certificate(Certificate=certificate, PrivateKey=key)["CertificateArn"]
    address.check(AddressOptions(issued, None))
    unknown = f"{issued.rpartition('/')[0]}/00000000-0000-0000-0000-000000000000"
    with pytest.raises(UsageError, match="There is no certificate"):
        address.check(AddressOptions(unknown, None))


def test_the_self_signed_certificate_goes_once_the_stack_has_another(
    account: Account, address: Address, stack: str
) -> None:
    made = SelfSigned(account, stack).ensure()
    other = SelfSigned(account, f"{stack}-other").ensure()
    address.forget_unused(state(stack, CertificateArn=made.arn))
    there = SelfSigned(account, stack).find()
    assert there is not None
    assert there.arn == made.arn
    address.forget_unused(state(stack, CertificateArn=other.arn))
    assert SelfSigned(account, stack).find() is None
    assert SelfSigned(account, f"{stack}-other").find() is not None


@pytest.mark.parametrize(("days_left", "is_renewed"), [(59, True), (61, False)])
def test_a_self_signed_certificate_is_renewed_in_place_two_months_before_its_end(
    account: Account, stack: str, days_left: int, is_renewed: bool
) -> None:
    now = datetime.now(UTC)
    made_at = now - timedelta(days=397 - days_left)
    first = SelfSigned(account, stack, now=lambda: made_at).ensure(names=["lb.test"])
    again = SelfSigned(account, stack).ensure()
    assert again.arn == first.arn
    assert again.was_renewed is is_renewed
    assert again.names >= {"lb.test"}  # whoever trusts it by that name goes on
    left = (again.ends_at - now).days
    assert left >= 396 if is_renewed else left == days_left - 1
    there = SelfSigned(account, stack).find()
    assert there is not None
    assert there.ends_at == again.ends_at


def test_a_certificate_that_somebody_else_deletes_meanwhile_is_not_ours(
    account: Account, stack: str, acm: Any
) -> None:
    """Another stack is destroyed in the moment between the list and the look at its tags."""
    mine = SelfSigned(account, stack).ensure()
    theirs = SelfSigned(account, f"{stack}-other").ensure()

    def delete_theirs(parsed: dict[str, Any], **_: Any) -> None:
        arns = [one["CertificateArn"] for one in parsed["CertificateSummaryList"]]
        if theirs.arn in arns:
            acm.delete_certificate(CertificateArn=theirs.arn)

    events = account.client("acm").meta.events
    events.register("after-call.acm.ListCertificates", delete_theirs)
    assert SelfSigned(account, f"{stack}-other").find() is None
    events.unregister("after-call.acm.ListCertificates", delete_theirs)
    found = SelfSigned(account, stack).find()
    assert found is not None
    assert found.arn == mine.arn
