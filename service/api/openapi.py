"""The OpenAPI document: what FastAPI derives from the endpoints, and what it cannot know.

That is the hot route, which is no FastAPI route; problem answers, which follow from what an operation takes; the
two ways to send a token; and an example of every request and answer.
"""

import copy
import json
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from service.api.answers import ProblemOut
from service.api.dependencies import scope_needed
from service.api.examples import CHECKPOINT_ID, CHECKPOINT_SHA256, EXAMPLES, RUN_ID
from service.domain.sessions import MAX_REWARD, SESSION_ID
from service.domain.sharing import Scope
from service.problems import CATALOGUE, PROBLEM_JSON, Problem
from service.security import OPEN_PATHS
from service.serving.forms import DTYPES
from service.serving.hot_route import POLICY_ACTION_PATH, RUN_ACTION_PATH
from service.serving.sessions.route import STEP_PATH

Document: TypeAlias = dict[str, Any]

DESCRIPTION = """\
Reinforcement learning as a service: train, roll out and evaluate from configuration modules and overrides, and act \
with what was trained. Request bodies are the arguments of RunContext, so Python and HTTP say the same thing.

Errors are RFC 9457 problems with a pointer to every mistake. Numbers that JSON cannot say are the strings \
`"NaN"`, `"Infinity"` and `"-Infinity"`. Times are RFC 3339 in UTC, durations are seconds.
"""
_RUN_ID = {
    "name": "run_id",
    "in": "path",
    "required": True,
    "description": "Id of a training run.",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"},
}
_POLICY = {
    "name": "policy",
    "in": "path",
    "required": True,
    "description": "A policy by its name: `name@alias` or `name:3`.",
    "schema": {"type": "string", "maxLength": 140},
}
_REQUEST: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "description": "One raw `observation`, or up to 1024 `observations`, as the environment gives them: one of both.",
    "properties": {
        "observation": {"description": "A number or array, or an object of them by observation name."},
        "observations": {
            "type": "array",
            "items": {},
            "minItems": 1,
            "maxItems": 1024,
            "description": "In place of observation.",
        },
        "deterministic": {"type": "boolean", "description": "Take the likeliest action. Default: true."},
        "checkpoint": {
            "type": "string",
            "pattern": r"^(best|last|scheduled|epoch:\d{1,9}|[A-Za-z0-9][A-Za-z0-9_-]{0,63})$",
            "description": "`best`, `last`, `epoch:N` or a checkpoint id. Default: `best`.",
        },
        "actor_id": {
            "type": ["array", "null"],
            "prefixItems": [{"type": ["integer", "string"]}, {"type": "integer", "minimum": 0}],
            "minItems": 2,
            "maxItems": 2,
            "description": "`[step_key, agent_id]`; the environment's first actor when left out.",
        },
        "seed": {
            "type": ["integer", "null"],
            "minimum": 0,
            "maximum": 2**32 - 1,
            "description": "Of the action noise, with deterministic: false.",
        },
        "traffic_key": {
            "type": ["string", "null"],
            "maxLength": 256,
            "description": "Where an alias's traffic is split: requests of one key are answered by one version.",
        },
        "explain": {
            "type": "boolean",
            "description": "Say what the policy thought, too: `decision`, or `decisions`. Default: false.",
        },
        "state": {
            "type": ["string", "null"],
            "description": "What a policy with a state carries through an episode, opaque: null with the first "
            "observation, and then that of the last answer.",
        },
        "states": {
            "type": ["array", "null"],
            "items": {"type": ["string", "null"]},
            "maxItems": 1024,
            "description": "With `observations`, one for each; null begins an episode with all of them.",
        },
        "action_mask": {
            "description": "What may be done, beside what the observation says of it: 0 and 1 of the one head with a "
            "mask, or an object by head."
        },
        "action_masks": {
            "type": "array",
            "items": {},
            "maxItems": 1024,
            "description": "With `observations`, one for each, or null.",
        },
        "top_k": {
            "type": ["integer", "null"],
            "minimum": 1,
            "maximum": 32,
            "description": "So many `candidates` with their scores, where all heads choose.",
        },
        "return": {
            "type": "array",
            "items": {"enum": ["distribution", "log_prob", "value", "mask"]},
            "description": "What is told in `decision`; `explain` is all of it.",
        },
        "timing": {"type": "boolean", "description": "Say how long it took. Default: false."},
        "errors": {
            "enum": ["per_item", None],
            "description": "With `observations`: each is answered as if it had come alone, in `results`.",
        },
    },
}
_DECISION: dict[str, Any] = {
    "type": "object",
    "description": "What the policy thought, with `explain`; null is what it does not have.",
    "properties": {
        "distribution": {
            "type": "object",
            "additionalProperties": {"type": "object"},
            "description": "By the head's name: its `kind`, and `probabilities`, `values`, or `mean` and `std`.",
        },
        "value": {
            "type": ["number", "null"],
            "description": "What the critic expects of the state, or of the action taken.",
        },
        "mask": {"type": ["object", "null"], "description": "By the head's name: what is allowed."},
        "log_prob": {"type": ["number", "null"], "description": "Of the action, as it was sampled."},
        "candidates": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "action": {},
                    "score": {
                        "type": "number",
                        "description": "Its probability, or its value where values were learnt.",
                    },
                },
                "required": ["action", "score"],
            },
            "description": "With `top_k`: whole actions, the best one first.",
        },
    },
}
_RESULT_MEMBERS: dict[str, Any] = {
    "mask_applied": {
        "type": "boolean",
        "description": "`action_mask` was honoured; there where one was given.",
    },
    "timing_us": {
        "type": "object",
        "properties": {name: {"type": "integer"} for name in ("queue", "forward", "total")},
        "required": ["queue", "forward", "total"],
        "description": "Microseconds that the request waited, that the batch was computed, and all together.",
    },
    "batch_size": {"type": "integer", "description": "Observations that were computed together."},
}
_RESPONSE: dict[str, Any] = {
    "type": "object",
    "description": "`action` for one observation, `actions` for many.",
    "properties": {
        "action": {"description": "A number or array; an object by action name where there are several."},
        "actions": {"type": "array", "items": {}},
        "decision": _DECISION,
        "decisions": {"type": "array", "items": _DECISION},
        "state": {
            "type": ["string", "null"],
            "description": "For the next observation, where one was given.",
        },
        "states": {
            "type": "array",
            "items": {"type": ["string", "null"]},
            "description": "For the next ones.",
        },
        "results": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "index": {"type": "integer"},
                    "action": {},
                    "problem": {"$ref": "#/components/schemas/ProblemOut"},
                    "decision": _DECISION,
                    "state": {"type": ["string", "null"]},
                    **_RESULT_MEMBERS,
                },
                "required": ["index"],
            },
            "description": "With `errors: per_item`: an `action` or a `problem` for each observation.",
        },
        **_RESULT_MEMBERS,
        "run": {"type": "string", "description": "Id of the run whose checkpoint acted."},
        "checkpoint": {"type": "string", "description": "Id of the checkpoint that acted."},
        "checkpoint_sha256": {"type": "string", "description": "Digest of its content."},
        "policy": {"type": "string", "description": "`name:3`, where it was asked for by a name."},
    },
    "required": ["run", "checkpoint", "checkpoint_sha256"],
}
_LEAF = {"data": "…27648 bytes…", "dtype": "uint8", "shape": [96, 96, 3]}
_ARRAY_HEADERS: dict[str, Document] = {
    "X-Array-Dtype": {"type": "string", "enum": list(DTYPES)},
    "X-Array-Shape": {"type": "string", "pattern": r"^(\d{1,10}(,\d{1,10}){0,31})?$"},
}

