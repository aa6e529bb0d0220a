"""moto's CloudFormation, as far as the templates in cloudformation/ need more of it than moto has.

`python -m tests.support.moto_cloudformation -H 127.0.0.1 -p PORT` is moto's server with that:

- types that moto does not know exist, with names and attributes, and do nothing
- a stack made through a change set has outputs; termination protection is there and protects
- templates are found at addresses with 127.0.0.1, and read quickly
- a database with a password that RDS manages has its secret, which can be read
"""

from __future__ import annotations

import copy
import functools
import ipaddress
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import moto.acm.models as acm
import moto.cloudformation.models as cloudformation
import moto.rds.models as rds
import yaml
from moto.cloudformation import parsing, responses
from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.parsing import clean_json
from moto.cloudformation.utils import get_stack_from_s3_url
from moto.core.common_models import CloudFormationModel
from moto.ec2.models import ec2_backends, vpcs
from moto.secretsmanager.models import secretsmanager_backends

TEMPLATES = Path(__file__).parents[2] / "cloudformation"
_IPV6_BLOCK = "2600:1f18:1234:5600::/56"
_STUBS: list[type] = []  # moto finds its models as subclasses that somebody refers to


def prepare() -> None:
    known = set(parsing.get_model_map())
    _STUBS.extend(_stub(type_) for type_ in sorted(_wanted() - known))
    for function in (parsing.get_model_list, parsing.get_model_map, parsing.get_name_type_map):
        function.cache_clear()
    cloudformation.ChangeSet.apply = _apply
    cloudformation.Stack.parse_template = staticmethod(_parsed)
    cloudformation.ChangeSet._parse_template = _parse_own_template
    responses.get_stack_from_s3_url = _template_at
    parsing.clean_json = _clean_json
    parsing.ResourceMap.build_resource_diff = _resource_diff
    cloudformation.ChangeSet.diff = _changes
    cloudformation.Stack.has_parameters = _has_parameters
    _keep_what_cannot_be_updated()
    _leave_networks_behind()
    _keep_reviewed_stacks_apart()
    _give_networks_ipv6()
    _keep_tags_of_certificates()
    responses.CloudFormationResponse.update_termination_protection = _protect
    _guard_deletion()
    _give_databases_secrets()


def _wanted() -> set[str]:
    types: set[str] = set()
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for path in TEMPLATES.glob("*.yaml"):
        template = yaml.load(path.read_text(), Loader=loader)
        types |= {resource["Type"] for resource in template["Resources"].values()}
    return types


def _egress_only_gateway(properties: Any, account_id: str, region: str) -> str:
    gateway = ec2_backends[account_id][region].create_egress_only_internet_gateway(
        properties["VpcId"]
    )
    identifier: str = gateway.id
    return identifier


# Resources whose names other parts of moto look up.
_MADE: dict[str, Callable[[Any, str, str], str]] = {
    "AWS::EC2::EgressOnlyInternetGateway": _egress_only_gateway,
}


def _stub(type_: str) -> type:
    arn = f"arn:aws:stub:us-east-1:123456789012:{type_.replace('::', '/').lower()}"
    made = _MADE.get(type_)

    def init(self: Any, name: str, properties: Any, identifier: str) -> None:
        self.name, self.properties, self.identifier = name, properties, identifier

    def create(cls: Any, name: str, definition: Any, account: str, region: str, **_: Any) -> Any:
        properties = definition.get("Properties", {})
        return cls(name, properties, made(properties, account, region) if made else f"{arn}/{name}")

    def update(cls: Any, original_resource: Any, cloudformation_json: Any, **_: Any) -> Any:
        original_resource.properties = cloudformation_json.get("Properties", {})
        return original_resource

    members: dict[str, Any] = {
        "__module__": "moto.cloudformation.stubs",  # moto wants a dot in it
        "__init__": init,
        "cloudformation_name_type": staticmethod(lambda: None),
        "cloudformation_type": staticmethod(lambda: type_),
        "has_cfn_attr": classmethod(lambda cls, attribute: True),
        "physical_resource_id": property(lambda self: self.identifier),
        "get_cfn_attribute": lambda self, attribute: f"{arn}/{self.name}/{attribute}",
        "create_from_cloudformation_json": classmethod(create),
        "update_from_cloudformation_json": classmethod(update),
        "delete_from_cloudformation_json": classmethod(lambda cls, *args, **kwargs: None),
        "delete": lambda self, *args: None,
        "is_created": lambda self: True,
    }
    return type(type_.replace("::", ""), (CloudFormationModel,), members)


