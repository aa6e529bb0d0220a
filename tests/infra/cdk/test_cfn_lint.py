"""cfn-lint has nothing to say against the templates."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cdk.profiles import PROFILES
from cdk.templates import DIRECTORY

# "17" is the newest minor version of 17, so that an automatic upgrade is no change; the list knows minor ones only.
_MAJOR_VERSION_OF_POSTGRESQL = "W3691"


@pytest.mark.slow
def test_the_templates_are_clean() -> None:
    """All in one run: most of its time goes into reading what AWS has."""
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "cfn-lint"),
            "--ignore-checks",
            _MAJOR_VERSION_OF_POSTGRESQL,
            "--",
            *(str(DIRECTORY / profile.template) for profile in PROFILES.values()),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
