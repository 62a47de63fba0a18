"""The command line: exit codes and what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import mcp_server_langgraph
from mcp_server_langgraph.cli import main
from tests.server.running import clean_environment
from tests.support.certificates import write_certificate


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.environ", clean_environment({}))


def test_settings_are_printed_without_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    assert main(["settings"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["server"]["openai_api_key"] == "(secret)"
    assert printed["resilience"]["RETRY_STOP_AFTER_ATTEMPT"] == 3


def test_a_path_among_the_settings_is_printed_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    certificate = write_certificate(tmp_path)[0]
    monkeypatch.setenv("REDIS_CA_FILE", str(certificate))
    assert main(["settings"]) == 0
    assert json.loads(capsys.readouterr().out)["server"]["redis_ca_file"] == str(certificate)


@pytest.mark.parametrize("command", [["settings"], ["serve"], ["serve", "--transport", "stdio"]])
def test_wrong_settings_are_all_told_and_end_with_code_2(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PORT", "none")
    monkeypatch.setenv("RETRY_RERAISE", "perhaps")
    assert main(command) == 2
    told = capsys.readouterr()
    assert "PORT='none'" in told.err
    assert "RETRY_RERAISE='perhaps'" in told.err
    assert told.out == ""


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "settings.env"
    file.write_text("# comment\n\nLOG_LEVEL = 'ERROR'\nSESSION_TTL_SECONDS=60\nPORT=1\n")
    monkeypatch.setenv("LOG_LEVEL", "WARNING")
    assert main(["settings", "--env-file", str(file)]) == 0
    server = json.loads(capsys.readouterr().out)["server"]
    assert server["log_level"] == "WARNING"
    assert server["session_ttl_seconds"] == 60
    monkeypatch.setenv("PORT", "2")
    assert main(["serve", "--env-file", str(file), "--port", "x"]) == 2
    assert "PORT='x'" in capsys.readouterr().err


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings", "--env-file", str(tmp_path / "none")]) == 2
    assert "--env-file" in capsys.readouterr().err


def test_without_the_servers_packages_the_missing_extra_is_named() -> None:
    source = Path(mcp_server_langgraph.__file__).parents[1]
    program = f"""
import sys
sys.path.insert(0, {str(source)!r})
from mcp_server_langgraph.cli import main
sys.exit(main(["serve"]))
"""
    # -S: without site-packages, as in an environment that holds the layer alone.
    ended = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert "pip install 'mcp-server-langgraph[server]'" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_offline_no_provider_and_no_client_of_a_service_is_imported() -> None:
    program = """
import asyncio, json, sys
from mcp_server_langgraph.server.main import run
from mcp_server_langgraph.server.wiring import wire
from mcp_server_langgraph.settings import Settings

async def answer():
    services = wire(Settings.from_env({})).services
    turn = await (await services.agent()).chat("me", "What is 2 + 2?")
    await services.aclose()
    return turn.answer

assert "4" in asyncio.run(answer())
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(json.loads(ended.stdout))
    heavy = {
        "anthropic",
        "langchain_anthropic",
        "langchain_google_genai",
        "langchain_openai",
        "openai",
        "openfga_sdk",
        "redis",
    }
    assert not loaded & heavy
    assert "google.genai" not in ended.stdout
