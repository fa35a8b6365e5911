"""Decision rules: inequalities as written, what one test and several of them decide."""

import pytest

from sns.analysis.claims.rules import (
    Comparison,
    conjunction,
    decide_tests,
    disjunction,
    majority,
    parse_inequality,
)


@pytest.mark.parametrize(
    ("text", "margin"),
    [("a > b", 3), ("a < b", -3), ("a - b > 0.5", 2.5), ("a < 10", 5), ("a - b > b - a + 1", 5), ("x.y > 0.25", 6.75)],
)
def test_inequalities_are_read_as_written(text: str, margin: float) -> None:
    values = {"a": {0: 5.0}, "b": {0: 2.0}, "x.y": {0: 7.0}}
    assert parse_inequality(text).margin(values.__getitem__) == {0: margin}


@pytest.mark.parametrize("text", ["a", "a > b > c", "a b > c", "1 > 2", "a > *", "a = b"])
def test_what_is_no_inequality_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="'"):
        parse_inequality(text)


def test_a_refutation_is_corrected_for_the_number_of_tests_and_a_conjunction_is_not() -> None:
    def comparison(p_holds: float) -> Comparison:
        return Comparison("u", 0, "gap", "a > b", 0.1, 0.0, 0.2, 3, p_holds, 1 - p_holds, ())

    assert decide_tests([comparison(0.02), comparison(0.5)], 0.95, one_of_several=False) == ["holds", "open"]
    assert decide_tests([comparison(0.02), comparison(0.5)], 0.95, one_of_several=True) == ["open", "open"]
    assert decide_tests([comparison(0.98)], 0.95, one_of_several=False) == ["fails"]
    assert decide_tests([comparison(0.98), comparison(0.5)], 0.95, one_of_several=False) == ["open", "open"]


def test_joining_of_states() -> None:
    assert [conjunction(s) for s in (["holds", "fails"], ["holds", "open"], ["holds"], [])] == [
        "fails",
        "open",
        "holds",
        "open",
    ]
    assert [disjunction(s) for s in (["holds", "fails"], ["fails", "open"], ["fails"], [])] == [
        "holds",
        "open",
        "fails",
        "open",
    ]
    assert [majority(s) for s in (["holds"] * 2 + ["fails"], ["holds", "fails"], ["holds", "open"])] == [
        "holds",
        "fails",
        "open",
    ]
