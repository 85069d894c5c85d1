"""The Open Inference Protocol under ``/v2``, as Triton's and KServe's clients speak it: a second face of acting.

A model is a run's id, or a policy as ``name@alias`` or ``name:3``; a model's version is the number of a policy's
version, or a checkpoint of a run (``best``, ``last``, ``epoch:N``, an id). What acts, and every check, limit and
problem, is that of ``compute_action``; a problem has ``error`` besides, which these clients read.
"""

import asyncio
import re
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, TypeAlias

import msgspec
from fastapi import APIRouter, Depends, Header, Path, Request, Response
from fastapi.concurrency import run_in_threadpool

from maze_core.config.trust import RUN_ID
from maze_core.types import JSON
from service.api import discovery
from service.api.answers import Out
from service.api.dependencies import CallerDep, Services, ServicesDep, require_scope
from service.domain.errors import AgentGoneError, NotFoundError, ServiceError
from service.domain.policies import is_policy, reference
from service.domain.sessions import DEFAULT_TTL_S, SequenceConflictError, SessionGoneError
from service.domain.sharing import Caller, Scope
from service.domain.use_cases import acting_checkpoint
from service.json_values import decode_json
from service.problems import Problem
from service.serving.agents import Version
from service.serving.batching import Spent, Statistics
from service.serving.inference import TOLD, Inference, Model, SequenceStep, Tensor
from service.serving.observations import MAX_ROWS
from service.serving.served import ServedAgent
from service.serving.tensors import DATATYPES, HEAD_LENGTH

router = APIRouter(prefix="/v2", tags=["inference"], dependencies=[require_scope(Scope.ACT)])
_ANY: dict[str, Any] = {"dependencies": [require_scope(None)]}
_PROMOTE: dict[str, Any] = {"dependencies": [require_scope(Scope.POLICIES_PROMOTE)]}

EXTENSIONS = (
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "parameters",
    "sequence",
    "statistics",
)
PLATFORM = "maze"


def _body(**properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties}
    return {"requestBody": {"content": {"application/json": {"schema": schema}}}}


_PARAMETERS = {"type": "object", "description": "Text, numbers and truth values by name."}
_TENSOR = {"name": {"type": "string"}, "parameters": _PARAMETERS}
_INPUT = _TENSOR | {
    "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
    "datatype": {"type": "string", "enum": list(DATATYPES)},
    "data": {
        "type": "array",
        "items": {},
        "description": "Flat or nested; bytes come behind the JSON instead.",
    },
}
INFER_BODY = _body(
    inputs={"type": "array", "items": {"type": "object", "properties": _INPUT}},
    outputs={"type": "array", "items": {"type": "object", "properties": _TENSOR}},
    id={"type": "string"},
    parameters=_PARAMETERS,
)
INDEX_BODY = _body(ready={"type": "boolean", "description": "Only models that are in memory."})
LOAD_BODY = _body(
    parameters={"type": "object", "maxProperties": 0, "description": "None: nothing is configured."}
)
UNLOAD_BODY = _body(
    parameters={"type": "object", "properties": {"unload_dependents": {}}, "additionalProperties": False}
)
MAX_INDEX = 1000
"""Aliases that the index of models lists."""
MAX_VERSIONS = 200
"""Versions that a model lists."""
READ_ON_LOOP_BYTES = 65_536
"""Longer bodies are checked in a thread."""


class ServerOut(Out):
    """What this server is."""

    name: str
    version: str
    extensions: list[str]


class TensorOut(Out):
    """An input or output; the first axis is the batch."""

    name: str
    datatype: str
    shape: list[int]


class ModelOut(Out):
    """What a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorOut]
    outputs: list[TensorOut]


class ModelConfigOut(Out):
    """A model as Triton's configuration describes it."""

    name: str
    platform: str
    backend: str
    max_batch_size: int
    input: list[dict[str, Any]]
    output: list[dict[str, Any]]
    sequence_batching: dict[str, int] | None
    """Of a policy that carries a state, which acts in sequences alone."""


