"""A caller who may start runs must not become the server's user: refused before anything is imported or built.

Classes of attack: ``_target_`` of any kind in every place a value enters, resolvers that leak the environment, Hydra's
own keys, environment ids that import modules, sizes that exhaust the machine, ids that are paths.
"""

import json

import pytest

from tests.conftest import HOME as CANARY  # what the resolvers below would leak

TARGETS = [
    "os.system",
    "posix.system",
    "logging.os.system",
    "builtins.eval",
    "builtins.exec",
    "builtins.open",
    "subprocess.Popen",
    "subprocess.check_output",
    "os._exit",
    "os.abort",
    "sys.exit",
    "os.execv",
    "pickle.load",
    "pickle.loads",
    "importlib.import_module",
    "runpy.run_path",
    "timeit.timeit",
    "functools.partial",
    "code.InteractiveInterpreter",
    "yaml.unsafe_load",
    "ctypes.CDLL",
    "pty.spawn",
    "numpy.load",
    "numpy.savetxt",
    "torch.load",
    "torch.hub.load",
    "torch.save",
    "torch.utils.collect_env.run",
    "sympy.sympify",
    "shutil.copyfile",
    "pathlib.Path.write_text",
    "pathlib.Path.touch",
    "asyncio.create_subprocess_shell",
    "setuptools._distutils.spawn.spawn",
    "pip._internal.cli.main.main",
    "gymnasium.make",
    "gymnasium.envs.registration.load_env_creator",
    "urllib.request.urlopen",
    "os.symlink",
    "hydra.utils.call",
    "multiprocessing.Process",
    "maze_core.files.write_atomically",
    "maze_core.checkpoint.os.system",
    "maze_core.config.instantiate.importlib.import_module",
    "service.store.backup.backup",
]
PLACES = {
    "env": lambda node: {"env": node},
    "algorithm": lambda node: {"algorithm": node},
    "model": lambda node: {"model": node},
    "wrappers": lambda node: {"wrappers": {node["_target_"]: {}}},
    "override": lambda node: {"overrides": {"model.policy": node}},
    "network": lambda node: {"overrides": {"model.policy.networks": [node]}},
    "kwargs": lambda node: {"overrides": {"env.kwargs": {"render_mode": node}}},
    "deep": lambda node: {"overrides": {"algorithm.lr": [[[{"a": node}]]]}},
}


@pytest.fixture(autouse=True)
def _nothing_happened(server):
    before = server.get("/v1/runs")["data"]
    yield
    assert server.get("/health/ready")["status"] == "ok"
    assert server.get("/v1/runs")["data"] == before, "a hostile spec must not become a run"
    assert not (server.folder / "owned").exists()


def refused(response, *, at_most=422):
    assert 400 <= response.status_code <= at_most, (response.status_code, response.text)
    assert response.headers["content-type"].startswith("application/problem+json")
    assert CANARY not in response.text
    assert "Traceback" not in response.text
    return response.json()


@pytest.mark.parametrize("place", list(PLACES))
def test_no_target_outside_the_list_is_taken_anywhere(server, place):
    marker = str(server.folder / "owned")
    for target in TARGETS:
        node = {"_target_": target, "command": f"touch {marker}", "args": [f"touch {marker}"]}
        problem = refused(server.post("/v1/train", PLACES[place](node)))
        assert problem["errors"], problem


@pytest.mark.parametrize("key", ["_args_", "_partial_", "_convert_", "_recursive_", "defaults", "__class__"])
def test_the_other_words_of_instantiation_are_refused_even_beside_an_allowed_target(server, key):
    node = {"_target_": "maze_core.models.config.FlattenConcatPolicyNetConfig", key: ["x"]}
    refused(server.post("/v1/train", {"overrides": {"model.policy.networks": [node]}}))


@pytest.mark.parametrize(
    "value",
    [
        "${oc.env:HOME}",
        "${oc.env:NOPE,${oc.env:HOME}}",
        "${${a}.${b}:HOME}",
        "${oc.decode:'${oc.env:HOME}'}",
        "${oc.create:{a:1}}",
        "${hydra:runtime.cwd}",
        "${now:%Y}",
        "\\${oc.env:HOME}",
        "x${seeding.env_base_seed}",
    ],
)
def test_interpolation_is_refused_wherever_it_stands(server, value):
    for body in (
        {"overrides": {"env.name": value}},
        {"overrides": {"project.name": value}},
        {"overrides": {value: 1}},
        {"env": value},
        {"overrides": {"env.kwargs": {"render_mode": [value]}}},
        {"overrides": {"env.kwargs": {value: 1}}},
    ):
        refused(server.post("/v1/train", body))