_SESSION_ID = {
    "name": "session_id",
    "in": "path",
    "required": True,
    "description": "Id of a session.",
    "schema": {"type": "string", "pattern": f"^{SESSION_ID}$"},
}
_STEP: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "description": "The next step of an episode, or the last one again.",
    "properties": {
        "seq": {"type": "integer", "minimum": 0, "maximum": 2**53 - 1, "description": "Its number, from 0."},
        "observation": _REQUEST["properties"]["observation"],
        "reward": {
            "type": ["number", "null"],
            "minimum": -MAX_REWARD,
            "maximum": MAX_REWARD,
            "description": "What came of the action before.",
        },
        "terminated": {
            "type": "boolean",
            "description": "The observation is the episode's last, at which it ended by itself. Default: false.",
        },
        "truncated": {"type": "boolean", "description": "It is the last, and was cut. Default: false."},
        "actor_id": _REQUEST["properties"]["actor_id"],
    },
    "required": ["seq", "observation"],
}
_STEPPED: dict[str, Any] = {
    "type": "object",
    "properties": {
        "action": {"description": "As of compute_action; null where the episode ended."},
        "seq": {"type": "integer", "description": "Of the step."},
        "next_seq": {"type": "integer", "description": "Of the next one; 0 begins an episode."},
        **{
            name: _RESPONSE["properties"][name]
            for name in ("run", "checkpoint", "checkpoint_sha256", "policy")
        },
        "ended": {
            "type": "object",
            "description": "The episode that ended.",
            "properties": {
                "episode": {"type": "integer", "description": "Episodes before it."},
                "length": {"type": "integer", "description": "Its steps."},
                "recorded": {"type": ["integer", "null"], "description": "Its index in the recording run."},
            },
            "required": ["episode", "length", "recorded"],
        },
    },
    "required": ["action", "seq", "next_seq", "run", "checkpoint", "checkpoint_sha256"],
}

