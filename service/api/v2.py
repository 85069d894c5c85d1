"""The Open Inference Protocol under ``/v2``, as Triton's and KServe's clients speak it: a second face of acting.

A model is a run's id, or a policy as ``name@alias`` or ``name:3``; a model's version is the number of a policy's
version, or a checkpoint of a run (``best``, ``last``, ``epoch:N``, an id). What acts, and every check, limit and
problem, is that of ``compute_action``; a problem has ``error`` besides, which these clients read.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Depends, Header, Path, Request, Response
from fastapi.concurrency import run_in_threadpool

from maze_core.models.decisions import Wanted
from maze_core.types import JSON, Array
from service.api import discovery
from service.api.answers import Out
from service.api.dependencies import Services, ServicesDep, require_scope
from service.domain.errors import AgentGoneError, ServiceError
from service.domain.policies import is_policy, reference
from service.domain.sharing import Scope
from service.domain.use_cases import acting_checkpoint, named_version
from service.json_values import decode_json
from service.problems import Problem
from service.serving.batching import Extras
from service.serving.inference import TOLD, Model, Tensor
from service.serving.observations import MAX_ROWS
from service.serving.tensors import DATATYPES, HEAD_LENGTH, InferRequest, read_request, write_response

router = APIRouter(prefix="/v2", tags=["inference"], dependencies=[require_scope(Scope.ACT)])
_ANY: dict[str, Any] = {"dependencies": [require_scope(None)]}

EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository", "parameters")
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
LOAD_BODY = _body(parameters=_PARAMETERS)
MAX_INDEX = 1000
"""Aliases that the index of models lists."""
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
    if version.isdecimal():  # of a policy, whatever its alias names now
        return Asked(model, f"{(reference(model) or [model])[0]}:{version}", "best")
    return Asked(model, model, version or "best")


AskedDep: TypeAlias = Annotated[Asked, Depends(_asked)]


router.get("/health/live", name="v2_live", **_ANY)(discovery.live)
router.get("/health/ready", name="v2_ready", **_ANY)(discovery.ready)


@router.get("", **_ANY)
async def get_server() -> ServerOut:
    """What this server is, in the Open Inference Protocol."""
    return ServerOut(name="maze", version=discovery.service_version(), extensions=list(EXTENSIONS))


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
        versions=[await run_in_threadpool(_version, services, asked)],
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
    )


@router.post("/models/{model}/infer", response_model=InferOut, openapi_extra=INFER_BODY)
@router.post("/models/{model}/versions/{version}/infer", include_in_schema=False, openapi_extra=INFER_BODY)
async def infer(
    asked: AskedDep,
    services: ServicesDep,
    request: Request,
    head_length: Annotated[str | None, Header(alias=HEAD_LENGTH, description="Bytes of the JSON.")] = None,
) -> Response:
    """Act on a batch: observations in as tensors, actions out, both as JSON or as bytes behind it."""
    body, metrics = await request.body(), services.agents.metrics
    try:
        read = partial(read_request, body, head_length)
        wanted, tensors = await run_in_threadpool(read) if len(body) > READ_ON_LOOP_BYTES else read()
        headers, content = await _inferred(services, asked, wanted, tensors)
    except (Problem, ServiceError) as error:
        metrics.count_refusal(error.status if isinstance(error, Problem) else Problem.of(error).status)
        raise
    metrics.outcomes["ok"] += 1
    return Response(content, headers=headers)


@router.post("/repository/index", openapi_extra=INDEX_BODY)
async def list_models(request: Request, services: ServicesDep) -> list[IndexEntryOut]:
    """Every alias of every policy; runs are models too, and are not listed."""
    wanted = _object(await request.body())
    entries = await run_in_threadpool(_index, services)
    return [entry for entry in entries if entry.state == "READY" or not wanted.get("ready")]


@router.post("/repository/models/{model}/load", openapi_extra=LOAD_BODY)
async def load_model(asked: AskedDep, request: Request, services: ServicesDep) -> dict[str, str]:
    """Load a model before its first request."""
    _require_no_parameters(await request.body())
    await services.agents.get(asked.source, asked.selector)
    return {}


@router.post("/repository/models/{model}/unload", openapi_extra=LOAD_BODY)
async def unload_model(asked: AskedDep, request: Request, services: ServicesDep) -> dict[str, str]:
    """Let a model go from memory; its next request loads it again."""
    _require_no_parameters(await request.body(), but="unload_dependents")
    found = await run_in_threadpool(acting_checkpoint, services, asked.source, asked.selector)
    services.agents.unload(found.id)
    return {}


async def _inferred(
    services: Services, asked: Asked, request: InferRequest, tensors: Mapping[str, Array]
) -> tuple[dict[str, str], bytes]:
    """Headers and body of the answer; an agent that went a moment ago is loaded once more."""
    try:
        return await _acted(services, asked, request, tensors)
    except AgentGoneError:
        return await _acted(services, asked, request, tensors)


async def _acted(
    services: Services, asked: Asked, request: InferRequest, tensors: Mapping[str, Array]
) -> tuple[dict[str, str], bytes]:
    parameters = request.parameters
    selector = parameters.checkpoint or asked.selector
    chosen = await services.agents.choose(asked.source, selector, parameters.traffic_key)
    served = chosen.served
    if served.has_state:
        message = (
            "This policy carries a state through an episode, and this path keeps none: act by compute_action."
        )
        raise Problem.at("/parameters/sequence_id", "missing_field", message)
    try:
        reader = served.reader(parameters.actor_step_key, parameters.actor_agent_id)
    except Problem as error:
        raise Problem.at("/parameters", "unknown_actor", error.detail) from error
    model = Model.of(reader)
    outputs, binary = model.wanted(request)
    future: asyncio.Future[list[JSON]] = asyncio.get_running_loop().create_future()
    is_long = sum(array.nbytes for array in tensors.values()) > READ_ON_LOOP_BYTES
    check = partial(model.job, reader, request, tensors, future)
    job = await run_in_threadpool(check) if is_long else check()
    job.extras = Extras(Wanted() if set(TOLD) & set(outputs) else None, decisions=[])
    chosen.submit(job, future)
    columns = model.columns(await future, job.extras.decisions)
    if untold := [name for name in outputs if name not in columns]:
        message = f"This policy cannot tell {untold[0]}: it has no critic, or no distribution."
        raise Problem.at("/outputs", "unknown_output", message)
    head = {
        "model_name": asked.name,
        "model_version": served.checkpoint_id,
        **({"id": request.id} if request.id else {}),
        "parameters": {"checkpoint": served.checkpoint_id},
    }
    return write_response(head, {name: columns[name] for name in outputs}, binary)


def _version(services: Services, asked: Asked) -> str:
    """The version that a model is now: of a policy a number, of a run a checkpoint."""
    if is_policy(asked.source):
        return str(named_version(services.policies, asked.source).number)
    return acting_checkpoint(services, asked.source, asked.selector).id


def _index(services: Services) -> list[IndexEntryOut]:
    entries: list[IndexEntryOut] = []
    cursor, has_more = None, True
    while has_more and len(entries) < MAX_INDEX:
        page = services.policies.list(limit=200, cursor=cursor)
        for policy in page.data:
            for alias, number in policy.aliases.items():
                version = services.policies.resolve(policy.name, number=number)
                is_loaded = services.agents.is_loaded(version.checkpoint)
                state, reason = ("READY", "") if is_loaded else ("UNAVAILABLE", "loaded by its first request")
                name = f"{policy.name}@{alias}"
                entries.append(IndexEntryOut(name=name, version=str(number), state=state, reason=reason))
        cursor, has_more = page.next_cursor, page.has_more
    return entries[:MAX_INDEX]


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
