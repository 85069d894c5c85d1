"""JSON Schema (2020-12) of configurations, made from the dataclasses of the settings, to check or to build forms from.

A schema describes the *normal form*, in which ``rc.config`` and the service show a configuration: public names, null
for "off". Its ``default`` of a setting is what a run has that does not set it, as the module's file says, else the
code. What depends on several settings at once no schema says; composing does.
"""

import copy
import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from maze_core.config.arguments import ROOTS
from maze_core.config.components import PLACES, PUBLIC_TARGETS, canonical_target, target_name
from maze_core.config.instantiate import Describer
from maze_core.config.modules import (
    PRESET_GROUPS,
    Directories,
    ModuleIndex,
    composition,
    config_module,
    module_index,
    module_of,
    resolve_interpolations,
)
from maze_core.config.nodes import TARGET, is_node, part_at, parts_in
from maze_core.config.overrides import DESTINATIONS
from maze_core.config.presets import MULTIRUN_PARTS, choices_fit
from maze_core.config.schema import OTHER_RUNNER, PARTS, SEEDS, SOURCES, Mode, normal_form, wrapper_list
from maze_core.config.settings import OTHER_COMPONENT, field_docs
from maze_core.config.targets import field_types, resolve_target
from maze_core.config.trust import TrustPolicy, closed_fields
from maze_core.errors import ProblemList
from maze_core.seeding import SEED_LIMIT
from maze_core.types import Tree

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_DEFINITIONS = "#/$defs/"
_REQUIRED: Mapping[Mode, str] = {"train": "algorithm", "rollout": "policy"}
"""The part without which a tree is no resolved configuration."""


def run_schema(
    mode: Mode = "train", config_dirs: Directories = (), policy: TrustPolicy | None = None
) -> Tree:
    """The schema of a resolved configuration.

    Args:
        mode: ``train`` or ``rollout``.
        config_dirs: the caller's directories; what their modules name is described, too.
        policy: what may be named and how large it may be, of a service; None is Python, where any may.

    Raises:
        InvalidSpecificationError: a module's file cannot be read.
    """
    return _Schemas(mode, module_index(config_dirs), policy).of_run({})


def module_schema(
    group: str, name: str, config_dirs: Directories = (), policy: TrustPolicy | None = None
) -> Tree:
    """The schema of what a module describes, its values as defaults; of a preset that of a whole run.

    Raises:
        InvalidSpecificationError: there is no such group or module, or a module's file cannot be read.
    """
    module = config_module(group, name, config_dirs)  # known from here on
    index = module_index(config_dirs)
    schemas = _Schemas(_mode_of(group, name, module["config"], index), index, policy)
    of = schemas.of_run if group in PRESET_GROUPS else functools.partial(schemas.of_part, group)
    return {**of({group: name}), "title": f"{group}={name}", "description": module["description"]}


def _mode_of(group: str, name: str, config: Any, index: ModuleIndex) -> Mode:
    """Whether a module belongs to trainings, or to rollouts alone."""
    plays = group == "policy" or (
        group == "runner" and is_node(config) and canonical_target(config[TARGET]) == OTHER_RUNNER["train"]
    )
    if plays or (group == "experiment" and not choices_fit(name, "train", index, ProblemList())):
        return "rollout"
    return "train"


class _Schemas:
    """The schemas of one mode, as one caller's modules and permissions make them."""

    def __init__(self, mode: Mode, index: ModuleIndex, policy: TrustPolicy | None) -> None:
        self._mode, self._index, self._policy = mode, index, policy

    def of_run(self, choices: Mapping[str, str]) -> Tree:
        """Of the whole configuration; what these modules say are its defaults."""
        values = self._values(choices)
        parts = {part: self._choice(part) for part in PARTS[self._mode]}
        parts |= {"seeding": _seeding(), "project": _project()}
        parts["wrappers"] = {"type": "array", "items": parts["wrappers"]}
        parts["model"]["anyOf"].append({"type": "null"})
        for part in set(parts) - {"seeding", *SOURCES}:
            parts[part]["default"] = values[part]
        schema = {
            "title": f"{self._mode} configuration",
            "type": "object",
            "properties": parts,
            "required": [_REQUIRED[self._mode]],
            "additionalProperties": False,
        }
        return self._whole(schema)

    def of_part(self, group: str, choices: Mapping[str, str]) -> Tree:
        """Of what stands at the place of a group."""
        value = part_at(self._values(choices), DESTINATIONS[self._mode].get(group, group))
        if group == "wrappers":
            return self._whole({"type": "array", "items": self._choice(group), "default": value})
        if not is_node(value) or value[TARGET] not in PLACES:  # a component of somebody else's
            return self._whole({"type": "object"} if isinstance(value, Mapping) else {})
        schema = _definitions()[value[TARGET].rpartition(".")[2]]
        properties = {
            name: entry | ({"default": value[name]} if name in value else {})
            for name, entry in schema["properties"].items()
        }
        return self._whole({**schema, "properties": properties})

    def _values(self, choices: Mapping[str, str]) -> Tree:
        """What a run with these modules has, in normal form."""
        tree = composition(ROOTS[self._mode], choices, self._index).tree
        tree["wrappers"] = wrapper_list(tree.get("wrappers"))
        tree = resolve_interpolations(tree)
        others = {part: tree.pop(part, None) for part in MULTIRUN_PARTS}
        return normal_form(tree, {}, self._mode, ProblemList()) | {"launcher": others["launcher"]}

    def _components(self, part: str) -> list[str]:
        """The public names of what may stand at a part: what the modules of its group name, and all wrappers."""
        if part == "wrappers":
            place = "maze_core.envs.wrappers."
            known = set(PLACES) if self._policy is None else PUBLIC_TARGETS
            return sorted(name for name in known if PLACES[name].startswith(place))
        root = module_of(self._index, "", ROOTS[self._mode])["config"]
        files = [module_of(self._index, part, name)["config"] for name in self._index.names(part)]
        named = [canonical_target(node[TARGET]) for node in [root.get(part), *files] if is_node(node)]
        return [name for name in dict.fromkeys(named) if name in PLACES and name != OTHER_RUNNER[self._mode]]

    def _choice(self, part: str) -> Tree:
        """Any component that may stand at a part."""
        nodes = [_node(name) for name in self._components(part)]
        return {"anyOf": [*nodes, {"$ref": _DEFINITIONS + OTHER_COMPONENT}]}

    def _whole(self, schema: Tree) -> Tree:
        """A schema with the definitions that it needs, and what the policy says."""
        others = None if self._policy is None else sorted({*self._policy.targets} - {*PLACES})
        definitions = {**_definitions(), OTHER_COMPONENT: _other_component(others)}
        whole = copy.deepcopy({"$schema": DIALECT, **schema, "$defs": _needed(schema, definitions)})
        if others == []:
            whole = _without_others(whole)
        if self._policy is not None:
            for part in [whole, *whole["$defs"].values()]:
                _restrict(part, self._policy)
        return whole


