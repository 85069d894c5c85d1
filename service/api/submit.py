"""Submitting: train, rollout, evaluate, from the request to a queued run and its answer.

Check, compose, check again, store: what was composed is what runs. The resolved tree goes into the run's row, and the
worker's child builds from that and nothing else. The checks on both sides of the composition are those of
``maze_core.config.trust``. All three answer alike.
"""

import contextlib
import hashlib
import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Any, Literal, TypeAlias

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from maze_core.config import RunConfig, compose_run
from maze_core.config.arguments import ROOTS, recorded_arguments
from maze_core.config.components import canonical_target, target_name
from maze_core.config.modules import PRESET_GROUPS, composition, module_index
from maze_core.config.schema import BUDGETS
from maze_core.config.trust import check_arguments, check_names, check_tree
from maze_core.errors import InvalidSpecificationError, MazeError, ProblemList
from maze_core.models.config import DISTRIBUTIONS, TorchPolicyConfig
from maze_core.models.supports import learnt_by
from maze_core.rollout.recording import episodes_sha256
from maze_core.runners.config import rollout_tree
from maze_core.seeding import draw_seed
from maze_core.types import Tree
from service.api.answers import RunOut, run_path
from service.api.bodies import (
    COMPOSITION,
    EvaluateRequest,
    In,
    Labelled,
    RolloutRequest,
    StrictRoute,
    TrainRequest,
)
from service.api.dependencies import CallerDep, Services, ServicesDep, require_scope
from service.domain.errors import IdempotencyConflictError, NotFoundError, StateConflictError
from service.domain.policies import is_reference, name_version
from service.domain.run import CheckpointInfo, Continuation, NewRun, Run, RunKind
from service.domain.sharing import DEFAULT_PROJECT, Caller, Scope
from service.domain.use_cases import (
    acting_checkpoint,
    dataset_episodes,
    named_checkpoint,
    new_run_id,
    request_digest,
)
from service.problems import Problem
from service.trace import Trace
from service.trust import client_policy

router = APIRouter(
    prefix="/v1", tags=["submit"], route_class=StrictRoute, dependencies=[require_scope(Scope.RUNS_WRITE)]
)
logger = logging.getLogger(__name__)

Mode = Literal["train", "rollout"]

TRAIN_ARGUMENTS = (*COMPOSITION, "algorithm", "critic", "seed", *BUDGETS, "config")
ROLLOUT_ARGUMENTS = (*COMPOSITION, "seed")
RUNNER_FIELDS = {
    "n_episodes": "n_episodes",
    "max_episode_steps": "max_episode_steps",
    "deterministic": "deterministic",
    "n_envs": "n_envs",
    "record": "record_trajectory",
}
"""Fields of a request that set one of the runner's."""
TORCH_POLICY = target_name(TorchPolicyConfig)
_PUBLISHED = tuple(map(canonical_target, ("GymEnvConfig", "PettingZooEnvConfig")))
"""Environments whose spaces workers publish by their ids."""

MAX_VIDEOS = 100
"""Episodes that one rollout films."""
INSTALL = "pip install 'maze-service[video]'"

