# Shared by the setup scripts.
say() { printf '\033[1m==>\033[0m %s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }
checksum() { cksum | cut -d' ' -f1; }

venv() { # venv FOLDER
  local python=${PYTHON:-python3}
  command -v "$python" >/dev/null || fail "no $python here. Install Python 3.11 or newer (Debian: apt install python3 python3-venv), or set PYTHON"
  "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' ||
    fail "$("$python" --version) found; 3.11 to 3.13 is needed. Set PYTHON to another interpreter"
  [ -x "$1/bin/pip" ] && return
  "$python" -m venv "$1" || fail "cannot make the virtual environment $1 (Debian: apt install python3-venv)"
}

pip_in() { # pip_in VENV ARGUMENT...
  local folder=$1; shift
  PIP_DISABLE_PIP_VERSION_CHECK=1 "$folder/bin/pip" -q "$@" 2> >(grep -v 'WARNING: Location' >&2)
}

from_lock() { # from_lock VENV LOCK PROJECT: the releases of the lock, each with its hash, then the project itself
  pip_in "$1" install --no-deps --require-hashes -r "$2" ||
    fail "$2 cannot be installed; the message above is pip's. Where a release has gone or changed: make locks"
  pip_in "$1" install --no-deps --no-build-isolation -e "$3" || fail "$3 cannot be installed; the message above is pip's"
}

uv_here() { # sets $uv to a uv of this tree's own, which resolves for other machines than this one
  local release=0.13.9
  uv=.venv-uv/bin/uv
  venv .venv-uv
  pip_in .venv-uv install "uv==$release" || fail "uv $release cannot be installed; the message above is pip's"
}
