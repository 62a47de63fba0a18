"""Our OpenFGA in memory answers as OpenFGA's own server does: same decisions, same lists, same refusals."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.json_http import Answer, send
from tests.support.openfga_process import OpenFGAProcess
from tests.support.openfga_questions import MODEL, SOUND, any_key, any_type, sound_key
from tests.support.openfga_server import OpenFGAServer

NOBODY_S = "01M8BT759N3P3VTBG86QV472K9"
Servers = tuple[OpenFGAProcess, OpenFGAServer]
compared = settings(max_examples=25, deadline=None, derandomize=True)


class Pair(NamedTuple):
    """A store in each of the two."""

    servers: Servers
    stores: list[str]

    @classmethod
    def new(cls, servers: Servers, model: Mapping[str, Any] | None = MODEL) -> Pair:
        stores = [
            send("POST", f"{server.url}/stores", json_body={"name": "test"}).expect(201)["id"]
            for server in servers
        ]
        pair = cls(servers, stores)
        if model is not None:
            assert all(answer.status == 201 for answer in pair.ask("authorization-models", model))
        return pair

    def ask(self, path: str, body: Mapping[str, Any], store: str | None = None) -> list[Answer]:
        """The answers of OpenFGA's own server and of ours."""
        urls = [f"{server.url}/stores/{store or own}/{path}" for server, own in zip(*self, strict=True)]
        return [send("POST", url, json_body=body) for url in urls]

    def hold(self, keys: list[dict[str, str]]) -> None:
        if keys:
            assert all(answer.status == 200 for answer in self.ask("write", {"writes": {"tuple_keys": keys}}))

    def same(self, path: str, body: Mapping[str, Any], store: str | None = None) -> Any:
        """What both answer."""
        own, ours = (self._told(answer) for answer in self.ask(path, body, store))
        assert ours == own
        return own

    def _told(self, answer: Answer) -> Any:
        """All but ids, times, the order of lists, and the spaces that protobuf's text has at random."""
        told = answer.body
        if isinstance(told, str):
            told = {"objects": [json.loads(line)["result"]["object"] for line in told.splitlines()]}
        if isinstance(told, dict) and "result" in told and "object" in told["result"]:
            told = {"objects": [told["result"]["object"]]}
        text = re.sub(r"  +", " ", json.dumps(_sorted(told)))
        for store in self.stores:
            text = text.replace(store, "STORE")
        return answer.status, json.loads(text)


def _sorted(told: Any) -> Any:
    if isinstance(told, dict) and "objects" in told:
        return {**told, "objects": sorted(told["objects"])}
    if isinstance(told, dict) and "tuples" in told:
        return {
            **told,
            "tuples": sorted(json.dumps(entry["key"], sort_keys=True) for entry in told["tuples"]),
        }
    return told or {"objects": []} if told is None else told


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder: Path = tmp_path_factory.mktemp("openfga")
    with OpenFGAProcess(folder) as own, OpenFGAServer() as ours:
        yield own, ours


@pytest.fixture
def pair(servers: Servers) -> Pair:
    return Pair.new(servers)


held = st.lists(sound_key, max_size=12, unique_by=lambda key: tuple(key.values()))
contextual = st.none() | st.lists(sound_key, max_size=2) | st.lists(any_key, min_size=1, max_size=1)


def _with(body: dict[str, Any], extra: list[dict[str, str]] | None) -> dict[str, Any]:
    return body if extra is None else {**body, "contextual_tuples": {"tuple_keys": extra}}


@given(keys=held, questions=st.lists(st.tuples(any_key, contextual), min_size=4, max_size=10))
@compared
def test_a_check_has_the_same_answer(servers: Servers, keys: Any, questions: Any) -> None:
    pair = Pair.new(servers)
    pair.hold(keys)
    for key, extra in questions:
        pair.same("check", _with({"tuple_key": key}, extra))


@given(
    keys=held,
    questions=st.lists(st.tuples(sound_key | any_key, contextual), max_size=6),
    copies=st.booleans(),
)
@compared
def test_a_batch_has_the_same_answers(servers: Servers, keys: Any, questions: Any, copies: bool) -> None:
    pair = Pair.new(servers)
    pair.hold(keys)
    named = enumerate(questions)
    checks = [
        _with({"tuple_key": key, "correlation_id": str(0 if copies else at)}, extra)
        for at, (key, extra) in named
    ]
    pair.same("batch-check", {"checks": checks})


