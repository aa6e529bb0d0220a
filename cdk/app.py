"""The app: a stack for each profile."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aws_cdk as aws

from cdk.profiles import PROFILES
from cdk.stack import TaskFlowStack

# cfn-lint looks at the templates (tests/infra/cdk), and is not as easily led to think a condition unmet.
_CONTEXT = {"@aws-cdk/core:validateAgainstDefaultRules": False}


def make_app(directory: Path) -> aws.App:
    """What it synthesises goes to ``directory``. No account, no region: a template fits all of them."""
    app = aws.App(outdir=str(directory), analytics_reporting=False, context=_CONTEXT)
    for profile in PROFILES.values():
        TaskFlowStack(app, profile)
    return app


def synthesise(directory: Path) -> dict[str, Mapping[str, Any]]:
    """Each profile's template. Takes seconds: call it once."""
    assembly = make_app(directory).synth()
    return {name: assembly.get_stack_by_name(name).template for name in PROFILES}
