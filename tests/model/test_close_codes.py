"""The one table of close codes holds together: documents, clients and tests are made from it."""

from http import HTTPStatus

import pytest
from websockets.frames import CLOSE_CODE_EXPLANATIONS, EXTERNAL_CLOSE_CODES

from tidegate.model import close_codes
from tidegate.model.close_codes import CLOSE_CODES, CloseCode, ComeBack, come_back

ROWS = [value for value in vars(close_codes).values() if isinstance(value, CloseCode)]


def test_every_row_is_in_the_table_once() -> None:
    assert sorted(row.code for row in ROWS) == sorted(CLOSE_CODES)
    assert all(CLOSE_CODES[row.code] is row for row in ROWS)
    assert len({row.name for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_code_is_one_that_may_be_used(row: CloseCode) -> None:
    if row.code >= 4000:
        assert row.code - 4000 in {int(status) for status in HTTPStatus}, "4000 + HTTP status"
    else:
        assert row.code in CLOSE_CODE_EXPLANATIONS
        assert row.code in EXTERNAL_CLOSE_CODES or row is close_codes.ABNORMAL
    assert row.name.isidentifier()
    assert row.meaning


def test_whether_to_come_back() -> None:
    assert come_back(1000) is ComeBack.NO
    assert come_back(1012) is ComeBack.YES
    assert come_back(4429) is not ComeBack.YES, "at once would only make it worse"
    for code in (1001, 1005, 3000, 4999, 0):
        assert come_back(code) is ComeBack.YES, "a fault of the network"


def test_what_the_design_promises() -> None:
    promised = {1000, 1012, 1013, 4400, 4401, 4403, 4404, 4408, 4409, 4410, 4429}
    assert promised <= set(CLOSE_CODES)
