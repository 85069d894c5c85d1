"""Trees become typed objects; wrong ones are refused with every problem and its path."""

import dataclasses
import functools
from collections import OrderedDict
from typing import Any, Literal

import pytest
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from maze_core.config.instantiate import instantiate
from maze_core.config.targets import resolve_target
from maze_core.errors import InvalidSpecificationError, Problem


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Inner:
    """Settings of a part."""

    size: int = Field(default=1, ge=1)
    kind: Literal["round", "square"] = "round"


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", arbitrary_types_allowed=True))
class Outer:
    """Settings with parts."""

    name: str
    inner: Inner = Field(default_factory=Inner)
    parts: tuple[Any, ...] = ()
    choice: int | Literal["auto"] = "auto"
    rate: float = 0.5

    def __post_init__(self) -> None:
        if self.name == "bad":
            raise ValueError("the name is bad")


@dataclasses.dataclass(frozen=True)
class Plain:
    """A dataclass of the standard library."""

    size: int
    ratio: float = 1.0


def function(a: int, *, b: list[str] | None = None) -> tuple[int, list[str] | None]:
    return a, b


def anything(**kwargs: Any) -> dict[str, Any]:
    return kwargs


def node(target: Any, **values: Any) -> dict[str, Any]:
    return {"_target_": f"{__name__}.{target.__name__}", **values}


def problems(tree: Any, path: str = "top") -> dict[str, Problem]:
    with pytest.raises(InvalidSpecificationError) as caught:
        instantiate(tree, path)
    return {problem.path: problem for problem in caught.value.problems}


def test_plain_values_stay_as_they_are():
    tree = {"a": [1, 2.5, None, {"b": True}], "c": "text"}
    assert instantiate(tree) == tree


def test_nodes_are_built_inside_out():
    built = instantiate(node(Outer, name="x", parts=[node(Inner, size=2), 3], inner={"size": 4}))
    assert built == Outer(name="x", parts=(Inner(size=2), 3), inner=Inner(size=4))


def test_a_plain_dataclass_is_validated_too():
    assert instantiate(node(Plain, size=2, ratio=3)) == Plain(2, 3.0)
    assert set(problems(node(Plain, size="x", ratoi=1))) == {"top.size", "top.ratoi"}
    assert problems(node(Plain))["top.size"].code == "missing_key"


def test_a_function_at_the_top_is_called_and_one_within_is_handed_on():
    assert instantiate(node(function, a=1, b=["x"])) == (1, ["x"])
    (part,) = instantiate(node(Outer, name="x", parts=[node(function, a=1)])).parts
    assert isinstance(part, functools.partial)
    assert part(b=[]) == (1, [])


def test_a_function_can_be_handed_on_at_the_top():
    assert isinstance(instantiate(node(function, a=1), call=False), functools.partial)


def test_a_signature_is_checked():
    assert problems(node(function, a="x"))["top.a"].code == "wrong_type"
    assert problems(node(function, a=1, c=2))["top.c"].code == "unknown_key"
    assert instantiate(node(anything, whatever=1)) == {"whatever": 1}


def test_a_constructor_that_fails_is_a_problem():
    assert "missing" in problems(node(function))["top"].message


def test_every_problem_of_a_tree_is_found():
    found = problems(
        node(
            Outer,
            inner={"size": 0, "kind": "rund"},
            parts=[node(Inner, size="1"), node(Inner, siz=1)],
            rate="fast",
            colour="red",
        )
    )
    assert set(found) == {
        "top.name",
        "top.inner.size",
        "top.inner.kind",
        "top.parts.0.size",
        "top.parts.1.siz",
        "top.rate",
        "top.colour",
    }
    assert found["top.name"].code == "missing_key"
    assert found["top.inner.size"].code == "out_of_range"
    assert (found["top.inner.kind"].did_you_mean, found["top.inner.kind"].allowed) == (
        "round",
        ("round", "square"),
    )
    assert found["top.parts.1.siz"].did_you_mean == "size"


def test_the_members_of_a_union_make_one_problem():
    found = problems(node(Outer, name="x", choice="manual"))
    assert set(found) == {"top.choice"}


def test_a_check_of_the_component_is_a_problem_of_the_component():
    assert problems(node(Outer, name="bad")) == {
        "top": Problem(path="top", message="the name is bad.", code="invalid_value")
    }


@pytest.mark.parametrize(
    "name",
    [
        "",
        "nodots",
        "maze_core.nothing.Here",
        "maze_core.errors.Missing",
        "a..b",
        "maze_core.errors",
        "1.2",
        "é.x y",
    ],
)
def test_a_name_of_nothing_is_refused(name):
    assert problems({"_target_": name})["top._target_"].code == "unknown_target"


@pytest.mark.parametrize("name", [None, 3, ["x"], {"a": 1}])
def test_a_target_is_a_text(name):
    assert problems({"_target_": name})["top._target_"].code == "wrong_type"


def test_a_misspelt_component_gets_a_suggestion():
    name = "maze_core.models.config.FlattenConcatPolicyNetConfg"
    assert problems({"_target_": name})["top._target_"].did_you_mean == name.replace("Confg", "Config")


def test_a_module_that_cannot_be_imported_is_a_problem(tmp_path, monkeypatch):
    (tmp_path / "needs_something.py").write_text("import not_there_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "not_there_at_all" in problems({"_target_": "needs_something.X"})["top._target_"].message


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1 / 0\n", "ZeroDivisionError: division by zero"),
        ("def (:\n", "SyntaxError: invalid syntax"),
        ("raise SystemExit(3)\n", "SystemExit: 3"),
        ("raise KeyError\n", "KeyError: no reason given"),
    ],
)
def test_a_module_that_fails_while_it_is_imported_is_a_problem(text, reason, tmp_path, monkeypatch):
    (tmp_path / "fails_early.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    found = problems({"_target_": "fails_early.X"})["top._target_"]
    assert f"Importing fails_early failed: {reason}" in found.message
    assert found.code == "unknown_target"


@pytest.mark.parametrize("key", ["_args_", "_partial_", "_convert_", "_recursive_"])
def test_the_special_keys_of_hydra_mean_nothing(key):
    assert problems(node(Inner, **{key: True}))[f"top.{key}"].code == "unknown_key"


def test_live_objects_are_used_where_they_stand():
    part = object()
    tree = node(Outer, name="x", parts=[{"_opaque_": "object"}])
    assert instantiate(tree, "top", {"top.parts.0": part}).parts == (part,)
    assert problems(tree)["top.parts.0"].code == "live_object_missing"


def test_aliases_lead_to_the_same_class():
    names = [
        "maze.perception.models.built_in.flatten_concat.FlattenConcatPolicyNet",
        "maze_core.models.networks.FlattenConcatPolicyNet",
        "FlattenConcatPolicyNetConfig",
        "maze_core.models.config.FlattenConcatPolicyNetConfig",
    ]
    assert len({resolve_target(name) for name in names}) == 1


def test_mappings_of_other_kinds_are_trees_too():
    assert instantiate(OrderedDict(_target_=f"{__name__}.Inner", size=2)) == Inner(size=2)
