"""Where everything runs: a VPC, two subnets per kind, and the ways out of it."""

from __future__ import annotations

import aws_cdk as aws
from aws_cdk import aws_ec2 as ec2
from constructs import Construct

from cdk import profiles
from cdk.parameters import Parameters, chosen

_CIDR = "10.0.0.0/16"
_SUBNET_BITS = 12  # 4,094 addresses each
_IPV6_SUBNET_BITS = 64
_ANYWHERE_IPV6 = "::/0"


class Network(Construct):
    """Public subnets hold the load balancer (and NAT gateways), private ones all else.

    What runs in private subnets reaches S3 through a gateway endpoint, other services of AWS through interface
    endpoints, a NAT gateway, or over IPv6; addresses in the internet over IPv6, and with a NAT gateway over IPv4.
    """

    def __init__(
        self, scope: Construct, id_: str, numbers: profiles.Network, parameters: Parameters
    ) -> None:
        super().__init__(scope, id_)
        self._parameters = parameters
        self._zones = range(numbers.availability_zones)
        self.vpc = ec2.CfnVPC(
            self,
            "Vpc",
            cidr_block=_CIDR,
            enable_dns_hostnames=True,
            enable_dns_support=True,
            tags=_name(""),
        )
        self._ipv6 = ec2.CfnVPCCidrBlock(
            self, "VpcIpv6Block", vpc_id=self.vpc.ref, amazon_provided_ipv6_cidr_block=True
        )
        self.public_subnets = self._public()
        self.private_subnets = self._private()
        self.api_security_group = self._security_group("ApiSecurityGroup", "API instances")
        self.program_security_group = self._security_group(
            "ProgramSecurityGroup", "Functions and long workers: nothing comes in"
        )
        self._endpoints(numbers)

    def subnet_ids(self) -> list[str]:
        """Of the private subnets."""
        return [subnet.ref for subnet in self.private_subnets]

    def program_security_groups(self) -> list[str]:
        """Of whoever talks to the database and to AWS."""
        return [
            self.api_security_group.attr_group_id,
            self.program_security_group.attr_group_id,
        ]

    def _public(self) -> list[ec2.CfnSubnet]:
        gateway = ec2.CfnInternetGateway(self, "InternetGateway", tags=_name(""))
        attachment = ec2.CfnVPCGatewayAttachment(
            self,
            "InternetGatewayAttachment",
            vpc_id=self.vpc.ref,
            internet_gateway_id=gateway.ref,
        )
        table = ec2.CfnRouteTable(
            self, "PublicRouteTable", vpc_id=self.vpc.ref, tags=_name("-public")
        )
        route = ec2.CfnRoute(
            self,
            "PublicRoute",
            route_table_id=table.ref,
            destination_cidr_block=profiles.ANYWHERE,
            gateway_id=gateway.ref,
        )
        route.add_resource_dependency(attachment)
        self.internet = route
        return [self._subnet("Public", zone, table) for zone in self._zones]

    def _private(self) -> list[ec2.CfnSubnet]:
        egress_only = ec2.CfnEgressOnlyInternetGateway(
            self, "EgressOnlyInternetGateway", vpc_id=self.vpc.ref
        )
        subnets = []
        self._private_tables = []
        for zone in self._zones:
            table = ec2.CfnRouteTable(
                self,
                f"PrivateRouteTable{zone + 1}",
                vpc_id=self.vpc.ref,
                tags=_name(f"-private-{zone + 1}"),
            )
            ec2.CfnRoute(
                self,
                f"PrivateIpv6Route{zone + 1}",
                route_table_id=table.ref,
                destination_ipv6_cidr_block=_ANYWHERE_IPV6,
                egress_only_internet_gateway_id=egress_only.ref,
            )
            self._private_tables.append(table)
            subnets.append(self._subnet("Private", zone, table))
        self._nat_gateways()
        return subnets

    def _nat_gateways(self) -> None:
        """None, one that all zones use, or one per zone."""
        first: ec2.CfnNatGateway | None = None
        for zone, (subnet, table) in enumerate(
            zip(self.public_subnets, self._private_tables, strict=True)
        ):
            condition = self._parameters.has_nat if first is None else self._parameters.has_two_nats
            address = ec2.CfnEIP(
                self, f"NatAddress{zone + 1}", domain="vpc", tags=_name(f"-nat-{zone + 1}")
            )
            gateway = ec2.CfnNatGateway(
                self,
                f"NatGateway{zone + 1}",
                subnet_id=subnet.ref,
                allocation_id=address.attr_allocation_id,
                tags=_name(f"-nat-{zone + 1}"),
            )
            gateway.add_resource_dependency(self.internet)
            nearest = (
                gateway.ref
                if first is None
                else chosen(condition, gateway.ref, first.ref).to_string()
            )
            first = first or gateway
            route = ec2.CfnRoute(
                self,
                f"PrivateRoute{zone + 1}",
                route_table_id=table.ref,
                destination_cidr_block=profiles.ANYWHERE,
                nat_gateway_id=nearest,
            )
            address.cfn_options.condition = gateway.cfn_options.condition = condition
            route.cfn_options.condition = self._parameters.has_nat

    def _subnet(self, kind: str, zone: int, table: ec2.CfnRouteTable) -> ec2.CfnSubnet:
        place = zone + (0 if kind == "Public" else len(self._zones))
        blocks = 2 * len(self._zones)
        subnet = ec2.CfnSubnet(
            self,
            f"{kind}Subnet{zone + 1}",
            vpc_id=self.vpc.ref,
            availability_zone=aws.Fn.select(zone, aws.Fn.get_azs("")),
            cidr_block=aws.Fn.select(
                place, aws.Fn.cidr(self.vpc.attr_cidr_block, blocks, str(_SUBNET_BITS))
            ),
            ipv6_cidr_block=aws.Fn.select(
                place,
                aws.Fn.cidr(
                    aws.Fn.select(0, self.vpc.attr_ipv6_cidr_blocks), blocks, str(_IPV6_SUBNET_BITS)
                ),
            ),
            tags=_name(f"-{kind.lower()}-{zone + 1}"),
        )
        subnet.add_resource_dependency(self._ipv6)
        ec2.CfnSubnetRouteTableAssociation(
            self,
            f"{kind}Subnet{zone + 1}RouteTable",
            subnet_id=subnet.ref,
            route_table_id=table.ref,
        )
        return subnet

    def _security_group(self, name: str, description: str) -> ec2.CfnSecurityGroup:
        return ec2.CfnSecurityGroup(
            self,
            name,
            vpc_id=self.vpc.ref,
            group_description=description,
            security_group_egress=[
                _rule("-1", "what tasks call is theirs to say", cidr_ip=profiles.ANYWHERE),
                _rule("-1", "the same over IPv6", cidr_ipv6=_ANYWHERE_IPV6),
            ],
        )

    def _endpoints(self, numbers: profiles.Network) -> None:
        ec2.CfnVPCEndpoint(
            self,
            "S3Endpoint",
            vpc_id=self.vpc.ref,
            service_name=_service("s3"),
            vpc_endpoint_type="Gateway",
            route_table_ids=[table.ref for table in self._private_tables],
        )
        if not numbers.interface_endpoints:
            return
        group = ec2.CfnSecurityGroup(
            self,
            "EndpointSecurityGroup",
            vpc_id=self.vpc.ref,
            group_description="Interface endpoints of AWS services",
            security_group_ingress=[
                ec2.CfnSecurityGroup.IngressProperty(
                    ip_protocol="tcp",
                    from_port=443,
                    to_port=443,
                    source_security_group_id=program,
                    description="HTTPS from the program",
                )
                for program in self.program_security_groups()
            ],
        )
        for service in numbers.interface_endpoints:
            ec2.CfnVPCEndpoint(
                self,
                f"{service.title().replace('.', '')}Endpoint",
                vpc_id=self.vpc.ref,
                service_name=_service(service),
                vpc_endpoint_type="Interface",
                private_dns_enabled=True,
                subnet_ids=self.subnet_ids(),
                security_group_ids=[group.attr_group_id],
            )


def _service(name: str) -> str:
    return f"com.amazonaws.{aws.Aws.REGION}.{name}"


def _name(suffix: str) -> list[aws.CfnTag]:
    return [aws.CfnTag(key="Name", value=f"{aws.Aws.STACK_NAME}{suffix}")]


def _rule(
    protocol: str, description: str, *, cidr_ip: str | None = None, cidr_ipv6: str | None = None
) -> ec2.CfnSecurityGroup.EgressProperty:
    return ec2.CfnSecurityGroup.EgressProperty(
        ip_protocol=protocol, description=description, cidr_ip=cidr_ip, cidr_ipv6=cidr_ipv6
    )
