"""The demo's realm, permissions and configuration fit each other, the server, and the real programs that read them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from deploy.openfga.setup import set_up
from mcp_server_langgraph.server.services import AGENT
from tests.docs.pages import ROOT
from tests.support.components import require
from tests.support.openfga_process import OpenFGAProcess

DEPLOY = ROOT / "deploy"
REALM = json.loads((DEPLOY / "keycloak" / "demo-realm.json").read_text())
TUPLES = json.loads((DEPLOY / "openfga" / "tuples.json").read_text())


def test_alice_may_chat_and_bob_may_not() -> None:
    ids = {user["username"]: user["id"] for user in REALM["users"]}
    assert [{"user": f"user:{ids['alice']}", "relation": "can_chat", "object": AGENT}] == TUPLES
    assert "bob" in ids


def test_openfga_is_set_up_once_and_gives_the_same_ids_again(tmp_path: Path) -> None:
    require("openfga")
    with OpenFGAProcess(tmp_path) as openfga:
        first = set_up(openfga.url)
        assert set_up(openfga.url) == first
        path = f"/stores/{first['OPENFGA_STORE_ID']}/check"
        for user, allowed in ((TUPLES[0]["user"], True), ("user:other", False)):
            key = {"user": user, "relation": "can_chat", "object": AGENT}
            answer = openfga.call(
                "POST", path, {"tuple_key": key, "authorization_model_id": first["OPENFGA_MODEL_ID"]}
            )
            assert answer["allowed"] is allowed
        newer = {"schema_version": "1.1", "type_definitions": [{"type": "user"}]}
        openfga.call("POST", f"/stores/{first['OPENFGA_STORE_ID']}/authorization-models", newer)
        again = set_up(openfga.url)
        assert again["OPENFGA_STORE_ID"] == first["OPENFGA_STORE_ID"]
        assert again["OPENFGA_MODEL_ID"] != first["OPENFGA_MODEL_ID"]


def test_the_model_that_people_read_is_the_one_that_is_written() -> None:
    command = [require("fga"), "model", "transform", "--file", str(DEPLOY / "openfga" / "model.fga")]
    read = subprocess.run(command, capture_output=True, check=True, timeout=300).stdout
    assert json.loads(read) == json.loads((DEPLOY / "openfga" / "model.json").read_text())


def test_prometheus_takes_the_demos_configuration() -> None:
    config = str(DEPLOY / "prometheus" / "demo.yml")
    done = subprocess.run(
        [require("promtool"), "check", "config", config],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 rule files found" in done.stdout