@given(keys=held, asked=st.lists(st.tuples(any_key, any_type, contextual), min_size=2, max_size=6))
@compared
def test_a_list_has_the_same_objects(servers: Servers, keys: Any, asked: Any) -> None:
    pair = Pair.new(servers)
    pair.hold(keys)
    for key, kind, extra in asked:
        body = _with({"user": key["user"], "relation": key["relation"], "type": kind}, extra)
        pair.same("list-objects", body)
        pair.same("streamed-list-objects", body)


writes = st.fixed_dictionaries(
    {}, optional={
        "writes": st.fixed_dictionaries(
            {"tuple_keys": st.lists(sound_key | any_key, max_size=3)},
            optional={"on_duplicate": st.sampled_from(["error", "ignore", "maybe"])},
        ),
        "deletes": st.fixed_dictionaries(
            {"tuple_keys": st.lists(sound_key | any_key, max_size=3)},
            optional={"on_missing": st.sampled_from(["error", "ignore", "maybe"])},
        ),
    },
)  # fmt: skip


@given(bodies=st.lists(writes, min_size=3, max_size=10))
@compared
def test_a_write_has_the_same_effect(servers: Servers, bodies: Any) -> None:
    pair = Pair.new(servers)
    for body in bodies:
        pair.same("write", body)
        pair.same("read", {})


@pytest.mark.parametrize("path", ["check", "batch-check", "list-objects", "streamed-list-objects", "write"])
def test_what_does_not_exist_is_refused_alike(pair: Pair, servers: Servers, path: str) -> None:
    key = SOUND[0]
    body: dict[str, Any] = {
        "check": {"tuple_key": key},
        "batch-check": {"checks": [{"tuple_key": key, "correlation_id": "1"}]},
        "write": {"writes": {"tuple_keys": [key]}},
    }.get(path, {"user": key["user"], "relation": key["relation"], "type": "document"})
    pair.same(path, {})
    for model in (NOBODY_S, "nonsense"):
        assert pair.same(path, {**body, "authorization_model_id": model})[0] == 400
    for store in (NOBODY_S, "nonsense"):
        assert pair.same(path, body, store)[0] == 400
    assert Pair.new(servers, None).same(path, body)[0] == 400


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        SOUND[0],
        {"user": "user:a"},
        {"relation": "owner"},
        {"object": "document:1"},
        {"object": "document:"},
        {"object": "document"},
        {"object": "document:", "user": "user:a"},
        {"object": "document:1", "relation": "reader"},
    ],
)
def test_tuples_are_read_alike(pair: Pair, wanted: dict[str, str]) -> None:
    pair.hold(SOUND)
    pair.same("read", {"tuple_key": wanted})


@pytest.mark.parametrize("size", [0, 101])
def test_a_page_has_the_same_limits(pair: Pair, size: int) -> None:
    pair.same("read", {"page_size": size})


@pytest.mark.parametrize("number", [100, 101])
def test_a_write_has_the_same_limits(pair: Pair, number: int) -> None:
    keys = [{"user": f"user:{at}", "relation": "owner", "object": "document:1"} for at in range(number)]
    pair.same("write", {"writes": {"tuple_keys": keys}})


@pytest.mark.parametrize("number", [50, 51])
def test_a_batch_has_the_same_limits(pair: Pair, number: int) -> None:
    pair.same(
        "batch-check",
        {"checks": [{"tuple_key": SOUND[0], "correlation_id": str(at)} for at in range(number)]},
    )


@pytest.mark.parametrize(
    "path", ["", f"/{NOBODY_S}", "/nonsense", f"/{NOBODY_S}/authorization-models", "x", "/a/b/c/d"]
)
def test_records_are_missed_alike(servers: Servers, path: str) -> None:
    own, ours = (send("GET", f"{server.url}/stores{path}") for server in servers)
    assert ours.status == own.status
    if own.status != 200:
        assert ours.body == own.body
