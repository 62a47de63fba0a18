# Sourced by scripts/components: Keycloak's own server, from its Maven artifact.

maven_plugin=org.apache.maven.plugins:maven-dependency-plugin:3.8.1

keycloak.origin() { echo "Maven artifact"; }
keycloak.version() { locked keycloak 2; }
keycloak.place() { folder_of keycloak; }
keycloak.hint() { echo "scripts/components keycloak, with Maven and Java 17 or newer"; }
keycloak.there() { is_keycloak "$(folder_of keycloak)" && has_java; }
keycloak.get() { whole keycloak unpack_keycloak; }

keycloak.obtainable() {
  local artifact
  artifact=$(locked keycloak 3)
  type -P mvn >/dev/null && has_java &&
    answers mvn -q -B "$maven_plugin:get" -Dtransitive=false -Dartifact="${artifact%:*:*}:$(locked keycloak 2):pom"
}

# Also builds it for the database that tests use: a start with --optimized then changes nothing in this folder.
unpack_keycloak() {
  local folder=$1 archive
  type -P mvn >/dev/null || { echo "there is no Maven on this machine" && return 1; }
  has_java || { echo "there is no Java 17 or newer on this machine" && return 1; }
  mvn -q -B "$maven_plugin:copy" -Dartifact="$(locked keycloak 3)" -DoutputDirectory="$folder/download" || return 1
  archive=$(echo "$folder"/download/*.tar.gz)
  [[ $(sha256 "$archive") == "$(locked keycloak 4)" ]] || { echo "the archive's SHA-256 is not the locked one" && return 1; }
  tar -xzf "$archive" -C "$folder" --strip-components 1 &&
    "$folder/bin/kc.sh" build --db=dev-file --health-enabled=true &&
    rm -rf "$folder/download" "$folder/data" &&
    locked keycloak 4 >"$folder/built"
}

# "built" is written last, and says which archive it came from.
is_keycloak() {
  [[ -x $1/bin/kc.sh && $(cat "$1/built" 2>/dev/null) == "$(locked keycloak 4)" ]]
}

has_java() {
  local version
  version=$(java -version 2>&1 | sed -n '1s/.*version "\([0-9]*\).*/\1/p')
  ((${version:-0} >= 17))
}