LONGEST_WAIT_S = 300
_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?=$|[,;])", re.IGNORECASE)
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What a submission would run."""

    config: RunConfig | None = None
    """None of what has none, or not yet."""
    source: CheckpointInfo | None = None
    """The checkpoint that acts in it, or whose policy it begins with."""
    parent: Run | None = None
    """The run that it follows from."""
    continues: Continuation | None = None
    run_id: str | None = None
    """Its id, where that is settled."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """As :attr:`Run.arguments`."""


def train_choice(services: Services, request: TrainRequest) -> Chosen:
    """Of a fresh policy, or going on with that of another run."""
    config = compose(services, "train", request.given(*TRAIN_ARGUMENTS))
    initial = config.tree.get("initial")
    source = services.checkpoints.get(initial["checkpoint"]) if initial else None
    return Chosen(config=config, source=source, arguments=films(services, request.videos))


def rollout_choice(services: Services, request: RolloutRequest) -> Chosen:
    """Episodes, of which some may be filmed."""
    chosen = _episodes(services, request)
    assert chosen.config is not None
    n_episodes = chosen.config.tree["runner"]["n_episodes"]
    return replace(chosen, arguments=_films_of(services, request, n_episodes))


def _episodes(services: Services, request: RolloutRequest) -> Chosen:
    """Of a trained policy, or of one that needs no training."""
    if request.run is not None or is_reference(request.policy):
        return acting_choice(services, request)
    if request.policy is None:
        message = 'Give the run whose policy acts, or one that needs no training: "policy": "random_policy".'
        raise Problem.at("", "missing_field", message)
    if request.checkpoint is not None:
        raise Problem.at("/checkpoint", "contradiction", "A checkpoint is one of a run; give the run too.")
    _refuse_bare_name(services, request.policy)
    config = compose(services, "rollout", request.given(*ROLLOUT_ARGUMENTS) | with_runner_values(request))
    if canonical_target(config.tree["policy"].get("_target_", "")) == TORCH_POLICY:
        raise Problem.at("/policy", "missing_field", 'A trained policy is named by its run: give "run".')
    return Chosen(config=config)


def compose(
    services: Services,
    mode: Mode,
    arguments: Mapping[str, Any],
    *,
    seed: int | None = None,
    within_multirun: bool = False,
) -> RunConfig:
    """The resolved configuration of untrusted arguments; where nothing sets a seed it is this one, or is drawn.

    Raises:
        InvalidSpecificationError: with every problem found.
        Problem: 503 where the environment may be one that a worker has not published yet.
    """
    policy = client_policy(services.settings, services.registry)
    arguments = beside = dict(arguments)
    if (recorded := arguments.pop("config", None)) is not None:
        check_names(recorded, policy)
        arguments = recorded_arguments(recorded, arguments)
    try:
        check_arguments(arguments, policy)
    except InvalidSpecificationError as error:
        if any(problem.code == "env_not_published" for problem in error.problems):
            message = "A worker has yet to say which environments it has; try again in a moment."
            raise Problem("not_ready", message, headers={"Retry-After": "2"}) from error
        raise
    directories = services.settings.config_dirs
    is_drawn = "seed" not in arguments and not sets_seeds(mode, arguments, directories)
    if is_drawn:
        arguments = {**arguments, "seed": draw_seed() if seed is None else seed}
    make = partial(compose_run, mode, config_dirs=directories, within_multirun=within_multirun)
    config = make(**arguments, locate=partial(_located, services))
    if recorded is not None:
        config.beside_recorded(beside)
    if config.origins is not None:
        config.origins.is_drawn = is_drawn
    check_tree(config.tree, policy)
    _refuse_strange_spaces(config, services)
    return config


def _located(services: Services, part: str, node: Tree) -> Tree:
    """What a run of the service left, for one that begins with it: recorded episodes, or a trained policy."""
    if (run_id := node["run"]) is None:
        message = "The configuration does not say which run left it; name it."
        raise InvalidSpecificationError(message, path=f"{part}.run", code="missing_key")
    if part == "initial":
        chosen = named_checkpoint(services, run_id, node["checkpoint"])
        found = {"run": chosen.run_id, "checkpoint": chosen.id, "sha256": chosen.content_sha256}
    else:
        found = {"sha256": _episodes_sha256(services, run_id)}
    if node["sha256"] not in (None, found["sha256"]):
        message = (
            f"What run {run_id} left is not what the configuration was made with; leave {part}.sha256 out."
        )
        raise InvalidSpecificationError(message, path=f"{part}.run", code="other_content")
    return {**node, **found}


def _episodes_sha256(services: Services, run_id: str) -> str:
    run = services.runs.get(run_id)
    if not run.state.is_terminal:
        message = f"Run {run_id} is {run.state} and may record more; wait for its end."
        raise StateConflictError(message, state=run.state.value)
    return episodes_sha256(dataset_episodes(services.episodes, run_id).values())


def _refuse_strange_spaces(config: RunConfig, services: Services) -> None:
    """Refuse an environment in whose spaces nothing, or not this algorithm, can act, as a worker found.

    Arguments of an environment and wrappers inside it may change its spaces, and wrappers its actions.
    """
    if (row := published(services, config.tree)) is None:
        return
    learns = config.mode == "train" and not config.tree["wrappers"]
    needs = config.build("algorithm").model_needs if learns else None
    acts_in = DISTRIBUTIONS if needs is None else needs.distributions
    found = ProblemList()
    if row.get("sub_steps") and needs is not None and not needs.supports.agents:
        message = f"It learns one agent, and {row['id']} has several: take {learnt_by('own_rewards')}."
        found.add("algorithm", message, code="env_not_trainable")
    if row.get("is_trainable") is False and "observation_space" in row:  # it was made: the spaces are why
        found.add("env.name", f"{row['id']} cannot be used: {row['reason']}", code="env_not_trainable")
    kind = str((row.get("action_space") or {}).get("type"))
    if kind in DISTRIBUTIONS and kind not in acts_in:
        message = f"It does not act in a {kind}, which {row['id']} has: take {learnt_by('actions', kind)}."
        found.add("algorithm", message, code="env_not_trainable")
    found.raise_if_any()


def published(services: Services, tree: Tree) -> Mapping[str, Any] | None:
    """What a worker found of a configuration's environment; None where that is not what is played."""
    env = tree["env"]
    if env["_target_"] not in _PUBLISHED or env["kwargs"] or env.get("wrappers"):
        return None
    return next(iter(services.registry.environments(env["name"])), None)