def _apply(self: Any) -> None:
    stack = self.stack
    stack.resource_map.update(self.template_dict, self.parameters)
    stack.template, stack.template_dict = self.template, self.template_dict
    if self.parameters:
        stack.parameters = self.parameters
    if self.tags:
        stack.tags = self.tags
    stack.output_map = cloudformation.OutputMap(
        stack.resource_map, self.template_dict, stack.stack_id
    )


def _parsed(template: str) -> dict[str, Any]:
    """moto's own loader takes seconds for templates of this size."""
    return copy.deepcopy(_loaded(template))


def _parse_own_template(self: Any) -> None:
    self.template_dict = _parsed(self.template)


@functools.lru_cache(maxsize=32)
def _loaded(template: str) -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.load(
        template, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    )
    return parsed


def _template_at(template_url: str, account_id: str, partition: str) -> str:
    """moto takes the first part of an address for the bucket, unless the host is called localhost."""
    return get_stack_from_s3_url(
        template_url.replace("127.0.0.1", "localhost"), account_id, partition
    )


def _clean_json(value: Any, resources_map: Any) -> Any:
    """With Fn::Cidr, and with a name for attributes of resources that have none in moto."""
    if isinstance(value, dict) and "Fn::GetAtt" in value:
        logical_id, attribute = value["Fn::GetAtt"]
        if not hasattr(resources_map[logical_id], "get_cfn_attribute"):
            return f"{logical_id}.{attribute}"
    if not (isinstance(value, dict) and "Fn::Cidr" in value):
        return clean_json(value, resources_map)
    block, count, bits = (_clean_json(part, resources_map) for part in value["Fn::Cidr"])
    network = ipaddress.ip_network(block)
    return [
        str(subnet)
        for subnet in itertools.islice(
            network.subnets(new_prefix=network.max_prefixlen - int(bits)), int(count)
        )
    ]


def _give_networks_ipv6() -> None:
    get: Callable[..., Any] = vpcs.VPC.get_cfn_attribute
    has: Callable[..., bool] = vpcs.VPC.has_cfn_attr
    name = "Ipv6CidrBlocks"
    vpcs.VPC.has_cfn_attr = classmethod(lambda cls, attribute: attribute == name or has(attribute))
    vpcs.VPC.get_cfn_attribute = lambda self, attribute: (
        [_IPV6_BLOCK] if attribute == name else get(self, attribute)
    )


def _resource_diff(
    self: Any, other_template: dict[str, Any], parameters: dict[str, Any] | None = None
) -> dict[str, list[str]]:
    """moto does not see that a condition has become another one, and takes parameters for changed that are not."""
    old, new = self._resource_json_map, other_template["Resources"]
    there = self.resolved_parameters
    changed = {
        name for name, value in (parameters or {}).items() if str(there.get(name)) != str(value)
    }
    conditions = other_template.get("Conditions", {})
    for _ in conditions:  # conditions may be about conditions
        changed |= {name for name, value in conditions.items() if _mentions(value, changed)}
    return {
        "Add": [name for name in new if name not in old],
        "Modify": [
            name
            for name in new
            if name in old and (new[name] != old[name] or _mentions(new[name], changed))
        ],
        "Remove": [name for name in old if name not in new],
    }


def _mentions(value: Any, names: set[str]) -> bool:
    if isinstance(value, list):
        return any(_mentions(part, names) for part in value)
    if not isinstance(value, dict):
        return False
    named = {
        str(value.get("Ref")),
        str(value.get("Condition")),
        str((value.get("Fn::If") or [""])[0]),
    }
    return bool(named & names) or any(_mentions(part, names) for part in value.values())


def _changes(self: Any) -> list[Any]:
    """What a change set shows; of a new stack everything."""
    is_new = self.stack.status == "REVIEW_IN_PROGRESS"
    there = {"Resources": {}} if is_new else self.stack.template_dict
    actions = (
        {"Add": list(self.template_dict["Resources"])}
        if is_new
        else self.stack.resource_map.build_resource_diff(self.template_dict, self.parameters)
    )
    return [
        cloudformation.Change(
            action,
            name,
            (self.template_dict if action != "Remove" else there)["Resources"][name]["Type"],
        )
        for action, names in actions.items()
        for name in names
    ]


def _has_parameters(self: Any, parameters: dict[str, Any]) -> bool:
    """Those that were left to their defaults count, too."""
    there = self.resource_map.resolved_parameters
    return all(str(there.get(name)) == str(value) for name, value in parameters.items())


