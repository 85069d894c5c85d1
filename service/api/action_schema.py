"""``compute_action`` for the OpenAPI document: the hot route is no FastAPI route, so it is described by hand."""

from typing import Any

ACTION_PATH = "/v1/runs/{run_id}/compute_action"

_RUN_ID = {
    "name": "run_id",
    "in": "path",
    "required": True,
    "description": "Id of a training run.",
    "schema": {"type": "string"},
}
_REQUEST: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "description": "One raw observation, or up to 1024 of them, as the environment gives them.",
    "properties": {
        "observation": {
            "description": "An array, or an object of arrays by observation name.",
            "anyOf": [{"type": "array", "items": {}}, {"type": "object"}, {"type": "number"}],
        },
        "observations": {
            "type": "array",
            "items": {},
            "maxItems": 1024,
            "description": "In place of observation.",
        },
        "deterministic": {"type": "boolean", "default": True},
        "checkpoint": {
            "type": "string",
            "default": "best",
            "description": "`best`, `last`, `epoch:N` or a checkpoint id.",
        },
        "actor_id": {
            "type": "array",
            "prefixItems": [{"type": ["integer", "string"]}, {"type": "integer", "minimum": 0}],
            "minItems": 2,
            "maxItems": 2,
            "description": "`[step_key, agent_id]`; the environment's first actor when left out.",
        },
        "seed": {
            "type": "integer",
            "minimum": 0,
            "maximum": 2**32 - 1,
            "description": "Of the action noise, with deterministic: false.",
        },
    },
    "oneOf": [{"required": ["observation"]}, {"required": ["observations"]}],
}
_RESPONSE: dict[str, Any] = {
    "type": "object",
    "description": "`action` for one observation, `actions` for many.",
    "properties": {
        "action": {"description": "A number or array; an object by action name where there are several."},
        "actions": {"type": "array", "items": {}},
        "checkpoint": {"type": "string", "description": "Id of the checkpoint that acted."},
    },
    "required": ["checkpoint"],
}


def action_schemas() -> dict[str, Any]:
    """The component schemas that the operation refers to."""
    return {"ActionRequest": _REQUEST, "ActionOut": _RESPONSE}


def action_operation() -> dict[str, Any]:
    """The operation, without its problems and examples."""
    return {
        "tags": ["runs"],
        "summary": "Compute Action",
        "description": "Act with a trained policy, through its whole trained stack: raw observation in, action out.",
        "operationId": "compute_action",
        "parameters": [_RUN_ID],
        "requestBody": {"required": True, "content": _json("ActionRequest")},
        "responses": {"200": {"description": "The action.", "content": _json("ActionOut")}},
    }


def _json(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
