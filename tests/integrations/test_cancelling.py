"""When it is looked whether somebody asks to cancel an operation."""

from __future__ import annotations

from tidegate.integrations.cancelling import (
    EVERY_S,
    INTEREST_S,
    MAX_OPERATIONS,
    CancelWatch,
)
from tidegate.model.ids import OperationId

A, B = OperationId("a"), OperationId("b")


def test_one_look_a_second_while_somebody_asks() -> None:
    looks = CancelWatch()
    assert looks.ask(A, 0.0) == (False, True)
    assert looks.due(0.0) == A
    assert looks.looked(A, asked=False, now=0.1) == []
    assert looks.ask(A, 0.5) == (False, False)
    assert looks.due(0.5) is None
    assert looks.next_due() == 0.1 + EVERY_S
    assert looks.due(0.1 + EVERY_S) == A


def test_nobody_is_looked_for_who_does_not_ask_any_more() -> None:
    looks = CancelWatch()
    looks.ask(A, 0.0)
    assert looks.due(0.0) == A
    looks.looked(A, asked=False, now=INTEREST_S)
    assert looks.next_due() is None
    assert looks.due(INTEREST_S + EVERY_S + 1) is None
    assert looks.ask(A, INTEREST_S + EVERY_S + 1) == (False, True)  # and again from now on


def test_what_was_asked_for_stays_known_until_it_is_forgotten() -> None:
    looks = CancelWatch()
    looks.ask(A, 0.0)
    assert looks.due(0.0) == A
    looks.looked(A, asked=True, now=0.1)
    assert looks.ask(A, 0.2) == (True, False)
    assert looks.due(9.0) is None
    looks.forget(A)
    assert looks.ask(A, 10.0) == (False, True)


def test_a_function_is_called_once() -> None:
    looks = CancelWatch()
    called: list[str] = []
    looks.watch(A, lambda: called.append("a"), 0.0)
    assert looks.due(0.0) == A
    assert looks.looked(A, asked=False, now=0.1) == []
    assert looks.due(100.0) == A  # however long it takes
    (call,) = looks.looked(A, asked=True, now=100.0)
    call()
    assert looks.looked(A, asked=True, now=101.0) == []
    assert called == ["a"]
    assert looks.next_due() is None


def test_the_number_of_operations_is_bounded() -> None:
    looks = CancelWatch()
    for n in range(2 * MAX_OPERATIONS):
        looks.ask(OperationId(f"n{n}"), 0.0)
    assert len(looks._looks) == MAX_OPERATIONS
    assert looks.ask(B, INTEREST_S + 1) == (False, True)  # the others have lost interest
    assert len(looks._looks) == 1
