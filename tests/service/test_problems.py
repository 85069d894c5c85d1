"""How a problem reads."""

import pytest

from service.problems import sentence


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("there is no run", "There is no run."),
        ("the run's policy: none", "The run's policy: none."),
        ("gone", "Gone."),
        ("walker@champion has moved since", "walker@champion has moved since."),
        ("walker:3 is gone", "walker:3 is gone."),
        ("run_0sgr is gone!", "run_0sgr is gone!"),
        ("algorithm.lr cannot be given here.", "algorithm.lr cannot be given here."),
        ("'x' is no name", "'x' is no name."),
    ],
)
def test_a_sentence_begins_with_a_capital_letter_but_a_name_as_it_is_written(text: str, told: str) -> None:
    assert sentence(text) == told
