"""The tables of the documentation that are made from the code and from the benchmarks' results.

    python -m tests.docs.reference      writes them into the pages

A table stands in its page between ``<!-- generated: name -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import ModuleType
from typing import Any, Final

from pydantic.fields import FieldInfo

from mcp_server_langgraph import cli, resilience
from mcp_server_langgraph.resilience import errors, metrics
from mcp_server_langgraph.resilience.config import DEFAULTS, KNOWN_SERVICES
from mcp_server_langgraph.resilience.config import Settings as LayerSettings
from mcp_server_langgraph.server.metrics import ServerMetrics
from mcp_server_langgraph.settings import Settings
from tests.docs.pages import ROOT

__all__ = ["PAGES_WITH_TABLES", "TABLES", "generated_in", "updated"]

PAGES_WITH_TABLES: Final = [
    *(ROOT / "docs" / "reference" / f"{name}.md" for name in ("errors", "layer", "metrics", "settings")),
    *sorted((ROOT / "docs" / "reference" / "policies").glob("*.md")),
    ROOT / "docs" / "explanation" / "decisions" / "fused-pipelines.md",
]
MEASURED: Final = ROOT / "benchmarks" / "results" / "cost-3.12.md"

_SECTION = re.compile(r"(?s)(?P<begin><!-- generated: (?P<name>[\w-]+) -->\n).*?(?P<end><!-- end -->)")


def updated(page: str) -> str:
    """The page's text with every table in it made anew."""
    return _SECTION.sub(lambda found: f"{found['begin']}{TABLES[found['name']]()}{found['end']}", page)


def generated_in(page: str) -> list[str]:
    """The names of the tables in a page."""
    return [found["name"] for found in _SECTION.finditer(page)]


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |\n" for line in lines)


def code(text: object) -> str:
    """In code type."""
    return f"`{text}`"


def layer_variables() -> str:
    """Every variable of the layer."""
    rows = [
        (code(name), _layer_default(name, variable.default), variable.allowed, variable.help)
        for name, variable in DEFAULTS.items()
    ]
    return table(("variable", "default", "allowed", "meaning"), rows)


def _layer_default(name: str, default: Any) -> str:
    if default is None:
        return "unset"
    if default == ():
        return "none"
    if isinstance(default, str):
        return code(default)
    return code(_number(default) if isinstance(default, (int, float)) else LayerSettings().as_dict()[name][0])


def _number(value: float) -> str:
    if isinstance(value, float) and not value.is_integer():
        return f"{value:g}"
    return str(value).lower() if isinstance(value, bool) else str(int(value))


def services() -> str:
    """What each service gets where nothing is set."""
    settings = LayerSettings()
    rows = []
    for service in (*KNOWN_SERVICES, "any other"):
        attempt = settings.attempt_timeout(service)
        shown = "the total" if attempt is None else f"{attempt:g} s"
        rows.append((service, f"{settings.timeout(service):g} s", shown, str(settings.limit(service))))
    return table(("service", "total time", "one attempt", "at once"), rows)


def server_variables() -> str:
    """Every variable of the server."""
    rows = [
        (code(name.upper()), _server_default(field), _allowed(field), field.description or "")
        for name, field in Settings.model_fields.items()
    ]
    return table(("variable", "default", "allowed", "meaning"), rows)


def _server_default(field: FieldInfo) -> str:
    if field.default is None:
        return "unset"
    if field.default in ([], {}):
        return "none"
    if isinstance(field.default, (list, tuple)):
        return code(",".join(field.default))
    return code(_number(field.default) if isinstance(field.default, (int, float)) else field.default)


