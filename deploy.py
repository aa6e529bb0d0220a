"""TaskFlow on AWS: `.venv/bin/python deploy.py --help`, or `make deploy ARGS=--help`. See docs/deploy-reference.md."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - whoever starts it with an older one is told
    sys.exit("deploy.py needs Python 3.11 or newer. Next: make deploy, which finds or names one.")
try:
    from deployment.cli.program import main
except ModuleNotFoundError as exc:
    if (exc.name or "").partition(".")[0] in {"deployment", "cdk"}:
        raise
    sys.exit(
        f"deploy.py: {sys.executable} lacks the library {exc.name}. "
        "Next: make deploy ARGS=--help, which installs all of them into .venv."
    )

if __name__ == "__main__":
    main()
