"""Values that a file writes as an expression of Python's, read without running it."""

import ast
from typing import Any

from maze_core.config.nodes import shown


def python_value(text: Any) -> Any:
    """The value of an expression of constants, lists, dicts, ``dict(…)`` and names.

    A dotted name becomes its last word; what is no text is given back.

    Raises:
        ValueError: there is more in it.
    """
    if not isinstance(text, str):
        return text
    try:
        return _value_of(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"{shown(text)} is no expression of Python's") from error


def _value_of(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_value_of(item) for item in items]
        case ast.Dict(keys=keys, values=values) if None not in keys:
            return {_value_of(key): _value_of(value) for key, value in zip(keys, values, strict=True) if key}
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=words) if all(word.arg for word in words):
            return {word.arg: _value_of(word.value) for word in words}
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    raise ValueError(f"{ast.unparse(node)} is more than a value")