class SpentOut(Out):
    """How often something happened, and how long it took in all."""

    count: int
    ns: int


class InferStatisticsOut(Out):
    """Requests and forwards; what comes before and after a forward is not measured apart."""

    success: SpentOut
    fail: SpentOut
    queue: SpentOut
    compute_input: SpentOut
    compute_infer: SpentOut
    compute_output: SpentOut


class BatchStatisticsOut(Out):
    """Forwards of so many rows."""

    batch_size: int
    compute_input: SpentOut
    compute_infer: SpentOut
    compute_output: SpentOut


class ModelStatisticsOut(Out):
    """What a version has done since it was loaded, by whatever name and face it was asked."""

    name: str
    version: str
    last_inference: int
    """Milliseconds since 1970; 0 where there was none."""
    inference_count: int
    """Observations."""
    execution_count: int
    """Forwards."""
    inference_stats: InferStatisticsOut
    batch_stats: list[BatchStatisticsOut]


class StatisticsOut(Out):
    """What models have done."""

    model_stats: list[ModelStatisticsOut]


class IndexEntryOut(Out):
    """A model that can be asked."""

    name: str
    version: str
    state: str
    """``READY`` in memory, ``UNAVAILABLE`` until the first request has loaded it."""
    reason: str


class ReadyOut(Out):
    """Whether a model can act."""

    name: str
    ready: bool


class AnsweredTensorOut(TensorOut):
    """An output; with ``binary_data_size`` in its parameters its data is behind the JSON."""

    data: list[float | int | bool] | None = None
    parameters: dict[str, int] | None = None


class InferOut(Out):
    """Actions of a batch."""

    model_name: str
    model_version: str
    id: str | None = None
    """That of the request."""
    parameters: dict[str, str]
    """The ``checkpoint`` that acted."""
    outputs: list[AnsweredTensorOut]


@dataclass(frozen=True)
class Asked:
    """The model that a path names."""

    name: str
    source: str
    """A run, or a policy as ``name@alias`` or ``name:3``."""
    selector: str
    """Which checkpoint of a run."""


async def _asked(
    request: Request,
    model: Annotated[str, Path(max_length=140, description="A run's id, `name@alias` or `name:3`.")],
) -> Asked:
    version = request.path_params.get("version", "")
    if not version.isdecimal():
        is_bare = not (is_policy(model) or re.fullmatch(RUN_ID, model))
        return Asked(model, f"{model}@" if is_bare else model, version or "best")
    name, _, number = reference(model) or (model, None, None)
    if number not in (None, int(version[:9])):
        raise NotFoundError(f"model {model} is version {number} of {name}, and has no version {version[:9]}")
    return Asked(model, f"{name}:{version}", "best")  # whatever its alias names now


AskedDep: TypeAlias = Annotated[Asked, Depends(_asked)]


router.get("/health/live", name="v2_live", **_ANY)(discovery.live)
router.get("/health/ready", name="v2_ready", **_ANY)(discovery.ready)


@router.get("", **_ANY)
async def get_server() -> ServerOut:
    """What this server is, in the Open Inference Protocol."""
    return ServerOut(name="maze", version=discovery.service_version(), extensions=list(EXTENSIONS))


@router.get("/models/stats")
def list_statistics(services: ServicesDep) -> StatisticsOut:
    """What the models in memory have done since they were loaded: those that the index lists as ready."""
    return StatisticsOut(
        model_stats=[
            _counted(entry.name, entry.version, agent)
            for entry, agent in _models(services)
            if agent is not None
        ]
    )