CONFLICTS = {
    "cancel_run": "The run has ended.",
    "pause_run": "The run has ended.",
    "resume_run": "The run is not paused.",
    "put_run": "The run was submitted with another body.",
    "continue_run": "The run has not ended, or is no training.",
    "retry_run": "The run has not failed and was not cancelled, or what it needs was deleted.",
    "fork_run": "The run is no training.",
    "change_run": "The run would have too many labels.",
    "delete_run": "The run has not ended, or another one needs its checkpoints.",
    "pause_sweep": "The sweep has ended, or is about to.",
    "resume_sweep": "The sweep is not paused.",
    "stop_sweep": "The sweep has ended.",
    "cancel_sweep": "The sweep has ended.",
    "delete_sweep": "The sweep has not ended.",
    "get_importance": "Fewer than two trials have a value.",
    "ask_sweep": "The sweep makes its own runs, has ended, or has no trials left.",
    "tell_sweep": "The trial was told otherwise, or its run tells it.",
    "rollout": "The run has no checkpoint that can act, yet or ever.",
    "evaluate": "The run has no checkpoint that can act, yet or ever.",
    "replay_episode": "The episode was not recorded, or the policy that is asked was deleted.",
    "put_part": "The upload is complete.",
    "drop_upload": "The upload is complete.",
    "complete_upload": "Parts are missing.",
    "compute_action": "The run has no checkpoint that can act, yet or ever.",
    "compute_policy_action": "The checkpoint cannot act.",
    **dict.fromkeys(
        ("get_model", "get_model_ready", "get_model_config", "get_statistics", "load_model", "unload_model"),
        "The run has no checkpoint that can act, yet or ever.",
    ),
    "infer": "The run has no checkpoint that can act, yet or ever, or the sequence is not open.",
    "create_session": "The run has no checkpoint that can act, yet or ever.",
    "reset_session": "A step is under way.",
    "give_feedback": "The session records nothing.",
    "step_session": "It is not the next step, and not the last one again: `expected` is the next one's number.",
    "compare": "A run has no checkpoint that can act, yet or ever.",
    "create_policy": "There is another policy of this name.",
    "delete_policy": "It has versions.",
    "add_version": "The run has no checkpoint, yet or ever.",
    "delete_version": "An alias names it, or did and is guarded by a gate.",
    "put_alias": "The gate asks for a comparison, which `compare` requests, or has no use for the one that was given.",
    "put_traffic": "The alias names that version already.",
    "roll_back_alias": "There is no version before the present one that is still there.",
}
"""Operation → what a 409 of it means."""
SUCCESSES = frozenset({"200", "201", "202", "206"})
"""Statuses of answers that have an example."""
UNAVAILABLE = frozenset({"live", "v2_live", "get_server"})
"""Operations that need no database, and so never answer 503."""
STREAMS = frozenset({"list_events", "list_all_events"})
"""Operations that a ticket opens."""
_STATUSES = (400, 401, 403, 404, 409, 410, 412, 413, 415, 416, 422, 428, 429, 500, 503)
"""Statuses of problems that operations may answer."""
_MISTAKE = {
    "pointer": "/sed",
    "code": "unknown_field",
    "message": "There is no such field.",
    "did_you_mean": "seed",
}


