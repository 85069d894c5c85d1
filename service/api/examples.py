"""An example of every request and answer, for the OpenAPI document; a test holds them against the models."""

from typing import Any

RUN_ID = "run_06b1c9k2m4n6p8q0r2s4t6v8w0"
CHECKPOINT_ID = "ckpt_06b1c9k2m4n6p8q0r2s4t6v8w1"
CHECKPOINT_SHA256 = _SHA256 = "0b5a1c7e9d3f2468ace013579bdf02468ace13579bdf02468ace13579bdf0246"
_AT = "2026-01-31T12:00:00.123Z"
_LATER = "2026-01-31T12:00:41.901Z"


def _page(*items: Any) -> dict[str, Any]:
    return {"data": list(items), "next_cursor": None, "has_more": False}


_TRAINING: dict[str, Any] = {
    "id": RUN_ID,
    "kind": "train",
    "state": "running",
    "name": "cartpole ppo",
    "labels": {"team": "a"},
    "reason": None,
    "phase": "training",
    "progress": {"epoch": 12, "n_epochs": 30, "env_steps": 49152, "fraction": 0.4, "eta_s": 21.5},
    "latest_metrics": {"train/episode_return": 187.4, "train/policy_loss": -0.011},
    "best": {"metric": "eval/mean_return", "value": 231.0, "checkpoint": CHECKPOINT_ID},
    "result": None,
    "error": None,
    "seed": 1,
    "config_sha256": _SHA256,
    "environment": "CartPole-v1",
    "algorithm": "ppo",
    "source_run": None,
    "source_checkpoint": None,
    "parent_run": None,
    "continues": None,
    "videos": None,
    "resources": None,
    "priority": 0,
    "sweep": None,
    "queue": None,
    "notes": None,
    "revision": 0,
    "attempt": 1,
    "traceparent": None,
    "created_at": _AT,
    "started_at": _AT,
    "finished_at": None,
    "links": {"self": f"/v1/runs/{RUN_ID}", "events": f"/v1/runs/{RUN_ID}/events"},
}
_QUEUED = _TRAINING | {
    "state": "queued",
    "queue": {"ahead": 3, "waits_for": "turn"},
    "phase": None,
    "progress": dict.fromkeys(_TRAINING["progress"]),
    "latest_metrics": {},
    "best": None,
    "attempt": 0,
    "started_at": None,
}
_OF_A_RUN: dict[str, Any] = {
    "name": None,
    "labels": {},
    "source_run": RUN_ID,
    "source_checkpoint": CHECKPOINT_ID,
}
_ROLLOUT = _QUEUED | _OF_A_RUN | {"id": "run_06b1c9m3p5r7t9v1w3y5z7b9d1", "kind": "rollout"}
_EVALUATION = _ROLLOUT | {
    "id": "run_06b1c9n4q6s8v0x2z4b6d8f0h2",
    "kind": "evaluate",
    "state": "succeeded",
    "reason": "completed",
    "result": {
        "mean_return": 498.2,
        "std_return": 4.1,
        "ci95": [495.9, 500.0],
        "returns": [500.0, 491.0],
        "lengths": [500, 491],
        "seeds": [1, 2],
    },
    "attempt": 1,
    "started_at": _AT,
    "finished_at": _LATER,
}
_EVENT = {
    "seq": 41,
    "at": _AT,
    "type": "metrics",
    "data": {"epoch": 12, "values": {"train/policy_loss": -0.011}},
}
_CHECKPOINT = {
    "id": CHECKPOINT_ID,
    "run": RUN_ID,
    "epoch": 10,
    "step": 40960,
    "kind": "scheduled",
    "metrics": {"eval/mean_return": 231.0},
    "content_sha256": _SHA256,
    "weights_sha256": _SHA256[::-1],
    "size_bytes": 73122,
    "servable": True,
    "not_servable_reason": None,
    "is_best": True,
    "is_last": False,
    "created_at": _AT,
}
_IMPORT = _QUEUED | {"kind": "import", "seed": None, "config_sha256": None}
_UPLOAD = {
    "id": "upl_06b1c9k2m4n6p8q0r2s4t6v8w0",
    "size_bytes": 2_500_000,
    "sha256": _SHA256,
    "part_bytes": 1_048_576,
    "n_parts": 3,
    "parts": [0, 2],
    "run": RUN_ID,
    "created_at": _AT,
    "expires_at": "2026-02-01T12:00:00.123Z",
}
_BYTES = "the bytes"
_EPISODE = {"index": 0, "seed": 1, "episode_return": 1.0, "length": 1, "terminated": True, "truncated": False}
_FILMED = _EPISODE | {"has_trajectory": True, "has_video": True, "epoch": 0, "moment": "begin"}
_STEP = {
    "actor_id": [0, 0],
    "flat_step": 0,
    "observation": {"observation": [0.01, 0.02, -0.03, 0.04]},
    "action": {"action": 1},
    "reward": 1.0,
}
_TRAJECTORY = {
    "steps": [_STEP],
    "final_observation": {"observation": [0.01, 0.21, -0.03, -0.26]},
    "terminated": True,
    "truncated": False,
}
_CONFIG = {
    "env": {"_target_": "maze_core.GymEnvConfig", "name": "CartPole-v1", "kwargs": {}},
    "seeding": {"env_base_seed": 1, "agent_base_seed": 1},
}
_YAML = "env:\n  _target_: maze_core.GymEnvConfig\n  name: CartPole-v1\n"
_PROVENANCE = {
    "env._target_": {"source": "module", "name": "env/gym_env"},
    "env.name": {"source": "override", "name": "env.name"},
    "env.kwargs": {"source": "module", "name": "env/gym_env"},
    "seeding.env_base_seed": {"source": "argument", "name": "seed"},
    "seeding.agent_base_seed": {"source": "argument", "name": "seed"},
}
_SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "lr": {
            "description": "Step size at the start.",
            "type": "number",
            "exclusiveMinimum": 0.0,
            "default": 0.001,
        }
    },
}
_MODULE = {"group": "algorithm", "name": "ppo", "description": "Proximal policy optimisation."}
_KIND = {
    "type": "/problems/state-conflict",
    "code": "state_conflict",
    "status": 409,
    "meaning": "The run's state does not allow this; trying again does not help.",
}
_TRAIN_REQUESTS = {
    "defaults": {},
    "cartpole": {
        "algorithm": "ppo",
        "model": "vector_obs",
        "critic": "template_state",
        "wrappers": "vector_obs",
        "overrides": {"env.name": "CartPole-v1"},
        "n_epochs": 30,
        "target_return": 475.0,
        "seed": 1,
        "name": "cartpole ppo",
        "labels": {"team": "a"},
    },
    "again": {"config": _CONFIG | {"algorithm": {"_target_": "maze_core.PPOAlgorithmConfig"}}},
}
_ROLLOUT_REQUESTS = {
    "of_a_run": {"run": RUN_ID, "checkpoint": "best", "n_episodes": 10, "seed": 1, "record": True},
    "by_name": {"policy": "walker:2", "n_episodes": 10},
    "filmed": {"run": RUN_ID, "n_episodes": 10, "record": ["trajectory", "video"], "videos": 2},
    "random_policy": {"policy": "random_policy", "overrides": {"env.name": "CartPole-v1"}, "n_episodes": 10},
}
_EVALUATE_REQUESTS = {
    "twenty_episodes": {"run": RUN_ID, "checkpoint": "best", "n_episodes": 20, "seed": 1},
    "by_name": {"policy": "walker@champion"},
}
_ACTED = {
    "action": 1,
    "run": RUN_ID,
    "checkpoint": CHECKPOINT_ID,
    "checkpoint_sha256": CHECKPOINT_SHA256,
}
_ACTION_REQUESTS = {
    "one": {"observation": [0.01, 0.02, -0.03, 0.04], "deterministic": True, "checkpoint": "best"},
    "many": {"observations": [[0.01, 0.02, -0.03, 0.04], [0.0, -0.1, 0.02, 0.3]]},
    "explained": {"observation": [0.01, 0.02, -0.03, 0.04], "explain": True},
    "candidates": {"observation": [0.01, 0.02, -0.03, 0.04], "top_k": 2, "return": ["value"], "timing": True},
    "each_for_itself": {"observations": [[0.01, 0.02, -0.03, 0.04], [0.0]], "errors": "per_item"},
    "as_bytes": {"observation": {"b64": "CtejPArXozyPwvW8Ctcjvg==", "dtype": "float32", "shape": [4]}},
    "first_of_an_episode": {"observation": [0.01, 0.02, -0.03, 0.04], "state": None},
}
_COMPARE_REQUESTS = {
    "by_name": {
        "policies": [{"policy": "walker@champion"}, {"run": RUN_ID, "checkpoint": "best"}],
        "n_episodes": 50,
        "seed": 1,
    }
}
_SCORE = {"mean_return": 498.2, "std_return": 4.1, "ci95": [495.9, 500.0], "returns": [500.0, 491.0]}
_COMPARISON = _EVALUATION | {
    "id": "run_06b1c9p5r7t9v1x3z5b7d9f1g3",
    "kind": "compare",
    "source_run": None,
    "source_checkpoint": None,
    "result": {
        "policies": [_SCORE, _SCORE | {"mean_return": 499.0}],
        "pairs": [
            {
                "first": 0,
                "second": 1,
                "n_episodes": 50,
                "mean_difference": 0.8,
                "ci95": [-0.4, 2.0],
                "wins": 9,
                "ties": 36,
                "losses": 5,
            }
        ],
        "stop_reason": "completed",
    },
}
_POLICY = {
    "name": "walker",
    "description": "Walks.",
    "gate": {"aliases": ["champion"], "n_episodes": 50, "seed": None},
    "n_versions": 2,
    "aliases": {"champion": 1},
    "created_at": _AT,
    "created_by": None,
}
_VERSION = {
    "policy": "walker",
    "version": 2,
    "run": RUN_ID,
    "checkpoint": CHECKPOINT_ID,
    "content_sha256": _SHA256,
    "note": "a wider net",
    "created_at": _AT,
    "created_by": None,
}
_ALIAS = {"policy": "walker", "alias": "champion", "version": 2, "revision": 2, "moved_at": _LATER}
_MOVE = {
    "seq": 2,
    "kind": "set",
    "from_version": 1,
    "to_version": 2,
    "reason": "a wider net",
    "by": None,
    "at": _LATER,
    "evidence": {
        "comparison": _COMPARISON["id"],
        "mean_difference": 0.8,
        "ci95": [-0.4, 2.0],
        "n_episodes": 50,
    },
}
SWEEP_ID = "sweep_06b1c9k2m4n6p8q0r2s4t6v8w2"
_SEARCH = {
    "space": {"algorithm.lr": {"low": 0.0001, "high": 0.01, "log": True}},
    "n_trials": 20,
    "sampler": "tpe",
    "n_startup_trials": 8,
    "seed": 1,
}
_TRIAL = {"trial": 4, "choices": {"algorithm.lr": 0.0031}, "value": 498.2, "runs": [RUN_ID]}
_SWEEP: dict[str, Any] = {
    "id": SWEEP_ID,
    "state": "running",
    "reason": None,
    "error": None,
    "name": "step sizes",
    "labels": {"team": "a"},
    "priority": 0,
    "parallel": 1,
    "n_jobs": 20,
    "counts": {"succeeded": 6, "running": 1},
    "best": _TRIAL,
    "search": _SEARCH,
    "metric": "eval/mean_return",
    "direction": "maximize",
    "created_at": _AT,
    "finished_at": None,
    "links": {"self": f"/v1/sweeps/{SWEEP_ID}", "runs": f"/v1/sweeps/{SWEEP_ID}/runs"},
}
_JOB = {"job": 4, "trial": 4, "choices": {"algorithm.lr": 0.0031}}
_SWEEP_REQUESTS = {
    "grid": {
        "algorithm": ["ppo", "a2c"],
        "overrides": {"env.name": "CartPole-v1", "algorithm.lr": [0.001, 0.01]},
        "seed": [1, 2, 3],
        "name": "step sizes",
    },
    "search": {"algorithm": "ppo", "overrides": {"env.name": "CartPole-v1"}, "search": _SEARCH, "seed": 1},
}
_COMPOSE_REQUESTS = {
    "cartpole": {"mode": "train", "algorithm": "ppo", "overrides": {"env.name": "CartPole-v1"}}
}
_ENVIRONMENT = {
    "id": "CartPole-v1",
    "source": "gymnasium",
    "is_available": True,
    "is_trainable": True,
    "reason": None,
    "install": None,
    "links": {"self": "/v1/environments/CartPole-v1"},
}
_SPACES = {
    "workers": ["host-4711-0a1b2c3d"],
    "max_episode_steps": 500,
    "reward_threshold": 475.0,
    "kwargs": {"sutton_barto_reward": False},
    "open_kwargs": ["sutton_barto_reward"],
    "observation_space": {
        "type": "Box",
        "dtype": "float32",
        "shape": [4],
        "low": [-4.8, None, -0.42, None],
        "high": [4.8, None, 0.42, None],
    },
    "action_space": {"type": "Discrete", "dtype": "int64", "n": 2, "start": 0},
}
_WORKER = {
    "id": "host-4711-0a1b2c3d",
    "host": "host",
    "versions": {"python": "3.11.9", "maze-service": "0.1.0", "torch": "2.13.0", "gymnasium": "1.4.0"},
    "extras": ["optuna", "video"],
    "environments": "published",
    "n_slots": 3,
    "n_training_slots": 2,
    "n_free": 2,
    "silent_s": 1.4,
    "runs": [
        {
            "id": RUN_ID,
            "kind": "train",
            "state": "running",
            "name": "cartpole ppo",
            "phase": "training",
            "started_at": _AT,
            "links": {"self": f"/v1/runs/{RUN_ID}"},
        }
    ],
}
_STATUS = {
    "version": "0.1.0",
    "n_workers": 1,
    "slots": {"total": 3, "busy": 1, "free": 2},
    "queue": [
        {"kind": "train", "queued": 4, "oldest_s": 12.5, "waits_for": "slot", "running": 2, "n_free": 0}
    ],
    "database": {
        "kind": "sqlite",
        "size_bytes": 41_943_040,
        "n_blobs": 212,
        "blob_bytes": 15_728_640,
        "free_bytes": 81_604_378_624,
    },
}
_HEALTH = {"status": "ok", "checks": {"database": {"status": "ok"}, "workers": {"status": "ok", "alive": 1}}}
_STREAM = (
    f'event: metrics\ndata: {{"seq":41,"at":"{_AT}","type":"metrics","data":{{}}}}\nid: 41\nretry: 2000\n\n'
)
_FEED_STREAM = _STREAM.replace("41", "977").replace('"seq":977', f'"position":977,"run":"{RUN_ID}","seq":41')
_PROMETHEUS = 'maze_runs{kind="train",state="running"} 1.0\n'


