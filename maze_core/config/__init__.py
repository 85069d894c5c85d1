"""Configuration: from names, dicts and objects to one typed, validated, hashable description of a run.

The way through: :mod:`index` (which modules exist) → :mod:`hydra_tree` (Hydra composes the chosen modules)
→ :mod:`arguments` and :mod:`overrides` (the caller's values) → :mod:`instantiate` (typed, every problem at
once) → :mod:`schema` (the frozen :class:`RunConfig`). :mod:`trust` says what an HTTP client may ask for.

Importing this package is cheap: Hydra is loaded with the first composition.
"""

from maze_core.config.compose import compose_run
from maze_core.config.index import conf_root, config_groups, config_module
from maze_core.config.schema import RunConfig, canonical_json

__all__ = ["RunConfig", "canonical_json", "compose_run", "conf_root", "config_groups", "config_module"]
