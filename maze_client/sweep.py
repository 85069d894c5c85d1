"""A sweep, as the client holds it: how far it is, its runs, the best values, and what may be done with it."""

import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any, Concatenate, Generic, Literal, ParamSpec, overload

from maze_client.answers import Importance, SweepFacts, SweepRun, Trial, read
from maze_client.arguments import at
from maze_client.caller import Caller, unless_done
from maze_client.errors import WaitTimeout
from maze_client.following import POLL_S
from maze_client.transport import Async, Listing, Sync, Verb, bound

P = ParamSpec("P")
_LEADS_TO = {
    "pause": ["paused"],
    "resume": ["running", "succeeded", "failed"],
    "stop": ["stopping", "succeeded", "failed", "cancelled"],
    "cancel": ["stopping", "cancelled"],
}
"""Verb → states in which a sweep may be when it has been done."""


class SweepVerb(Generic[P]):
    """A method that gives a sweep: a :class:`Sweep`, or awaited an :class:`AsyncSweep`."""

    def __init__(self, method: Callable[Concatenate[Any, P], Coroutine[Any, Any, "SweepMethods"]]) -> None:
        self._method, self.__doc__ = method, method.__doc__

    @overload
    def __get__(self, caller: Sync, owner: type) -> Callable[P, "Sweep"]: ...
    @overload
    def __get__(self, caller: Async, owner: type) -> Callable[P, Coroutine[Any, Any, "AsyncSweep"]]: ...
    def __get__(self, caller: Any, owner: type) -> Any:
        return bound(self._method, caller, "do")


class SweepMethods(SweepFacts, Caller):
    """What both :class:`Sweep` and :class:`AsyncSweep` can do; what changes the sweep refreshes its attributes."""

    def __init__(self, caller: Caller, answer: Mapping[str, Any] | SweepFacts) -> None:
        facts = answer if isinstance(answer, SweepFacts) else read(answer, SweepFacts)
        self.__dict__ |= vars(facts)
        self.__dict__ |= {"_transport": caller._transport, "_max_retries": caller._max_retries}

    def _at(self, *parts: str) -> str:
        return at("/v1/sweeps", self.id, *parts)

    async def _taken(self, answer: Coroutine[Any, Any, Any]) -> "SweepMethods":
        self.__dict__ |= vars(read(await answer, SweepFacts))
        return self

    async def _look(self, max_retries: int | None = None) -> "SweepMethods":
        return await self._taken(self._send("GET", self._at(), max_retries=max_retries))

    async def _steered(self, verb: str) -> "SweepMethods":
        change = self._taken(self._send("POST", self._at(verb)))
        return await unless_done(change, self._look, lambda sweep: sweep.state in _LEADS_TO[verb])

    @SweepVerb
    async def refresh(self) -> "SweepMethods":
        """Look again."""
        return await self._look()

    @SweepVerb
    async def wait(self, timeout: float | None = None) -> "SweepMethods":  # noqa: ASYNC109
        """Wait for the end of the sweep, through restarts of the service; a paused one is waited for, too.

        Raises:
            WaitTimeout: so many seconds are over; the sweep goes on.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not (await self._look(self._patience)).is_ended:
            if deadline is not None and time.monotonic() >= deadline:
                raise WaitTimeout(f"{self.id} is {self.state} after {timeout:g} s; it goes on.")
            await self._transport.sleep(POLL_S)
        return self

    @Listing
    async def runs(self) -> AsyncIterator[SweepRun]:
        """Its runs by number, with what each chose and how good it was; ``client.run(one.run)`` is the run itself."""
        async for found in self._list(self._at("runs"), SweepRun):
            yield found

    @Verb
    async def best_trial(self) -> Trial:
        """The best set of values so far; raises :class:`NotFoundError` while none has a value."""
        return read(await self._send("GET", self._at("best")), Trial)

    @Verb
    async def importance(self) -> Importance:
        """How much each parameter decides how good a run is."""
        return read(await self._send("GET", self._at("importance")), Importance)

    @Verb
    async def ask(
        self, n: int = 1, *, values: Mapping[str, Any] | None = None, run: bool = False
    ) -> list[Trial]:
        """Values to try, of a sweep with ``ask_tell``.

        Args:
            n: so many sets of values.
            values: try these of your own instead.
            run: have the service run them, and tell itself.
        """
        own = {} if values is None else {"values": values}
        answer = await self._create(self._at("ask"), {"n": n, "run": run, **own})
        return read(answer["data"], list[Trial])

    @SweepVerb
    async def tell(
        self,
        trial: int,
        value: float | None = None,
        *,
        state: Literal["succeeded", "failed"] | None = None,
    ) -> "SweepMethods":
        """How good a trial was that was asked for, or that it ``failed``; the same again changes nothing."""
        body = {"trial": trial, "value": value, "state": state}
        given = {name: item for name, item in body.items() if item is not None}
        return await self._taken(self._send("POST", self._at("tell"), given))

    @SweepVerb
    async def pause(self) -> "SweepMethods":
        """Make no more runs, and pause those there are."""
        return await self._steered("pause")

    @SweepVerb
    async def resume(self) -> "SweepMethods":
        """Go on."""
        return await self._steered("resume")

    @SweepVerb
    async def stop(self) -> "SweepMethods":
        """Make no more runs, and let those there are end."""
        return await self._steered("stop")

    @SweepVerb
    async def cancel(self) -> "SweepMethods":
        """Make no more runs, and cancel those there are."""
        return await self._steered("cancel")

    @Verb
    async def delete(self) -> None:
        """Forget the sweep, which has ended; its runs stay."""
        await self._send("DELETE", self._at())


class Sweep(SweepMethods, Sync):
    """A sweep; methods answer when they are done."""


class AsyncSweep(SweepMethods, Async):
    """A sweep; methods are awaited, ``runs`` is for ``async for``."""