@router.get("/models/{model}/stats")
@router.get("/models/{model}/versions/{version}/stats", include_in_schema=False)
def get_statistics(asked: AskedDep, services: ServicesDep) -> StatisticsOut:
    """What a model has done since it was loaded; nothing where it is not in memory."""
    version, _ = Version.named(services, asked.source, asked.selector)
    name = _head(asked, version.policy, version.checkpoint)["model_version"]
    return StatisticsOut(model_stats=[_counted(asked.name, name, services.agents.peek(version.checkpoint))])


@router.get("/models/{model}/ready")
@router.get("/models/{model}/versions/{version}/ready", include_in_schema=False)
def get_model_ready(asked: AskedDep, services: ServicesDep) -> ReadyOut:
    """Whether a model can act; one that is not in memory is loaded by its first request."""
    acting_checkpoint(services, asked.source, asked.selector)
    return ReadyOut(name=asked.name, ready=True)


@router.get("/models/{model}")
@router.get("/models/{model}/versions/{version}", include_in_schema=False)
async def get_model(asked: AskedDep, services: ServicesDep) -> ModelOut:
    """The inputs and outputs of a model, which is loaded for it."""
    served = (await services.agents.get(asked.source, asked.selector)).served
    model = Model.of(served.reader())
    return ModelOut(
        name=asked.name,
        versions=await run_in_threadpool(_versions, services, asked),
        platform=PLATFORM,
        inputs=[_described(tensor) for tensor in model.inputs],
        outputs=[
            *map(_described, model.outputs),
            *(TensorOut(name=n, datatype="FP32", shape=[-1]) for n in TOLD),
        ],
    )


@router.get("/models/{model}/config")
@router.get("/models/{model}/versions/{version}/config", include_in_schema=False)
async def get_model_config(asked: AskedDep, services: ServicesDep) -> ModelConfigOut:
    """A model as Triton's configuration describes it."""
    served = (await services.agents.get(asked.source, asked.selector)).served
    model = Model.of(served.reader())
    return ModelConfigOut(
        name=asked.name,
        platform=PLATFORM,
        backend=PLATFORM,
        max_batch_size=MAX_ROWS,
        input=[_configured(tensor) | {"optional": tensor.is_mask} for tensor in model.inputs],
        output=[_configured(tensor) for tensor in model.outputs],
        sequence_batching={"max_sequence_idle_microseconds": int(1e6 * DEFAULT_TTL_S)}
        if served.has_state
        else None,
    )


@router.post("/models/{model}/infer", response_model=InferOut, openapi_extra=INFER_BODY)
@router.post("/models/{model}/versions/{version}/infer", include_in_schema=False, openapi_extra=INFER_BODY)
async def infer(
    asked: AskedDep,
    services: ServicesDep,
    request: Request,
    caller: CallerDep,
    head_length: Annotated[
        str | None,
        Header(
            alias=HEAD_LENGTH, description="Bytes of the JSON.", json_schema_extra={"pattern": r"^\d{1,19}$"}
        ),
    ] = None,
) -> Response:
    """Act on a batch: observations in as tensors, actions out, both as JSON or as bytes behind it.

    With a `sequence_id` on the next observation of an episode, which `sequence_start` begins and `sequence_end` ends.
    """
    body, metrics = await request.body(), services.agents.metrics
    try:
        read = partial(Inference.of, body, head_length)
        inference = await run_in_threadpool(read) if len(body) > READ_ON_LOOP_BYTES else read()
        if selector := inference.request.parameters.checkpoint:
            asked = replace(asked, selector=selector)
        if inference.is_sequence:
            headers, content = await _stepped(services, caller, asked, inference)
        else:
            headers, content = await _inferred(services, asked, inference)
    except (Problem, ServiceError) as error:
        metrics.count_refusal(error.status if isinstance(error, Problem) else Problem.of(error).status)
        raise
    metrics.outcomes["ok"] += 1
    return Response(content, headers=headers)


