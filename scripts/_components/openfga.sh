# Sourced by scripts/components: OpenFGA's own server, built from its Go module.

openfga.origin() { echo "Go module"; }
openfga.version() { locked openfga 2; }
openfga.place() { folder_of openfga; }
openfga.hint() { echo "scripts/components openfga, with Go"; }
openfga.there() { is_openfga "$(folder_of openfga)"; }
openfga.get() { whole openfga build_openfga; }

openfga.obtainable() {
  type -P go >/dev/null && answers go list -m "$(openfga_module)@v$(locked openfga 2)"
}

build_openfga() {
  local folder=$1
  type -P go >/dev/null || { echo "there is no Go on this machine" && return 1; }
  # Nothing of what is fetched may go by the checksum database.
  [[ $(go env GOSUMDB) != off ]] || { echo "GOSUMDB is off: what Go fetches would not be verified" && return 1; }
  cd "$folder" &&
    GOBIN=$folder GOPRIVATE='' GONOSUMDB='' GOINSECURE='' go install "$(locked openfga 3)@v$(locked openfga 2)" ||
    return 1
  is_openfga "$folder" || { echo "the program is not what components.lock says" && return 1; }
  "$folder/openfga" version
}

# Go writes into a program what it was built from: main module, version, checksum.
is_openfga() {
  local line
  printf -v line 'mod\t%s\tv%s\t%s' "$(openfga_module)" "$(locked openfga 2)" "$(locked openfga 4)"
  [[ -x $1/openfga ]] && LC_ALL=C grep -aqF "$line" "$1/openfga"
}

openfga_module() {
  local package
  package=$(locked openfga 3)
  echo "${package%/cmd/*}"
}
