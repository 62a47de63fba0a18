"""OpenFGA's own server as tests start it."""

from pathlib import Path

from tests.support.openfga_process import OpenFGAProcess


def _allows(server: OpenFGAProcess, user: str) -> bool:
    question = {"user": user, "relation": "viewer", "object": "document:plan"}
    answer = server.call("POST", f"/stores/{server.store_id}/check", {"tuple_key": question})
    return bool(answer["allowed"])


def test_it_decides_by_model_and_tuples(tmp_path: Path) -> None:
    with OpenFGAProcess(tmp_path) as server:
        server.write([("user:anne", "owner", "document:plan"), ("group:a#member", "viewer", "document:plan")])
        server.grant("user:bob", "member", "group:a")
        assert [_allows(server, user) for user in ("user:anne", "user:bob", "user:carl")] == [
            True,
            True,
            False,
        ]
        server.revoke("user:bob", "member", "group:a")
        assert not _allows(server, "user:bob")


def test_what_it_holds_in_a_file_is_there_after_a_kill(tmp_path: Path) -> None:
    with OpenFGAProcess(tmp_path, "sqlite") as server:
        server.grant("user:anne", "owner", "document:plan")
        server.kill()
        server.start()
        assert server.tuples() == {("user:anne", "owner", "document:plan")}
        assert _allows(server, "user:anne")


def test_what_it_holds_in_memory_is_gone_after_a_kill(tmp_path: Path) -> None:
    with OpenFGAProcess(tmp_path) as server:
        before = server.store_id
        server.grant("user:anne", "owner", "document:plan")
        server.kill()
        server.start()
        assert server.store_id != before
        assert server.tuples() == set()
