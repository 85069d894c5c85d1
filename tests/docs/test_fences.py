"""The reader of fenced blocks: what it finds, what it leaves out and what it refuses."""

from pathlib import Path

import pytest

from tests.docs.fences import commands, fenced_blocks

PAGE = """\
# A page

```python
x = 1
```

<!-- not run: takes an hour -->

```python
train()
```

```bash
curl -s localhost
```

1. in a list:
   ```python
   if x:
       y = 2
   ```

````markdown
```python
shown, not run
```
````

```
no language
```
"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.md"
    path.write_text(PAGE)
    return path


def test_blocks_of_one_language_come_in_order_with_their_lines(page: Path) -> None:
    found = [(block.line, block.code) for block in fenced_blocks(page, "python")]
    assert found == [(4, "x = 1\n"), (10, "train()\n"), (19, "if x:\n    y = 2\n")]


def test_a_block_says_why_it_is_not_to_be_run(page: Path) -> None:
    assert [block.not_run for block in fenced_blocks(page, "python")] == [None, "takes an hour", None]


def test_other_languages_and_blocks_inside_longer_fences_are_left_out(page: Path) -> None:
    assert [block.code for block in fenced_blocks(page, "bash")] == ["curl -s localhost\n"]
    assert [block.language for block in fenced_blocks(page)][-2:] == ["markdown", ""]


def test_a_block_names_its_place(page: Path) -> None:
    assert str(fenced_blocks(page, "bash")[0]) == "page.md:14"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```python\nx = 1\n", "never closed"),
        ("<!-- not run: why -->\ntext\n```python\n```\n", "stands before no code block"),
        ("<!-- not run: why -->\n", "stands before no code block"),
    ],
)
def test_a_page_that_cannot_be_read_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "page.md"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        fenced_blocks(path)


def shell(tmp_path: Path, code: str) -> list[str]:
    path = tmp_path / "page.md"
    path.write_text(f"```bash\n{code}```\n")
    return commands(fenced_blocks(path, "bash")[0])


def test_commands_are_split_by_lines_and_comments_are_left_out(tmp_path: Path) -> None:
    assert shell(tmp_path, "# first\nmaze version\n\nmaze runs\n") == ["maze version", "maze runs"]


def test_a_continued_line_is_one_command(tmp_path: Path) -> None:
    assert shell(tmp_path, "curl -s \\\n  localhost\nls\n") == ["curl -s   localhost", "ls"]


def test_a_quoted_text_may_go_over_lines(tmp_path: Path) -> None:
    assert shell(tmp_path, "curl -d '{\"a\":\n  1}' host\nls\n") == ["curl -d '{\"a\":\n  1}' host", "ls"]


def test_a_here_document_belongs_to_its_command(tmp_path: Path) -> None:
    code = "cat > x.py <<'END'\nprint('it''s')\nEND\nls\n"
    assert shell(tmp_path, code) == ["cat > x.py <<'END'\nprint('it''s')\nEND", "ls"]


def test_a_command_without_an_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not end"):
        shell(tmp_path, "curl -d '{\n")
