"""The metadata store: PostgreSQL on RDS, encrypted, reached by the program only, with a login that AWS rotates."""

from __future__ import annotations

import aws_cdk as aws
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_rds as rds
from constructs import Construct

from cdk.network import Network
from cdk.parameters import Parameters, chosen, reference
from cdk.permissions import document, read_secret
from cdk.profiles import DATABASE_PORT, POSTGRES_MAJOR, Profile

NAME = "taskflow"


class Database(Construct):
    """One instance, with a standby in another zone or without, behind RDS Proxy or not: the template's parameters say.

    ``url`` has address and name; user and password are in ``secret_arn`` alone, and change every seven days.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        profile: Profile,
        network: Network,
        parameters: Parameters,
    ) -> None:
        super().__init__(scope, id_)
        numbers = profile.database
        self._network, self._parameters = network, parameters
        proxy_group = self._security_group(
            "DatabaseConnectionProxySecurityGroup", "RDS Proxy", network.program_security_groups()
        )
        group = self._security_group(
            "DatabaseSecurityGroup",
            "PostgreSQL",
            [*network.program_security_groups(), proxy_group.attr_group_id],
        )
        self.instance = rds.CfnDBInstance(
            self,
            "Database",
            engine="postgres",
            engine_version=POSTGRES_MAJOR,
            auto_minor_version_upgrade=True,
            db_name=NAME,
            port=str(DATABASE_PORT),
            db_instance_class=reference(parameters.database_instance_class),
            allocated_storage=reference(parameters.database_storage),
            max_allocated_storage=parameters.database_max_storage.value_as_number,
            storage_type="gp3",
            storage_encrypted=True,
            multi_az=chosen(parameters.has_standby, True, False),
            master_username=NAME,
            manage_master_user_password=True,
            publicly_accessible=False,
            vpc_security_groups=[group.attr_group_id],
            db_subnet_group_name=self._subnet_group().ref,
            db_parameter_group_name=self._parameter_group().ref,
            backup_retention_period=numbers.backup_days,
            copy_tags_to_snapshot=True,
            delete_automated_backups=not profile.keeps_data,
            deletion_protection=numbers.is_protected,
        )
        self.instance.apply_removal_policy(
            aws.RemovalPolicy.SNAPSHOT if profile.keeps_data else aws.RemovalPolicy.DESTROY
        )
        self.secret_arn = self.instance.attr_master_user_secret_secret_arn
        proxy = self._proxy(proxy_group)
        self.host = chosen(
            parameters.has_proxy, proxy.attr_endpoint, self.instance.attr_endpoint_address
        ).to_string()
        self.url = f"postgresql://{self.host}:{DATABASE_PORT}/{NAME}"

    def _security_group(
        self, name: str, description: str, sources: list[str]
    ) -> ec2.CfnSecurityGroup:
        return ec2.CfnSecurityGroup(
            self,
            name,
            vpc_id=self._network.vpc.ref,
            group_description=description,
            security_group_ingress=[
                ec2.CfnSecurityGroup.IngressProperty(
                    ip_protocol="tcp",
                    from_port=DATABASE_PORT,
                    to_port=DATABASE_PORT,
                    source_security_group_id=source,
                    description="PostgreSQL",
                )
                for source in sources
            ],
        )

    def _subnet_group(self) -> rds.CfnDBSubnetGroup:
        return rds.CfnDBSubnetGroup(
            self,
            "DatabaseSubnetGroup",
            db_subnet_group_description="Private subnets",
            subnet_ids=self._network.subnet_ids(),
        )

    def _parameter_group(self) -> rds.CfnDBParameterGroup:
        return rds.CfnDBParameterGroup(
            self,
            "DatabaseParameterGroup",
            family=f"postgres{POSTGRES_MAJOR}",
            description="TLS only; clients that hang do not keep their locks",
            parameters={
                "rds.force_ssl": "1",
                "idle_in_transaction_session_timeout": "60000",
                "log_min_duration_statement": "1000",
            },
        )

    def _proxy(self, group: ec2.CfnSecurityGroup) -> rds.CfnDBProxy:
        role = iam.CfnRole(
            self,
            "DatabaseConnectionProxyRole",
            assume_role_policy_document=document(
                iam.PolicyStatement(
                    actions=["sts:AssumeRole"],
                    principals=[iam.ServicePrincipal("rds.amazonaws.com")],
                )
            ),
            policies=[
                iam.CfnRole.PolicyProperty(
                    policy_name="DatabaseProxy",
                    policy_document=document(read_secret(self.secret_arn)),
                )
            ],
        )
        proxy = rds.CfnDBProxy(
            self,
            "DatabaseConnectionProxy",
            db_proxy_name=f"{aws.Aws.STACK_NAME}-database",
            engine_family="POSTGRESQL",
            require_tls=True,
            role_arn=role.attr_arn,
            auth=[
                rds.CfnDBProxy.AuthFormatProperty(
                    auth_scheme="SECRETS", iam_auth="DISABLED", secret_arn=self.secret_arn
                )
            ],
            vpc_subnet_ids=self._network.subnet_ids(),
            vpc_security_group_ids=[group.attr_group_id],
        )
        targets = rds.CfnDBProxyTargetGroup(
            self,
            "DatabaseConnectionProxyTargets",
            db_proxy_name=proxy.ref,
            target_group_name="default",
            db_instance_identifiers=[self.instance.ref],
            connection_pool_configuration_info=(
                rds.CfnDBProxyTargetGroup.ConnectionPoolConfigurationInfoFormatProperty(
                    max_connections_percent=90
                )
            ),
        )
        for resource in (role, proxy, targets):
            resource.cfn_options.condition = self._parameters.has_proxy
        return proxy
