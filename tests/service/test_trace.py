"""A W3C trace context is passed on as the recommendation says, or taken for none."""

import pytest

from service.trace import MOST_CHARACTERS, trace_of

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
LATER = "cc" + PARENT[2:] + "-what-the-future-brings"


def state_of(state: str) -> str | None:
    trace = trace_of({b"traceparent": PARENT.encode(), b"tracestate": state.encode()})
    assert trace is not None
    return trace.tracestate


@pytest.mark.parametrize("given", [PARENT, LATER, "01" + PARENT[2:]])
def test_a_valid_parent_is_kept_as_it_is(given: str) -> None:
    trace = trace_of({b"traceparent": given.encode()})
    assert trace is not None
    assert trace == (given, None)


@pytest.mark.parametrize(
    "given",
    [
        "", "x", PARENT.upper(), "ff" + PARENT[2:], PARENT + "-01", "cc" + PARENT[2:] + "x", PARENT[:-1],
        "00-" + "0" * 32 + PARENT[35:], PARENT[:36] + "0" * 16 + "-01", PARENT + "\n", LATER + "x" * 200,
    ],
)  # fmt: skip
def test_what_is_no_parent_is_no_trace_whatever_its_state(given: str) -> None:
    assert trace_of({b"traceparent": given.encode(), b"tracestate": b"a=1"}) is None
    assert trace_of({b"tracestate": b"a=1"}) is None


def test_a_state_is_a_list_of_members_with_keys_of_their_own() -> None:
    assert state_of("rojo=00f067aa0ba902b7, congo=t61rcWkgMzE") == "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"
    assert state_of("a=1,,b=2, ,\tc/d_*-=x y!~") == "a=1,b=2,c/d_*-=x y!~"
    assert state_of("1t@sys=v") == "1t@sys=v"
    assert state_of("") is None


@pytest.mark.parametrize(
    "state",
    [
        "a",
        "A=1",
        "1a=1",
        "a=1,a=2",
        "a=",
        "a=b=c",
        "a=\x7f",
        "é=1",
        "@x=1",
        ",".join(f"k{n}=1" for n in range(33)),
    ],
)
def test_a_state_with_a_mistake_is_left_out_as_a_whole(state: str) -> None:
    assert state_of(state) is None


def test_of_a_state_that_is_too_long_long_members_go_first_and_then_the_last() -> None:
    short = [f"k{number}=" + "x" * 100 for number in range(5)]
    long = "long=" + "y" * 200
    kept = state_of(",".join([long, *short]))
    assert kept == ",".join(short[:4])
    assert len(kept) <= MOST_CHARACTERS
    assert state_of(",".join([long, *short[:2]])) == ",".join([long, *short[:2]])