def openapi_document(api: FastAPI, routes: Sequence[BaseRoute], *, auth: bool) -> Document:
    """The whole document of these routes; without ``auth`` no operation asks for a token."""
    document = get_openapi(
        title=api.title, version=api.version, description=DESCRIPTION, routes=api.routes, tags=_TAGS
    )
    document["paths"][RUN_ACTION_PATH] = {"post": _action_operation("compute_action", _RUN_ID)}
    document["paths"][POLICY_ACTION_PATH] = {"post": _action_operation("compute_policy_action", _POLICY)}
    document["paths"][STEP_PATH] = {"post": copy.deepcopy(_STEP_OPERATION)}
    components = document["components"]
    components["schemas"] |= {"ActionRequest": _REQUEST, "ActionOut": _RESPONSE} | _problem_schemas()
    components["schemas"] |= {"StepRequest": _STEP, "StepOut": _STEPPED}
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    components["responses"] = {f"Problem{status}": _problem_response(status) for status in _STATUSES}
    if auth:
        components["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            "ticket": {"type": "apiKey", "in": "query", "name": "ticket"},
        }
    scopes = _scopes(routes)
    for path, method, operation in _operations(document):
        security: list[Document] = []
        if auth and path not in OPEN_PATHS:
            roles = [scope.value for scope in [scopes[path, method]] if scope is not None]
            ways = ("bearer", "apiKey", *(("ticket",) if operation["operationId"] in STREAMS else ()))
            security = [{way: roles} for way in ways]
        _complete(path, operation, security)
    for name, schema in components["schemas"].items():
        if name.endswith("Request"):
            _say_defaults(schema)
    return document


def _say_defaults(schema: Document) -> None:
    """Defaults of a request's fields as words: to a generator a field with a ``default`` is always there."""
    for field in schema["properties"].values():
        default = field.pop("default", None)
        if default not in (None, {}, ""):
            field["description"] = f"{field.get('description', '')} Default: {json.dumps(default)}.".strip()


_TAGS = [
    {"name": "submit", "description": "Start runs."},
    {"name": "runs", "description": "Follow runs, read what they left, act with their policies."},
    {"name": "checkpoints", "description": "Take policies away, and bring them in."},
    {
        "name": "policies",
        "description": "Policies by name: versions, aliases that move, and the way back.",
    },
    {
        "name": "sessions",
        "description": "Act step by step, with what is carried between the steps kept here.",
    },
    {"name": "sweeps", "description": "Many trainings from one specification, and searches."},
    {"name": "inference", "description": "Acting in the Open Inference Protocol, for its clients."},
    {"name": "webhooks", "description": "Who is told when runs end."},
    {"name": "sharing", "description": "Tokens, projects and who one is."},
    {"name": "config", "description": "Look at the configuration and try it without running it."},
    {"name": "service", "description": "Health, metrics, the way in."},
]


