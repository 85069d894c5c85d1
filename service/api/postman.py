"""The routes as a Postman collection (v2.1), made from the OpenAPI document; Bruno, Insomnia and others read it, too.

Each operation is one request, in the folder of its tag, with the document's first example as its body. Where the
service is and its token are variables; the collection itself holds no secret.
"""

import json
from typing import Any, TypeAlias

from service.api.examples import PATH_EXAMPLES

Node: TypeAlias = dict[str, Any]

SCHEMA = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"
_MEDIA_TYPES = ("application/json", "application/octet-stream")


def collection(document: Node, base_url: str) -> Node:
    """The collection of an OpenAPI document, for a service at ``base_url``."""
    info = document["info"]
    return {
        "info": {
            "name": info["title"],
            "description": info["description"],
            "version": info["version"],
            "schema": SCHEMA,
        },
        "auth": {"type": "bearer", "bearer": [{"key": "token", "value": "{{token}}", "type": "string"}]},
        "variable": [
            {"key": "base_url", "value": base_url, "type": "string"},
            {"key": "token", "value": "", "type": "string"},
        ],
        "item": [_folder(tag, document) for tag in document["tags"]],
    }


def _folder(tag: Node, document: Node) -> Node:
    requests = [
        _request(method, path, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if operation["tags"][0] == tag["name"]
    ]
    return {"name": tag["name"], "description": tag["description"], "item": requests}


def _request(method: str, path: str, operation: Node) -> Node:
    parameters = operation.get("parameters", [])
    request: Node = {
        "method": method.upper(),
        "header": [_optional(one) for one in parameters if one["in"] == "header"],
        "url": _url(path, parameters),
        "description": operation["description"],
    }
    if not operation["security"]:
        request["auth"] = {"type": "noauth"}
    if body := operation.get("requestBody"):
        media_type = next(one for one in _MEDIA_TYPES if one in body["content"])
        request["header"].insert(0, {"key": "Content-Type", "value": media_type})
        examples = body["content"][media_type].get("examples", {})
        request |= _body(media_type, [one["value"] for one in examples.values()])
        request["description"] += "".join(
            f"\n\n**{name}**\n\n```json\n{_text(one['value'])}\n```"
            for name, one in list(examples.items())[1:]
        )
    return {"name": f"{method.upper()} {path}", "request": request, "response": []}


def _url(path: str, parameters: list[Node]) -> Node:
    """Path variables are Postman's own, with an example each; queries are there, switched off."""
    parts = [f":{part[1:-1]}" if part.startswith("{") else part for part in path.removeprefix("/").split("/")]
    queries = [_optional(one) for one in parameters if one["in"] == "query"]
    variables = [
        {
            "key": one["name"],
            "value": PATH_EXAMPLES[one["name"]],
            "description": one.get("description", ""),
        }
        for one in parameters
        if one["in"] == "path"
    ]
    found: Node = {"raw": "{{base_url}}/" + "/".join(parts), "host": ["{{base_url}}"], "path": parts}
    return found | {name: given for name, given in (("query", queries), ("variable", variables)) if given}


def _optional(parameter: Node) -> Node:
    """A query or a header, switched off where it may be left out."""
    value = parameter["schema"].get("default", "")
    text = value if isinstance(value, str) else json.dumps(value)
    found = {"key": parameter["name"], "value": text, "description": parameter.get("description", "")}
    return found if parameter.get("required") else found | {"disabled": True}


def _body(media_type: str, examples: list[Any]) -> Node:
    if media_type != "application/json":
        return {"body": {"mode": "file", "file": {}}}
    text = _text(examples[0]) if examples else "{}"
    return {"body": {"mode": "raw", "raw": text, "options": {"raw": {"language": "json"}}}}


def _text(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
