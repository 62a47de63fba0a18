"""What the project promises about itself: what the layer imports, what the locks hold, how async tests are run."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYER = "mcp_server_langgraph.resilience"
LAYER_FOLDER = ROOT / "src" / Path(*LAYER.split("."))


def imported_by(module: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module or ""


def belongs_to_the_layer_or_python(name: str) -> bool:
    return name.split(".")[0] in sys.stdlib_module_names or f"{name}.".startswith(f"{LAYER}.")


def test_the_layer_names_no_import_from_outside_the_standard_library() -> None:
    modules = [path for path in LAYER_FOLDER.rglob("*.py") if "integrations" not in path.parts]
    assert modules
    foreign = {
        f"{path.relative_to(LAYER_FOLDER)} imports {name}"
        for path in modules
        for name in imported_by(path)
        if not belongs_to_the_layer_or_python(name)
    }
    assert foreign == set()


def test_importing_the_layer_loads_nothing_from_outside_the_standard_library() -> None:
    code = f"import sys; before = set(sys.modules); import {LAYER}; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split()) - {LAYER.split(".")[0]}
    assert LAYER in loaded
    assert {name for name in loaded if not belongs_to_the_layer_or_python(name)} == set()


LOCKS = [f"requirements{name}.txt" for name in ("", "-dev", "-mutation", "-uv")]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_pins_every_package_with_hashes_and_names_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text()
    packages = [line for line in text.splitlines() if line and line[0] not in " #"]
    assert packages
    assert [line for line in packages if "==" not in line or not line.endswith("\\")] == []
    assert "://" not in text


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project of one test module, under this project's conftest and settings."""
    pytester.makeconftest((ROOT / "tests" / "conftest.py").read_text())
    pytester.makepyprojecttoml((ROOT / "pyproject.toml").read_text().replace('testpaths = ["tests"]', ""))
    return pytester


def test_async_tests_run_in_virtual_time(project: pytest.Pytester) -> None:
    project.makepyfile("""
        import asyncio, pytest
        from hypothesis import given, strategies

        @pytest.mark.parametrize("hours", [1, 2])
        async def test_sleeps(hours, tmp_path):
            await asyncio.sleep(hours * 3600)
            assert asyncio.get_running_loop().time() == hours * 3600

        @given(strategies.integers(1, 9))
        async def test_every_example_has_its_own_clock(hours):
            await asyncio.sleep(hours * 3600)
            assert asyncio.get_running_loop().time() == hours * 3600
    """)
    project.runpytest_inprocess().assert_outcomes(passed=3)


def test_an_async_test_fails_when_it_asserts_hangs_or_leaves_a_task(project: pytest.Pytester) -> None:
    project.makepyfile("""
        import asyncio

        async def test_asserts():
            assert False

        async def test_hangs():
            await asyncio.Event().wait()

        async def test_leaves_a_task():
            asyncio.create_task(asyncio.sleep(1))
    """)
    result = project.runpytest_inprocess()
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(["*DeadlockError*", "*LeftoverTasksError*"])


def test_an_async_test_that_needs_sockets_runs_in_real_time_within_a_limit(project: pytest.Pytester) -> None:
    project.makepyfile("""
        import asyncio, pytest

        @pytest.mark.real_time
        async def test_opens_a_socket():
            server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
            server.close()
            await server.wait_closed()

        @pytest.mark.real_time(limit=0.01)
        async def test_takes_too_long():
            await asyncio.Event().wait()

        @pytest.mark.real_time(limit=30)
        async def test_leaves_a_task():
            asyncio.get_running_loop().keep = asyncio.create_task(asyncio.Event().wait())
    """)
    result = project.runpytest_inprocess()
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["*TimeoutError*", "*tasks were left pending*"])
