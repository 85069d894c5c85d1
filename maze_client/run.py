"""A run, as the client holds it: what is known of it, what it left, and what may be done with it."""

import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Concatenate, Generic, Literal, ParamSpec, TypeAlias, TypeVar, Unpack, overload

from maze_client.answers import (
    Changed,
    Checkpoint,
    Episode,
    Event,
    LogLine,
    Metric,
    Metrics,
    Origin,
    PolicyAlias,
    RunFacts,
    State,
    acted,
    explained,
    read,
)
from maze_client.arguments import (
    ActingArguments,
    ActingManyArguments,
    ContinueArguments,
    ExplainArguments,
    ExplainManyArguments,
    ForkArguments,
    Labelled,
    ReplayArguments,
    RunChanges,
    at,
    explaining,
)
from maze_client.caller import Caller, unless_done
from maze_client.errors import MazeClientError, RunFailed, WaitTimeout
from maze_client.files import download
from maze_client.following import POLL_S, EventLog, recent_seq
from maze_client.policies import PolicyMethods
from maze_client.progress import shown
from maze_client.transport import Async, Listing, Sync, Verb, bound

P = ParamSpec("P")
T = TypeVar("T")

Action: TypeAlias = Literal["cancel", "pause", "resume", "delete", "label"]

SHOW_S = 0.5
"""Progress is shown no more often."""
_LEADS_TO: Mapping[Action, Sequence[State]] = {
    "cancel": ["cancelled"],
    "pause": ["paused", "stopping"],
    "resume": ["queued", "running", "succeeded", "failed"],
    "delete": [],
    "label": [],
}
"""Action → states in which a run may be when it has been done."""


class RunVerb(Generic[P]):
    """A method that gives a run: a :class:`Run`, or awaited an :class:`AsyncRun`."""

    def __init__(self, method: Callable[Concatenate[Any, P], Coroutine[Any, Any, "RunMethods"]]) -> None:
        self._method, self.__doc__ = method, method.__doc__

    @overload
    def __get__(self, caller: Sync, owner: type) -> Callable[P, "Run"]: ...
    @overload
    def __get__(self, caller: Async, owner: type) -> Callable[P, Coroutine[Any, Any, "AsyncRun"]]: ...
    def __get__(self, caller: Any, owner: type) -> Any:
        return bound(self._method, caller, "do")


