"""Finds hidden and stacked retries, and missing timeouts, in live objects, and says what to set.

    print(examine(graph))

    $ python -m mcp_server_langgraph.resilience.integrations.doctor app.agent:graph app.clients:redis

Every client of the usual services retries by itself, most with timeouts of minutes or none; a layer above that retries
too multiplies that: LangGraph's RetryPolicy over ModelRetryMiddleware over an SDK makes 27 requests of one, at the
moment at which the service can bear them least. One layer should retry, under one deadline.

The objects are walked through: attributes, items, closures, the globals that functions use. A client that an object or
a function has beside a pipeline is taken to be called through it. Clients and layers are known by name
(`stacking.check` has the list of clients; besides LangGraph's and langchain's layers, tenacity, stamina and our
pipelines): nothing of theirs is imported, and nothing is sent.

Source: B. Beyer et al., "Site Reliability Engineering", ch. 22 ("Cascading failures").
"""

from __future__ import annotations

import argparse
import importlib
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ..errors import ConfigurationError
from ..pipeline import Pipeline
from ._doctor.diagnosis import Diagnosis, Report
from ._doctor.layers import layer_of_pipelines
from ._doctor.walk import MOST_OBJECTS, Walk

__all__ = ["Diagnosis", "Report", "examine", "main"]

PATIENT: Final = 60.0
"""Seconds beyond which a call is said to take long."""


def examine(
    *things: object, through: Sequence[Pipeline] = (), patient: float = PATIENT, most: int = MOST_OBJECTS
) -> Report:
    """Look at clients, graphs, agents, functions, or anything that holds such.

    ``through``: pipelines through which they are called, outermost first, where that cannot be seen. ``patient``:
    seconds that one call may take before that is a problem (> 0; infinity: however long). ``most``: objects that are
    looked at (>= 1); beyond them the report says what it has not seen. Raises `ConfigurationError` for values out of
    range.
    """
    if not patient > 0 or math.isnan(patient):
        raise ConfigurationError(f"doctor: patient must be > 0 seconds, not {patient!r}")
    if most < 1:
        raise ConfigurationError(f"doctor: most must be >= 1 object, not {most!r}")
    walk = Walk(patient, most)
    around = tuple(layer_of_pipelines([pipeline]) for pipeline in through)
    for thing in things:
        walk.from_(thing, around)
    found = sorted(walk.found, key=lambda it: (not it.problems, -it.requests, -it.seconds, it.path))
    return Report(tuple(found), tuple(walk.unseen))


def main(arguments: Sequence[str] | None = None) -> int:
    """Examine objects named ``module:attribute``. Gives 0 where nothing is wrong, 1 where something is or was not seen,
    and 2 where an object cannot be had.
    """
    parser = argparse.ArgumentParser(
        prog="doctor", description="Finds hidden and stacked retries, and missing timeouts."
    )
    parser.add_argument("objects", nargs="+", metavar="module:attribute", help="what to look at")
    parser.add_argument(
        "--patient", type=float, default=PATIENT, metavar="SECONDS", help="that a call may take (60)"
    )
    options = parser.parse_args(arguments)
    sys.path.insert(0, str(Path.cwd()))
    try:
        things = [_imported(name) for name in options.objects]
    except (ImportError, AttributeError, ValueError) as error:
        print(f"doctor: {error}", file=sys.stderr)
        return 2
    report = examine(*things, patient=options.patient)
    print(report)
    return 0 if report.healthy else 1


def _imported(name: str) -> object:
    module, separator, attribute = name.partition(":")
    if not separator or not attribute:
        raise ValueError(f"{name!r} is not of the form module:attribute")
    thing: object = importlib.import_module(module)
    for part in attribute.split("."):
        thing = getattr(thing, part)
    return thing


if __name__ == "__main__":
    sys.exit(main())