def warm_up(services: Services) -> None:
    """Compose once: what the first composition loads, no client waits for then."""
    try:
        compose(services, "train", {})
    except MazeError as error:
        logger.error("the default configuration cannot be composed: %s", error)


def seed_of(tree: Tree) -> int:
    """The seed that is shown for a run: both of its seeds are this one unless the client set them apart."""
    return int(tree["seeding"]["env_base_seed"])


def sets_seeds(mode: Mode, arguments: Mapping[str, Any], directories: list[str]) -> bool:
    """Whether an override or a preset sets the seeds; then nothing is drawn for both."""
    if any(key == "seeding" or key.startswith("seeding.") for key in arguments.get("overrides", {})):
        return True
    index = module_index(directories)
    presets = {
        group: arguments[group] for group in PRESET_GROUPS if arguments.get(group) in index.names(group)
    }
    seeding: Any = None
    with contextlib.suppress(InvalidSpecificationError):  # is said where all is composed
        seeding = presets and composition(ROOTS[mode], presets, index).tree.get("seeding")
    return isinstance(seeding, Mapping) and any(seed is not None for seed in seeding.values())


def with_runner_values(request: RolloutRequest) -> dict[str, Any]:
    """The overrides with the request's own fields for the runner among them."""
    overrides = dict(request.overrides)
    for name, given in request.given(*RUNNER_FIELDS).items():
        key = f"runner.{RUNNER_FIELDS[name]}"
        if key in overrides:
            message = f"This is given beside the override {key!r}; give one of them."
            raise Problem.at(f"/{name}", "contradiction", message)
        overrides[key] = _of_runner(given)
    return {"overrides": overrides}


def _of_runner(value: Any) -> Any:
    """A field of a request as the runner has it: of what is to be recorded, whether trajectories are."""
    return "trajectory" in value if isinstance(value, list) else value


def _films_of(services: Services, request: RolloutRequest, n_episodes: int) -> dict[str, Any]:
    """How many of the first episodes are filmed, where any are."""
    wants_all = isinstance(request.record, list) and "video" in request.record and request.videos is None
    n_videos = n_episodes if wants_all else min(request.videos or 0, n_episodes)
    where = "/record" if wants_all else "/videos"
    if n_videos > MAX_VIDEOS:
        message = f"At most {MAX_VIDEOS} episodes are filmed; say of how many of the first ones: videos."
        raise Problem.at(where, "out_of_range", message)
    return films(services, n_videos, where)


