"""`deploy.py plan` and `up`: from the code here to a stack that serves.

Every step first looks at what AWS has, and only does what is missing. So a run may be killed anywhere, and the next one
goes on: what an earlier run has uploaded, imported or begun is found and used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cdk.profiles import ANYWHERE, PROFILES, Profile
from deployment import env_file
from deployment.account import Account
from deployment.address import Address, AddressOptions
from deployment.api_concurrency import api_concurrency
from deployment.artifacts import ArtifactBucket
from deployment.change_sets import ChangeSets, Wanted
from deployment.changes import Change
from deployment.code import CodeOptions, package, task_modules
from deployment.database_tls import VERIFIED, certificates_for
from deployment.errors import UsageError
from deployment.image import ImageBuilder
from deployment.migration import Code, Migrated, Migration
from deployment.outputs import variables
from deployment.reporter import Reporter
from deployment.settle import Settling
from deployment.smoke import Check, SmokeTest
from deployment.stack_change import StackChange
from deployment.stack_states import Readiness
from deployment.stacks import Stacks, StackState
from deployment.target import DEFAULT_PROFILE, Target
from deployment.template import Template, settings_of
from deployment.which_image import WhichImage

PROFILE_TAG = "taskflow:profile"
_STAGE_TAG = "taskflow:stage"
_REQUIREMENTS_TAG = "taskflow:requirements"
_TAG_VALUE = re.compile(r"[\w .:/=+@-]{1,256}")  # what every service takes
NO_REQUIREMENTS = "none"

_DECIDED_HERE = {
    "CodeBucket": "deploy.py decides it.",
    "WorkerCodeKey": "deploy.py decides it.",
    "ApiCodeKey": "deploy.py decides it.",
    "LambdaRuntime": "It is the Python that runs deploy.py.",
    "Serving": "deploy.py decides it.",
    "TaskModules": "Use --tasks.",
    "ImageUri": "Use --image.",
    "DatabaseTls": "Use --database-ca.",
    "CertificateArn": "Use --certificate-arn.",
    "DomainName": "Use --domain.",
    "HostedZoneId": "Use --domain: its zone is looked up.",
}


@dataclass(frozen=True)
class Options:
    """What the command line says. None: as the stack has it, or the default."""

    target: Target
    root: Path
    env_file: Path
    out: Path
    tasks: Sequence[str] | None = None
    requirements: Path | None = None
    image: str | None = None
    database_ca: Path | None = None
    address: AddressOptions = field(default_factory=lambda: AddressOptions(None, None))
    settings: Sequence[str] = ()
    alarm_email: str | None = None
    allow_replacement: bool = False
    smoke_test: bool = True


@dataclass
class Result:
    """For `--json`, and for the last words to a reader."""

    stack: str
    profile: str
    region: str
    status: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)  # of the template
    changes: list[Change] = field(default_factory=list)
    migrated: Migrated | None = None
    outputs: Mapping[str, str] = field(default_factory=dict)
    env_changed: list[str] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    certificate_file: Path | None = None
    record: str | None = None  # of DNS, to be made by hand


class Deployment:
    """One stage, one run."""

    def __init__(self, account: Account, options: Options, reporter: Reporter) -> None:
        self._account = account
        self._options = options
        self._reporter = reporter
        self._stack = options.target.stack
        self._stacks = Stacks(account)
        self._change_sets = ChangeSets(account)
        self._settling = Settling(account, self._stacks, reporter)
        self._change = StackChange(self._stacks, self._change_sets, reporter)
        self._bucket = ArtifactBucket(account, self._stack)
        self._address = Address(account, self._stack, reporter)
        self._images = ImageBuilder(account, self._stack, reporter)

    def plan(self) -> Result:
        """What `up` would change. Makes nothing but the bucket of templates, and a change set that goes again."""
        state = self._settling.for_plan(self._stack)
        profile = self._profile(state)
        wanted = self._wanted(profile, state, doing=False)
        change_set = self._change_sets.make(wanted, state)
        changes: list[Change] = []
        if change_set is not None:
            changes = list(change_set.changes)
            self._change_sets.abandon(change_set, with_stack=state is None)
        self._reporter.plan(changes)
        return Result(
            self._stack,
            profile.name,
            self._account.region,
            state.status if state else "",
            _parameters(wanted, state),
            changes=changes,
        )

    def up(self) -> Result:
        state = self._settling.for_change(self._stack)
        profile = self._profile(state)
        result = Result(self._stack, profile.name, self._account.region)
        wanted = self._wanted(profile, state, doing=True)
        is_serving = state is not None and state.parameters.get("Serving") == "true"
        state = self._apply(wanted, state, result, is_serving=is_serving)
        if not is_serving:
            result.migrated = self._migration(state).run(self._reporter)
            self._reporter.say("the database is ready: traffic and tasks may come")
            state, change_set = self._change.apply(
                _serving(wanted, state), state, allow_replacement=False, question=None
            )
            result.changes += change_set.changes if change_set else []
        assert state is not None
        self._protect(profile, state)
        self._address.renew(state)
        self._address.forget_unused(state)
        self._told(state, result)
        return result

    def _apply(
        self, wanted: Wanted, state: StackState | None, result: Result, *, is_serving: bool
    ) -> StackState:
        def migrate() -> None:
            assert state is not None
            code = Code(
                wanted.parameters["CodeBucket"] or "",
                wanted.parameters["WorkerCodeKey"] or "",
                wanted.parameters["LambdaRuntime"] or "",
            )
            result.migrated = self._migration(state).run(self._reporter, code=code)

        is_new = state is None or state.readiness is Readiness.REVIEW
        is_new_code = is_serving and state is not None and _code_differs(wanted, state)
        after, change_set = self._change.apply(
            wanted,
            state,
            allow_replacement=self._options.allow_replacement,
            question=f"{'Create' if is_new else 'Change'} {self._stack} in {self._account.region}?",
            first=migrate if is_new_code else None,
        )
        if change_set is None:
            self._reporter.say(f"{self._stack} is as it should be: nothing to change")
        else:
            result.changes = list(change_set.changes)
        assert after is not None  # without a change there was one
        return after

    def _profile(self, state: StackState | None) -> Profile:
        """Of the stack there is, else the one asked for. Raises UsageError when these differ."""
        asked = self._options.target.profile
        there = (
            state.tags.get(PROFILE_TAG)
            if state and state.readiness is not Readiness.REVIEW
            else None
        )
        if there is not None and asked is not None and asked != there:
            raise UsageError(
                f"{self._stack} has the profile {there}, not {asked}.",
                f"Leave --profile out, or choose another --stage for {asked}: a stack keeps its profile.",
            )
        by_stage = "dev" if self._options.target.stage == "dev" else DEFAULT_PROFILE
        return PROFILES[there or asked or by_stage]

    def _wanted(self, profile: Profile, state: StackState | None, *, doing: bool) -> Wanted:
        template = Template.of(profile)
        known = state if state is not None and state.readiness is not Readiness.REVIEW else None
        settings = settings_of(self._options.settings, template, decided_here=_DECIDED_HERE)
        self._address.check(self._options.address)
        code = self._code_options(known)
        self._bucket.ensure()
        # Before the code, which takes its time: what is wrong with the command line is told at once.
        address = self._address.parameters(self._options.address, known, importing=doing)
        image = WhichImage(self._options.image, profile, template, settings)
        chosen = {
            **settings,
            **package(profile, code, self._bucket, self._reporter, uploading=doing),
            **image.parameters(self._images, known, code, building=doing),
            **address,
            **api_concurrency(profile, known, settings, self._account, self._reporter),
            "Serving": known.parameters.get("Serving", "false") if known else "false",
        }
        if self._options.alarm_email is not None:
            chosen["AlarmEmail"] = self._options.alarm_email
        tags = {PROFILE_TAG: profile.name, _STAGE_TAG: self._options.target.stage}
        if code.requirements is not None:
            if not _TAG_VALUE.fullmatch(str(code.requirements)):
                raise UsageError(
                    f"The name of {code.requirements} cannot be remembered in a tag of the stack.",
                    "Use letters, digits, and . : / = + @ - _ in it.",
                )
            tags[_REQUIREMENTS_TAG] = str(code.requirements)
        return Wanted(
            self._stack,
            self._bucket.upload_template(template.content),
            template.values(chosen, known),
            tags,
        )

    def _code_options(self, state: StackState | None) -> CodeOptions:
        remembered = state.tags.get(_REQUIREMENTS_TAG) if state else None
        named = self._options.requirements
        requirements = named or (Path(remembered) if remembered else None)
        if named is not None and str(named) == NO_REQUIREMENTS:
            requirements = None
        modules = task_modules(
            self._options.tasks, state.parameters.get("TaskModules") if state else None
        )
        out = self._options.out
        certificates = certificates_for(
            self._account,
            self._options.database_ca,
            out,
            self._reporter,
            required=bool(state and state.parameters.get("DatabaseTls") == VERIFIED),
        )
        return CodeOptions(self._options.root, modules, requirements, out, certificates)

    def _migration(self, state: StackState) -> Migration:
        return Migration(self._account, state.outputs["MigrateFunction"])

    def _protect(self, profile: Profile, state: StackState) -> None:
        """Against deletion by mistake, also by others than this program; `destroy` takes it off."""
        if profile.keeps_data and not state.is_protected:
            self._account.client("cloudformation").update_termination_protection(
                StackName=self._stack, EnableTerminationProtection=True
            )
            self._reporter.say(f"{self._stack} is protected against deletion")

    def _told(self, state: StackState, result: Result) -> None:
        """Outputs where people and programs find them, and a look at the endpoint."""
        result.status, result.outputs = state.status, state.outputs
        result.parameters = state.parameters
        result.env_changed = env_file.write(self._options.env_file, variables(state.outputs))
        if result.env_changed:
            self._reporter.say(f"wrote {', '.join(result.env_changed)} to {self._options.env_file}")
        pem = self._address.self_signed_pem(state)
        if pem is not None:
            result.certificate_file = self._options.out / f"{self._stack}.pem"
            self._options.out.mkdir(parents=True, exist_ok=True)
            result.certificate_file.write_text(pem)
        result.record = self._address.record(state)
        if result.record is not None:
            self._reporter.say(f"clients find it once its zone has this record: {result.record}")
        if state.parameters.get("AllowedCidr") == ANYWHERE:
            self._reporter.warn(
                "the API asks nobody who they are, and the load balancer lets everybody in: "
                "--set AllowedCidr=203.0.113.0/24 lets in only whom you know"
            )
        if self._options.smoke_test:
            endpoint = self._address.endpoint(state)
            self._reporter.say(f"asking {endpoint.url}")
            result.checks = SmokeTest(endpoint).run()
            for check in result.checks:
                self._reporter.say(f"{check.name}: {check.found}")


def _serving(wanted: Wanted, state: StackState) -> Wanted:
    """The same stack with nothing changed but that traffic and tasks may come."""
    kept: dict[str, Any] = dict.fromkeys(wanted.parameters)
    return Wanted(wanted.stack, wanted.template_url, {**kept, "Serving": "true"}, wanted.tags)


def _parameters(wanted: Wanted, state: StackState | None) -> dict[str, str]:
    """As they will be; those that have their defaults may be missing."""
    kept = state.parameters if state else {}
    chosen = {name: value for name, value in wanted.parameters.items() if value is not None}
    return {**{name: kept[name] for name in wanted.parameters if name in kept}, **chosen}


def _code_differs(wanted: Wanted, state: StackState) -> bool:
    names = ("WorkerCodeKey", "ApiCodeKey", "ImageUri")
    return any(
        wanted.parameters.get(name) not in {None, state.parameters.get(name)} for name in names
    )
