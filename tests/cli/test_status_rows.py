"""What `quorate status` makes of what nodes say of themselves."""

import pytest
from msgspec.structs import replace

from quorate.cli.status import _print_table, rows_of
from quorate.service.client.errors import Unreachable
from quorate.service.requests import DECODE_ERRORS, NOTE_MAX, Status, decode_response, encode

PLAIN = Status(0, 4, "pbft", "backup", None, 7, 90, 90, 1234)
NOTED = replace(PLAIN, note="waits for view 7")


def test_a_note_is_a_line_below_the_table_and_null_in_json_where_there_is_none(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = rows_of([("a:1", NOTED), ("a:2", replace(PLAIN, node=5)), ("a:3", Unreachable("gone"))])
    assert [row["note"] for row in rows] == ["waits for view 7", None, None]
    _print_table(rows)
    assert capsys.readouterr().out.splitlines()[-2:] == ["n4 waits for view 7", "gone"]


def test_a_note_is_bounded_and_may_be_missing_from_an_earlier_release() -> None:
    assert decode_response(encode(NOTED)) == NOTED
    with pytest.raises(DECODE_ERRORS):
        decode_response(encode(replace(PLAIN, note="x" * (NOTE_MAX + 1))))
    assert Status.__struct_fields__[-1] == "note"
