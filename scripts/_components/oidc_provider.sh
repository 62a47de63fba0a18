# Sourced by scripts/components: the stand-in for Keycloak, from npm.

oidc-provider.origin() { echo "npm package"; }
oidc-provider.version() { locked oidc-provider 2; }
oidc-provider.place() { folder_of oidc-provider; }
oidc-provider.hint() { echo "scripts/components oidc-provider, with npm"; }
oidc-provider.there() { is_oidc_provider "$(folder_of oidc-provider)"; }
oidc-provider.get() { whole oidc-provider install_oidc_provider; }

oidc-provider.obtainable() {
  type -P npm >/dev/null && answers npm view "oidc-provider@$(locked oidc-provider 2)" version
}

install_oidc_provider() {
  local folder=$1 lock
  type -P npm >/dev/null || { echo "there is no npm on this machine" && return 1; }
  lock=$root/$(locked oidc-provider 3)
  cp "$lock" "${lock%-lock.json}.json" "$folder" && cd "$folder" &&
    npm ci --ignore-scripts --no-audit --no-fund || return 1
  is_oidc_provider "$folder" || { echo "npm has installed another version" && return 1; }
}

is_oidc_provider() {
  local package=$1/node_modules/oidc-provider/package.json
  type -P node >/dev/null && grep -qF "\"version\": \"$(locked oidc-provider 2)\"" "$package" 2>/dev/null
}
