"""The pictures of the deployments show what the templates make, and nothing else."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from cdk.profiles import PROFILES
from docs.architecture import Picture
from docs.generate import ROOT

DRAWN = {
    "AWS::ElasticLoadBalancingV2::LoadBalancer", "AWS::ECS::Service", "AWS::Lambda::Function", "AWS::RDS::DBInstance",
    "AWS::S3::Bucket", "AWS::Scheduler::Schedule", "AWS::SNS::Topic",
}  # fmt: skip


def template(name: str) -> dict[str, Any]:
    text = (ROOT / "cloudformation" / PROFILES[name].template).read_text()
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


@pytest.mark.parametrize("profile", list(PROFILES))
def test_every_part_and_every_queue_is_in_its_picture(profile: str) -> None:
    resources = template(profile)["Resources"]
    picture = Picture(template(profile))
    parts = {id_ for id_, resource in resources.items() if resource["Type"] in DRAWN}
    assert parts <= picture.boxes.keys()
    drawn = [name for label in picture.boxes.values() for name in label.split("<br/>")]
    names = {
        resource["Properties"]["QueueName"]["Fn::Join"][1][-1].removeprefix("-")
        for resource in resources.values()
        if resource["Type"] == "AWS::SQS::Queue"
    }
    assert names <= set(drawn)
    assert all(drawn.count(name) == 1 for name in names)


def test_an_arrow_is_there_as_long_as_the_template_says_so() -> None:
    whole = template("standard")
    assert any(arrow[:2] == ("CriticalQueue", "WorkerFunction") for arrow in Picture(whole).arrows)
    for statement in whole["Resources"]["WorkerRole"]["Properties"]["Policies"][0][
        "PolicyDocument"
    ]["Statement"]:
        statement["Effect"] = "Deny"
    arrows = Picture(whole).arrows
    assert not [arrow for arrow in arrows if arrow.source == "WorkerFunction"]


@pytest.mark.parametrize("profile", list(PROFILES))
def test_whoever_comes_from_outside_comes_by_https(profile: str) -> None:
    arrows = [arrow for arrow in Picture(template(profile)).arrows if arrow.source == "clients"]
    assert {arrow.target for arrow in arrows} == {"LoadBalancer"}
    assert {arrow.label for arrow in arrows} == {"HTTPS 443", "HTTP 80 to HTTPS"}


@pytest.mark.parametrize("profile", list(PROFILES))
def test_mermaid_knows_every_box_that_an_arrow_names(profile: str) -> None:
    lines = Picture(template(profile)).mermaid().splitlines()
    boxes = {line.split("[")[0].split("(")[0].strip() for line in lines[2:-1] if "--" not in line}
    for line in lines[2:-1]:
        if found := re.match(r" +(\w+) (?:<-->|-->|-- .+ -->) (\w+)$", line):
            assert set(found.groups()) <= boxes
        else:
            assert re.match(r" +\w+\W", line), line
