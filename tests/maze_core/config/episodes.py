"""Arguments that name recorded episodes, for algorithms that learn from them."""

from typing import Any

LEARN_FROM_EPISODES = ("bc", "sacfd")


def episodes_for(algorithm: str | None) -> dict[str, Any]:
    """Of :func:`~maze_core.config.compose.compose_run`; nothing for other algorithms."""
    if algorithm not in LEARN_FROM_EPISODES:
        return {}
    return {
        "overrides": {"dataset.run": "run_1"},
        "locate": lambda part, node: {**node, "sha256": "0" * 64},
    }
