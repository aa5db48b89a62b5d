# Installs Debian packages that are missing; sourced by the run.sh scripts.
# shellcheck shell=sh
# Works as root and as a user with sudo; elsewhere it says what is needed.

need_packages() {
    missing=""
    if ! command -v dpkg-query >/dev/null; then
        echo "This is no Debian: make sure that you have the likes of: $*"
        return 0
    fi
    for package in "$@"; do
        case $(dpkg-query -W -f='${Status}' "$package" 2>/dev/null) in
        *" installed") ;;
        *) missing="$missing $package" ;;
        esac
    done
    [ -n "$missing" ] || return 0
    as_root=""
    if [ "$(id -u)" != 0 ]; then
        if ! command -v sudo >/dev/null; then
            echo "Missing packages, and neither root nor sudo to install them:$missing" >&2
            return 1
        fi
        as_root=sudo
    fi
    echo "Installing packages:$missing"
    # shellcheck disable=SC2086 # a list of names
    $as_root apt-get -q -o DPkg::Lock::Timeout=300 update >/dev/null &&
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
            -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 install $missing >/dev/null
}
