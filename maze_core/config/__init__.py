"""Configuration: from names, dicts and objects to one typed, validated, hashable description of a run.

- *The tree*: :mod:`nodes`; :mod:`modules` (which there are, composed by Hydra); :mod:`arguments`, :mod:`presets` and
  :mod:`overrides` (the caller's values); :mod:`compose` (all of it, in order); :mod:`schema` (the normal form, and the
  frozen :class:`RunConfig`). For several runs :mod:`grid` and :mod:`multirun`, for words :mod:`command_line`.
- *The types*: :mod:`settings`.
- *Building*: :mod:`components` (names), :mod:`targets`, :mod:`instantiate`; :mod:`validation` and
  :mod:`words` say what is wrong.
- *The border*: :mod:`trust` (what an HTTP client may ask for), :mod:`plain_values` (how much), :mod:`environments`.

Importing this package is cheap: Hydra is loaded with the first composition.
"""

from maze_core.config.compose import compose_run
from maze_core.config.modules import conf_root, config_groups, config_module
from maze_core.config.schema import RunConfig, canonical_json

__all__ = ["RunConfig", "canonical_json", "compose_run", "conf_root", "config_groups", "config_module"]