def _json(response: Any, requests: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"requests": requests or {}, "responses": {"application/json": response}}


def _also(media_type: str, text: str, examples: dict[str, Any]) -> dict[str, Any]:
    return {**examples, "responses": {**examples["responses"], media_type: text}}


_HOOK_ID = "hook_06b1c9k2m4n6p8q0r2s4t6v8w0"
_HOOK = {
    "id": _HOOK_ID,
    "url": "https://hooks.example/maze",
    "types": ["run.failed"],
    "created_at": _AT,
    "created_by": None,
    "disabled_at": None,
    "disabled_reason": None,
}
_DELIVERY = {
    "id": "msg_06b1c9k2m4n6p8q0r2s4t6v8w0",
    "type": "run.failed",
    "run": RUN_ID,
    "state": "delivered",
    "attempts": 1,
    "created_at": _AT,
    "due_at": _AT,
    "delivered_at": _AT,
    "status": 204,
    "error": None,
    "response": None,
}

_SPLIT = {"canary": {"version": 7, "weight": 0.1}}
_COUNTS: dict[str, Any] = {"requests": 90, "errors": 0, "mean_latency_ms": 0.4, "compared": 0}
_COUNTS |= {"steps": 0, "mean_reward": None, "agreement": None, "dropped": 0}
_TRAFFIC = {
    "policy": "walker",
    "alias": "champion",
    "version": 6,
    "revision": 4,
    **_SPLIT,
    "shadow": None,
    "versions": [
        {"role": "holder", "version": 6, **_COUNTS},
        {"role": "canary", "version": 7, **_COUNTS, "requests": 10},
    ],
}
_OBS = {"name": "obs", "shape": [1, 4], "datatype": "FP32", "data": [0.01, 0.02, -0.03, 0.04]}
_SAMPLED = {"deterministic": False, "seed": 1}
_NEXT = {"sequence_id": 7, "sequence_start": True}
_UNMEASURED = {"count": 0, "ns": 0}
_STATISTICS = {
    "name": "walker@champion",
    "version": "7",
    "last_inference": 1792838462000,
    "inference_count": 12,
    "execution_count": 1,
    "inference_stats": {
        "success": {"count": 3, "ns": 91000},
        "fail": _UNMEASURED,
        "queue": {"count": 3, "ns": 43000},
        "compute_input": _UNMEASURED,
        "compute_infer": {"count": 1, "ns": 16000},
        "compute_output": _UNMEASURED,
    },
    "batch_stats": [
        {
            "batch_size": 12,
            "compute_input": _UNMEASURED,
            "compute_infer": {"count": 1, "ns": 16000},
            "compute_output": _UNMEASURED,
        }
    ],
}
SESSION_ID = "session_06b1c9k2m4n6p8q0r2s4t6v8w7"
_SESSION: dict[str, Any] = {
    "id": SESSION_ID,
    "run": RUN_ID,
    "checkpoint": CHECKPOINT_ID,
    "checkpoint_sha256": _SHA256,
    "policy": "walker:3",
    "deterministic": True,
    "seed": 1748302938,
    "episode": 0,
    "next_seq": 0,
    "recording": None,
    "n_recorded": 0,
    "ttl_s": 300.0,
    "created_at": _AT,
    "expires_at": _LATER,
}

