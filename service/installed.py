"""What is installed here: versions, and which extras of this distribution are whole."""

import platform
import re
from functools import lru_cache
from importlib import metadata, util

DISTRIBUTION = "maze-service"
PACKAGES = (DISTRIBUTION, "torch", "gymnasium", "numpy")
"""Those that decide what a run does."""
_EXTRA = re.compile(
    r"""^(?P<package>[\w.-]+)(?:\[(?P<its>[\w,.-]+)\])?.*extra == ['"](?P<extra>[\w-]+)['"]"""
)
_TOOLS = ("test", "bench")
"""Extras of those who work on it."""


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Of Python and of the packages that decide what a run does, those that are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        if (version := version_of(package)) is not None:
            found[package] = version
    return found


def version_of(package: str) -> str | None:
    """The version that is installed; None where it is not."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def extras() -> dict[str, list[str]]:
    """Extra → its packages that are missing, without the extras of those who work on this."""
    missing: dict[str, list[str]] = {}
    for line in metadata.requires(DISTRIBUTION) or ():
        match = _EXTRA.match(line)
        if match is None or match["extra"] in _TOOLS or "sys_platform" in line:
            continue
        needed = {"box2d": "Box2D", "mujoco": "mujoco", "dm-control": "dm_control"}.get(
            match["its"] or "", match["package"]
        )
        lacking = missing.setdefault(match["extra"], [])
        if version_of(needed) is None and util.find_spec(needed.replace("-", "_")) is None:
            lacking.append(needed)
    return missing


@lru_cache(maxsize=1)
def whole_extras() -> list[str]:
    """Extras of which nothing is missing, by name."""
    return sorted(extra for extra, missing in extras().items() if not missing)
