"""Reference pages made from the code: library and client from their docstrings, HTTP from its OpenAPI document."""

import ast
import copy
import functools
import inspect
import itertools
import re
import textwrap
from collections.abc import Iterator
from contextlib import nullcontext
from types import ModuleType
from typing import Any, TypeAlias

import maze_client
import maze_core
from service.api.application import build_api

Node: TypeAlias = dict[str, Any]
_SECTION = re.compile(r"(Args|Returns|Raises|Yields|Attributes):$")
_NAMED, _CODE = re.compile(r"^(\*{0,2}\w[\w.]*): "), r"`\1`: "
_ROLE = re.compile(r":\w+:`~?([^`]+)`")


@functools.cache
def document() -> Node:
    """The OpenAPI document of the service, with tokens."""
    found: Node = build_api(lambda _: nullcontext(), auth=True).openapi()
    return found


def library_page() -> str:
    """Every public name of the library."""
    return _module_page("The library, from its docstrings", maze_core)


def client_page() -> str:
    """Every public name of the client."""
    return _module_page("The client, from its docstrings", maze_client)


def _module_page(title: str, module: ModuleType) -> str:
    parts = [f"# {title}", f"`from {module.__name__} import …`: every public name, made from the code."]
    shown: set[type[Any]] = set()
    for name in sorted(module.__all__, key=lambda name: (name.startswith("Async"), name)):
        parts += _entry(name, getattr(module, name), shown)
    return "\n\n".join(parts) + "\n"


def _entry(name: str, found: Any, shown: set[type[Any]]) -> list[str]:
    """A class with its settings and methods, those of its bases where they are not shown yet, or a function."""
    parts = [f"## {name}", _text(inspect.getdoc(found) or "")]
    if not inspect.isclass(found):
        (function,) = _tree(found).body
        return [parts[0], _signature(name, function), *parts[1:]]
    fields: dict[str, tuple[str, str]] = {}
    members: list[str] = []
    bases = [base for base in found.__mro__ if base.__module__.startswith(("maze_core", "maze_client"))]
    for base in reversed(bases):
        (definition,) = _tree(base).body
        assert isinstance(definition, ast.ClassDef)
        fields |= _fields(definition)
        if base not in shown:
            members += _methods(found, definition, is_base=base is not found)
        shown.add(base)
    if fields:
        rows = [f"| `{field}` | `{default}` | {text} |" for field, (default, text) in fields.items()]
        parts.append("\n".join(["| field | default | meaning |", "|---|---|---|", *rows]))
    return parts + members


def _tree(found: Any) -> ast.Module:
    return ast.parse(textwrap.dedent(inspect.getsource(found)))


def _fields(definition: ast.ClassDef) -> dict[str, tuple[str, str]]:
    """Field → default and meaning, of those that have a docstring."""
    found: dict[str, tuple[str, str]] = {}
    for field, text in itertools.pairwise(definition.body):
        match field, text:
            case (
                ast.AnnAssign(target=ast.Name(id=name), value=value),
                ast.Expr(value=ast.Constant(value=str(words))),
            ) if not name.isupper():
                default = "–" if value is None else ast.unparse(value).replace("|", "\\|")
                found[name] = default, _one_line(words)
    return found


