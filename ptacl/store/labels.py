"""Whose labels are known when only a share of them is: the same people in fine-tuning and in the probe."""

import hashlib
import math
from collections.abc import Sequence
from fractions import Fraction


def labelled(subjects: Sequence[str], fraction: float, seed: int) -> set[str]:
    """The people of one split whose labels are known at a `fraction` in (0, 1]: ceil(fraction * n) of the n distinct ones.

    The first in the order of a hash of seed and subject: whatever the method, and at a larger fraction of the same
    people and seed all of these and others.
    """
    people = sorted(set(subjects), key=lambda s: hashlib.sha256(f"{seed}|{s}".encode()).digest())
    # The fraction as it is written: as a binary number 0.07 of 100 would be a little more than 7.
    return set(people[: math.ceil(Fraction(str(fraction)) * len(people))])
