"""Answers that describe the service itself: its configuration modules, its health, its way in."""

from typing import Any

from pydantic import Field

from service.api.models import Object, Out


class ComposedOut(Out):
    """What a submission would run."""

    config: Object
    config_sha256: str
    seed: int
    """The seed given, or one drawn for this answer; give it to get the same run."""


class ModuleSummaryOut(Out):
    """A configuration module of a group."""

    name: str
    description: str


class GroupOut(Out):
    """A configuration group and the modules to choose from."""

    group: str
    modules: list[str]
    links: dict[str, str]


class GroupDetailOut(Out):
    """A configuration group with a line about each module."""

    group: str
    modules: list[ModuleSummaryOut]


class ModuleOut(Out):
    """One configuration module."""

    group: str
    name: str
    description: str
    config: Any
    """The module's values as they stand in its file."""
    yaml: str


class TargetOut(Out):
    """A component that a dict with ``_target_`` may name."""

    target: str
    source: str
    """Who allows it: the library, an alias of it, or the operator."""


class HealthOut(Out):
    """A sign of life."""

    status: str
    checks: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """``database``, ``migrations`` and ``workers``; a missing worker is a warning, not a failure."""


class DiscoveryOut(Out):
    """What this service is and where its parts are."""

    name: str
    version: str
    links: dict[str, str]
    limits: dict[str, Any]


class ProblemKindOut(Out):
    """A kind of problem."""

    type: str
    code: str
    status: int
    meaning: str
