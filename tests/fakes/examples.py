"""How many examples Hypothesis makes: the same few every time, or new ones when asked to explore."""

import os
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis.configuration import set_hypothesis_home_dir

set_hypothesis_home_dir(Path(__file__).parents[2] / "build" / "cache" / "hypothesis")

_EXPLORE = int(os.environ.get("EXPLORE", "0"))
"""A factor: EXPLORE=20 makes twenty times as many examples, other ones each time."""


def examples(number: int) -> settings:
    """Settings for a test of so many examples."""
    return settings(
        max_examples=number * max(1, _EXPLORE),
        derandomize=_EXPLORE == 0,
        database=None,
        deadline=None,
        # To make a failing script shorter takes minutes: only for those who look for one.
        phases=[Phase.explicit, Phase.generate, *([Phase.shrink] if os.environ.get("SHRINK") else [])],
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