@router.post("/repository/index", openapi_extra=INDEX_BODY)
async def list_models(request: Request, services: ServicesDep) -> list[IndexEntryOut]:
    """Every alias of every policy; runs are models too, and are not listed."""
    is_ready = _object(await request.body()).get("ready", False)
    if not isinstance(is_ready, bool):
        raise Problem.at("/ready", "invalid_value", "Give true for what is in memory, or false for all.")
    models = await run_in_threadpool(_models, services)
    return [entry for entry, agent in models if agent is not None or not is_ready]


@router.post("/repository/models/{model}/load", openapi_extra=LOAD_BODY, **_PROMOTE)
async def load_model(asked: AskedDep, request: Request, services: ServicesDep) -> dict[str, str]:
    """Load a model before its first request."""
    _require_no_parameters(await request.body())
    await services.agents.get(asked.source, asked.selector)
    return {}


@router.post("/repository/models/{model}/unload", openapi_extra=UNLOAD_BODY, **_PROMOTE)
async def unload_model(asked: AskedDep, request: Request, services: ServicesDep) -> dict[str, str]:
    """Let a model go from memory; its next request loads it again."""
    _require_no_parameters(await request.body(), but="unload_dependents")
    found = await run_in_threadpool(acting_checkpoint, services, asked.source, asked.selector)
    services.agents.unload(found.id)
    return {}


async def _inferred(services: Services, asked: Asked, inference: Inference) -> tuple[dict[str, str], bytes]:
    """Headers and body of the answer; an agent that went a moment ago is loaded once more."""
    try:
        return await _acted(services, asked, inference)
    except AgentGoneError:
        return await _acted(services, asked, inference)


async def _acted(services: Services, asked: Asked, inference: Inference) -> tuple[dict[str, str], bytes]:
    chosen = await services.agents.choose(
        asked.source, asked.selector, inference.request.parameters.traffic_key
    )
    future: asyncio.Future[list[JSON]] = asyncio.get_running_loop().create_future()
    check = partial(inference.job, chosen.served, future)
    job = await run_in_threadpool(check) if inference.n_bytes > READ_ON_LOOP_BYTES else check()
    chosen.submit(job, future)
    head = _head(asked, chosen.version.policy, chosen.version.checkpoint)
    return inference.answer(head, await future)


async def _stepped(
    services: Services, caller: Caller, asked: Asked, inference: Inference
) -> tuple[dict[str, str], bytes]:
    """As :func:`_acted`, by a step of the session that the sequence is."""
    parameters, acting = inference.request.parameters, services.acting
    sequence = (caller.project, asked.source, asked.selector, parameters.sequence_id)
    session = acting.in_sequence(sequence)
    if parameters.sequence_start:
        if session is not None:
            await acting.close(session)
        whose: dict[str, Any] = {"project": caller.project, "by": caller.token_id}
        session = await acting.create(services, asked.source, asked.selector, **whose, sequence=sequence)
    message = (
        f"Sequence {parameters.sequence_id!r} of model {asked.name} is not open: it was not begun, has ended, or "
        f"was idle for {DEFAULT_TTL_S:g} s. Begin it with sequence_start."
    )
    if session is None:
        raise SequenceConflictError(message)
    try:
        async with session.turn:
            step = SequenceStep(
                seq=session.next_seq, observation=msgspec.Raw(inference.body), inference=inference
            )
            answer = acting.step(session, step)
            stepped = await asyncio.shield(answer) if isinstance(answer, asyncio.Future) else answer
    except SessionGoneError as error:
        raise SequenceConflictError(message) from error
    except Exception:
        if parameters.sequence_start:  # it did not begin
            await acting.close(session)
        raise
    if parameters.sequence_end:
        await acting.close(session)
    head = _head(asked, session.version.policy, session.version.checkpoint)
    return inference.answer(head, [stepped.action])


def _head(asked: Asked, policy: str | None, checkpoint: str) -> dict[str, Any]:
    """What an answer says of the version that acted, which is ``name:3`` of a policy."""
    version = checkpoint if policy is None else policy.rpartition(":")[2]
    return {"model_name": asked.name, "model_version": version, "parameters": {"checkpoint": checkpoint}}