def films(services: Services, n_videos: int | None, where: str = "/videos") -> dict[str, Any]:
    """What a run is told that films so many episodes; nothing of none.

    Raises:
        Problem: no worker can film.
    """
    workers = services.registry.live_workers(services.settings.lease_s) if n_videos else ()
    if workers and not any(worker.get("films", True) for worker in workers):
        message = (
            f"No worker can film: videos need imageio-ffmpeg, which their operator installs with {INSTALL}."
        )
        raise Problem.at(where, "missing_extra", message)
    return {"videos": n_videos} if n_videos else {}


def _resources(body: Labelled, parent: Run | None) -> dict[str, Any]:
    """What the run takes of its machine: as is said, else as the run that it follows from."""
    given = body.given("resources") or {"resources": parent and parent.arguments.get("resources")}
    return {name: value for name, value in given.items() if value}


def _refuse_bare_name(services: Services, policy: Any) -> None:
    """Tell who names a policy without its version what there is, and not that there is no such module."""
    if not isinstance(policy, str) or policy in module_index(services.settings.config_dirs).names("policy"):
        return
    with contextlib.suppress(NotFoundError):
        known = services.policies.get(policy)
        raise Problem.of(name_version(known))


def acting_choice(services: Services, request: RolloutRequest | EvaluateRequest) -> Chosen:
    """Episodes with the policy of a trained run, in that run's own environment and wrappers."""
    for name in request.given(*COMPOSITION):
        if name != "policy":
            raise Problem.at(f"/{name}", "contradiction", f"{name} comes from the run; leave it out.")
    checkpoint = named_in(services, request)
    # an evaluation keeps returns, not trajectories, and its request has no such field
    runner = {field: _of_runner(getattr(request, name, False)) for name, field in RUNNER_FIELDS.items()}
    seed = draw_seed() if request.seed is None else request.seed
    tree = rollout_tree({**services.runs.get(checkpoint.run_id).config}, seed=seed, **runner)
    tree["policy"] = trained(checkpoint)
    return Chosen(config=stored_config(services, tree, "rollout"), source=checkpoint)


def trained(checkpoint: CheckpointInfo) -> Tree:
    """A policy that was trained, as a configuration names it."""
    return {"_target_": TORCH_POLICY, "checkpoint": checkpoint.id}


def stored_mode(run: Run) -> Mode:
    """The mode of a run's configuration."""
    return "train" if "algorithm" in run.config else "rollout"


def named_in(services: Services, request: In, pointer: str = "") -> CheckpointInfo:
    """The checkpoint that acts: of a ``run``, or of the ``policy`` that is named.

    Raises:
        Problem: both are given, or none.
    """
    given = request.given("run", "checkpoint", "policy")
    if "policy" not in given:
        if "run" not in given:
            message = 'Give "policy": "name@alias" or "name:3", or the run whose policy acts.'
            raise Problem.at(pointer, "missing_field", message)
        return acting_checkpoint(services, given["run"], given.get("checkpoint") or "best")
    if len(given) > 1:
        message = "A policy says which checkpoint of which run it is: give policy, or run and checkpoint."
        raise Problem.at(f"{pointer}/policy", "contradiction", message)
    policy = given["policy"]
    return acting_checkpoint(services, policy if is_reference(policy) else f"{policy}@")


def source_of(services: Services, run: Run, way_out: str) -> CheckpointInfo | None:
    """The checkpoint that acted in a run, or that it began with, once more; None of a run without one.

    Raises:
        StateConflictError: one that it needs was deleted; the message ends with ``way_out``.
    """
    needed = [(node["run"], node["checkpoint"]) for node in run.config.get("compared") or ()]
    found = None
    for run_id, checkpoint in needed or [(run.source_run, run.source_checkpoint)]:
        if checkpoint is None:
            return None
        try:
            found = services.checkpoints.get(checkpoint)
        except NotFoundError as error:
            message = (
                f"{_gone(services, str(run_id), checkpoint)}, and run {run.id} was played with it: {way_out}."
            )
            raise StateConflictError(message) from error
    return None if needed else found


