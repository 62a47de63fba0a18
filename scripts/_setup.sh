# Sourced by the other scripts: makes the private environment that they run in. All it prints goes to stderr.
#
#   PYTHON    the interpreter to build the environment with; default: the first Python >= 3.11 that is found
#   VENV_DIR  where the environment lives; default: .venv beside this folder

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=${VENV_DIR:-$root/.venv}
[[ $venv == /* ]] || venv=$PWD/$venv
tools=$venv-tools
stamp=$venv/.stamp

fail() {
  echo "$0: $*" >&2
  exit 1
}

# use_environment serve|dev: make sure that the environment holds the server's lock, or the developers' lock.
# An environment made for development serves too, so that the two do not undo each other.
use_environment() {
  local set=$1
  is_current "$set" && return
  mkdir -p "$(dirname "$venv")"
  (
    take_turns
    is_current "$set" || install "$set"
  ) >&2 </dev/null
}

is_current() {
  [[ -r $stamp && -x $venv/bin/python ]] || return
  local stamped
  stamped=$(<"$stamp")
  [[ $stamped == "$(fingerprint dev)" || $stamped == "$(fingerprint "$1")" ]] || return
  "$venv/bin/python" -I -c "$finds_project" 2>/dev/null
}

finds_project='import importlib.util, sys; sys.exit(importlib.util.find_spec("mcp_server_langgraph") is None)'

# What the environment was made from. PYTHON counts only where it is set: then it must be the one that was used.
fingerprint() {
  local set=$1 python=${PYTHON:-}
  [[ -n $python || ! -r $venv/.python ]] || python=$(<"$venv/.python")
  echo "$set $python $root $(cat "$(lock_of "$set")" "$root/pyproject.toml" | cksum)"
}

lock_of() {
  case $1 in
    serve) echo "$root/requirements.txt" ;;
    dev) echo "$root/requirements-dev.txt" ;;
  esac
}

install() {
  local set=$1 python
  [[ ! -r $stamp || $(<"$stamp") != dev* ]] || set=dev
  rm -f "$stamp"
  python=$(find_python) || fail "needs a Python >= 3.11 with venv and pip; found none${PYTHON:+ (PYTHON=$PYTHON)}"
  use_uv "$python"
  echo "installing the locked packages ($set) into $venv"
  made_with "$python" || make_venv "$python"
  uv pip sync --quiet --python "$venv/bin/python" --require-hashes "$(lock_of "$set")"
  # "sync" has removed the project itself, which no lock can name; its build backend is in the lock.
  uv pip install --quiet --python "$venv/bin/python" --no-deps --no-build-isolation --editable "$root"
  fingerprint "$set" >"$stamp"
}

make_venv() {
  [[ ! -e $venv || -e $venv/pyvenv.cfg ]] || fail "$venv is something else than a virtual environment: not replaced"
  uv venv --quiet --clear --python "$1" "$venv"
  echo "$1" >"$venv/.python"
}

made_with() {
  [[ -r $venv/.python && $(<"$venv/.python") == "$1" ]] && "$venv/bin/python" -c '' 2>/dev/null
}

# Prints the path of a Python >= 3.11 with venv and pip. Candidates are run, not only looked up: a pyenv shim exists
# for versions that are not active, and then fails.
find_python() {
  local candidate
  if [[ -n ${PYTHON:-} ]]; then
    suits "$PYTHON" && echo "$PYTHON"
    return
  fi
  for candidate in python3 python python3.13 python3.12 python3.11 "${HOME:-}"/.pyenv/versions/3.1[1-9]*/bin/python3; do
    if suits "$candidate"; then
      "$candidate" -c 'import sys; print(sys.executable)'
      return
    fi
  done
  return 1
}

suits() {
  "$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# Defines the function uv: the one on PATH if it runs and is not too old (--clear came with 0.8), or else the locked one, installed with pip into an environment of its own.
use_uv() {
  local python=$1 on_path
  export UV_PYTHON_DOWNLOADS=never
  unset VIRTUAL_ENV
  follow_pip_settings "$python"
  if on_path=$(type -P uv) && "$on_path" venv --help 2>/dev/null | grep -q -e --clear; then
    uv_program=$on_path
  else
    uv_program=$tools/bin/uv
    "$uv_program" --version >/dev/null 2>&1 || install_uv "$python"
  fi
  uv() { "$uv_program" "$@"; }
}

install_uv() {
  echo "installing uv into $tools"
  "$1" -m venv --clear "$tools"
  "$tools/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$root/requirements-uv.txt"
}

# uv does not read pip's configuration: where pip is told of a package index or of certificates, tell uv too.
follow_pip_settings() {
  local python=$1 index
  if [[ -z ${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-} ]] && index=$(pip_setting "$python" index-url); then
    export UV_DEFAULT_INDEX=$index
  fi
  if [[ -z ${SSL_CERT_FILE:-} && -n ${PIP_CERT:-} ]]; then
    export SSL_CERT_FILE=$PIP_CERT
  fi
}

pip_setting() {
  local value
  value=$("$1" -m pip config list 2>/dev/null | sed -n "s/^[^=]*\\.$2='\\(.*\\)'\$/\\1/p" | tail -n 1)
  [[ -n $value ]] && echo "$value"
}

# One set-up at a time. Python holds the lock's file descriptor as flock(1) would, which not every system has; the
# lock ends with the subshell that called.
take_turns() {
  local python
  python=$(find_python) || return 0
  exec 9>"$venv.lock"
  "$python" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)'
}