@pytest.mark.parametrize(
    "body",
    [
        {"overrides": {"hydra.searchpath": ["file:///tmp/evil"]}},
        {"overrides": {"hydra.run.dir": "/etc/x"}},
        {"overrides": {"hydra/job_logging": "none"}},
        {"overrides": {"hydra/launcher": "evil"}},
        {"overrides": {"~env": None}},
        {"overrides": {"+x": 1}},
        {"overrides": {"++env._target_": "os.system"}},
        {"overrides": {"env@_global_": "gym_env"}},
        {"overrides": {"env": "gym_env"}},
        {"overrides": {"run_dir": "/tmp/x"}},
        {"run_dir": "/tmp/x"},
        {"config_dirs": ["/tmp"]},
        {"launcher": "local"},
        {"module": "os"},
        {"multirun": True},
        {"env": "../../../../etc/passwd"},
        {"experiment": "/etc/passwd"},
        {"algorithm": "ppo\u0000"},
        {"configuration": "../test"},
    ],
)
def test_hydras_own_keys_and_everything_that_names_a_path_are_refused(server, body):
    refused(server.post("/v1/train", body))


@pytest.mark.parametrize(
    "name", ["evilmod:Env-v0", "os:CartPole-v1", ":CartPole-v1", "CartPole-v1:", "a/../b:c-v0"]
)
def test_environment_ids_that_import_a_module_are_refused(server, name):
    refused(server.post("/v1/train", {"overrides": {"env.name": name}}))


def laughs(depth):
    value = "ha"
    for _ in range(depth):
        value = [value] * 10
    return value


@pytest.mark.parametrize(
    "body",
    [
        {"overrides": {"runner.n_envs": 10**9}},
        {"overrides": {"runner.n_envs": "1e9"}},
        {"overrides": {"algorithm.n_rollout_steps": 10**30}},
        {"overrides": {"algorithm.n_epochs": 1e30}},
        {
            "overrides": {
                "model.policy.networks": [
                    {
                        "_target_": "maze_core.models.config.FlattenConcatPolicyNetConfig",
                        "hidden_units": [10**9],
                    }
                ]
            }
        },
        {"overrides": {f"algorithm.k{i}": 1 for i in range(10_000)}},
        {"overrides": {"model.policy.networks": laughs(4)}},
        {"overrides": {"algorithm.lr": "9" * 40_000}},
        {"seed": -1},
        {"seed": 2**40},
        {"n_epochs": 2**40},
        {"name": "x" * 100_000},
    ],
    ids=lambda body: json.dumps(body)[:60],
)
def test_sizes_that_would_exhaust_the_machine_are_refused_with_the_bound(server, body):
    refused(server.post("/v1/train", body))


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"overrides":' * 5_000,
        b"{",
        b"\xff\xfe{}",
        b'{"seed": ' + b"9" * 5_000 + b"}",
        b'{"overrides": {"algorithm.lr": NaN}}',
        b'{"overrides": {"algorithm.lr": 1e999}}',
        b'{"name": "\\ud800"}',
        b'{"seed":1,"seed":2}',
        b"null",
        b"[]",
        b'"x"',
    ],
    ids=lambda content: repr(content[:30]),
)
def test_bodies_that_are_no_specification_are_refused(server, content):
    response = server.client.post("/v1/train", content=content, headers={"content-type": "application/json"})
    refused(response)


@pytest.mark.parametrize(
    "run",
    [
        "..",
        "%2e%2e%2f",
        "%252e%252e%252fetc",
        "..%5c..%5c",
        "x;y",
        "%00",
        "x" * 10_000,
        "ｒｕｎ",
        "run_/../../x",
    ],
)
def test_ids_that_are_paths_find_nothing(server, run):
    for path in (f"/v1/runs/{run}", f"/v1/runs/{run}/checkpoints", f"/v1/config/groups/{run}/x"):
        refused(server.client.get(path))
    refused(server.post(f"/v1/runs/{run}/compute_action", {"observation": [0, 0, 0, 0]}))


def test_a_foreign_host_or_origin_is_refused_on_every_unsafe_method(server):
    refused(server.client.get("/v1/runs", headers={"host": "evil.test"}))
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        refused(server.client.request(method, "/v1/runs/x", headers={"origin": "http://evil.test"}, json={}))
    refused(server.client.post("/v1/train", content=b"{}", headers={"content-type": "text/plain"}))


def test_a_body_over_the_limit_is_refused_and_the_service_stays_small(server):
    (api,) = server.processes("maze: api")
    before = api.memory_info().rss
    refused(
        server.client.post(
            "/v1/train", content=b"x" * 50_000_000, headers={"content-type": "application/json"}
        )
    )
    assert api.memory_info().rss - before < 60_000_000