_TOKEN = {
    "id": "5f2c1e9a7b40",
    "name": "robot",
    "project": "default",
    "scopes": ["act"],
    "created_at": "2026-11-02T09:00:00.000Z",
    "created_by": None,
    "expires_at": None,
    "last_used_at": None,
    "revoked_at": None,
}
_PROJECT = {
    "name": "default",
    "created_at": "2026-11-02T09:00:00.000Z",
    "share": 2,
    "max_running": None,
    "max_queued": 500,
    "max_stored_mib": None,
}
_AUDIT = {
    "id": "audit_06b1c9k2m4n6p8q0r2s4t6v8w8",
    "at": _AT,
    "token_id": _TOKEN["id"],
    "token_name": "robot",
    "project": "default",
    "action": "cancel_run",
    "subject": f"/v1/runs/{RUN_ID}",
    "request_id": "req_1f0c9a_2b",
    "outcome": "done",
}

EXAMPLES: dict[str, dict[str, Any]] = {
    "create_webhook": _json(
        _HOOK | {"secret": "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"},
        {"failures": {"url": "https://hooks.example/maze", "types": ["run.failed"]}},
    ),
    "list_webhooks": _json(_page(_HOOK)),
    "get_webhook": _json(_HOOK),
    "edit_webhook": _json(_HOOK, {"enable": {"is_enabled": True}}),
    "delete_webhook": {"requests": {}, "responses": {}},
    "test_webhook": _json(
        _DELIVERY | {"type": "webhook.test", "run": None, "state": "waiting", "attempts": 0, "status": None}
    ),
    "list_deliveries": _json(_page(_DELIVERY)),
    "get_me": _json({"token_id": _TOKEN["id"], "project": "default", "scopes": ["act", "runs:read"]}),
    "make_token": _json(
        _TOKEN | {"token": f"maze_{_TOKEN['id']}_" + "0" * 64},
        {"robot": {"name": "robot", "scopes": ["act"], "expires_in_s": 86400}},
    ),
    "list_tokens": _json(_page(_TOKEN)),
    "revoke_token": {"requests": {}, "responses": {}},
    "list_projects": _json(_page(_PROJECT)),
    "get_project": _json(_PROJECT),
    "make_ticket": _json(
        {"ticket": "ticket_" + "0" * 64, "path": f"/v1/runs/{RUN_ID}/events", "expires_at": _LATER},
        {"of_a_run": {"path": f"/v1/runs/{RUN_ID}/events"}},
    ),
    "list_audit": _json(_page(_AUDIT)),
    "put_project": _json(_PROJECT, {"quotas": {"share": 2, "max_queued": 500}}),
    "train": _json(_QUEUED, _TRAIN_REQUESTS),
    "rollout": _json(_ROLLOUT, _ROLLOUT_REQUESTS),
    "evaluate": _json(_EVALUATION, _EVALUATE_REQUESTS),
    "compute_action": _json(_ACTED, _ACTION_REQUESTS),
    "compute_policy_action": _json(_ACTED | {"policy": "walker:3"}, _ACTION_REQUESTS),
    "create_session": _json(
        _SESSION,
        {"policy": {"policy": "walker@champion", "record": True}, "run": {"run": RUN_ID, "ttl_s": 60.0}},
    ),
    "list_sessions": _json(_page(_SESSION)),
    "get_session": _json(_SESSION),
    "reset_session": _json(_SESSION | {"episode": 1}, {"with_a_seed": {"seed": 7}}),
    "give_feedback": _json(_SESSION | {"next_seq": 5}, {"late": {"seq": 3, "reward": 1.0}}),
    "close_session": {"requests": {}, "responses": {}},
    "step_session": _json(
        {
            "action": 1,
            "seq": 3,
            "next_seq": 4,
            "run": RUN_ID,
            "checkpoint": CHECKPOINT_ID,
            "checkpoint_sha256": _SHA256,
            "policy": "walker:3",
        },
        {
            "step": {"seq": 3, "observation": [0.027, -0.006, 0.036, 0.02], "reward": 1.0},
            "end": {"seq": 4, "observation": [0.1, 0.0, 0.3, 0.0], "reward": 1.0, "terminated": True},
        },
    ),
    "compare": _json(_COMPARISON, _COMPARE_REQUESTS),
    "create_policy": _json(
        _POLICY | {"n_versions": 0, "aliases": {}},
        {
            "plain": {"name": "walker"},
            "gated": {"name": "walker", "gate": {"aliases": ["champion"], "n_episodes": 50}},
        },
    ),
    "list_policies": _json(_page(_POLICY)),
    "get_policy": _json(_POLICY),
    "change_policy": _json(_POLICY, {"gate": {"gate": {"n_episodes": 50}}, "no_gate": {"gate": None}}),
    "delete_policy": {"requests": {}, "responses": {}},
    "add_version": _json(_VERSION, {"best": {"run": RUN_ID, "note": "a wider net"}}),
    "list_versions": _json(_page(_VERSION)),
    "get_version": _json(_VERSION),
    "delete_version": {"requests": {}, "responses": {}},
    "put_alias": _json(
        _ALIAS, {"move": {"version": 2, "reason": "a wider net", "comparison": _COMPARISON["id"]}}
    ),
    "get_alias": _json(_ALIAS),
    "delete_alias": {"requests": {}, "responses": {}},
    "list_moves": _json(_page(_MOVE)),
    "roll_back_alias": _json(
        _ALIAS | {"version": 1, "revision": 3}, {"back": {}, "to": {"to": 1, "reason": "it falls over"}}
    ),
    "list_runs": _json(_page(_TRAINING)),
    "get_run": _json(_TRAINING),
    "cancel_run": _json(_TRAINING | {"state": "stopping", "reason": "user_cancel"}),
    "pause_run": _json(_TRAINING | {"state": "stopping", "reason": "user_pause"}),
    "resume_run": _json(_TRAINING | {"state": "queued", "reason": "user_resume"}),
    "put_run": _json(_QUEUED, {"mine": {"kind": "train", "algorithm": "ppo", "seed": 1}}),
    "continue_run": _json(_QUEUED, {"further": {"n_epochs": 10}}),
    "retry_run": _json(_QUEUED, {"again": {}}),
    "fork_run": _json(_QUEUED, {"slower": {"checkpoint": "best", "overrides": {"algorithm.lr": 1e-4}}}),
    "fork_policy": _json(_QUEUED, {"slower": {"overrides": {"algorithm.lr": 1e-4}}}),
    "change_run": _json(_TRAINING, {"rename": {"name": "baseline", "labels": {"team": "a", "old": None}}}),
    "delete_run": {"requests": {}, "responses": {}},
    "change_runs": _json(
        {
            "data": [{"id": _TRAINING["id"], "state": "stopping", "error": None}],
            "next_cursor": None,
            "has_more": False,
        },
        {
            "team": {"action": "cancel", "filter": {"labels": {"team": "a"}}},
            "label": {"action": "label", "labels": {"team": "b"}, "filter": {"labels": {"team": "a"}}},
        },
    ),
    "submit_sweep": _json(_SWEEP | {"counts": {"queued": 1}, "best": None}, _SWEEP_REQUESTS),
    "preview_sweep": _json(
        {
            "n_jobs": 20,
            "jobs": [_JOB | {"config_sha256": _SHA256, "error": None}],
            "search": _SEARCH,
        },
        _SWEEP_REQUESTS,
    ),
    "list_sweeps": _json(_page(_SWEEP | {"counts": {}, "best": None})),
    "get_sweep": _json(_SWEEP),
    "list_sweep_runs": _json(
        _page(
            _JOB
            | {"state": "succeeded", "value": 498.2, "run": RUN_ID, "reason": "completed", "pruned_at": None}
        )
    ),
    "get_best_trial": _json(_TRIAL),
    "get_importance": _json(
        {
            "evaluator": "ped_anova",
            "n_trials": 20,
            "importance": {"algorithm.lr": 0.8, "algorithm.batch_size": 0.2},
        }
    ),
    "ask_sweep": _json(
        {"data": [_TRIAL | {"value": None, "runs": []}]},
        {"two": {"n": 2}, "own": {"values": {"algorithm.lr": 0.002}, "run": True}},
    ),
    "tell_sweep": _json(
        _SWEEP, {"value": {"trial": 4, "value": 498.2}, "failed": {"trial": 5, "state": "failed"}}
    ),
    "pause_sweep": _json(_SWEEP | {"state": "paused", "reason": "user_pause"}),
    "resume_sweep": _json(_SWEEP),
    "stop_sweep": _json(_SWEEP | {"state": "stopping", "reason": "user_stop"}),
    "cancel_sweep": _json(_SWEEP | {"state": "stopping", "reason": "user_cancel"}),
    "delete_sweep": {"requests": {}, "responses": {}},
    "list_events": _also("text/event-stream", _STREAM, _json(_page(_EVENT))),
    "list_all_events": _also(
        "text/event-stream", _FEED_STREAM, _json(_page(_EVENT | {"position": 977, "run": RUN_ID}))
    ),
    "list_metrics": _also(
        "text/csv",
        f"name,epoch,step,value,at\ntrain/loss,12,49152,nan,{_AT}\n",
        _json(_page({"name": "train/loss", "epoch": 12, "step": 49152, "value": "NaN", "at": _AT})),
    ),
    "draw_curve": {"requests": {}, "responses": {"image/svg+xml": "<svg>…</svg>"}},
    "query_metrics": _json(
        {
            "data": [
                {
                    "name": "eval/mean_return",
                    "group": "a",
                    "runs": [RUN_ID],
                    "counted": [RUN_ID],
                    "epoch": [1, 2],
                    "step": [4096, 8192],
                    "seconds": [0.8, 1.5],
                    "mean": [51.0, 231.5],
                    "low": [None, None],
                    "high": [None, None],
                    "n": [1, 1],
                }
            ]
        },
        {
            "by_team": {"runs": [RUN_ID], "names": ["eval/mean_return"], "group_by": "team"},
            "over_seeds": {
                "runs": [RUN_ID],
                "names": ["eval/mean_return"],
                "fold_seeds": True,
                "statistic": "iqm",
            },
        },
    ),
    "list_logs": _json(_page({"seq": 1, "at": _AT, "level": "info", "message": "training started"})),
    "get_run_config": _also(
        "application/yaml",
        _YAML,
        _json(
            {
                "config": _CONFIG,
                "config_sha256": _SHA256,
                "provenance": _PROVENANCE,
                "request": {"overrides": {"env.name": "CartPole-v1"}},
            }
        ),
    ),
    "list_checkpoints": _json(_page(_CHECKPOINT)),
    "list_episodes": _json(_page(_FILMED)),
    "get_episode": _json(_FILMED | {"trajectory": _TRAJECTORY}),
    "get_video": {"requests": {}, "responses": {"video/mp4": _BYTES}},
    "get_thumbnail": {"requests": {}, "responses": {"image/png": _BYTES}},
    "get_trajectory": {"requests": {}, "responses": {"application/octet-stream": _BYTES}},
    "replay_episode": _json(
        _ROLLOUT
        | {
            "kind": "replay",
            "state": "succeeded",
            "reason": "completed",
            "result": {"equal": True, "n_steps": 200, "difference": None},
            "parent_run": "run_06b1c9m3p5r7t9v1w3y5z7b9d1",
        },
        {"episode": {}, "one_decision": {"step": 17}},
    ),
    "begin_upload": _json(
        _UPLOAD | {"parts": []},
        {"file": {"size_bytes": 2_500_000, "sha256": _SHA256, "name": "baseline", "labels": {"team": "a"}}},
    ),
    "list_uploads": _json(_page(_UPLOAD)),
    "get_upload": _json(_UPLOAD),
    "drop_upload": {"requests": {}, "responses": {}},
    "put_part": _json(_UPLOAD, {"part": _BYTES}),
    "complete_upload": _json(_IMPORT),
    "import_checkpoint": _json(_IMPORT, {"file": _BYTES}),
    "download_checkpoint": {"requests": {}, "responses": {"application/octet-stream": _BYTES}},
    "get_checkpoint": _json(_CHECKPOINT),
    "list_groups": _json(
        _page(
            {
                "group": "algorithm",
                "modules": ["a2c", "ppo"],
                "links": {"self": "/v1/config/groups/algorithm"},
            }
        )
    ),
    "get_group": _json(
        {"group": "algorithm", "modules": [{"name": "ppo", "description": _MODULE["description"]}]}
    ),
    "get_module": _json(_MODULE | {"config": {"n_epochs": 30}, "yaml": "n_epochs: 30\n"}),
    "list_targets": _json(_page({"target": "maze_core.GymEnvConfig", "source": "built in"})),
    "get_schema": _json(_SCHEMA | {"title": "train configuration"}),
    "get_module_schema": _json(_SCHEMA | {"title": "algorithm=ppo"}),
    "compose_config": _json(
        {"config": _CONFIG, "config_sha256": _SHA256, "seed": 1, "provenance": _PROVENANCE}, _COMPOSE_REQUESTS
    ),
    "diff_configs": _json(
        {
            "data": [{"key": "algorithm.lr", "kind": "changed", "left": 0.001, "right": 0.0003}],
            "left_sha256": _SHA256,
            "right_sha256": _SHA256[::-1],
        },
        {"run_and_change": {"left": {"run": RUN_ID}, "right": {"overrides": {"algorithm.lr": 0.0003}}}},
    ),
    "list_environments": _json(_page(_ENVIRONMENT)),
    "get_environment": _json(_ENVIRONMENT | _SPACES | {"sub_steps": None}),
    "list_workers": _json(_page(_WORKER)),
    "get_status": _json(_STATUS),
    "live": _json({"status": "ok", "checks": {}}),
    "ready": _json(_HEALTH),
    "get_prometheus_metrics": {"requests": {}, "responses": {"text/plain": _PROMETHEUS}},
    "discover": _json(
        {
            "name": "maze-service",
            "version": "0.1.0",
            "links": {"docs": "/docs"},
            "limits": {"max_body_bytes": 1048576},
        }
    ),
    "put_traffic": _json(_TRAFFIC, {"canary": _SPLIT, "both": _SPLIT | {"shadow": {"version": 8}}}),
    "get_traffic": _json(_TRAFFIC),
    "end_traffic": {"requests": {}, "responses": {}},
    "v2_live": _json({"status": "ok", "checks": {}}),
    "v2_ready": _json(_HEALTH),
    "get_server": _json({"name": "maze", "version": "0.1.0", "extensions": ["binary_tensor_data"]}),
    "get_model_ready": _json({"name": "walker@champion", "ready": True}),
    "get_model": _json(
        {
            "name": "walker@champion",
            "versions": ["7"],
            "platform": "maze",
            "inputs": [{"name": "obs", "datatype": "FP32", "shape": [-1, 4]}],
            "outputs": [{"name": "action", "datatype": "INT64", "shape": [-1]}],
        }
    ),
    "get_model_config": _json(
        {
            "name": "walker@champion",
            "platform": "maze",
            "backend": "maze",
            "max_batch_size": 1024,
            "input": [{"name": "obs", "data_type": "TYPE_FP32", "dims": [4], "optional": False}],
            "output": [{"name": "action", "data_type": "TYPE_INT64", "dims": []}],
            "sequence_batching": None,
        }
    ),
    "list_statistics": _json({"model_stats": [_STATISTICS]}),
    "get_statistics": _json({"model_stats": [_STATISTICS]}),
    "infer": _json(
        {
            "model_name": "walker@champion",
            "model_version": "7",
            "id": "a",
            "parameters": {"checkpoint": CHECKPOINT_ID},
            "outputs": [
                {"name": "action", "datatype": "INT64", "shape": [1], "data": [1], "parameters": None}
            ],
        },
        {
            "one": {"id": "a", "inputs": [_OBS]},
            "sampled": {"inputs": [_OBS], "parameters": _SAMPLED},
            "next": {"inputs": [_OBS], "parameters": _NEXT},
        },
    ),
    "list_models": _json(
        [{"name": "walker@champion", "version": "7", "state": "READY", "reason": ""}],
        {"all": {}, "in_memory": {"ready": True}},
    ),
    "load_model": _json({}, {"as_it_is": {}}),
    "unload_model": _json({}, {"as_it_is": {}}),
    "list_problems": _json(_page(_KIND)),
    "get_problem": _json(_KIND),
}
"""Operation → example requests by name, and an example answer per media type."""

PATH_EXAMPLES = {
    "run_id": RUN_ID,
    "sweep_id": SWEEP_ID,
    "checkpoint_id": CHECKPOINT_ID,
    "upload_id": _UPLOAD["id"],
    "webhook_id": _HOOK_ID,
    "session_id": SESSION_ID,
    "token_id": _TOKEN["id"],
    "project": "default",
    "policy": "walker@champion",
    "name": "walker",
    "alias": "champion",
    "number": "1",
    "index": "0",
    "group": "algorithm",
    "module": "ppo",
    "model": "walker@champion",
    "env_id": "CartPole-v1",
    "slug": "not-found",
}
"""Part of a path → what may stand there."""
