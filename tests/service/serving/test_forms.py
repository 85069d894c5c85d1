"""Arrays come in as the numbers that they were, in every form, and what is no array is refused with its place."""

import base64
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from service.problems import Problem
from service.serving.forms import DTYPES, JSON, MAX_AXES, MSGPACK, Form, array

FORMS = pytest.mark.parametrize("form", [JSON, MSGPACK], ids=["json", "msgpack"])
ANY_ARRAY = arrays.arrays(
    st.sampled_from(list(DTYPES.values())), arrays.array_shapes(min_dims=0, max_dims=4, max_side=4)
)
LEAF = {"dtype": "uint8", "shape": [2, 3]}


class Envelope(msgspec.Struct, forbid_unknown_fields=True):
    value: msgspec.Raw
    n: int = 0


def leaf(form: Form, data: bytes = bytes(6), **members: Any) -> Any:
    """A leaf as a client writes it; members that are None are left out."""
    said = {"b64": base64.b64encode(data).decode()} if form is JSON else {"data": data}
    return {name: value for name, value in (said | LEAF | members).items() if value is not None}


def refused(form: Form, value: Any) -> tuple[str, str, str]:
    """Pointer, code and message of what is refused at /at."""
    raw = msgspec.json.encode(value) if form is JSON else msgspec.msgpack.encode(value)
    with pytest.raises(Problem) as caught:
        form.value(raw, "/at")
    assert caught.value.status == 422
    (mistake,) = caught.value.errors
    return mistake["pointer"], mistake["code"], mistake["message"]


@FORMS
@given(values=ANY_ARRAY, strided=st.booleans())
def test_an_array_comes_back_with_every_bit(form: Form, values: np.ndarray[Any, Any], strided: bool) -> None:
    if strided:
        values = values.T
    found = form.value(form.encode({"a": [1, {"b": values}], "c": np.float32(0.5)}))
    assert found["c"] == 0.5
    back = found["a"][1]["b"]
    assert (back.dtype, back.shape) == (values.dtype, values.shape)
    assert back.tobytes() == values.tobytes()


def test_the_bytes_of_msgpack_are_not_copied() -> None:
    body = MSGPACK.encode({"value": np.arange(4_000_000, dtype=np.uint8)})
    found = MSGPACK.value(MSGPACK.reader(Envelope)(body).value)
    assert np.shares_memory(found, np.frombuffer(body, np.uint8))
    assert not found.flags.writeable


@FORMS
@pytest.mark.parametrize(
    ("members", "pointer", "said"),
    [
        ({"dtype": "uint16"}, "/at", "12 bytes, and 6 came"),
        ({"shape": [2, 2]}, "/at", "4 bytes, and 6 came"),
        ({"shape": []}, "/at", "1 bytes, and 6 came"),
        ({"shape": [2**62] * 20}, "/at", "more bytes than there are"),
        ({"shape": [-2, -3]}, "/at/shape", "from 1 on"),
        ({"shape": [0]}, "/at/shape", "from 1 on"),
        ({"shape": [1] * (MAX_AXES + 1)}, "/at/shape", "at most 32"),
        ({"shape": [2.5]}, "/at", "Expected `int`"),
        ({"shape": [True]}, "/at", "Expected `int`"),
        ({"shape": None}, "/at", "shape"),
        ({"dtype": "object"}, "/at/dtype", "no dtype 'object'"),
        ({"dtype": ">u2"}, "/at/dtype", "little-endian"),
        ({"dtype": "V6"}, "/at/dtype", "no dtype"),
        ({"dtype": "uint"}, "/at/dtype", "no dtype"),
        ({"dtype": 8}, "/at", "Expected `str`"),
        ({"order": "F"}, "/at", "unknown field `order`"),
    ],
)
def test_a_wrong_leaf_is_refused_with_what_is_wrong(
    form: Form, members: dict[str, Any], pointer: str, said: str
) -> None:
    where, code, message = refused(form, leaf(form, **members))
    assert (where, code) == (pointer, "invalid_array")
    assert said in message


@FORMS
def test_truth_values_are_bytes_of_0_and_1(form: Form) -> None:
    assert "0 and 1" in refused(form, leaf(form, b"\x00\x01\x02\x00\x00\x00", dtype="bool"))[2]
    raw = (msgspec.json if form is JSON else msgspec.msgpack).encode(
        leaf(form, b"\x01\x00\x01\x01\x00\x00", dtype="bool")
    )
    assert form.value(raw).tolist() == [[True, False, True], [True, False, False]]


@pytest.mark.parametrize("text", ["AAAAAAA", "AAAA AAAA", "AAAA*AAA", "ÄAAA"])
def test_what_is_no_base64_is_refused(text: str) -> None:
    assert refused(JSON, [0, {"x": leaf(JSON, b64=text)}])[0] == "/at/1/x/b64"


def test_members_of_other_kinds_are_no_leaf() -> None:
    value = {"b64": [1], "dtype": 2, "shape": {"data": [3], "dtype": 4}}
    assert JSON.value(JSON.encode(value)) == MSGPACK.value(MSGPACK.encode(value)) == value


@FORMS
def test_a_pointer_leads_to_the_leaf_within_the_document(form: Form) -> None:
    assert refused(form, {"a/b": [1, leaf(form, shape=[7])]})[0] == "/at/a~1b/1"


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"\x81", b"\xc1", b"\x81\xa5value\xc1", b"\x81\xa5value\xa1\xff", b"\x81\xa5value\x01\x01"),
        b"\x81\xa5value" + b"\x91" * 100_000,
        b"\x81\xa5value\xdd\xff\xff\xff\xff",
        b"\x82\xa5value\x01\xa5value\x02",
        b"\x81\xa5value\x82\xa1a\x01\xa1a\x02",
        b"\x81\xa5value\x92\x01\x91\xde\x00\x02\xa1a\x01\xa1a\x02",
        b"\x81\xa5value\x81\x01\x02",
    ],
)
def test_what_is_no_msgpack_or_says_two_things_is_a_400(body: bytes) -> None:
    with pytest.raises(Problem) as caught:
        MSGPACK.value(MSGPACK.reader(Envelope)(body).value)
    assert (caught.value.status, caught.value.code) == (400, "malformed_body")


@FORMS
def test_a_misspelled_member_gets_a_suggestion(form: Form) -> None:
    with pytest.raises(Problem) as caught:
        form.reader(Envelope)(form.encode({"valeu": 1}))
    assert caught.value.errors[0]["did_you_mean"] == "value"
    with pytest.raises(Problem) as caught:
        form.reader(Envelope)(form.encode({"value": 1, "n": "1"}))
    assert caught.value.errors[0]["pointer"] == "/n"


def test_one_array_without_axes_is_a_number() -> None:
    assert array(np.float32(2.5).tobytes(), "float32", ()).item() == 2.5
