"""Where requests come in: the load balancer, its certificate and its name."""

from __future__ import annotations

from collections.abc import Sequence

import aws_cdk as aws
from aws_cdk import aws_certificatemanager as acm
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_elasticloadbalancingv2 as elb
from aws_cdk import aws_route53 as route53
from constructs import Construct

from cdk.network import Network
from cdk.parameters import Parameters, chosen, reference

# TLS 1.3 and 1.2 with key exchange that survives quantum computers. CloudFormation's own default is of 2016.
TLS_POLICY = "ELBSecurityPolicy-TLS13-1-2-Res-PQ-2025-09"
_IDLE_SECONDS = 60


class Edge(Construct):
    """HTTPS to whatever `serve` is given; HTTP is sent there."""

    def __init__(
        self, scope: Construct, id_: str, network: Network, parameters: Parameters
    ) -> None:
        super().__init__(scope, id_)
        self._parameters = parameters
        self.security_group = ec2.CfnSecurityGroup(
            self,
            "LoadBalancerSecurityGroup",
            vpc_id=network.vpc.ref,
            group_description="Load balancer: HTTP and HTTPS",
            security_group_ingress=[
                ec2.CfnSecurityGroup.IngressProperty(
                    ip_protocol="tcp",
                    from_port=port,
                    to_port=port,
                    cidr_ip=reference(parameters.allowed_cidr),
                    description=description,
                )
                for port, description in ((80, "is sent to HTTPS"), (443, "HTTPS"))
            ],
        )
        self.load_balancer = elb.CfnLoadBalancer(
            self,
            "LoadBalancer",
            type="application",
            scheme="internet-facing",
            subnets=[subnet.ref for subnet in network.public_subnets],
            security_groups=[self.security_group.attr_group_id],
            load_balancer_attributes=[
                elb.CfnLoadBalancer.LoadBalancerAttributeProperty(key=key, value=value)
                for key, value in (
                    ("idle_timeout.timeout_seconds", str(_IDLE_SECONDS)),
                    ("routing.http.drop_invalid_header_fields.enabled", "true"),
                    ("routing.http.desync_mitigation_mode", "strictest"),
                    ("routing.http2.enabled", "true"),
                )
            ],
        )
        self.load_balancer.add_resource_dependency(network.internet)
        elb.CfnListener(
            self,
            "HttpListener",
            load_balancer_arn=self.load_balancer.ref,
            port=80,
            protocol="HTTP",
            default_actions=[
                elb.CfnListener.ActionProperty(
                    type="redirect",
                    redirect_config=elb.CfnListener.RedirectConfigProperty(
                        protocol="HTTPS", port="443", status_code="HTTP_301"
                    ),
                )
            ],
        )
        self._certificate_arn = self._certificate()
        self._record()
        dns = self.load_balancer.attr_dns_name
        host = chosen(parameters.has_domain, reference(parameters.domain_name), dns).to_string()
        self.url = f"https://{host}"

    def serve(
        self, actions: Sequence[elb.CfnListener.ActionProperty] | aws.IResolvable
    ) -> elb.CfnListener:
        return elb.CfnListener(
            self,
            "HttpsListener",
            load_balancer_arn=self.load_balancer.ref,
            port=443,
            protocol="HTTPS",
            ssl_policy=TLS_POLICY,
            certificates=[
                elb.CfnListener.CertificateProperty(certificate_arn=self._certificate_arn)
            ],
            default_actions=actions,
        )

    def _certificate(self) -> str:
        parameters = self._parameters
        name = reference(parameters.domain_name)
        certificate = acm.CfnCertificate(
            self,
            "Certificate",
            domain_name=name,
            validation_method="DNS",
            domain_validation_options=[
                acm.CfnCertificate.DomainValidationOptionProperty(
                    domain_name=name, hosted_zone_id=reference(parameters.hosted_zone_id)
                )
            ],
        )
        certificate.cfn_options.condition = parameters.makes_certificate
        return chosen(
            parameters.makes_certificate, certificate.ref, reference(parameters.certificate_arn)
        ).to_string()

    def _record(self) -> None:
        record = route53.CfnRecordSet(
            self,
            "DomainRecord",
            type="A",
            name=reference(self._parameters.domain_name),
            hosted_zone_id=reference(self._parameters.hosted_zone_id),
            alias_target=route53.CfnRecordSet.AliasTargetProperty(
                dns_name=self.load_balancer.attr_dns_name,
                hosted_zone_id=self.load_balancer.attr_canonical_hosted_zone_id,
            ),
        )
        record.cfn_options.condition = self._parameters.makes_record
