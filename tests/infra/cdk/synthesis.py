"""Synthesises all profiles with cdk-nag looking on, in a process of its own: once for a whole test run.

`python -m tests.infra.cdk.synthesis DIRECTORY` leaves the templates and `validation-report.json` there.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import run

_ROOT = Path(__file__).parents[3]
_REPORT = "validation-report.json"


@dataclass(frozen=True)
class Synthesis:
    directory: Path

    @property
    def texts(self) -> dict[str, str]:
        """What `cdk.templates` would write, by file name."""
        return {path.name: path.read_text("utf-8") for path in self.directory.glob("*.yaml")}

    @property
    def nag(self) -> dict[str, Any]:
        """The report of cdk-nag's AwsSolutions."""
        reports = json.loads((self.directory / _REPORT).read_bytes())["pluginReports"]
        [found] = [report for report in reports if report["pluginName"] == "AwsSolutions"]
        return dict(found)


def synthesis() -> Synthesis:
    """Raises RuntimeError with what the CDK said when there are no templates."""
    directory = run.directory() / "cdk"
    with run.locked(run.directory() / "cdk.lock"):
        if not directory.exists():
            directory.mkdir()
            done = subprocess.run(
                [sys.executable, "-m", "tests.infra.cdk.synthesis", str(directory)],
                cwd=_ROOT,
                capture_output=True,
                text=True,
                check=False,
            )
            (directory / "output.txt").write_text(done.stdout + done.stderr)
    if not (directory / _REPORT).exists():
        raise RuntimeError((directory / "output.txt").read_text())
    return Synthesis(directory)


def main(directory: Path) -> None:
    import aws_cdk as aws
    from cdk_nag import AwsSolutionsChecks

    from cdk.app import make_app
    from cdk.profiles import PROFILES
    from cdk.templates import render

    app = make_app(directory)
    aws.Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    try:
        app.synth()
    except RuntimeError as exc:  # cdk-nag found something: it is in the report
        print(exc)
    for profile in PROFILES.values():
        template = json.loads((directory / f"{profile.name}.template.json").read_bytes())
        (directory / profile.template).write_text(render(template), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
