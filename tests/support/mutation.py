"""Makes the tests fit for mutants: a plugin of pytest that scripts/mutate loads (``-p tests.support.mutation``)."""

from __future__ import annotations

import gc
from typing import Any, Final

import pytest
from hypothesis import Phase, settings

# Whoever needs more of them to notice that a machine is wrong is no test to rely on; and a mutant that survives costs
# them all.
MOST_EXAMPLES: Final = 20


def pytest_configure() -> None:
    # The same examples for every mutant and in every run; and who has found that a mutant is wrong need not find out
    # how little is wrong with it.
    settings.register_profile(
        "mutation",
        max_examples=MOST_EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
    )
    settings.load_profile("mutation")


def pytest_unconfigure() -> None:
    """After the first of all runs: the processes that try one mutant each are forked from this one."""
    gc.freeze()  # pytest collects garbage twice in each run; what is there already it need not look at


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the searches for an example last: most mutants die of a test that takes a millisecond."""
    searches = [item for item in items if item.get_closest_marker("hypothesis") is not None]
    for item in searches:
        _search_less(item)
    items[:] = [item for item in items if item not in searches] + searches


def _search_less(item: Any) -> None:
    """Also where a test asks for more. Of a function hypothesis offers no other way to change what it asks for."""
    owner, name = item.obj, "_hypothesis_internal_use_settings"
    if item.cls is not None:
        owner, name = item.cls, "settings"
    asked = getattr(owner, name)
    setattr(owner, name, settings(asked, max_examples=min(asked.max_examples, MOST_EXAMPLES)))
