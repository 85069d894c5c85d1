"""What the settings of a component mean: the texts that stand below the fields of its config dataclass."""

import ast
import inspect
import textwrap
from functools import lru_cache


@lru_cache(maxsize=256)
def field_docs(cls: type) -> dict[str, str]:
    """Field → the text below it in the source; bases first. Nothing for a class whose source is not there."""
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        except (OSError, TypeError, SyntaxError):  # built in, or made while running
            continue
        if isinstance(tree, ast.ClassDef):
            docs |= _texts(tree)
    return docs


def _texts(tree: ast.ClassDef) -> dict[str, str]:
    texts = {}
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        is_text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and is_text:
            texts[field.target.id] = " ".join(str(below.value.value).split())  # type: ignore[attr-defined]
    return texts