def _operations(document: Document) -> Iterator[tuple[str, str, Document]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def _scopes(routes: Sequence[BaseRoute]) -> dict[tuple[str, str], Scope | None]:
    """The scope of every operation by its path and method."""
    found = {
        (route.path_format, method.lower()): scope_needed(route, method)
        for route in routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }
    return found | {(path, "post"): Scope.ACT for path in (RUN_ACTION_PATH, POLICY_ACTION_PATH, STEP_PATH)}


def _complete(path: str, operation: Document, security: list[Document]) -> None:
    """Add problems, security and examples to one operation."""
    name = operation["operationId"]
    responses = operation["responses"]
    responses.pop("422", None)
    for status in _problem_statuses(path, operation, asks_token=bool(security)):
        responses.setdefault(str(status), {"$ref": f"#/components/responses/Problem{status}"})
    for parameter in operation.get("parameters", ()):
        _as_it_is_sent(parameter["schema"])
    if name in CONFLICTS:
        responses["409"] = _problem_response(409) | {"description": CONFLICTS[name]}
    operation["security"] = security
    if name == "list_events":
        responses["204"] = {"description": "The run has ended and nothing came after Last-Event-ID."}
    _add_examples(operation, EXAMPLES[name])


def _as_it_is_sent(schema: Document) -> None:
    """A parameter that may be left out, as a query or a header says it: neither has a null, and empty is nothing."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) == 1:
        del schema["anyOf"]
        schema.update(kinds[0])
    if schema.get("default", 0) in (None, "", []):
        del schema["default"]


def _problem_statuses(path: str, operation: Document, *, asks_token: bool) -> list[int]:
    """What can go wrong, by what the operation takes."""
    statuses = {400, 429, 500}
    if asks_token:
        statuses |= {401, 403}
    if operation["operationId"] not in UNAVAILABLE:
        statuses.add(503)
    if "{" in path:
        statuses.add(404)
    if operation.get("parameters"):
        statuses.add(422)
    if "requestBody" in operation:
        statuses |= {403, 404, 413, 415, 422}
    if operation["operationId"] in (
        *("change_run", "put_alias", "delete_alias", "roll_back_alias"),
        *("put_traffic", "end_traffic"),
    ):
        statuses.add(412)
    if "{session_id}" in path:
        statuses.add(410)
    if "206" in operation["responses"]:
        statuses.add(416)
    if operation["operationId"] in ("put_alias", "put_traffic"):
        statuses.add(428)
    return sorted(statuses)


def _add_examples(operation: Document, examples: Document) -> None:
    if "requestBody" in operation:
        content = next(iter(operation["requestBody"]["content"].values()))
        content["schema"].pop("default", None)
        content["examples"] = {
            name: {"summary": name.replace("_", " "), "value": value}
            for name, value in examples["requests"].items()
        }
    for response in (found for status, found in operation["responses"].items() if status in SUCCESSES):
        for media_type, example in examples["responses"].items():
            content = response.setdefault("content", {}).setdefault(media_type, {})
            if isinstance(example, str):
                is_tree = media_type.endswith("yaml")  # a schema is about what the text says
                content.setdefault("schema", {"type": "object" if is_tree else "string"})
            content["example"] = copy.deepcopy(example)


def _problem_schemas() -> Document:
    schema = ProblemOut.model_json_schema(ref_template="#/components/schemas/{model}")
    return {**schema.pop("$defs"), "ProblemOut": schema}


def _problem_response(status: int) -> Document:
    """What the kinds of this status mean, with the first of them as the example."""
    meanings = {code: kind.meaning for code, kind in CATALOGUE.items() if kind.status == status}
    code, meaning = next(iter(meanings.items()))
    problem = Problem(code, meaning, errors=[_MISTAKE] if status == 422 else [])
    example = problem.body(instance="/v1/train", request_id="req_1f0c9a_2b")
    content = {"schema": {"$ref": "#/components/schemas/ProblemOut"}, "example": example}
    return {"description": " ".join(meanings.values()), "content": {PROBLEM_JSON: content}}


def _action_operation(name: str, of: Document) -> Document:
    """The operation, without its problems and examples."""
    by_name = " A policy that is named has its checkpoint." if of is _POLICY else ""
    return {
        "tags": ["policies" if of is _POLICY else "runs"],
        "summary": name.replace("_", " ").title(),
        "description": "Act with a trained policy, through its whole trained stack: raw observation in, action out."
        + by_name,
        "operationId": name,
        "parameters": [of, *_octets_parameters()],
        "requestBody": {"required": True, "content": _in_all_forms("ActionRequest", {"observation": _LEAF})},
        "responses": {
            "200": {
                "description": "The action; in bytes, where it is one array.",
                "content": _in_all_forms("ActionOut", {"action": _LEAF | {"dtype": "float32", "shape": [6]}}),
                "headers": {name: {"schema": schema} for name, schema in _ARRAY_HEADERS.items()},
            }
        },
    }


def _octets_parameters() -> list[Document]:
    """What is said beside the bytes of one array."""
    said = {
        name: _REQUEST["properties"][name]
        for name in ("deterministic", "checkpoint", "seed", "top_k", "timing")
    }
    return [
        *(
            {"name": name, "in": "query", "required": False, "schema": _one_kind(schema)}
            | {"description": f"With bytes. {schema['description']}"}
            for name, schema in said.items()
        ),
        *(
            {"name": name, "in": "header", "required": False, "schema": {**schema}}
            | {"description": "What the bytes of one array are."}
            for name, schema in _ARRAY_HEADERS.items()
        ),
    ]


def _one_kind(schema: Document) -> Document:
    """A schema as a query says it: without null."""
    kind = schema["type"]
    kind = kind[0] if isinstance(kind, list) else kind
    return {**{key: value for key, value in schema.items() if key != "description"}, "type": kind}


def _in_all_forms(schema: str, packed: Document) -> Document:
    """JSON, msgpack with an example of what is packed, and the bytes of one array."""
    reference = _json(schema)["application/json"]
    octets = {"schema": {"type": "string", "format": "binary"}, "example": "…the bytes of one array…"}
    if schema == "ActionOut":
        packed = {
            **packed,
            "run": RUN_ID,
            "checkpoint": CHECKPOINT_ID,
            "checkpoint_sha256": CHECKPOINT_SHA256,
        }
    return {
        "application/json": dict(reference),
        "application/msgpack": {**reference, "example": packed},
        "application/octet-stream": octets,
    }


def _json(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


_STEP_OPERATION: Document = {
    "tags": ["sessions"],
    "summary": "Step Session",
    "description": "Act by the next observation of the session's episode. The same step again, as after a lost answer, "
    "gets the same answer. Over one connection it goes faster: `GET /v1/sessions/{session_id}/ws` is a WebSocket.",
    "operationId": "step_session",
    "parameters": [_SESSION_ID],
    "requestBody": {"required": True, "content": _json("StepRequest")},
    "responses": {"200": {"description": "The action.", "content": _json("StepOut")}},
}
