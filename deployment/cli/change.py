"""Commands that change a stack, and the one that says how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from cdk.profiles import PROFILES
from deployment.account import Account
from deployment.address import AddressOptions
from deployment.cli import options as opt
from deployment.cli.money import cost_json, cost_table, estimates
from deployment.cli.tables import facts
from deployment.cli.terminal import Terminal
from deployment.costs import Estimate, sized, unpriced
from deployment.data import Consent
from deployment.destroy import Destruction
from deployment.destroy import Options as DestroyOptions
from deployment.pause import pause as pause_stack
from deployment.recover import recover as recover_stack
from deployment.target import target
from deployment.up import Deployment, Options, Result
from taskflow.cli.output import print_json


def plan(
    profile: opt.Profile = None,
    stage: opt.Stage = None,
    region: opt.Region = None,
    tasks: opt.Tasks = None,
    requirements: opt.Requirements = None,
    image: opt.Image = None,
    database_ca: opt.DatabaseCA = None,
    certificate_arn: opt.CertificateArn = None,
    domain: opt.Domain = None,
    alarm_email: opt.AlarmEmail = None,
    settings: opt.Set = None,
    build_directory: opt.BuildDirectory = opt.BUILD_DIRECTORY,
    json: opt.Json = False,
) -> None:
    """Show what `up` would change, and what the profile costs a month. Nothing is changed.

    It makes the bucket for templates if there is none, and a change set, which it deletes again.
    """
    terminal = Terminal(json=json, yes=False)
    chosen = Options(
        target=target(profile, stage, known_profiles=list(PROFILES)),
        root=Path.cwd(),
        env_file=opt.ENV_FILE,
        out=build_directory,
        tasks=tasks,
        requirements=requirements,
        image=image,
        database_ca=database_ca,
        address=AddressOptions(certificate_arn, domain),
        settings=settings or (),
        alarm_email=alarm_email,
    )
    account = _account(region, terminal)
    result = Deployment(account, chosen, terminal).plan()
    terminal.say(
        f"What it costs a month, as it would be then ({result.profile}); `deploy.py costs` says what is assumed:"
    )
    terminal.show(cost_table(_estimates(result)))
    if (unknown := unpriced(result.parameters)) is not None:
        terminal.warn(f"{unknown} has no price here: the table has the profile's class instead")
    if json:
        print_json(_as_json(result))


def up(
    profile: opt.Profile = None,
    stage: opt.Stage = None,
    region: opt.Region = None,
    tasks: opt.Tasks = None,
    requirements: opt.Requirements = None,
    image: opt.Image = None,
    database_ca: opt.DatabaseCA = None,
    certificate_arn: opt.CertificateArn = None,
    domain: opt.Domain = None,
    alarm_email: opt.AlarmEmail = None,
    settings: opt.Set = None,
    allow_replacement: opt.AllowReplacement = False,
    no_smoke_test: Annotated[
        bool, typer.Option("--no-smoke-test", help="Do not ask the endpoint afterwards.")
    ] = False,
    env_file: opt.EnvFile = opt.ENV_FILE,
    build_directory: opt.BuildDirectory = opt.BUILD_DIRECTORY,
    yes: opt.Yes = False,
    json: opt.Json = False,
) -> None:
    """Create the stage or bring it up to date: code, infrastructure, database; then test it and write `.env`.

    Interrupted anywhere, it goes on when it is run again.
    """
    terminal = Terminal(json=json, yes=yes)
    chosen = Options(
        target=target(profile, stage, known_profiles=list(PROFILES)),
        root=Path.cwd(),
        env_file=env_file,
        out=build_directory,
        tasks=tasks,
        requirements=requirements,
        image=image,
        database_ca=database_ca,
        address=AddressOptions(certificate_arn, domain),
        settings=settings or (),
        alarm_email=alarm_email,
        allow_replacement=allow_replacement,
        smoke_test=not no_smoke_test,
    )
    account = _account(region, terminal)
    result = Deployment(account, chosen, terminal).up()
    if json:
        print_json(_as_json(result))
    else:
        _show_result(result, terminal)


def pause(
    profile: opt.Profile = None,
    stage: opt.Stage = None,
    region: opt.Region = None,
    yes: opt.Yes = False,
    json: opt.Json = False,
) -> None:
    """Stop the API and all workers, and keep everything: for a restore of the database. `up` lets them go on."""
    terminal = Terminal(json=json, yes=yes)
    aim = target(profile, stage, known_profiles=list(PROFILES))
    state = pause_stack(_account(region, terminal), aim.stack, terminal)
    if json:
        print_json({"stack": aim.stack, "status": state.status})


def recover(
    profile: opt.Profile = None,
    stage: opt.Stage = None,
    region: opt.Region = None,
    skip: Annotated[
        list[str] | None,
        typer.Option(metavar="LOGICAL_ID", help="Leave this resource as it is. Repeatable."),
    ] = None,
    yes: opt.Yes = False,
    json: opt.Json = False,
) -> None:
    """Bring a stack whose update failed and could not be rolled back to what it was before."""
    terminal = Terminal(json=json, yes=yes)
    aim = target(profile, stage, known_profiles=list(PROFILES))
    state = recover_stack(_account(region, terminal), aim.stack, skip or (), terminal)
    if json:
        print_json({"stack": aim.stack, "status": state.status})


def destroy(
    profile: opt.Profile = None,
    stage: opt.Stage = None,
    region: opt.Region = None,
    delete_payloads: Annotated[
        bool, typer.Option("--delete-payloads", help="Empty and delete the bucket of payloads.")
    ] = False,
    delete_database: Annotated[
        bool,
        typer.Option(
            "--delete-database",
            help="Delete the database, protected or not; a last snapshot stays unless profile dev.",
        ),
    ] = False,
    retain: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LOGICAL_ID",
            help="After a deletion that failed: leave this one behind. Repeatable.",
        ),
    ] = None,
    env_file: opt.EnvFile = opt.ENV_FILE,
    yes: opt.Yes = False,
    json: opt.Json = False,
) -> None:
    """Delete the stage with everything deploy.py made for it. Refuses while it holds data, unless told which may go."""
    terminal = Terminal(json=json, yes=yes)
    aim = target(profile, stage, known_profiles=list(PROFILES))
    chosen = DestroyOptions(Consent(delete_payloads, delete_database), env_file, retain or ())
    done = Destruction(_account(region, terminal), aim.stack, chosen, terminal).run()
    if json:
        print_json(asdict(done))
        return
    for name in done.deleted:
        terminal.say(f"deleted: {name}")
    for name in done.stays:
        terminal.warn(f"stays: {name}")


def _account(region: str | None, terminal: Terminal) -> Account:
    account = Account(region)
    identity = account.identity
    terminal.say(
        f"account {identity.account}, {account.region}, as {identity.arn.rpartition(':')[2]}"
    )
    return account


def _show_result(result: Result, terminal: Terminal) -> None:
    shown: dict[str, str | Text] = {
        "stack": f"{result.stack} ({result.profile}, {result.region}) {result.status}",
        "address": Text(result.outputs.get("ApiUrl", ""), style="bold green"),
    }
    if result.migrated is not None:
        shown["schema"] = f"{result.migrated.before or 'nothing'} → {result.migrated.revision}"
    if result.record is not None:
        shown["record"] = f"{result.record} (of DNS, to be made where the zone is)"
    if result.certificate_file is not None:
        shown["to trust"] = (
            f"{result.certificate_file} (self-signed): SSL_CERT_FILE={result.certificate_file} taskflow …"
        )
    terminal.show(facts(shown))
    if not result.checks:
        terminal.warn("the endpoint was not tested (--no-smoke-test)")


def _as_json(result: Result) -> Mapping[str, Any]:
    costs = cost_json(_estimates(result))
    return {**asdict(result), "costs": costs}


def _estimates(result: Result) -> list[Estimate]:
    return estimates(sized(PROFILES[result.profile], result.parameters))
