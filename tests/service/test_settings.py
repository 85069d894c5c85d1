"""Settings come from arguments and MAZE_ variables, and what is unsafe is refused with the way out."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from service import settings as settings_module
from service.settings import Settings, cores, is_loopback, settings_table


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"MAZE_{name.upper()}", raising=False)


def test_the_defaults_listen_on_loopback_and_ask_for_a_token() -> None:
    settings = Settings()
    assert (settings.host, settings.port, settings.auth) == ("127.0.0.1", 8000, True)
    assert settings.database_url == "sqlite:///data/maze.db"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", []),
        ("one", ["one"]),
        ("a.example, b.example ,", ["a.example", "b.example"]),
        ('["a, b", "c"]', ["a, b", "c"]),
    ],
)
def test_a_list_is_separated_by_commas_or_json(
    monkeypatch: pytest.MonkeyPatch, text: str, names: list[str]
) -> None:
    monkeypatch.setenv("MAZE_ALLOWED_HOSTS", text)
    assert Settings().allowed_hosts == names


def test_arguments_go_before_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAZE_PORT", "9000")
    assert Settings().port == 9000
    assert Settings(port=9001).port == 9001


def test_every_variable_is_read_by_its_documented_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAZE_LEASE_S", "60")
    monkeypatch.setenv("MAZE_CHILD_MEMORY_BYTES", "2000000000")
    monkeypatch.setenv("MAZE_AUTH", "false")
    settings = Settings()
    assert (settings.lease_s, settings.child_memory_bytes, settings.auth) == (60.0, 2_000_000_000, False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "maze.example"])
def test_no_token_on_an_address_that_others_reach_is_refused(host: str) -> None:
    with pytest.raises(ValidationError, match=r"MAZE_HOST=127\.0\.0\.1") as refusal:
        Settings(auth=False, host=host)
    assert "maze token create" in str(refusal.value)
    Settings(auth=True, host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost"])
def test_loopback_needs_no_token(host: str) -> None:
    assert is_loopback(host)
    Settings(auth=False, host=host)


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": 70_000},
        {"workers": 0},
        {"lease_s": 0},
        {"log_level": "loud"},
        {"heartbeat_s": 20.0, "lease_s": 30.0},
        {"unknown": 1},
        {"allowed_hosts": "[broken"},
    ],
)
def test_what_cannot_work_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings(**wrong)  # type: ignore[arg-type]


def test_the_password_of_the_database_is_not_shown() -> None:
    assert "secret" not in repr(Settings(database_url="postgresql://user:secret@host/maze"))


def test_the_table_documents_every_setting() -> None:
    table = settings_table()
    for name, field in Settings.model_fields.items():
        assert f"`MAZE_{name.upper()}`" in table
        assert field.description, name
        assert " ".join(field.description.split()) in table


def test_configuration_directories_are_absolute_and_exist(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "conf").mkdir()
    monkeypatch.chdir(tmp_path)
    assert Settings(config_dirs=["conf"]).config_dirs == [str(tmp_path / "conf")]
    with pytest.raises(ValidationError, match=r"takes directories that exist \(there is no .*/nowhere\)"):
        Settings(config_dirs=["conf", "nowhere"])


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("WROKERS", "WORKERS"),
        ("DB_URL", "DATABASE_URL"),
        ("ALLOWED_HOST", "ALLOWED_HOSTS"),
        ("LEASE", "LEASE_S"),
    ],
)
def test_a_misspelt_variable_is_refused_with_the_nearest_one(
    monkeypatch: pytest.MonkeyPatch, wrong: str, meant: str
) -> None:
    monkeypatch.setenv(f"MAZE_{wrong}", "1")
    with pytest.raises(ValidationError, match=f"no setting MAZE_{wrong}; did you mean MAZE_{meant}"):
        Settings()


def test_a_variable_like_no_setting_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A cluster sets such names by itself for a service called maze; clients use MAZE_URL and MAZE_TOKEN."""
    monkeypatch.setenv("MAZE_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("MAZE_TOKEN", "maze_1_2")
    monkeypatch.setenv("MAZE_URL", "https://example.org")
    Settings()
    assert "MAZE_SERVICE_HOST; it is ignored" in caplog.text
    assert "MAZE_TOKEN" not in caplog.text
    assert "MAZE_URL" not in caplog.text


def test_there_is_a_slot_for_each_core_and_one_for_runs_that_act(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings_module, "cores", lambda: 6)
    assert Settings().workers == 7
    assert cores() >= 1