class RunMethods(RunFacts, Caller):
    """What both :class:`Run` and :class:`AsyncRun` can do; what changes or awaits the run refreshes its attributes."""

    def __init__(self, caller: Caller, answer: Mapping[str, Any] | RunFacts) -> None:
        facts = answer if isinstance(answer, RunFacts) else read(answer, RunFacts)
        self.__dict__ |= vars(facts)  # for everybody else the facts are frozen
        self.__dict__ |= {"_transport": caller._transport, "_max_retries": caller._max_retries}

    def _at(self, *parts: str | int) -> str:
        return at("/v1/runs", self.id, *parts)

    async def _taken(self, answer: Coroutine[Any, Any, Any]) -> "RunMethods":
        """This run with what was answered of it, or the other run that the answer is about."""
        run = type(self)(self, await answer)
        if run.id != self.id:
            return run
        self.__dict__ |= vars(run)
        return self

    def _log(self, after: int, types: Collection[str]) -> EventLog:
        path, retries = self._at("events"), self._patience
        return EventLog(self._transport, path, after=after, types=types, max_retries=retries)

    async def _events_after(self, seq: int) -> Sequence[Any]:
        """The next event, if there is one by now."""
        params = {"after": seq, "limit": 1}
        page = await self._send("GET", self._at("events"), params=params, max_retries=self._patience)
        return read(page["data"], list[Any])

    async def _look(self, max_retries: int | None = None) -> "RunMethods":
        return await self._taken(self._send("GET", self._at(), max_retries=max_retries))

    async def _steered(self, action: Action) -> "RunMethods":
        change = self._taken(self._send("POST", self._at(action)))
        return await unless_done(change, self._look, lambda run: run.state in _LEADS_TO[action])

    @RunVerb
    async def refresh(self) -> "RunMethods":
        """Look again."""
        return await self._look()

    @RunVerb
    async def wait(
        self,
        timeout: float | None = None,  # noqa: ASYNC109
        *,
        progress: bool | Callable[[RunFacts], object] = True,
        check: bool = True,
    ) -> "RunMethods":
        """Wait for the end of the run, through restarts of the service; a paused run is waited for, too.

        Args:
            timeout: seconds to wait at most; None waits as long as it takes.
            progress: True shows a line on standard error where that is a terminal; a function is called with the run.
            check: raise where the run has failed.

        Raises:
            WaitTimeout: the time is up; the run goes on.
            RunFailed: the run failed.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        show, shown_at = shown(progress), 0.0
        await self._look(self._patience)
        since = 0 if self.is_ended else await recent_seq(self._events_after)
        await self._look(self._patience)  # what happened before that is known, what comes is told
        log = self._log(since, ["state", "progress"] if show else ["state"])
        async with aclosing(log.until(deadline)) as events:
            while not self.is_ended:
                event = await anext(events, None)
                if event is None and not log.is_ended:
                    raise WaitTimeout(f"{self.id} is {self.state} after {timeout:g} s; it goes on.")
                if event and event.type == "progress" and time.monotonic() - shown_at < SHOW_S:
                    continue
                await self._look(self._patience)
                if show is not None:
                    show(self)
                    shown_at = time.monotonic()
        if check and self.state == "failed":
            raise RunFailed(self)
        return self

    @Listing
    async def events(self, after: int = 0, types: Collection[str] = ()) -> AsyncIterator[Event]:
        """The run's events as they come, each once, to its end; goes on through restarts of the service.

        Args:
            after: only those with a larger ``seq``.
            types: only these (``state``, ``metrics``, ``progress``, ``checkpoint``, …), and ``end``.
        """
        async with aclosing(self._log(after, types).until(None)) as events:
            async for event in events:
                yield event

    @Listing
    async def logs(self, *, follow: bool = False, after: int = 0) -> AsyncIterator[LogLine]:
        """Lines of the run's log, from behind the ``seq`` ``after``; ``follow`` goes on to the end of the run."""
        goes_on = True
        while goes_on:
            if follow:
                await self._look(self._patience)
            goes_on = follow and not self.is_ended  # what was written before it ended is there now
            retries = self._patience if follow else None
            async for found in self._list(self._at("logs"), LogLine, {"after": after}, max_retries=retries):
                after = found.seq
                yield found
            if goes_on:
                await self._transport.sleep(POLL_S)

    @Verb
    async def metrics(self, names: Sequence[str] = (), *, max_points: int | None = None) -> Metrics:
        """Metric points by epoch, of these names or of all; ``max_points`` thins each name for a chart."""
        found = await self._all(self._at("metrics"), Metric, names=list(names), max_points=max_points)
        return Metrics(found)

    @Verb
    async def checkpoints(self) -> list[Checkpoint]:
        """The stored checkpoints, newest epoch first."""
        return await self._all(self._at("checkpoints"), Checkpoint)

    @Verb
    async def download(self, path: str | PathLike[str], checkpoint: str = "best") -> Path:
        """Take a checkpoint away as a file, for ``RunContext.load`` and :meth:`Client.import_checkpoint`.

        Args:
            path: of the file, which takes the place of one that is there; in a directory it gets the checkpoint's name.
            checkpoint: ``best``, ``last``, ``epoch:N`` or a checkpoint's id.

        Returns:
            The file.
        """
        found = chosen(await self._all(self._at("checkpoints"), Checkpoint), checkpoint, self.id)
        target = Path(path)
        if target.is_dir():  # noqa: ASYNC240 -- a local file
            target /= f"{found.id}.ckpt"
        return await download(self._transport, self._max_retries, at("/v1/checkpoints", found.id), target)

    @Verb
    async def episodes(self) -> list[Episode]:
        """Episodes of a rollout, by index, without their trajectories."""
        return await self._all(self._at("episodes"), Episode)

    @Verb
    async def episode(self, index: int) -> Episode:
        """One episode with its trajectory, where it was recorded."""
        return read(await self._send("GET", self._at("episodes", index)), Episode)

    @Verb
    async def download_video(self, index: int, path: str | PathLike[str]) -> Path:
        """Take the video of a filmed episode away as a file (MP4), which takes the place of one that is there."""
        at = self._at("episodes", index, "video")
        return await download(self._transport, self._max_retries, at, Path(path))

    @Verb
    async def download_trajectory(self, index: int, path: str | PathLike[str]) -> Path:
        """Take a recorded episode away as a file (safetensors), which ``maze_core.load_trajectory`` reads."""
        at = self._at("episodes", index, "trajectory")
        return await download(self._transport, self._max_retries, at, Path(path))

    @RunVerb
    async def replay(self, index: int, **arguments: Unpack[ReplayArguments]) -> "RunMethods":
        """Play a recorded episode of this rollout once more, or with ``step`` ask for one of its actions, in a new run.

        Its ``result`` says whether all bits are ``equal``, and otherwise what differs first.
        """
        return await self._taken(self._create(self._at("episodes", index, "replay"), arguments))

    @Verb
    async def config(self) -> dict[str, Any]:
        """The resolved configuration, with every default."""
        return read((await self._send("GET", self._at("config")))["config"], dict[str, Any])

    @Verb
    async def request(self) -> dict[str, Any]:
        """What was asked for, as it was sent; sent again with the run's seed it gives the run again."""
        return read((await self._send("GET", self._at("config")))["request"], dict[str, Any])

    @Verb
    async def provenance(self) -> dict[str, Origin]:
        """Dotted path → where the value of the configuration comes from, as far as it can be said today."""
        found = await self._send("GET", self._at("config"), params={"provenance": True})
        return read(found["provenance"], dict[str, Origin])

    @Verb
    async def compute_action(self, observation: Any, **how: Unpack[ActingArguments]) -> Any:
        """The trained policy's action for a raw observation, both in the environment's own form; numpy is taken.

        Returns:
            The action; where ``state`` is given, which a policy with a state needs, a pair with the next state.
        """
        body = {"observation": observation, **how}
        return acted(await self._act(self._at("compute_action"), body), how)

    act = compute_action

    @Verb
    async def explain_action(self, observation: Any, **how: Unpack[ExplainArguments]) -> dict[str, Any]:
        """As :meth:`compute_action`, with what the policy thought.

        Returns:
            ``action``, and its ``distribution``, ``value``, ``mask`` and ``log_prob``, or those that ``return_`` names;
            None where it has no such thing. ``candidates`` where ``top_k`` asks for them, ``timing_us`` and
            ``batch_size`` where ``timing`` does, the next ``state`` where one is given.
        """
        body = {"observation": observation, **explaining(how)}
        return explained(await self._act(self._at("compute_action"), body))

    @Verb
    async def explain_actions(
        self, observations: Sequence[Any], **how: Unpack[ExplainManyArguments]
    ) -> Sequence[dict[str, Any]]:
        """As :meth:`explain_action`, for up to 1024 observations, each as if it had come alone.

        Returns:
            One of these for each; ``problem`` in the place of ``action`` where an observation got none.
        """
        body = {"observations": observations, "errors": "per_item", **explaining(how)}
        answer = await self._act(self._at("compute_action"), body)
        return [explained(result) for result in answer["results"]]

    @Verb
    async def compute_actions(self, observations: Sequence[Any], **how: Unpack[ActingManyArguments]) -> Any:
        """As :meth:`compute_action`, for up to 1024 observations at once: a list; with ``states`` two of them."""
        body = {"observations": observations, **how}
        return acted(await self._act(self._at("compute_action"), body), how)

    @Verb
    async def promote(
        self,
        name: str,
        alias: str = "champion",
        *,
        checkpoint: str = "best",
        note: str | None = None,
        reason: str | None = None,
        comparison: RunFacts | str | None = None,
    ) -> PolicyAlias:
        """Make a checkpoint of this run a version of a policy, and let an alias name it; makes what there is not.

        Args:
            name: of the policy.
            alias: that names the version from then on.
            checkpoint: which one of this run.
            note: of the version.
            reason: of the move.
            comparison: the run that opens the gate, where there is one.

        Raises:
            ConflictError: the run has no checkpoint, or the gate stays closed; the version is made all the same.
        """
        policies = PolicyMethods(self)
        why = {"reason": reason, "comparison": comparison}
        return await policies._promote_run(name, alias, self.id, checkpoint, note, **why)

    @RunVerb
    async def cancel(self) -> "RunMethods":
        """Cancel the run: a waiting one at once, a working one when its last checkpoint is stored."""
        return await self._steered("cancel")

    @RunVerb
    async def pause(self) -> "RunMethods":
        """Pause the run: a waiting one at once, a working one when its last checkpoint is stored."""
        return await self._steered("pause")

    @RunVerb
    async def resume(self) -> "RunMethods":
        """Give the paused run back to the queue; it ends as one that was not paused."""
        return await self._steered("resume")

    @RunVerb
    async def continue_(self, **arguments: Unpack[ContinueArguments]) -> "RunMethods":
        """Train on from a checkpoint of this run, which has ended, in a new run."""
        return await self._taken(self._create(self._at("continue"), arguments))

    @RunVerb
    async def retry(self, **arguments: Unpack[Labelled]) -> "RunMethods":
        """Try the failed or cancelled run again, from its last scheduled checkpoint, in a new run."""
        return await self._taken(self._create(self._at("retry"), arguments))

    @RunVerb
    async def fork(self, **arguments: Unpack[ForkArguments]) -> "RunMethods":
        """Train anew with this run's configuration and changes to it, in a new run."""
        return await self._taken(self._create(self._at("fork"), arguments))

    @RunVerb
    async def edit(self, *, if_revision: int | None = None, **changes: Unpack[RunChanges]) -> "RunMethods":
        """Change name, labels, notes or priority; None takes one away, what is not named stays.

        Args:
            if_revision: only where the run still has this ``revision``.
            **changes: ``name``, ``labels``, ``notes``, ``priority``.

        Raises:
            ChangedError: it has another revision.
        """
        headers = {} if if_revision is None else {"If-Match": f'"{if_revision}"'}
        change = self._taken(self._send("PATCH", self._at(), changes, headers=headers))
        return await unless_done(change, self._look, lambda run: _has(run, changes))

    @Verb
    async def delete(self) -> None:
        """Delete the run, which has ended, with all it left."""
        await self._send("DELETE", self._at())


