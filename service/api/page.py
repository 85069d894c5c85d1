"""The page: its modules as they lie in ``service/web``, under an address that changes with them.

A browser keeps each file for good, and after an update asks for none that does not fit the others. The page's policy
lets it load what this service serves and nothing else; scripts inside the document are known by their digest.
"""

import base64
import hashlib
import json
import posixpath
import re
from functools import lru_cache

from fastapi import APIRouter, Response

from service.api.dependencies import require_scope
from service.domain.errors import NotFoundError
from service.web import FOLDER, VENDOR

router = APIRouter(include_in_schema=False, dependencies=[require_scope(None)])

MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".txt": "text/plain"}
"""Of files that are served; whatever else lies beside them is not."""
FOR_GOOD = "public, max-age=31536000, immutable"
MISSING = """<!doctype html><html lang="en"><title>Maze</title><p>The page's packages are not installed. In a clone of
the repository: <code>python -m tools.page</code>. The API is here all the same: <a href="/docs">/docs</a>."""
_INLINE_SCRIPT = re.compile(r"<script type=\"importmap\">(.*?)</script>", re.DOTALL)
_IMPORT = re.compile(r'^(?:import|export)\b[^;"]*"(\.{1,2}/[\w/.]+\.js)"', re.MULTILINE)


def page() -> Response:
    """The document at ``/``."""
    if not VENDOR.is_dir():
        return Response(MISSING, media_type="text/html", headers={"Cache-Control": "no-store"})
    document, policy = _document(_digest())
    headers = {"Content-Security-Policy": policy, "Cache-Control": "no-cache", "Vary": "Accept"}
    headers |= {"Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "same-origin"}
    return Response(document, media_type="text/html", headers=headers)


@router.get("/page/{digest}/{path:path}")
def get_page_file(digest: str, path: str) -> Response:
    """A file of the page; one of another version is not there any more."""
    if digest != _digest() or path not in _files():
        raise NotFoundError("There is no such file of the page, or no longer: load the page again.")
    file = FOLDER / path
    return Response(
        file.read_bytes(), media_type=MEDIA_TYPES[file.suffix], headers={"Cache-Control": FOR_GOOD}
    )


def _files() -> dict[str, tuple[int, int]]:
    """What is served, by its path: when it was changed, and its size."""
    found = {}
    for pattern in ("*", "views/*", "vendor/*"):
        for file in sorted(FOLDER.glob(pattern)):
            if file.suffix in MEDIA_TYPES:
                status = file.stat()
                found[file.relative_to(FOLDER).as_posix()] = (status.st_mtime_ns, status.st_size)
    return found


def _digest() -> str:
    status = (FOLDER / "index.html").stat()
    known = json.dumps([*_files().items(), status.st_mtime_ns, status.st_size])
    return hashlib.blake2b(known.encode(), digest_size=8).hexdigest()


@lru_cache(maxsize=4)
def _document(digest: str) -> tuple[str, str]:
    """The document that loads the files of this digest, and its policy."""
    text = (FOLDER / "index.html").read_text().replace("{base}", f"/page/{digest}")
    preloads = "".join(
        f'\n<link rel="modulepreload" href="/page/{digest}/{path}">' for path in _first_modules()
    )
    text = text.replace("{preloads}", preloads)
    scripts = [
        base64.b64encode(hashlib.sha256(each.encode()).digest()) for each in _INLINE_SCRIPT.findall(text)
    ]
    sources = " ".join(["'self'", *(f"'sha256-{each.decode()}'" for each in scripts)])
    policy = (
        f"default-src 'none'; script-src {sources}; style-src 'self'; img-src 'self' data: blob:; media-src blob:; "
        "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )
    return text, policy


def _first_modules() -> list[str]:
    """Modules that ``main.js`` imports, directly or not: asked for at once, not one after another."""
    found, todo = set[str](), ["main.js"]
    while todo:
        path = todo.pop()
        if path not in found:
            found.add(path)
            folder = posixpath.dirname(path)
            names = _IMPORT.findall((FOLDER / path).read_text())
            todo += [posixpath.normpath(posixpath.join(folder, name)) for name in names]
    return sorted(found)
