"""How many invocations of the API there may be at once: each has a connection to the database."""

from __future__ import annotations

from collections.abc import Mapping

from cdk.profiles import ApiFunction, Profile
from deployment.account import Account
from deployment.reporter import Reporter
from deployment.stacks import StackState

_PARAMETER = "ApiConcurrency"
_UNRESERVED = 100  # what Lambda wants to be left for functions without a limit of their own


def api_concurrency(
    profile: Profile,
    state: StackState | None,
    settings: Mapping[str, str],
    account: Account,
    reporter: Reporter,
) -> dict[str, str]:
    """The template's parameter, where its default cannot be: an account that lets few functions run at once sets none
    aside for one, but then that bounds all of them. ``settings``: what the user says about parameters."""
    if not isinstance(profile.api, ApiFunction) or _PARAMETER in settings:
        return {}
    limit = profile.api.concurrency
    answer = account.client("lambda").get_account_settings()
    at_once = answer["AccountLimit"]["ConcurrentExecutions"]
    has_room = at_once >= limit + _UNRESERVED
    if state is None and not has_room:
        reporter.warn(
            f"the account lets {at_once} functions run at once, too few to set {limit} aside for the API; once its "
            f"quota is higher (docs/deploy.md): --set {_PARAMETER}={limit}"
        )
        return {_PARAMETER: "0"}
    if state is not None and has_room and state.parameters.get(_PARAMETER) == "0":
        reporter.warn(
            f"the API may take every connection of the database: --set {_PARAMETER}={limit} leaves some to the workers"
        )
    return {}
