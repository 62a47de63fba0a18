"""OpenFGA's engine behind our facade, for machines without Go."""

from collections.abc import Iterator

import pytest

from tests.support.openfga_process import OpenFGAProcess
from tests.support.openfga_questions import MODEL, SOUND
from tests.support.openfga_stand_in import OpenFGAStandIn


@pytest.fixture(scope="module")
def stand_in() -> Iterator[OpenFGAStandIn]:
    with OpenFGAStandIn(MODEL) as running:
        running.write([(key["user"], key["relation"], key["object"]) for key in SOUND])
        yield running


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenFGAProcess]:
    with OpenFGAProcess(tmp_path_factory.mktemp("openfga"), model=MODEL) as running:
        running.write([(key["user"], key["relation"], key["object"]) for key in SOUND])
        yield running


def _check(server: OpenFGAProcess | OpenFGAStandIn, user: str, relation: str, target: str) -> bool:
    key = {"user": user, "relation": relation, "object": target}
    return bool(server.call("POST", f"/stores/{server.store_id}/check", {"tuple_key": key})["allowed"])


def _list(server: OpenFGAProcess | OpenFGAStandIn, user: str, relation: str, kind: str) -> list[str]:
    body = {"user": user, "relation": relation, "type": kind}
    return sorted(server.call("POST", f"/stores/{server.store_id}/list-objects", body)["objects"])


@pytest.mark.parametrize("user", ["user:a", "user:b", "group:x#member"])
def test_it_decides_as_the_server_does(stand_in: OpenFGAStandIn, own: OpenFGAProcess, user: str) -> None:
    for relation in ("owner", "reader", "viewer", "editor"):
        asked = (user, relation, "document:1")
        assert _check(stand_in, *asked) == _check(own, *asked), asked


def test_it_lists_as_the_server_does(stand_in: OpenFGAStandIn, own: OpenFGAProcess) -> None:
    for user, relation, kind in (("user:a", "viewer", "document"), ("user:b", "member", "group")):
        assert _list(stand_in, user, relation, kind) == _list(own, user, relation, kind)


def test_what_is_granted_and_revoked_counts_at_once(stand_in: OpenFGAStandIn) -> None:
    assert not _check(stand_in, "user:c", "owner", "document:9")
    stand_in.grant("user:c", "owner", "document:9")
    assert _check(stand_in, "user:c", "owner", "document:9")
    stand_in.revoke("user:c", "owner", "document:9")
    assert not _check(stand_in, "user:c", "owner", "document:9")


def test_what_the_model_does_not_know_is_refused(stand_in: OpenFGAStandIn) -> None:
    with pytest.raises(RuntimeError, match="relation 'document#nothing' not found"):
        _check(stand_in, "user:a", "nothing", "document:1")
