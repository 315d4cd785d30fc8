#!/usr/bin/env bash
# Build a Bento's image from the Bento's own Dockerfile without a Docker engine, run it as a careful cluster would
# (not root, read-only root, no capabilities) and caption a picture through it. The caption goes to stdout.
#
#   deploy/try-image.sh [TAG] [PICTURE]      default: the latest Bento of the store, demo.jpeg
#
# As root on Debian, with buildah, bubblewrap, debootstrap and curl; `bentoml` from .venv or PATH.
# Where docker.io is out of reach, Debian's own Python 3.11 stands in for python:3.11-slim.
# During the build, and only then, pip and uv see what the host's see: PIP_* and UV_* variables, pip's find-links
# folder and SSL_CERT_FILE.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PWD/.venv/bin:$PATH

tag=${1:-blip2:latest}
picture=${2:-demo.jpeg}
base=docker.io/library/python:3.11-slim
work=$(mktemp --directory)
store=(--root "$work/images" --runroot "$work/run" --storage-driver "${STORAGE_DRIVER:-overlay}")

server=
clean_up() {
    [ -z "$server" ] || { kill "$server" && wait "$server"; } 2>/dev/null || true
    buildah "${store[@]}" umount --all >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap clean_up EXIT

say() { echo "try-image: $*" >&2; }

base_container() { # prints a container that `FROM python:3.11-slim` would begin with
    if buildah "${store[@]}" pull --quiet "$base" >/dev/null 2>&1; then
        buildah "${store[@]}" from "$base"
        return
    fi
    say "$base cannot be pulled: making it from Debian's packages"
    debootstrap --variant=minbase --include=ca-certificates,python3-pip,python3-venv bookworm "$work/debian" >&2
    rm "$work"/debian/usr/lib/python3*/EXTERNALLY-MANAGED # nothing but the Dockerfile manages it
    ln -s python3 "$work/debian/usr/bin/python"
    local container
    container=$(buildah "${store[@]}" from scratch)
    buildah "${store[@]}" add --quiet "$container" "$work/debian" / >/dev/null
    rm -rf "$work/debian"
    echo "$container"
}

environment=() mounts=() forgotten=()
pass_in() { # NAME VALUE [SOURCE]: set NAME during the build; where SOURCE (default: VALUE) is a path, mount it there
    environment+=(--env "$1=$2")
    forgotten+=(--unsetenv "$1")
    local source=${3:-$2}
    [ ! -e "$source" ] || mounts+=(--volume "$source:$2:ro")
}

pass_host_settings_in() {
    local name links
    for name in $(compgen -e | grep -E '^(PIP|UV)_' | grep -vE '_CERT$|_FIND_LINKS$'); do
        pass_in "$name" "${!name}"
    done
    links=${PIP_FIND_LINKS:-$(python -m pip config get global.find-links 2>/dev/null || true)}
    [ -z "$links" ] || { pass_in PIP_FIND_LINKS "$links" && pass_in UV_FIND_LINKS "$links"; }
    [ -n "${SSL_CERT_FILE:-}" ] || return 0
    for name in SSL_CERT_FILE PIP_CERT; do # not in its own place: apt renews that file
        pass_in "$name" /run/host-certificates.crt "$SSL_CERT_FILE"
    done
}

build() {
    local bento container
    bento=$(bentoml get "$tag" --output path | tr --delete '\n') # it wraps long lines
    pass_host_settings_in
    container=$(base_container)
    buildah "${store[@]}" config "${environment[@]}" "$container"
    buildah "${store[@]}" commit --quiet --rm "$container" "$base" >/dev/null
    say "building the image of $bento"
    buildah "${store[@]}" bud --isolation chroot --pull-never "${mounts[@]}" "${forgotten[@]}" \
        --tag blip2-try --file "$bento/env/docker/Dockerfile" "$bento" >&2
}

image_config() { buildah "${store[@]}" inspect --type image --format "{{$1}}" blip2-try; }

unpack() { # mounts the image and reads how it wants to be run
    local container
    container=$(buildah "${store[@]}" from --pull-never blip2-try)
    root=$(buildah "${store[@]}" mount "$container")
    cp /etc/hosts /etc/resolv.conf "$root/etc/" # as every container engine does
    user=$(image_config .OCIv1.Config.User)
    directory=$(image_config .OCIv1.Config.WorkingDir)
    entrypoint=$(image_config 'index .OCIv1.Config.Entrypoint 0')
    mapfile -t variables < <(image_config 'range .OCIv1.Config.Env}}{{println .}}{{end' | grep .)
}

# Nothing but /tmp is writable: BentoML keeps its metrics files in BENTOML_HOME, Python its temporary files in /tmp.
in_image() { # COMMAND...
    bwrap --ro-bind "$root" / --dev /dev --proc /proc --perms 1777 --tmpfs /tmp --chdir "$directory" \
        --unshare-pid --unshare-ipc --unshare-uts --die-with-parent \
        setpriv --reuid "$user" --regid "$user" --init-groups --no-new-privs --bounding-set=-all \
        env --ignore-environment "${variables[@]}" "HOME=/home/$user" BENTOML_HOME=/tmp/bentoml BLIP2_MODEL=demo "$@"
}

wait_until_ready() { # PORT
    for _ in $(seq 240); do
        curl --silent --fail --output /dev/null "http://localhost:$1/readyz" && return
        kill -0 "$server" 2>/dev/null || break
        sleep 0.5
    done
    cat "$work/log" >&2
    say "the server does not answer"
    return 1
}

free_port() { python -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])'; }

build
unpack
say "$(du --summarize --human-readable --one-file-system "$root" | cut --fields 1) on disk; runs as $(in_image id)"
! in_image touch probe 2>/dev/null || { say "the root is not read-only" && exit 1; }
port=$(free_port)
in_image "$entrypoint" serve --port "$port" >"$work/log" 2>&1 &
server=$!
wait_until_ready "$port"
curl --silent --show-error --fail-with-body --form "img=@$picture" "http://localhost:$port/generate"
echo
