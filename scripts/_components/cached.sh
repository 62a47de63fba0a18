# Sourced by scripts/components: what is kept in the cache, in one folder a version.

# locked NAME FIELD: what components.lock says: version (2), address (3), checksum (4).
locked() {
  awk -v name="$1" -v field="$2" '$1 == name { print $field }' "$root/scripts/components.lock"
}

folder_of() {
  echo "$cache/$1-$(locked "$1" 2)"
}

# whole NAME FUNCTION: FUNCTION makes the folder that it is given, which gets its name when it is complete and right.
# It must end with `return 1` where something fails: bash does not heed errexit where a result is asked for.
whole() {
  local name=$1 make=$2 target half
  target=$(folder_of "$name")
  half=$target.part.$$
  trap 'rm -rf "$cache"/*.part.$$ "$cache"/*.part.$$.log' EXIT
  mkdir -p "$half" || return 1
  echo "$name: getting $(locked "$name" 2)" >&2
  if beside_a_clock "$name" "$make" "$half" >"$half.log" 2>&1 </dev/null; then
    rm -rf "$target" && mv "$half" "$target"
  else
    tail -n 30 "$half.log" >&2
    return 1
  fi
}

# beside_a_clock NAME COMMAND...: says on the terminal, every 15 seconds, for how long it has been at it.
beside_a_clock() {
  local clock status=0
  tell_the_time "$1" &
  clock=$!
  (cd / && "${@:2}") || status=$?
  kill "$clock"
  return "$status"
}

# In short sleeps: one that outlives its shell keeps the terminal.
tell_the_time() {
  local second
  for ((second = 1; ; second++)); do
    sleep 1
    ((second % 15)) || echo "$1: at it for $second s" >&3
  done
}

# answers COMMAND...: whether it succeeds within two minutes.
answers() {
  (cd / && timeout 120 "$@") >/dev/null 2>&1 </dev/null
}

sha256() {
  if type -P sha256sum >/dev/null; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d ' ' -f 1
}
