"""How clients reach the API: a domain, a certificate that is there, or a self-signed one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from deployment.account import Account
from deployment.aws_errors import error_code
from deployment.certificate import SelfSigned
from deployment.errors import DeployError, UsageError
from deployment.reporter import Reporter
from deployment.smoke import Endpoint
from deployment.stacks import StackState

PARAMETERS = ("CertificateArn", "DomainName", "HostedZoneId")


@dataclass(frozen=True)
class AddressOptions:
    certificate_arn: str | None
    domain: str | None


class Address:
    def __init__(self, account: Account, stack: str, reporter: Reporter) -> None:
        self._account = account
        self._reporter = reporter
        self._self_signed = SelfSigned(account, stack)

    def check(self, options: AddressOptions) -> None:
        """Before anything is made. Raises UsageError, DeployError."""
        if options.certificate_arn is not None:
            self._check_arn(options.certificate_arn)

    def parameters(
        self, options: AddressOptions, state: StackState | None, *, importing: bool
    ) -> dict[str, str]:
        """Empty: the stack keeps what it has. Without ``importing`` nothing is made: `plan` shows a stand-in."""
        if options.domain is not None:
            zone = self._zone_of(options.domain, needed=options.certificate_arn is None)
            return {
                "DomainName": options.domain,
                "HostedZoneId": zone,
                "CertificateArn": options.certificate_arn or "",
            }
        if options.certificate_arn is not None:
            return {"CertificateArn": options.certificate_arn}
        has_address = state is not None and any(state.parameters.get(name) for name in PARAMETERS)
        if has_address:
            return {}
        if not importing:
            there = self._self_signed.find()
            return {"CertificateArn": there.arn if there else self._stand_in()}
        made = self._self_signed.ensure()
        if made.is_new:
            self._reporter.warn(
                f"made a self-signed certificate and imported it into ACM ({made.arn}): HTTPS works at once, but "
                "clients have to be told to trust it. --domain or --certificate-arn brings one that everybody trusts"
            )
        return {"CertificateArn": made.arn}

    def renew(self, state: StackState) -> None:
        """The self-signed certificate, if the stack has that one: for the balancer's name, and never near its end."""
        there = self._own_of(state)
        if there is None:
            return
        name = state.outputs.get("LoadBalancerDns", "")
        renewed = self._self_signed.ensure(names=[name.lower()] if name else [])
        if renewed.was_renewed:
            self._reporter.say(
                f"the self-signed certificate is now for {name or self._self_signed.own_name}, "
                f"valid until {renewed.ends_at:%Y-%m-%d}"
            )

    def endpoint(self, state: StackState) -> Endpoint:
        """For the smoke test: what ACM holds is trusted, since the load balancer shows it."""
        url, arn = state.outputs["ApiUrl"], state.parameters.get("CertificateArn", "")
        if not arn:
            return Endpoint(url)
        answer = self._acm.get_certificate(CertificateArn=arn)
        trusted = "\n".join([answer["Certificate"], answer.get("CertificateChain", "")])
        if self._pointed_by_hand(state):  # perhaps not yet
            by_its_own_name = f"https://{state.outputs['LoadBalancerDns']}"
            return Endpoint(by_its_own_name, trusted, state.parameters["DomainName"])
        if state.parameters.get("DomainName") or self._own_of(state) is not None:
            return Endpoint(url, trusted)
        named: str = self._acm.describe_certificate(CertificateArn=arn)["Certificate"]["DomainName"]
        return Endpoint(url, trusted, server_name=named.replace("*", "taskflow"))

    def record(self, state: StackState) -> str | None:
        """What somebody has to enter where the domain's zone is; None: nothing, the stack does it."""
        if not self._pointed_by_hand(state):
            return None
        name, target = state.parameters["DomainName"], state.outputs["LoadBalancerDns"]
        return f"{name} CNAME {target}"

    def self_signed_pem(self, state: StackState) -> str | None:
        """What clients have to trust; None: the stack has another certificate."""
        arn = self._own_of(state)
        return self._self_signed.pem(arn) if arn else None

    def forget_unused(self, state: StackState) -> None:
        """Delete the self-signed certificate once the stack has another one."""
        if self._own_of(state) is None and (arn := self._self_signed.delete()) is not None:
            self._reporter.say(
                f"deleted the self-signed certificate {arn}, which nothing uses any more"
            )

    @property
    def _acm(self) -> Any:
        return self._account.client("acm")

    def _own_of(self, state: StackState) -> str | None:
        there = self._self_signed.find()
        return there.arn if there and there.arn == state.parameters.get("CertificateArn") else None

    def _pointed_by_hand(self, state: StackState) -> bool:
        parameters = state.parameters
        return bool(parameters.get("DomainName")) and not parameters.get("HostedZoneId")

    def _check_arn(self, arn: str) -> None:
        parts = arn.split(":")
        if len(parts) != 6 or parts[2] != "acm" or not parts[5].startswith("certificate/"):
            raise UsageError(
                f"{arn!r} is not the ARN of a certificate in ACM.",
                "`aws acm list-certificates` lists them.",
            )
        if parts[3] != self._account.region:
            raise UsageError(
                f"The certificate is in {parts[3]}, the stack in {self._account.region}.",
                f"Request or import it in {self._account.region}: a load balancer takes those of its own region only.",
            )
        try:
            status = self._acm.describe_certificate(CertificateArn=arn)["Certificate"]["Status"]
        except ClientError as exc:
            if error_code(exc) == "ResourceNotFoundException":
                raise UsageError(
                    f"There is no certificate {arn}.", "`aws acm list-certificates` lists them."
                ) from exc
            raise
        if status != "ISSUED":
            raise DeployError(
                f"The certificate {arn} cannot be used yet: it is {status}.",
                "Validate it (ACM console), then run the same command again.",
                code="certificate_not_issued",
            )

    def _zone_of(self, domain: str, *, needed: bool) -> str:
        """Id of the public zone with the longest name that holds ``domain``; empty: there is none."""
        best: Mapping[str, Any] = {"Name": "", "Id": ""}
        for page in self._account.pages("route53", "list_hosted_zones"):
            for zone in page["HostedZones"]:
                holds = f".{domain}.".endswith(f".{zone['Name']}") and not zone["Config"].get(
                    "PrivateZone"
                )
                if holds and len(zone["Name"]) > len(best["Name"]):
                    best = zone
        if needed and not best["Id"]:
            raise DeployError(
                f"Route 53 of this account has no public zone for {domain}.",
                "Create the zone, or request a certificate for the name yourself and add --certificate-arn; the name "
                "then has to be pointed at the load balancer where its zone is.",
                code="no_hosted_zone",
            )
        return str(best["Id"]).rpartition("/")[2]

    def _stand_in(self) -> str:
        identity = self._account.identity
        unmade = "00000000-0000-0000-0000-000000000000"
        return f"arn:{identity.partition}:acm:{self._account.region}:{identity.account}:certificate/{unmade}"