def _gone(services: Services, run_id: str, checkpoint: str) -> str:
    try:
        services.runs.get(run_id)
    except NotFoundError:
        return f"Run {run_id} was deleted with its checkpoint {checkpoint}"
    return f"Checkpoint {checkpoint} of run {run_id} was deleted"


def stored_config(services: Services, tree: Mapping[str, Any], mode: Mode) -> RunConfig:
    """A configuration of a run that was accepted once, checked again: what is allowed may have changed."""
    config = RunConfig.from_tree(dict(tree), mode)
    check_tree(config.tree, client_policy(services.settings, services.registry))
    if (source := (config.tree.get("dataset") or {}).get("run")) is not None:
        dataset_episodes(services.episodes, services.runs.get(source).id)  # still there?
    return config


@dataclass(frozen=True)
class Submission:
    """How a client wants its submission taken, and the answer to it."""

    services: Services
    request: Request
    response: Response
    caller: Caller
    """Who submits."""
    key: str | None
    """Its Idempotency-Key."""
    wait_s: int | None
    """How long to wait for the run's end; None answers at once."""
    run_id: str | None = None
    """The id that the client has chosen."""

    async def answer(self, kind: RunKind, body: Labelled, choose: Callable[[], Chosen], of: str = "") -> Run:
        """202 with the run as it is; 200 with the ended run where the client chose to wait and it ended.

        Args:
            kind: what the run does.
            body: the submission.
            choose: what it would run.
            of: what was asked of which run, where it follows from another one.
        """
        return await self.told(*await run_in_threadpool(self._run, kind, body, choose, of))

    async def told(self, run: Run, is_new: bool) -> Run:
        """As :meth:`answer`, of a run that was made now or before."""
        headers = self.response.headers
        headers["Location"] = run_path(run.id)
        if not is_new:
            headers["Idempotent-Replayed"] = "true"
        if self.wait_s is not None:
            headers["Preference-Applied"] = f"wait={self.wait_s}"
            run = await self._ended(run, self.wait_s)
        if run.state.is_terminal and self.wait_s is not None:
            self.response.status_code = 200
        else:
            headers["Retry-After"] = "1"
        return run

    def _run(self, kind: RunKind, body: Labelled, choose: Callable[[], Chosen], of: str) -> tuple[Run, bool]:
        """The run that this key has made, whatever has changed since, or a new one, queued from then on."""
        store, idempotency = self.services.runs, idempotent(self.caller, kind, self.key, body.given(), of)
        trace: Trace | None = self.request.scope.get("state", {}).get("trace")
        try:
            if idempotency is not None and (made := store.submitted(*idempotency)) is not None:
                return made, False
            chosen = choose()
            config, source, parent = chosen.config, chosen.source, chosen.parent
            new = NewRun(
                id=self.run_id or chosen.run_id or new_run_id(),
                kind=kind,
                request=body.given(),
                config=config.tree if config else {},
                config_sha256=config.config_sha256 if config else None,
                seed=seed_of(config.tree) if config else None,
                name=body.name or (parent.name if parent else None),
                labels=parent.labels if parent and "labels" not in body.model_fields_set else body.labels,
                priority=body.priority,
                source_run=source.run_id if source else None,
                source_checkpoint=source.id if source else None,
                parent_run=parent.id if parent else None,
                continues=chosen.continues,
                arguments={**chosen.arguments, **_resources(body, parent)},
                **({} if trace is None else trace._asdict()),
            )
            return store.create(
                new, idempotency, max_queued=self.services.settings.max_queued_runs, by=self.caller.token_id
            )
        except IdempotencyConflictError as error:  # the store knows a digest, the client its key
            if self.run_id is not None:
                message = f"Run {self.run_id} was submitted with another body; take another id."
                raise StateConflictError(message) from error
            made_it = f"made run {error.details['run_id']} with another body"
            message = f"Idempotency-Key {self.key!r} {made_it}; use a new key."
            raise IdempotencyConflictError(message, **error.details) from error

    async def _ended(self, run: Run, wait_s: float) -> Run:
        """The run when it has ended, the time is up, or nobody waits any more."""
        changes = self.services.changes
        deadline = time.monotonic() + wait_s
        while not run.state.is_terminal and (left_s := deadline - time.monotonic()) > 0:
            version = changes.version
            run = await run_in_threadpool(self.services.runs.get, run.id)
            if run.state.is_terminal or changes.is_stopping or await self.request.is_disconnected():
                break
            await changes.wait(version, min(left_s, 5.0))
        return run