def _allowed(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    return str(extra["allowed"]) if isinstance(extra, dict) else ""


def commands() -> str:
    """The commands and their options."""
    return table(("command", "option", "meaning"), _options())


def _options() -> Iterator[tuple[str, str, str]]:
    parser = cli._parser()
    [commands] = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for name, command in commands.choices.items():
        for action in command._actions:
            if not isinstance(action, argparse._HelpAction):
                choices = "" if action.choices is None else " " + ", ".join(map(str, action.choices))
                default = "" if action.default in (None, False) else f" (default {action.default})"
                yield (
                    code(name),
                    code((action.option_strings or [action.metavar])[-1]),
                    f"{action.help or 'one of' + choices}{default}",
                )


def layer_metrics() -> str:
    """Every metric of the layer."""
    rows = [
        (code(name), family.kind, ", ".join(map(code, family.labels)), family.help)
        for name, family in metrics.FAMILIES.items()
    ]
    return table(("metric", "kind", "labels", "tells"), rows)


def server_metrics() -> str:
    """Every metric of the server's own."""
    rows = []
    for family in ServerMetrics().registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        if name not in metrics.FAMILIES:
            rows.append((code(name), family.type, family.documentation))
    return table(("metric", "kind", "tells"), rows)


def error_tree() -> str:
    """The tree of the errors."""
    return f"```text\n{chr(10).join(_branches(errors.ResilienceError, ''))}\n```\n"


def _branches(kind: type, indent: str) -> Iterator[str]:
    others = [
        base.__name__ for base in kind.__bases__ if base.__module__ == "builtins" and base is not Exception
    ]
    yield f"{indent}{kind.__name__}{f' (also a {others[0]})' if others else ''}"
    children = [each for each in kind.__subclasses__() if each.__module__ == errors.__name__]
    for child in children:
        yield from _branches(child, indent + "    ")


def error_table() -> str:
    """What each error means and carries."""
    kinds = sorted(
        (getattr(errors, name) for name in errors.__all__), key=lambda kind: inspect.getsourcelines(kind)[1]
    )
    rows = [
        (code(kind.__name__), _first_sentence(kind), ", ".join(map(code, _carried(kind)))) for kind in kinds
    ]
    return table(("error", "means", "carries"), rows)


def _carried(kind: type) -> list[str]:
    own = [
        name for name in inspect.signature(kind.__init__).parameters if name not in ("self", "args", "kwargs")
    ]
    return own + (["policy"] if issubclass(kind, errors.Rejected) else [])


def public_names() -> str:
    """Every public name of the layer."""
    return _names_of(resilience)


def _names_of(module: ModuleType) -> str:
    rows = [(code(name), _first_sentence(getattr(module, name))) for name in module.__all__]
    return table(("name", "is"), rows)


def _submodule(path: str) -> Callable[[], str]:
    return lambda: _names_of(importlib.import_module(f"{resilience.__name__}.{path}"))


def _first_sentence(thing: object) -> str:
    paragraph = (inspect.getdoc(thing) or "").partition("\n\n")[0]
    sentence = re.split(r"(?<=\.)\s", " ".join(paragraph.split()), maxsplit=1)[0]
    return re.sub(r"``(.+?)``", r"`\1`", sentence).removesuffix("::")


def _states(module: str) -> Callable[[], str]:
    """The state diagram of a machine, from the table of its transitions."""

    def diagram() -> str:
        transitions = importlib.import_module(f"{resilience.__name__}.{module}").TRANSITIONS
        lines = [f"    [*] --> {transitions[0][0]}"]
        lines += [f"    {before} --> {after}: {why}" for before, after, why in transitions]
        return "```mermaid\nstateDiagram-v2\n" + "\n".join(lines) + "\n```\n"

    return diagram


_FUSED: Final = {
    "bare await": "a bare `await`",
    "the same work, fused by hand": "the same work, fused by hand",
    "**pipeline, four policies**": "**a pipeline of four policies**, fused",
    "**pipeline, five policies**": "with a total timeout on top",
    "the same five, fused by hand": "those five, fused by hand",
    "pipeline, four, not fused": "the same pipeline, as layers",
    "asyncio.timeout alone": "`asyncio.timeout` alone",
    "nopanic, four composed": "nopanic, four policies",
    "pyresilience, four": "pyresilience, four policies",
    "naive: pybreaker, tenacity, asyncio.timeout, Semaphore": "pybreaker, tenacity, `asyncio.timeout`, `Semaphore`",
}


def fused_cost() -> str:
    """What a call costs fused, layered and elsewhere, by the benchmark's newest results."""
    success = MEASURED.read_text(encoding="utf-8").partition("\n## ")[2].partition("\n## ")[0]
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in success.splitlines() if "|" in line
    ]
    measured = {row[0]: row for row in cells}
    rows = [
        (shown, measured[name][2], measured[name][4], measured[name][3]) for name, shown in _FUSED.items()
    ]
    return table(("one call that succeeds", "min ns", "bare awaits (min)", "(median)"), rows)


def adaptive_goodput() -> str:
    """The tables of the simulation of adaptive limits."""
    page = (ROOT / "benchmarks" / "results" / "adaptive.md").read_text(encoding="utf-8")
    return page.partition("\n\n")[2]


TABLES: Final[dict[str, Callable[[], str]]] = {
    "adaptive-goodput": adaptive_goodput,
    "aiohttp-names": _submodule("integrations.aiohttp"),
    "asgi-names": _submodule("integrations.asgi"),
    "commands": commands,
    "doctor-names": _submodule("integrations.doctor"),
    "error-table": error_table,
    "error-tree": error_tree,
    "fused-cost": fused_cost,
    "hosts-names": _submodule("integrations.hosts"),
    "httpx-names": _submodule("integrations.httpx"),
    "httpx2-names": _submodule("integrations.httpx2"),
    "layer-metrics": layer_metrics,
    "layer-variables": layer_variables,
    "opentelemetry-names": _submodule("integrations.opentelemetry"),
    "opentelemetry-sdk-names": _submodule("integrations.opentelemetry_sdk"),
    "public-names": public_names,
    "langchain-names": _submodule("integrations.langchain"),
    "langgraph-names": _submodule("integrations.langgraph"),
    "prometheus-names": _submodule("integrations.prometheus"),
    "pybreaker-names": _submodule("integrations.pybreaker"),
    "redis-names": _submodule("integrations.redis"),
    "redis-shared-names": _submodule("integrations.redis_shared"),
    "registry-names": _submodule("registry"),
    "server-metrics": server_metrics,
    "server-variables": server_variables,
    "services": services,
    "shared-names": _submodule("integrations.shared"),
    "states-chaos": _states("_machines.chaos"),
    "states-circuit-breaker": _states("_machines.breaker_state"),
    "states-cooldown": _states("_machines.cooldown"),
    "states-hedge": _states("_machines.hedge_switch"),
    "states-outlier": _states("_machines.outlier"),
    "tenacity-names": _submodule("integrations.tenacity"),
    "tame-names": _submodule("integrations.tame"),
    "testing-names": _submodule("testing"),
}

if __name__ == "__main__":
    for path in PAGES_WITH_TABLES:
        path.write_text(updated(path.read_text(encoding="utf-8")), encoding="utf-8")
