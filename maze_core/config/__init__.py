"""Configuration: from names, dicts and objects to one typed, validated, hashable description of a run.

- *The tree*: :mod:`nodes` (the one walk over it); :mod:`modules` (which there are, composed by Hydra);
  :mod:`arguments`, :mod:`presets` and :mod:`overrides` (the caller's values); :mod:`compose` (all of it, in order);
  :mod:`schema` (the normal form, and the frozen :class:`RunConfig`). For several runs :mod:`grid` and
  :mod:`multirun`, for words :mod:`command_line`.
- *About it*: :mod:`provenance` (where each value comes from), :mod:`difference` (of two), :mod:`json_schema` (what may
  be said).
- *The types*: :mod:`settings` (the dataclass of all settings, and its fields), :mod:`validation` (what pydantic
  finds, in our sentences), :mod:`words` (what was probably meant).
- *Building*: :mod:`components` (public names), :mod:`targets` (from a name to the class), :mod:`instantiate` (from
  objects to trees, and back).
- *The border*: :mod:`trust` (what an HTTP client may name), :mod:`plain_values` (how much), :mod:`environments`
  (which arguments are open of each environment).

Importing this package is cheap: Hydra is loaded with the first composition.
"""

from maze_core.config.compose import compose_run
from maze_core.config.modules import conf_root, config_groups, config_module
from maze_core.config.schema import RunConfig, canonical_json

__all__ = ["RunConfig", "canonical_json", "compose_run", "conf_root", "config_groups", "config_module"]