def _keep_what_cannot_be_updated() -> None:
    update: Callable[..., Any] = parsing.parse_and_update_resource

    def parse_and_update(
        logical_id: str, definition: Any, resources: Any, *args: Any, **kwargs: Any
    ) -> Any:
        there = resources[logical_id]
        return update(logical_id, definition, resources, *args, **kwargs) or there

    parsing.parse_and_update_resource = parse_and_update


def _keep_tags_of_certificates() -> None:
    """A certificate that is imported again under its ARN keeps its tags."""
    add: Callable[..., str] = acm.AWSCertificateManagerBackend.import_certificate

    def import_certificate(
        self: Any, certificate: Any, private_key: Any, chain: Any, arn: Any, tags: Any
    ) -> str:
        before = self._certificates.get(arn)
        imported = add(self, certificate, private_key, chain, arn, tags)
        if before is not None:
            self._certificates[imported].tags = before.tags
        return imported

    acm.AWSCertificateManagerBackend.import_certificate = import_certificate


def _leave_networks_behind() -> None:
    """moto deletes in no order, so that parts of a network keep others from being deleted."""
    delete: Callable[..., Any] = parsing.ResourceMap._delete_resource

    def delete_resource(self: Any, resource: Any, definition: dict[str, Any]) -> None:
        try:
            delete(self, resource, definition)
        except Exception:
            if not definition["Type"].startswith("AWS::EC2::"):
                raise

    parsing.ResourceMap._delete_resource = delete_resource


def _keep_reviewed_stacks_apart() -> None:
    """A second change set for a stack that only has one belongs to that stack: moto would make another of its name."""
    make: Callable[..., Any] = cloudformation.CloudFormationBackend.create_change_set

    def create_change_set(self: Any, stack_name: str, *args: Any, **kwargs: Any) -> Any:
        for stack_id, stack in list(self.stacks.items()):
            if stack.name == stack_name and stack.status == "REVIEW_IN_PROGRESS":
                del self.stacks[stack_id]
        return make(self, stack_name, *args, **kwargs)

    cloudformation.CloudFormationBackend.create_change_set = create_change_set


def _protect(self: Any) -> str:
    name = self._get_param("StackName")
    stack = self.cloudformation_backend.get_stack(name)
    wanted = self._get_param("EnableTerminationProtection")
    stack.enable_termination_protection = wanted in (True, "true")
    return (
        "<UpdateTerminationProtectionResponse><UpdateTerminationProtectionResult>"
        f"<StackId>{stack.stack_id}</StackId>"
        "</UpdateTerminationProtectionResult></UpdateTerminationProtectionResponse>"
    )


def _guard_deletion() -> None:
    delete: Callable[..., Any] = cloudformation.CloudFormationBackend.delete_stack

    def guarded(self: Any, name_or_stack_id: str) -> None:
        for stack in self.stacks.values():
            if (
                name_or_stack_id in {stack.name, stack.stack_id}
                and stack.enable_termination_protection
            ):
                raise ValidationError(
                    stack.name,
                    f"Stack [{stack.name}] cannot be deleted while TerminationProtection is enabled",
                )
        delete(self, name_or_stack_id)

    cloudformation.CloudFormationBackend.delete_stack = guarded


def _give_databases_secrets() -> None:
    rds.DBParameterGroup.physical_resource_id = property(lambda self: self.name)
    has: Callable[..., bool] = rds.DBInstance.has_cfn_attr
    get: Callable[..., Any] = rds.DBInstance.get_cfn_attribute

    def get_attribute(self: Any, name: str) -> Any:
        if name != "MasterUserSecret.SecretArn":
            return get(self, name)
        if not hasattr(self, "taskflow_secret"):
            secrets = secretsmanager_backends[self.account_id][self.region]
            made = secrets.create_secret(
                f"rds!{self.db_instance_identifier}",
                json.dumps({"username": "taskflow", "password": "secret"}),
                *(None, None, [], None, None, [], False),
            )
            self.taskflow_secret = json.loads(made)["ARN"]
        return self.taskflow_secret

    rds.DBInstance.has_cfn_attr = classmethod(
        lambda cls, name: name == "MasterUserSecret.SecretArn" or has(name)
    )
    rds.DBInstance.get_cfn_attribute = get_attribute


if __name__ == "__main__":
    import sys

    from moto.server import main

    prepare()
    main(sys.argv[1:])
