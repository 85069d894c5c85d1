"""The form that is made of a module's schema: every setting is in it, under the key that an override has."""

import json
import subprocess
from pathlib import Path

import pytest

from maze_core.config import config_groups
from service.web import FOLDER
from tools.page import environment

MODULES = [
    (group, module)
    for group in ("algorithm", "env", "model", "runner", "wrappers")
    for module in config_groups()[group]
    if module not in ("legacy_gym_env", "parallel", "sequential")
]


@pytest.fixture(scope="module")
def fields():
    if not (FOLDER / "node_modules" / "preact").is_dir():
        pytest.skip("the page's packages are not installed: python -m tools.page --dev")
    found = environment()

    def ask(key, schema):
        script = str(Path(__file__).parent / "schema_form.mjs")
        given = json.dumps({"key": key, "schema": schema})
        done = subprocess.run(
            ["node", script], input=given, env=found, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return ask


def mistakes(answer):
    """What is wrong, wherever it was said."""
    return [(one["path"], one["code"], one["message"]) for one in answer.json().get("errors", [])]


@pytest.mark.parametrize(("group", "module"), MODULES)
def test_what_stands_there_is_the_same_configuration_when_it_is_typed(fields, server, group, module):
    schema = server.get(f"/v1/config/groups/{group}/{module}/schema")
    found = fields(group, schema)
    for field in found:
        assert field["read"] == field.get("standard"), field["key"]
    chosen = {group: module, "seed": 1}
    if (group, module) == ("model", "vector_obs"):
        chosen["critic"] = "template_state"
    plain = server.post("/v1/config/compose", chosen)
    values = {field["key"]: field["read"] for field in found}
    typed = server.post("/v1/config/compose", chosen | {"overrides": values})
    assert mistakes(typed) == mistakes(plain)
    assert typed.json().get("config_sha256") == plain.json().get("config_sha256")


def test_every_setting_of_an_algorithm_has_a_field(fields, server):
    schema = server.get("/v1/config/groups/algorithm/ppo/schema")
    config = server.post("/v1/config/compose", {"algorithm": "ppo"}).json()["config"]["algorithm"]
    parts = {name: value for name, value in config.items() if isinstance(value, dict)}
    keys = {f"algorithm.{name}" for name in config if name not in parts and name != "_target_"}
    keys |= {
        f"algorithm.{name}.{inner}" for name, part in parts.items() for inner in part if inner != "_target_"
    }
    missing = keys - {field["key"] for field in fields("algorithm", schema)}
    assert missing == set()
