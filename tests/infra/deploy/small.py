"""The template of profile standard, reduced to what MiniStack knows, with the outputs that deploy.py reads."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from typing import Any

from tests.infra.end_to_end.reduced import reduced

FILE = "taskflow-infrastructure.yaml"
ADDRESS = "lb.taskflow.test"


@functools.cache
def _reduced() -> dict[str, Any]:
    template = reduced(FILE, settings={}, queue_properties={}, max_receives=100)
    resources = template["Resources"]
    for name, resource in list(resources.items()):
        if resource["Type"] == "AWS::Lambda::EventSourceMapping":
            del resources[name]  # nobody is to poll while deploy.py is tested
    # What Serving decides in the whole template is not in this one.
    worker = resources["WorkerFunction"]["Properties"]["Environment"]["Variables"]
    worker["SERVING"] = {"Ref": "Serving"}
    resources["PayloadBucket"]["DeletionPolicy"] = "Delete"
    template["Outputs"] = {
        "ApiUrl": {"Value": f"https://{ADDRESS}"},
        "LoadBalancerDns": {"Value": ADDRESS},
        "QueuePrefix": {"Value": {"Ref": "AWS::StackName"}},
        "PayloadBucket": {"Value": {"Ref": "PayloadBucket"}},
        "MigrateFunction": {"Value": {"Ref": "MigrateFunction"}},
        "WorkerFunction": {"Value": {"Ref": "WorkerFunction"}},
        "Region": {"Value": {"Ref": "AWS::Region"}},
        "Profile": {"Value": "standard"},
    }
    return template


def template(function_settings: Mapping[str, str]) -> dict[str, Any]:
    """A copy of one's own; ``function_settings`` are variables of every function."""
    made = copy.deepcopy(_reduced())
    for resource in made["Resources"].values():
        if resource["Type"] == "AWS::Lambda::Function":
            resource["Properties"]["Environment"]["Variables"] |= function_settings
    return made