def _functions(
    found: type[Any], definition: ast.ClassDef
) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Those that stand in a class, and those that it names as its own (``train = …(Run.train, …)``)."""
    for node in definition.body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node
            case ast.Assign(targets=[ast.Name(id=name)]) if not name.startswith("_"):
                value = getattr(found, name)
                function = value.fget if isinstance(value, property) else value
                if inspect.isfunction(function):
                    (named,) = _tree(function).body
                    if isinstance(named, ast.FunctionDef | ast.AsyncFunctionDef):
                        yield named


def _methods(found: type[Any], definition: ast.ClassDef, *, is_base: bool) -> list[str]:
    """Public methods and properties with a docstring; the constructor for its arguments."""
    name, parts = found.__name__, list[str]()
    for node in _functions(found, definition):
        doc = ast.get_docstring(node)
        decorators = [ast.unparse(one) for one in node.decorator_list]
        if "overload" in decorators:
            continue
        if node.name == "__init__" and node.args.args[1:] + node.args.kwonlyargs:
            arguments = re.search("^Args:.*", ast.get_docstring(definition) or "", re.MULTILINE | re.DOTALL)
            parts += [_signature(name, node), _text(arguments[0]) if is_base and arguments else ""]
        elif doc and not node.name.startswith("_"):
            is_value = any(one.endswith("property") for one in decorators)
            shown = [] if is_value else [_signature(node.name, node)]
            parts += [f"### {name}.{node.name}{'' if is_value else '()'}", *shown, _text(doc)]
    return parts


def _signature(name: str, node: ast.stmt) -> str:
    """A function as it stands in the source, without its receiver; one argument a line where it is long."""
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    arguments = copy.deepcopy(node.args)
    arguments.args = [one for one in arguments.args if one.arg not in ("self", "cls")]
    arguments.posonlyargs = [one for one in arguments.posonlyargs if one.arg not in ("self", "cls")]
    returns = ast.unparse(node.returns).strip("'") if node.returns else "None"
    gives = "" if returns == "None" else f" -> {returns}"
    words = ast.unparse(arguments).removeprefix("/, ")
    line = f"{name}({words}){gives}"
    if len(line) > 100:
        line = f"{name}(\n    " + re.sub(r", (?=\*?\*?\w+(?:: |=|,|$)|\*,)", ",\n    ", words) + f"\n){gives}"
    return f"```python\n{line}\n```"


def _text(doc: str) -> str:
    """A docstring as Markdown: its sections are lists, its roles and double backticks code."""
    lines: list[str] = []
    is_section = False
    for line in _code(doc).splitlines():
        if match := _SECTION.fullmatch(line):
            lines += ["", f"**{match[1]}**", ""]
            is_section = True
        elif is_section and line.startswith("    "):
            entry = line[4:]
            lines.append(f"    {entry.strip()}" if entry.startswith(" ") else f"- {_NAMED.sub(_CODE, entry)}")
        else:
            is_section = is_section and not line
            lines.append(line)
    return "\n".join(lines)


def _code(text: str) -> str:
    return _ROLE.sub(r"`\1`", text).replace("``", "`")


def _one_line(text: str) -> str:
    return " ".join(_code(text).split()).replace("|", "\\|")


def http_page() -> str:
    """Every route with what it takes and answers, and the fields of every body."""
    found = document()
    parts = [
        "# HTTP API, every field",
        "Made from the OpenAPI document, which a running service has at `/openapi.json`, and to try out at `/docs`.",
    ]
    for tag in found["tags"]:
        parts += [f"## {tag['name']}", tag["description"]]
        for path, operations in found["paths"].items():
            for method, operation in operations.items():
                if tag["name"] in operation["tags"]:
                    parts += _operation(method, path, operation)
    parts.append("## Bodies")
    for name, schema in sorted(found["components"]["schemas"].items()):
        parts += _schema(name, schema)
    return "\n\n".join(parts) + "\n"


def _operation(method: str, path: str, operation: Node) -> list[str]:
    parts = [f"### `{method.upper()} {path}`", operation["description"]]
    parameters = operation.get("parameters", [])
    if parameters:
        rows = [
            f"| `{one['name']}` | {one['in']} | {_kind(one['schema'])} | {_one_line(one.get('description', ''))} |"
            for one in parameters
        ]
        parts.append("\n".join(["| parameter | in | takes | meaning |", "|---|---|---|---|", *rows]))
    if body := operation.get("requestBody"):
        parts.append("Takes " + ", ".join(_content(body["content"])) + ".")
    answers = [
        f"- `{status}` {', '.join(_content(answer['content'])) if 'content' in answer else ''} {_said(answer)}"
        for status, answer in operation["responses"].items()
        if "$ref" not in answer
    ]
    problems = [status for status, answer in operation["responses"].items() if "$ref" in answer]
    told = (
        f"\n- {', '.join(f'`{status}`' for status in problems)} [a problem](#problemout)" if problems else ""
    )
    return [*parts, "\n".join(answers) + told]


def _content(content: Node) -> list[str]:
    return [f"{_kind(kind.get('schema', {}))} (`{media}`)" for media, kind in content.items()]


def _said(answer: Node) -> str:
    text = _one_line(str(answer.get("description", "")))
    return "" if text == "Successful Response" else text


def _schema(name: str, schema: Node) -> list[str]:
    parts = [f"### {name}", _code(schema.get("description", ""))]
    required = schema.get("required", [])
    rows = [
        f"| `{field}`{' *' if field in required else ''} | {_kind(of)} | {_one_line(of.get('description', ''))} |"
        for field, of in schema.get("properties", {}).items()
    ]
    if not rows:
        return [*parts, f"A value: {_kind(schema)}."]
    return [*parts, "\n".join(["| field (* always there) | kind | meaning |", "|---|---|---|", *rows])]


def _kind(schema: Node) -> str:
    """A JSON schema in few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(_kind(one) for one in schema[key]))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kinds = schema.get("type", "any")
    names = [kinds] if isinstance(kinds, str) else kinds
    if names == ["array"] and schema.get("items"):
        return f"array of {_kind(schema['items'])}"
    return " or ".join(names)