def _versions(services: Services, asked: Asked) -> list[str]:
    """Of a policy its numbers, the newest :data:`MAX_VERSIONS`; of a run the checkpoint that is meant."""
    if not is_policy(asked.source):
        return [acting_checkpoint(services, asked.source, asked.selector).id]
    versions = services.policies.versions(
        asked.source.partition("@")[0].partition(":")[0], limit=MAX_VERSIONS
    )
    return [str(version.number) for version in reversed(versions.data)]


def _counted(name: str, version: str, agent: ServedAgent | None) -> ModelStatisticsOut:
    """What a model has done, in the protocol's words and nanoseconds."""
    found = Statistics() if agent is None else agent.statistics
    forwards = [
        BatchStatisticsOut(
            batch_size=n_rows, compute_input=_spent(), compute_infer=_spent(spent), compute_output=_spent()
        )
        for n_rows, spent in sorted(found.forwards.items())
    ]
    n_forwards = sum(spent.count for spent in found.forwards.values())
    seconds = sum(spent.seconds for spent in found.forwards.values())
    return ModelStatisticsOut(
        name=name,
        version=version,
        last_inference=int(1000 * found.last_at),
        inference_count=sum(n_rows * spent.count for n_rows, spent in found.forwards.items()),
        execution_count=n_forwards,
        inference_stats=InferStatisticsOut(
            success=_spent(found.answered),
            fail=_spent(found.failed),
            queue=_spent(found.waited),
            compute_input=_spent(),
            compute_infer=_spent(Spent(n_forwards, seconds)),
            compute_output=_spent(),
        ),
        batch_stats=forwards,
    )


def _spent(spent: Spent = Spent()) -> SpentOut:  # noqa: B008 -- it is read alone
    return SpentOut(count=spent.count, ns=round(1e9 * spent.seconds))


def _models(services: Services) -> list[tuple[IndexEntryOut, ServedAgent | None]]:
    """What is listed, and its agent where that is in memory."""
    models: list[tuple[IndexEntryOut, ServedAgent | None]] = []
    cursor, has_more = None, True
    while has_more and len(models) < MAX_INDEX:
        page = services.policies.list(limit=200, cursor=cursor)
        for policy in page.data:
            for alias, number in policy.aliases.items():
                version = services.policies.resolve(policy.name, number=number)
                agent = services.agents.peek(version.checkpoint)
                state, reason = ("READY", "") if agent else ("UNAVAILABLE", "loaded by its first request")
                name = f"{policy.name}@{alias}"
                models.append(
                    (IndexEntryOut(name=name, version=str(number), state=state, reason=reason), agent)
                )
        cursor, has_more = page.next_cursor, page.has_more
    return models[:MAX_INDEX]


def _object(body: bytes) -> dict[str, Any]:
    """The JSON object of a body, which these clients may leave out."""
    value = decode_json(body) if body.strip() else {}
    if not isinstance(value, dict):
        raise Problem.at("", "invalid_value", "The body is one JSON object.")
    return value


def _require_no_parameters(body: bytes, but: str = "") -> None:
    """Refuse what would configure a model: a model is a checkpoint as it is."""
    parameters = _object(body).get("parameters") or {}
    if not isinstance(parameters, dict) or set(parameters) - {but}:
        message = "Nothing of a model is configured here: it is a checkpoint as it is. Leave parameters out."
        raise Problem.at("/parameters", "invalid_value", message)


def _described(tensor: Tensor) -> TensorOut:
    return TensorOut(name=tensor.name, datatype=tensor.datatype, shape=[-1, *tensor.shape])


def _configured(tensor: Tensor) -> dict[str, Any]:
    name = "TYPE_" + tensor.datatype
    return {"name": tensor.name, "data_type": name, "dims": list(tensor.shape)}