@functools.lru_cache(maxsize=1)
def _definitions() -> Mapping[str, Tree]:
    """The schema of every component of this library and of all that stands in one, by the name of its class."""
    classes: dict[str, Any] = {name: resolve_target(name) for name in PLACES}
    inputs: Any = [(name, "validation", TypeAdapter(cls)) for name, cls in classes.items()]
    _, document = TypeAdapter.json_schemas(inputs, schema_generator=_Generator)
    return dict(document["$defs"])


def _node(name: str) -> Tree:
    """The schema of a node of a component."""
    return {"$ref": _DEFINITIONS + name.rpartition(".")[2], "required": [TARGET]}


class _Generator(GenerateJsonSchema):
    """pydantic's schemas, with the texts below the fields, every default, and ``_target_``."""

    def dataclass_schema(self, schema: Any) -> JsonSchemaValue:
        """Of a dataclass of settings."""
        made, cls = super().dataclass_schema(schema), schema["cls"]
        docs, types = field_docs(cls), field_types(cls)
        for field in dataclasses.fields(cls):
            if (entry := made["properties"].get(field.name)) is None:
                continue
            if text := docs.get(field.name):
                entry["description"] = text
            if (value := _default(field)) is not dataclasses.MISSING:
                entry["default"] = Describer().tree(value, field.name, types[field.name])
        if (name := target_name(cls)) in PLACES:
            made["properties"] = {TARGET: {"const": name}, **made["properties"]}
        return made

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        """A function, which no JSON says."""
        return {}

    def field_title_should_be_set(self, schema: Any) -> bool:
        """A setting is called by its name."""
        return False


def _default(field: "dataclasses.Field[Any]") -> Any:
    """The value of a field that is not given."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _other_component(names: Sequence[str] | None) -> Tree:
    """A component that is not of this library; its settings are not described."""
    name = {"not": {"enum": sorted(PUBLIC_TARGETS)}} if names is None else {"enum": list(names)}
    target = {"type": "string", **name}
    return {
        "description": "A component that is not of this library.",
        "type": "object",
        "properties": {TARGET: target},
        "required": [TARGET],
    }


def _without_others(schema: Any) -> Any:
    """A schema without the choice of a component that is not of this library, where none may be named."""
    if isinstance(schema, list):
        return [_without_others(part) for part in schema if part != {"$ref": _DEFINITIONS + OTHER_COMPONENT}]
    if not isinstance(schema, Mapping):
        return schema
    kept = {key: _without_others(part) for key, part in schema.items() if key != OTHER_COMPONENT}
    return False if kept.get("anyOf") == [] else kept


def _needed(schema: Tree, definitions: Mapping[str, Tree]) -> Tree:
    """The definitions that a schema leads to."""
    found: dict[str, None] = {}
    parts = [schema]
    for part in parts:  # which grows meanwhile
        for name in _references(part):
            if name not in found:
                found[name] = None
                parts.append(definitions[name])
    return {name: definitions[name] for name in sorted(found)}


def _references(schema: Tree) -> Iterator[str]:
    for path, part in parts_in(schema):
        if path.rpartition(".")[2] == "$ref" and isinstance(part, str):
            yield part.removeprefix(_DEFINITIONS)


def _restrict(schema: Tree, policy: TrustPolicy) -> None:
    """Write into an object's schema what a client of a service may not say."""
    properties = schema.get("properties", {})
    for name, most in policy.limits.ceilings.items():
        entry = properties.get(name, {})
        for kind in (entry, *entry.get("anyOf", ())):
            if kind.get("type") in ("integer", "number"):
                kind["maximum"] = min(kind.get("maximum", most), most)
    target = properties.get(TARGET, {}).get("const")
    for name in closed_fields(resolve_target(target)) if target in PLACES else ():
        properties[name]["readOnly"] = True


def _seeding() -> Tree:
    seed = {"type": "integer", "minimum": 0, "maximum": SEED_LIMIT - 1}
    return {
        "type": "object",
        "properties": {name: dict(seed) for name in SEEDS},
        "additionalProperties": False,
    }


def _project() -> Tree:
    name = {"type": ["string", "null"], "default": None}
    return {"type": "object", "properties": {"name": name}, "additionalProperties": False}
