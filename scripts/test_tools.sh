#!/usr/bin/env bash
# Debian packages that the e2e tests drive: Chromium, and with no argument a Slurm cluster too. Says what is missing
# where it cannot install them.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
packages=(chromium fonts-dejavu-core)
missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null)" = "install ok installed" ] || missing+=("$package")
done
lab=
[ "${1:-}" = chromium ] || lab=$(.venv/bin/python -c 'from tests.kits.slurm_lab.needs import missing_apt; print(*missing_apt())')
[ ${#missing[@]} -eq 0 ] && [ -z "$lab" ] && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  say "not installed: ${missing[*]} $lab. Tests that need them are skipped and say so (Debian: apt install them)"
  exit 0
fi
say "installing ${missing[*]} $lab"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
if [ ${#missing[@]} -gt 0 ]; then apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null; fi
if [ -n "$lab" ]; then .venv/bin/python -m tests.kits.slurm_lab install; fi
