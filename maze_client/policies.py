"""Policies by name: ``client.policies.create("walker")``, ``run.promote("walker", alias="champion")``."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Unpack

from maze_client.answers import (
    AliasMove,
    Policy,
    PolicyAlias,
    PolicyVersion,
    RunFacts,
    Traffic,
    acted,
    explained,
    read,
)
from maze_client.arguments import (
    ActingArguments,
    ActingManyArguments,
    ExplainArguments,
    ExplainManyArguments,
    PolicyChanges,
    at,
    explaining,
)
from maze_client.caller import Caller
from maze_client.errors import NotFoundError
from maze_client.transport import Async, Listing, Sync, Verb


class PolicyMethods(Caller):
    """What both :class:`Policies` and :class:`AsyncPolicies` can do."""

    def __init__(self, caller: Caller) -> None:
        self._transport, self._max_retries = caller._transport, caller._max_retries

    @Verb
    async def create(
        self, name: str, *, description: str | None = None, gate: Mapping[str, Any] | None = None
    ) -> Policy:
        """Make a policy; the same one again is the one that there is.

        Args:
            name: letters, digits, dots, dashes and underscores.
            description: for people.
            gate: what a version has to show before an alias moves to it: ``{"aliases": ["champion"],
                "n_episodes": 50, "seed": 1}``, of which all has a default.

        Raises:
            ConflictError: there is another one of this name.
        """
        return await self._make(name, description=description, gate=gate)

    @Verb
    async def get(self, name: str) -> Policy:
        """The policy with its aliases."""
        return read(await self._send("GET", _at(name)), Policy)

    @Listing
    async def list(self, name: str | None = None) -> AsyncIterator[Policy]:
        """Policies by name, or those with a part of it."""
        async for found in self._list("/v1/policies", Policy, {"name": name}):
            yield found

    @Verb
    async def edit(self, name: str, **changes: Unpack[PolicyChanges]) -> Policy:
        """Change description or gate; None takes one away, what is not named stays."""
        return read(await self._send("PATCH", _at(name), changes), Policy)

    @Verb
    async def delete(self, name: str) -> None:
        """Delete a policy that has no versions."""
        await self._send("DELETE", _at(name))

    @Verb
    async def add_version(
        self, name: str, run: RunFacts | str, checkpoint: str = "best", *, note: str | None = None
    ) -> PolicyVersion:
        """Give a checkpoint of a run the next number, or the one that it has."""
        return await self._register(name, run, checkpoint, note)

    @Listing
    async def versions(self, name: str) -> AsyncIterator[PolicyVersion]:
        """Versions, newest first."""
        async for found in self._list(_at(name, "versions"), PolicyVersion):
            yield found

    @Verb
    async def version(self, name: str, number: int) -> PolicyVersion:
        """One version."""
        return read(await self._send("GET", _at(name, "versions", number)), PolicyVersion)

    @Verb
    async def delete_version(self, name: str, number: int) -> None:
        """Delete a version that no alias names and no gate compares with."""
        await self._send("DELETE", _at(name, "versions", number))

    @Verb
    async def alias(self, name: str, alias: str) -> PolicyAlias:
        """Which version an alias names."""
        return read(await self._send("GET", _alias(name, alias)), PolicyAlias)

    @Verb
    async def promote(
        self,
        name: str,
        alias: str,
        version: int,
        *,
        reason: str | None = None,
        comparison: RunFacts | str | None = None,
        revision: int | None = None,
    ) -> PolicyAlias:
        """Let an alias name a version.

        Args:
            name: of the policy.
            alias: a new one, or one that moves.
            version: its number.
            reason: for the history.
            comparison: the run that opens the gate, where one asks for it; ``ConflictError.body["compare"]`` are the
                arguments of the ``client.compare`` that it asks for.
            revision: where the alias was when you looked; None moves it from wherever it is now.

        Raises:
            ConflictError: the gate stays closed.
            ProblemError: 412, the alias has moved since.
        """
        return await self._move(name, alias, version, reason, comparison, revision)

    @Verb
    async def rollback(
        self, name: str, alias: str, *, to: int | None = None, reason: str | None = None
    ) -> PolicyAlias:
        """Let an alias name its version before the present one again, or ``to``; a second call leads further back."""
        path = _alias(name, alias)
        headers = _seen((await self._send("GET", path))["revision"])
        body = _given(to=to, reason=reason)
        return read(await self._send("POST", at(path, "rollback"), body, headers=headers), PolicyAlias)

    @Verb
    async def delete_alias(self, name: str, alias: str) -> None:
        """Delete an alias; its history stays."""
        await self._send("DELETE", _alias(name, alias))

    @Verb
    async def traffic(self, name: str, alias: str) -> Traffic:
        """How the requests to an alias are split, and what each version has done since."""
        return read(await self._send("GET", _alias(name, alias, "traffic")), Traffic)

    @Verb
    async def split_traffic(
        self,
        name: str,
        alias: str,
        *,
        canary: int | None = None,
        weight: float = 0.1,
        shadow: int | None = None,
        reason: str | None = None,
        revision: int | None = None,
    ) -> Traffic:
        """Let a canary answer a part of the requests to an alias, and a shadow act on copies; moving the alias ends it.

        Args:
            name: of the policy.
            alias: its name.
            canary: a version's number.
            weight: the canary's part of the requests, above 0 and below 1.
            shadow: a version's number.
            reason: for the history.
            revision: where the alias was when you looked; None takes it as it is now.
        """
        path = _alias(name, alias, "traffic")
        headers = _seen((await self._send("GET", path))["revision"] if revision is None else revision)
        part = None if canary is None else {"version": canary, "weight": weight}
        copies = None if shadow is None else {"version": shadow}
        body = _given(canary=part, shadow=copies, reason=reason)
        return read(await self._send("PUT", path, body, headers=headers), Traffic)

    @Verb
    async def end_traffic(self, name: str, alias: str) -> None:
        """Let the version that an alias names answer everything again."""
        await self._send("DELETE", _alias(name, alias, "traffic"))

    @Listing
    async def history(self, name: str, alias: str) -> AsyncIterator[AliasMove]:
        """Moves of an alias, newest first."""
        async for found in self._list(_alias(name, alias, "history"), AliasMove):
            yield found

    @Verb
    async def compute_action(self, policy: str, observation: Any, **how: Unpack[ActingArguments]) -> Any:
        """The action of ``name@alias`` or ``name:3``; see :meth:`maze_client.Run.compute_action`."""
        body = {"observation": observation, **how}
        return acted(await self._act(_at(policy, "compute_action"), body), how)

    act = compute_action

    @Verb
    async def compute_actions(
        self, policy: str, observations: Sequence[Any], **how: Unpack[ActingManyArguments]
    ) -> Any:
        """As :meth:`compute_action`, for up to 1024 observations at once: a list; with ``states`` two of them."""
        body = {"observations": observations, **how}
        return acted(await self._act(_at(policy, "compute_action"), body), how)

    @Verb
    async def explain_action(
        self, policy: str, observation: Any, **how: Unpack[ExplainArguments]
    ) -> dict[str, Any]:
        """As :meth:`maze_client.Run.explain_action`."""
        body = {"observation": observation, **explaining(how)}
        return explained(await self._act(_at(policy, "compute_action"), body))

    @Verb
    async def explain_actions(
        self, policy: str, observations: Sequence[Any], **how: Unpack[ExplainManyArguments]
    ) -> Sequence[dict[str, Any]]:
        """As :meth:`maze_client.Run.explain_actions`."""
        body = {"observations": observations, "errors": "per_item", **explaining(how)}
        answer = await self._act(_at(policy, "compute_action"), body)
        return [explained(result) for result in answer["results"]]

    async def _make(self, name: str, **facts: Any) -> Policy:
        return read(await self._send("POST", "/v1/policies", _given(name=name, **facts)), Policy)

    async def _register(
        self, name: str, run: RunFacts | str, checkpoint: str, note: str | None
    ) -> PolicyVersion:
        body = _given(run=run, checkpoint=checkpoint, note=note)
        return read(await self._send("POST", _at(name, "versions"), body), PolicyVersion)

    async def _move(
        self,
        name: str,
        alias: str,
        version: int,
        reason: str | None,
        comparison: RunFacts | str | None,
        revision: int | None = None,
    ) -> PolicyAlias:
        path = _alias(name, alias)
        if revision is None:
            try:
                revision = (await self._send("GET", path))["revision"]
            except NotFoundError:
                revision = 0
        headers = _seen(revision) if revision else {"If-None-Match": "*"}
        body = _given(version=version, reason=reason, comparison=comparison)
        return read(await self._send("PUT", path, body, headers=headers), PolicyAlias)

    async def _promote_run(
        self, name: str, alias: str, run: str, checkpoint: str, note: str | None, **why: Any
    ) -> PolicyAlias:
        """Register a checkpoint, with its policy where there is none yet, and promote it."""
        try:
            version = await self._register(name, run, checkpoint, note)
        except NotFoundError as error:
            if error.body.get("policy") != name:
                raise
            await self._make(name)
            version = await self._register(name, run, checkpoint, note)
        return await self._move(name, alias, version.version, **why)


class Policies(PolicyMethods, Sync):
    """Policies by name; methods answer when they are done."""


class AsyncPolicies(PolicyMethods, Async):
    """Policies by name; methods are awaited, ``list``, ``versions`` and ``history`` are for ``async for``."""


def _at(name: str, *parts: str | int) -> str:
    return at("/v1/policies", name, *parts)


def _alias(name: str, alias: str, *parts: str) -> str:
    return _at(name, "aliases", alias, *parts)


def _seen(revision: int) -> dict[str, str]:
    return {"If-Match": f'"{revision}"'}


def _given(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
