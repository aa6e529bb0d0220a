"""No logical id and no permission changes without a reviewer seeing it."""

from __future__ import annotations

import pytest

from cdk.profiles import PROFILES
from tests.infra.cdk.pinned import DIRECTORY, files
from tests.infra.cdk.reading import listed, readable, statements

_AGAIN = "if that is meant: python -m tests.infra.cdk.pinned"

# Statement → why AWS has no narrower resource.
_EVERYTHING = {
    "LambdaAttachesToVpc": "the interfaces do not exist yet, and Describe… knows no resources",
    "LogInToRegistry": "ecr:GetAuthorizationToken knows no resources",
}
# Ends of resources that are several → why.
_SEVERAL = {
    "${PayloadBucket.Arn}/*": "objects are named after tenants and tasks",
    ":task/${Cluster}/*": "containers are named when they start",
    "repository/": "a repository's name may have more parts than can be read from the address",
    ":targetgroup/*": "the load balancer's group is named when it is made",
}


@pytest.mark.parametrize("kind", ["logical-ids", "statements"])
@pytest.mark.parametrize("profile", PROFILES)
def test_the_list_is_that_of_the_template(profile: str, kind: str) -> None:
    name = f"{profile}-{kind}.txt"
    pinned = (DIRECTORY / name).read_text("utf-8").splitlines()
    now = files()[name].splitlines()

    gone = sorted(set(pinned) - set(now))
    new = sorted(set(now) - set(pinned))
    assert (gone, new) == ([], []), _AGAIN
    assert pinned == now, _AGAIN


@pytest.mark.parametrize("profile", PROFILES)
def test_what_is_allowed_names_its_actions_and_its_resources(profile: str) -> None:
    for id_, statement in statements(profile):
        if statement["Effect"] == "Deny":
            continue
        where = f"{id_} {statement.get('Sid')}"
        assert "NotAction" not in statement, where
        assert "NotResource" not in statement, where
        assert not [action for action in listed(statement["Action"]) if "*" in action], where
        for resource in map(readable, listed(statement.get("Resource", []))):
            if resource == "*":
                assert statement.get("Sid") in _EVERYTHING, where
            elif "*" in resource:
                assert any(end in resource for end in _SEVERAL), f"{where}: {resource}"


@pytest.mark.parametrize("profile", PROFILES)
def test_nobody_but_aws_services_is_trusted(profile: str) -> None:
    for id_, statement in statements(profile):
        if statement["Effect"] == "Allow" and "Principal" in statement:
            assert statement["Principal"].keys() == {"Service"}, id_


@pytest.mark.parametrize("profile", PROFILES)
def test_each_process_kind_has_a_role_of_its_own(profile: str) -> None:
    roles = {id_ for id_, statement in statements(profile) if id_.endswith("Role")}
    kinds = {"ApiRole", "WorkerRole", "MaintenanceRole", "DeadLettersRole", "MigrateRole"}
    if profile != "serverless":
        kinds |= {"LongWorkerRole"}
    assert kinds <= roles


@pytest.mark.parametrize("profile", PROFILES)
def test_the_code_of_a_function_may_not_do_what_lambda_does_in_its_name(profile: str) -> None:
    by_role: dict[str, dict[str, list[str]]] = {}
    for id_, statement in statements(profile):
        by_role.setdefault(id_, {})[str(statement.get("Sid"))] = listed(statement["Action"])
    attached = [sids for sids in by_role.values() if "LambdaAttachesToVpc" in sids]
    assert attached
    for sids in attached:
        assert set(sids["FunctionCodeDoesNot"]) == set(sids["LambdaAttachesToVpc"])
