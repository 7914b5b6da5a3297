"""Chance of one subject: numbers that depend on the seed and a key alone.

Rule this module keeps: everything is drawn from uniform numbers. numpy's normal and exponential numbers call
the C library, whose last bit may differ between CPUs.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class Chance:
    """Draws for one subject, in order.

    Args:
        seed: The simulation's.
        key: What is drawn for, such as a stream's number and an account's. Whole, at least 0.
    """

    def __init__(self, seed: int, *key: int) -> None:
        self._rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))

    def between(self, low: float, high: float) -> float:
        """Uniform from `low` to just under `high`."""
        return low + (high - low) * float(self._rng.random())

    def whole(self, low: int, high: int) -> int:
        """Uniform and whole from `low` to `high`, both included."""
        return low + int((high - low + 1) * float(self._rng.random()))

    def happens(self, probability: float) -> bool:
        """True with this probability."""
        return float(self._rng.random()) < probability

    def pick(self, choices: Sequence[T]) -> T:
        """One of the choices, each as likely as the others."""
        return choices[self.whole(0, len(choices) - 1)]

    def weigh(self, choices: Mapping[T, float]) -> T:
        """One of the keys, as likely as its weight says."""
        left = self.between(0.0, sum(choices.values()))
        for choice, weight in choices.items():
            left -= weight
            if left < 0.0:
                return choice
        return next(reversed(list(choices)))

    def wait(self, mean_s: float) -> float:
        """Seconds until something that happens every `mean_s` on average and remembers nothing."""
        # Rounded, because C libraries agree on a logarithm to fifteen digits but not to the last bit.
        return mean_s * round(-math.log(1.0 - float(self._rng.random())), 9)

    def shuffled(self, choices: Sequence[T]) -> list[T]:
        """The choices in any order."""
        left = list(choices)
        return [left.pop(self.whole(0, len(left) - 1)) for _ in range(len(left))]