def made_by_an_earlier_try(changed: Changed, action: Action) -> Changed:
    """What became of one run of many, where an earlier try may have done it."""
    code = (changed.error or {}).get("code")
    is_done = code == "not_found" if action == "delete" else changed.state in _LEADS_TO[action]
    return replace(changed, error=None) if is_done else changed


def _has(run: RunFacts, changes: Mapping[str, Any]) -> bool:
    """Whether a run is as the changes would make it."""
    labels = changes.get("labels") or {}
    others = [(getattr(run, name), value) for name, value in changes.items() if name != "labels"]
    return all(
        there == value for there, value in [*others, *((run.labels.get(key), labels[key]) for key in labels)]
    )


def chosen(checkpoints: Sequence[Checkpoint], selector: str, run_id: str) -> Checkpoint:
    """The checkpoint that a selector means, of those of a run, newest first."""
    for found in checkpoints:
        names = {
            found.id,
            f"epoch:{found.epoch}",
            "best" if found.is_best else "",
            "last" if found.is_last else "",
        }
        if selector in names:
            return found
    if selector == "last" and checkpoints:
        return checkpoints[0]
    known = ", ".join(f"epoch:{found.epoch}" for found in checkpoints)
    raise MazeClientError(f"{run_id} has no checkpoint {selector!r}; it has {known or 'none'}.")


class Run(RunMethods, Sync):
    """A run; methods answer when they are done."""


class AsyncRun(RunMethods, Async):
    """A run; methods are awaited, ``events`` and ``logs`` are for ``async for``."""
