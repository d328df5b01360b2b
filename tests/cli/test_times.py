"""One way to write times."""

from datetime import UTC, datetime, timedelta

import pytest

from tidegate.cli.times import age, duration, long_duration, moment


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((None, "-"), (0, "0.0 ms"), (0.0012, "1.2 ms"), (0.25, "250 ms"), (0.9996, "1.0 s")),
        *((3, "3.0 s"), (9.96, "10 s"), (45.4, "45 s"), (59.6, "1 min"), (90, "2 min")),
        *((3_569, "59 min"), (3_571, "1 h"), (7_200, "2 h"), (84_700, "1 d"), (9e5, "10 d")),
    ],
)
def test_durations_are_in_their_largest_unit(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_long_durations_have_two_units() -> None:
    assert long_duration(7_505) == "2 h 5 min"
    assert long_duration(86_400) == "1 d"
    assert long_duration(-3) == "0 s"


def test_ages() -> None:
    assert [age(v) for v in (None, 0.2, 4.4, 12, 7_200)] == [
        *("-", "now", "4 s ago", "12 s ago", "2 h ago"),
    ]


def test_a_moment_of_another_day_has_its_date() -> None:
    now = datetime.now(UTC)
    ms = int(now.timestamp() * 1000)
    today, other = moment(ms, now), moment(ms, now + timedelta(days=2))
    assert today is not None
    assert other == f"{now.astimezone().date().isoformat()} {today}"
    assert len(today) == len("08:15:00.250")
    assert moment(10**18) is None
    assert moment(-1) is None