async def _idempotency_key(
    idempotency_key: Annotated[
        str | None,
        Header(
            description="Any text of the client's: the same key submits the run once.",
            json_schema_extra={"pattern": r'^"?[\x21\x23-\x7e]{1,255}"?$'},
        ),
    ] = None,
) -> str | None:
    key = idempotency_key
    if key is not None and not _KEY.fullmatch(key := key.strip().strip('"')):
        message = "Idempotency-Key takes 1 to 255 printable ASCII characters without spaces."
        raise Problem("bad_request", message)
    return key


KeyDep: TypeAlias = Annotated[str | None, Depends(_idempotency_key)]


def idempotent(
    caller: Caller, kind: str, key: str | None, body: Mapping[str, Any], of: str = ""
) -> tuple[str, str] | None:
    """Key and digest as a store takes them; keys of two tokens or two kinds never meet."""
    if key is None:
        return None
    project = [] if caller.project == DEFAULT_PROJECT else [f"in {caller.project}"]
    scope = "\n".join([str(caller.token_id), kind, key, *([of] if of else []), *project])
    return hashlib.sha256(scope.encode()).hexdigest(), request_digest(kind, body)


async def _submission(
    services: ServicesDep,
    request: Request,
    response: Response,
    caller: CallerDep,
    prefer: Annotated[
        str, Header(description="`wait=SECONDS` waits for the end of the run, 300 s at most.")
    ] = "",
    key: KeyDep = None,
) -> Submission:
    wait = _WAIT.search(prefer)
    wait_s = min(int(wait[1]), LONGEST_WAIT_S) if wait else None
    return Submission(services, request, response, caller, key, wait_s)


SubmissionDep: TypeAlias = Annotated[Submission, Depends(_submission)]
ENDED: dict[int | str, dict[str, Any]] = {
    200: {"model": RunOut, "description": "The run has ended within the time of `Prefer: wait`."}
}


@router.post("/train", status_code=202, response_model=RunOut, responses=ENDED)
async def train(
    body: TrainRequest,
    submission: SubmissionDep,
    smoke: Annotated[
        bool,
        Query(description="Only try it out: a run of kind `smoke`, which says what training would cost."),
    ] = False,
) -> Run:
    """Train a policy. The arguments are RunContext's own; everything has a default."""
    kind = RunKind.SMOKE if smoke else RunKind.TRAIN
    return await submission.answer(kind, body, partial(train_choice, submission.services, body))


@router.post("/rollout", status_code=202, response_model=RunOut, responses=ENDED)
async def rollout(body: RolloutRequest, submission: SubmissionDep) -> Run:
    """Play episodes, with the policy of a trained `run` or with one that needs no training."""
    return await submission.answer(RunKind.ROLLOUT, body, partial(rollout_choice, submission.services, body))


@router.post("/evaluate", status_code=202, response_model=RunOut, responses=ENDED)
async def evaluate(body: EvaluateRequest, submission: SubmissionDep) -> Run:
    """Measure a trained policy: mean return with its 95 % confidence interval over seeded episodes."""
    return await submission.answer(RunKind.EVALUATE, body, partial(acting_choice, submission.services, body))
