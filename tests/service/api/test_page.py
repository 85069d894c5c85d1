"""The page is served whole and as written, nothing beside it is, and a program at ``/`` gets the API's own words."""

import base64
import hashlib
import re
from pathlib import Path

import pytest

from service.api import page
from service.settings import Settings
from service.store import Stores
from service.web import FOLDER
from tests.service.api.client import Client, running

BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}

pytestmark = pytest.mark.skipif(not (FOLDER / "vendor").is_dir(), reason="python -m tools.page was not run")


def addresses(document: str) -> list[str]:
    return re.findall(r'(?:src|href)="(/page/[^"]+)"', document)


def test_a_browser_gets_the_page_and_everybody_else_the_way_into_the_api(client: Client) -> None:
    assert client.get("/", headers=BROWSER).headers["content-type"].startswith("text/html")
    for accept in ("*/*", "application/json"):
        assert client.get("/", headers={"accept": accept}).json()["name"] == "maze-service"


def test_every_file_that_the_document_names_is_there_for_good(client: Client) -> None:
    found = addresses(client.get("/", headers=BROWSER).text)
    assert {name.rpartition("/")[2] for name in found} >= {
        "main.js",
        "api.js",
        "style.css",
        "preact.js",
        "runs.js",
    }
    for address in found:
        answer = client.get(address)
        assert answer.status_code == 200, address
        assert "immutable" in answer.headers["cache-control"]
    modules = [address for address in found if address.endswith(".js")]
    assert all(client.get(each).headers["content-type"].startswith("text/javascript") for each in modules)


def test_the_policy_knows_the_import_map_by_its_digest_and_allows_no_other_inline_script(
    client: Client,
) -> None:
    answer = client.get("/", headers=BROWSER)
    (text,) = re.findall(r'<script type="importmap">(.*?)</script>', answer.text)
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    policy = answer.headers["content-security-policy"]
    assert f"script-src 'self' 'sha256-{digest}';" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


@pytest.mark.parametrize(
    "path",
    [
        "index.html",
        "package.json",
        "package-lock.json",
        "openapi.d.ts",
        "__init__.py",
        "../settings.py",
        "views",
    ],
)
def test_nothing_else_of_the_folder_is_served(client: Client, path: str) -> None:
    base = addresses(client.get("/", headers=BROWSER).text)[0].split("/")[2]
    assert client.get(f"/page/{base}/{path}").status_code == 404


def test_a_file_that_changed_has_another_address_and_the_old_one_is_gone(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("index.html", "main.js", "style.css"):
        (tmp_path / name).write_text((FOLDER / name).read_text() if name == "index.html" else "")
    (tmp_path / "vendor").mkdir()
    monkeypatch.setattr(page, "FOLDER", tmp_path)
    before = addresses(client.get("/", headers=BROWSER).text)[0]
    (tmp_path / "main.js").write_text("export const changed = true;")
    after = addresses(client.get("/", headers=BROWSER).text)[0]
    assert before != after
    assert client.get(before.replace("icon.svg", "main.js")).status_code == 404
    assert "changed" in client.get(after.replace("icon.svg", "main.js")).text


def test_without_its_packages_the_page_says_how_to_get_them(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "VENDOR", tmp_path / "none")
    answer = client.get("/", headers=BROWSER)
    assert answer.status_code == 200
    assert "python -m tools.page" in answer.text


def test_the_page_is_open_and_the_api_behind_it_is_not(sqlite_url: str, stores: Stores) -> None:
    with running(Settings(database_url=sqlite_url), stores) as closed:
        document = closed.get("/", headers=BROWSER)
        assert document.status_code == 200
        assert all(closed.get(each).status_code == 200 for each in addresses(document.text))
        assert closed.get("/").status_code == 401
        assert closed.get("/v1/runs", headers=BROWSER).status_code == 401


def test_every_module_is_loaded_at_once_and_no_view_but_the_first_is() -> None:
    first = page._first_modules()
    assert {"main.js", "api.js", "ui.js", "views/runs.js"} <= {*first}
    assert not {"views/run.js", "views/new_run.js", "chart.js"} & {*first}
