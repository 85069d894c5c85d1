"""Completion, in a real bash."""

import shutil
import subprocess
import sys

import pytest

from service.cli.completion import SHELLS

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")


def script(shell: str) -> str:
    command = [sys.executable, "-m", "service.cli", "completion", shell]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@needs_bash
@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("maze ru", {"runs"}),
        ("maze runs ca", {"cancel"}),
        ("maze policies ro", {"rollback"}),
        ("maze train --wa", {"--wait"}),
        ("maze completion ", set(SHELLS)),
    ],
)
def test_bash_completes_commands_verbs_and_options(line: str, completed: set[str]) -> None:
    *_, word = words = line.split(" ")
    asked = f"""{script("bash")}
COMP_WORDS=({" ".join(f"'{each}'" for each in words)}); COMP_CWORD={len(words) - 1}
COMP_LINE='{line}'; COMP_POINT={len(line)}
function=$(complete -p maze | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
"$function" maze '{word}' '{words[-2]}'
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "--norc", "-c", asked], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == completed
    assert done.stderr == ""


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_has_a_script_with_every_command(shell: str) -> None:
    text = script(shell)
    for command in ("serve", "runs", "train", "policies", "doctor", "--provenance"):
        assert command.lstrip("-") in text


def test_another_shell_is_refused() -> None:
    command = [sys.executable, "-m", "service.cli", "completion", "tcsh"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "choose from" in done.stderr
