"""tenacity's own tests, of the version that is installed here, in an environment of their own. Nothing is committed."""

from __future__ import annotations

import atexit
import functools
import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Final

__all__ = ["TENACITY", "fetched"]

TENACITY: Final = version("tenacity")

# What the tests import. pytest is the one that runs here.
_NEEDS: Final = ("tornado==6.6.1", "trio==0.35.0", "typeguard==4.6.1", f"pytest=={version('pytest')}")
_PATIENCE: Final = 600.0


@functools.cache
def fetched() -> str | None:
    """The folder with the tests in ``tests`` and the environment in ``env``; None where pip cannot get them."""
    folder = Path(tempfile.mkdtemp(prefix="tenacity-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    pip = [str(folder / "env" / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    pip += ["--retries", "1", "--timeout", "10"]
    wanted = f"tenacity=={TENACITY}"
    try:
        _run([sys.executable, "-m", "venv", str(folder / "env")])
        _run([*pip, "download", "--no-deps", "--no-binary", "tenacity", "--dest", str(folder), wanted])
        _run([*pip, "install", *_NEEDS, wanted])
    except (OSError, subprocess.SubprocessError) as exc:
        print(exc, getattr(exc, "stderr", ""), file=sys.stderr)
        return None
    [archive] = folder.glob("tenacity-*.tar.gz")
    with tarfile.open(archive) as source:
        source.extractall(folder, filter="data")
    (folder / f"tenacity-{TENACITY}" / "tests").rename(folder / "tests")
    return str(folder)


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=_PATIENCE)
