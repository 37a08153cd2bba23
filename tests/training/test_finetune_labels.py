"""Whose labels are known at a share of them: nested, the same for everyone who asks, another draw for another seed."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptacl.store.labels import labelled

PEOPLE = [f"P{i:03d}" for i in range(200)]
FRACTIONS = [1e-5, 0.01, 0.05, 0.1, 0.25, 0.5, 0.99, 1.0]


@pytest.mark.parametrize("seed", [0, 1])
def test_a_smaller_share_lies_in_a_larger_one_and_all_of_them_are_all(seed: int) -> None:
    known = [labelled(PEOPLE, f, seed) for f in FRACTIONS]
    assert all(a < b for a, b in pairwise(known))
    assert [len(k) for k in known] == [1, 2, 10, 20, 50, 100, 198, 200]
    assert known[-1] == set(PEOPLE)


@given(people=st.lists(st.integers(0, 150).map(str)), seed=st.integers(0, 9), share=st.integers(1, 100))
def test_a_share_is_of_people_not_of_visits_rounded_up_whatever_their_order(
    people: list[str], seed: int, share: int
) -> None:
    known = labelled(people, share / 100, seed)
    assert known <= set(people)
    assert len(known) == -(-share * len(set(people)) // 100)
    again = people * 2
    random.Random(seed).shuffle(again)
    assert labelled(again, share / 100, seed) == known


def test_seven_percent_of_a_hundred_are_seven() -> None:
    """The fraction counts as it is written: as a binary number it is a little more, and rounded up one more."""
    assert len(labelled(PEOPLE[:100], 0.07, 0)) == 7


def test_a_seed_draws_its_own_people_who_stay_the_same_for_ever() -> None:
    """What is known decides published numbers: another order of people would be another study."""
    first, second = labelled(PEOPLE, 0.5, 0), labelled(PEOPLE, 0.5, 1)
    assert 30 < len(first & second) < 70
    assert sorted(labelled(PEOPLE, 0.02, 0)) == ["P019", "P120", "P132", "P159"]
    assert sorted(labelled(PEOPLE, 0.02, 1)) == ["P008", "P111", "P154", "P174"]
