"""What an installation brings has one version each, the one that the tests ran with, down to the last dependency."""

import json
import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = re.findall(r"--editable '\.\[([^]]+)\]'", (ROOT / "Makefile").read_text(encoding="utf-8"))
OLDEST = {"hydra-core": "1.3.8", "torch": "2.10", "starlette": "0.49.1", "sqlalchemy": "2.0", "h11": "0.16"}
"""Before these versions there were holes that a service can be attacked through."""
NO_PIN = {"pip", "setuptools", "wheel"}
"""What is there before anything is installed."""


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.partition("==") for line in lines if line and not line.startswith("#")]
    assert all(equals for _, equals, _ in pairs), "each line is name==version"
    found = {canonicalize_name(name): version.partition(";")[0].strip() for name, _, version in pairs}
    assert len(found) == len(pairs), "no name stands there twice"
    return found


def installed(project: str, extras: frozenset[str]) -> dict[str, str]:
    """Name → version of what the project asks for with these extras, and of what that asks for, where it is here."""
    found: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    left = [(project, extras)]
    while left:
        name, wanted = left.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        try:
            here = distribution(name)
        except PackageNotFoundError:
            continue
        found[canonicalize_name(name)] = here.version
        for line in here.requires or ():
            requirement = Requirement(line)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in wanted | {""}):
                left.append((requirement.name, frozenset(requirement.extras)))
    return found


def test_everything_that_the_project_brings_is_here_in_its_pinned_version() -> None:
    extras = frozenset(extra for group in EXTRAS for extra in group.split(","))
    assert {"test", "postgres"} <= extras
    found = installed("maze-service", extras)
    found.pop("maze-service")
    assert {"torch", "fastapi", "sqlalchemy", "hydra-core", "anyio"} <= found.keys()
    pinned = pins()
    differing = {
        name: (version, pinned.get(name))
        for name, version in found.items()
        if name not in NO_PIN and pinned.get(name) != version.partition("+")[0]
    }
    assert not differing, differing


def test_nothing_with_a_known_hole_is_pinned() -> None:
    pinned = pins()
    for name, oldest in OLDEST.items():
        assert name not in pinned or Version(pinned[name]) >= Version(oldest), name


def test_every_package_of_the_page_is_locked_with_its_digest() -> None:
    lock = json.loads((ROOT / "service/web/package-lock.json").read_text(encoding="utf-8"))
    packages = {name: facts for name, facts in lock["packages"].items() if name}
    assert packages
    for name, facts in packages.items():
        assert facts["version"], name
        assert facts["integrity"].startswith("sha512-"), name
