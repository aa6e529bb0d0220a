"""The app: a stack for each profile."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aws_cdk as aws

from cdk.profiles import PROFILES
from cdk.stack import TaskFlowStack


def make_app(directory: Path) -> aws.App:
    """What it synthesises goes to ``directory``. No account, no region: a template fits all of them."""
    app = aws.App(
        outdir=str(directory),
        analytics_reporting=False,
        builtin_cloud_formation_validation=False,  # cfn-lint does that, in the tests
    )
    for profile in PROFILES.values():
        TaskFlowStack(app, profile)
    return app


def synthesise(directory: Path) -> dict[str, Mapping[str, Any]]:
    """Each profile's template. Takes seconds: call it once."""
    assembly = make_app(directory).synth()
    return {name: assembly.get_stack_by_name(name).template for name in PROFILES}
