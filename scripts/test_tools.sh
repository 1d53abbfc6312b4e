#!/usr/bin/env bash
# Debian packages that the e2e tests drive. Says what is missing where it cannot install them.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
packages=(chromium chromium-driver fonts-dejavu-core)
missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null)" = "install ok installed" ] || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  say "not installed: ${missing[*]}. Tests that need them are skipped and say so (Debian: apt install ${missing[*]})"
  exit 0
fi
say "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
