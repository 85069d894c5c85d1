"""How the requests to an alias are split: a canary, a shadow, and what each version has done."""

from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import Field

from service.api.answers import Number as Figure
from service.api.answers import Out
from service.api.bodies import In, StrictRoute
from service.api.dependencies import CallerDep, Services, ServicesDep, require_scope
from service.api.policies import AliasName, IfMatch, Name, Reason, revision_of, tagged
from service.domain.policies import PolicyAlias, Traffic
from service.domain.promotion import Wish, split_traffic
from service.domain.sharing import Scope
from service.problems import Problem
from service.serving.traffic import Counts, Role

router = APIRouter(
    prefix="/v1/policies/{name}/aliases/{alias}/traffic",
    tags=["policies"],
    route_class=StrictRoute,
    dependencies=[require_scope(Scope.RUNS_READ, changing=Scope.POLICIES_PROMOTE)],
)

VersionNumber = Annotated[int, Field(ge=1, lt=2**31)]


class CanaryRequest(In):
    """A version that answers a part of the requests."""

    version: VersionNumber
    weight: Annotated[float, Field(gt=0, lt=1)]
    """Its part of the requests."""


class ShadowRequest(In):
    """A version that acts on copies of the requests."""

    version: VersionNumber


class TrafficRequest(In):
    """How requests are split; what is left out is nobody."""

    canary: CanaryRequest | None = None
    shadow: ShadowRequest | None = None
    reason: Reason | None = None
    """For the history."""


class CanaryOut(Out):
    """A version that answers a part of the requests."""

    version: int
    weight: float


class ShadowOut(Out):
    """A version that acts on copies of the requests."""

    version: int


class VersionTrafficOut(Out):
    """What a version has done in the process that answers, since the traffic was split as it is."""

    role: Role
    version: int
    requests: int
    errors: int
    """Of the requests, those that got no action."""
    mean_latency_ms: Figure | None
    """Until the actions were there."""
    steps: int
    """Actions in sessions."""
    mean_reward: Figure | None
    """Of those of them whose reward was said."""
    compared: int
    """Of a shadow: observations whose action was compared."""
    agreement: Figure | None
    """Part of them whose action was the one that was answered, numbers with a fraction to 0.001."""
    dropped: int
    """Of a shadow: requests that it did not see, because too many waited."""


class TrafficOut(Out):
    """How the requests to an alias are split."""

    policy: str
    alias: str
    version: int
    """That the alias names."""
    revision: int
    canary: CanaryOut | None
    shadow: ShadowOut | None
    versions: list[VersionTrafficOut]
    """Empty where nothing is split."""


@router.put("")
def put_traffic(
    name: Name,
    alias: AliasName,
    body: TrafficRequest,
    services: ServicesDep,
    response: Response,
    caller: CallerDep,
    if_match: IfMatch = None,
) -> TrafficOut:
    """Let a canary answer a part of the requests to an alias, and a shadow act on copies, until the alias moves."""
    if body.canary is None and body.shadow is None:
        raise Problem.at("", "missing_field", "Give a canary or a shadow; DELETE ends both.")
    canary, weight = (body.canary.version, body.canary.weight) if body.canary else (None, 0.0)
    shadow = body.shadow.version if body.shadow else None
    traffic = Traffic(canary=canary, weight=weight, shadow=shadow)
    wish = Wish(
        name=name, alias=alias, revision=revision_of(if_match), reason=body.reason, by=caller.token_id
    )
    return _told(services, tagged(response, split_traffic(services.policies, wish, traffic)))


@router.get("")
def get_traffic(name: Name, alias: AliasName, services: ServicesDep, response: Response) -> TrafficOut:
    """How the requests to an alias are split, and what each version has done since."""
    return _told(services, tagged(response, services.policies.alias(name, alias)))


@router.delete("", status_code=204)
def end_traffic(
    name: Name, alias: AliasName, services: ServicesDep, caller: CallerDep, if_match: IfMatch = None
) -> Response:
    """Let the version that an alias names answer everything again."""
    wish = Wish(name=name, alias=alias, revision=revision_of(if_match), by=caller.token_id)
    split_traffic(services.policies, wish, None)
    return Response(status_code=204)


def _told(services: Services, alias: PolicyAlias) -> TrafficOut:
    traffic = alias.traffic or Traffic()
    lane = services.agents.lane(f"{alias.policy}@{alias.alias}")
    is_known = lane is not None and lane.split.revision == alias.revision
    counts = lane.counts if lane is not None and is_known else {}
    roles = {Role.HOLDER: alias.version, Role.CANARY: traffic.canary, Role.SHADOW: traffic.shadow}
    return TrafficOut(
        policy=alias.policy,
        alias=alias.alias,
        version=alias.version,
        revision=alias.revision,
        canary=CanaryOut(version=traffic.canary, weight=traffic.weight) if traffic.canary else None,
        shadow=ShadowOut(version=traffic.shadow) if traffic.shadow else None,
        versions=[
            _counted(role, version, counts.get(role, Counts()))
            for role, version in roles.items()
            if version is not None and alias.traffic is not None
        ],
    )


def _counted(role: Role, version: int, counts: Counts) -> VersionTrafficOut:
    n_answered = counts.requests - counts.errors
    return VersionTrafficOut(
        role=role,
        version=version,
        requests=counts.requests,
        errors=counts.errors,
        mean_latency_ms=1000 * counts.seconds / n_answered if n_answered else None,
        steps=counts.steps,
        mean_reward=counts.reward / counts.rewards if counts.rewards else None,
        compared=counts.compared,
        agreement=counts.agreed / counts.compared if counts.compared else None,
        dropped=counts.dropped,
    )
