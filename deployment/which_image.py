"""Which image API and long worker get: one that is named, the one they have, or one that Docker builds here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cdk.profiles import Profile
from deployment.code import CodeOptions
from deployment.errors import UsageError
from deployment.image import ImageBuilder
from deployment.stacks import StackState
from deployment.template import Template

_PROPERTIES = ("ImageArchitecture", "ImageDatabaseTls")


@dataclass(frozen=True)
class WhichImage:
    """``named``: by --image. ``settings``: what the user says about parameters."""

    named: str | None
    profile: Profile
    template: Template
    settings: Mapping[str, str]

    def parameters(
        self, builder: ImageBuilder, state: StackState | None, code: CodeOptions, *, building: bool
    ) -> dict[str, str]:
        """Of the template; those that are not there stay as they are. Raises UsageError, DeployError."""
        if not self.profile.has_containers:
            if self.named is not None:
                raise UsageError(
                    f"Profile {self.profile.name} has no containers.", "Leave --image out."
                )
            return {}
        there = state.parameters.get("ImageUri", "") if state else ""
        if self.named is not None:
            was_ours = builder.is_ours(there) and not builder.is_ours(self.named)
            return {"ImageUri": self.named, **(self._unknown_properties() if was_ours else {})}
        if there and not (builder.has_docker and builder.is_ours(there)):
            builder.reporter.warn(
                f"the containers keep their image {there}; --image names another one"
                + ("" if builder.has_docker else ", and with Docker it would be built here")
            )
            return {}
        built = builder.make(code, pushing=building)
        return {
            "ImageUri": built.uri,
            "ImageArchitecture": built.architecture,
            "ImageDatabaseTls": code.database_tls,
        }

    def _unknown_properties(self) -> dict[str, str]:
        """What was true of ours may not be of this one: another processor's, or without certificates."""
        return {
            name: str(self.template.parameters[name]["Default"])
            for name in _PROPERTIES
            if name not in self.settings
        }
