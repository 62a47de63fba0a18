# Sourced by scripts/components: the servers that are Debian's packages. They are used where they are installed.

redis.origin() { echo "Debian package"; }
redis.version() { redis-server --version | sed -n 's/.* v=\([^ ]*\).*/\1/p'; }
redis.place() { type -P redis-server; }
redis.hint() { apt_hint redis-server; }
redis.there() { type -P redis-server >/dev/null; }
redis.get() { apt_install redis-server; }
redis.obtainable() { can_install; }

prometheus.origin() { echo "Debian package"; }
prometheus.version() { prometheus_version prometheus; }
prometheus.place() { type -P prometheus; }
prometheus.hint() { apt_hint prometheus; }
prometheus.there() { type -P prometheus >/dev/null && type -P promtool >/dev/null; }
prometheus.get() { apt_install prometheus; }
prometheus.obtainable() { can_install; }

alertmanager.origin() { echo "Debian package"; }
alertmanager.version() { prometheus_version prometheus-alertmanager; }
alertmanager.place() { type -P prometheus-alertmanager; }
alertmanager.hint() { apt_hint prometheus-alertmanager; }
alertmanager.there() { type -P prometheus-alertmanager >/dev/null; }
alertmanager.get() { apt_install prometheus-alertmanager; }
alertmanager.obtainable() { can_install; }

prometheus_version() {
  "$1" --version 2>&1 | sed -n '1s/.*version \([^ +]*\).*/\1/p'
}

apt_hint() {
  echo "apt-get install $1"
}

apt_install() {
  can_install || { echo "only root can install $1, with apt-get" >&2 && return 1; }
  apt_update
  echo "$1: installing" >&2
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" </dev/null >&2
}

# Once is enough for all of them.
apt_update() {
  [[ -z ${apt_is_fresh:-} ]] || return 0
  apt-get update -qq </dev/null >&2
  apt_is_fresh=yes
}

can_install() {
  ((EUID == 0)) && type -P apt-get >/dev/null
}
