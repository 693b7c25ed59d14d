# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# What the workloads share. One sources this file, defines the functions prepare and run, and ends
# with `workload "$@"`. Both functions start in the workload's directory, with their output in a log
# that nobody sees unless they fail. README.md has the contract.

set -Eeuo pipefail

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 TZ=UTC
self=$(realpath "$0")
name=$(basename "${self%.*}")
# shellcheck disable=SC2034
programs=$(dirname "$self")/programs
as=()
server=
servers=()
failed=

# die REASON...: end the workload with a reason instead of the command that failed.
die() {
    failed=$*
    [[ -n $(trap -p EXIT) ]] || echo "$name: $failed" >&2
    exit 1
}

# need COMMAND...: what a workload cannot do without, from the packages that its header names.
need() {
    local command
    for command; do
        command -v "$command" >/dev/null ||
            die "there is no $command; apt-get install $(sed -n 's/^# packages: //p' "$self")"
    done
}

# serve COMMAND...: start a server in the background, as $server, which is stopped if a step fails.
serve() {
    "$@" &
    server=$!
    servers+=("$server")
}

# stop PID [SIGNAL]: end a server by TERM, or as it likes best, and wait. It has to exit with 0.
stop() {
    kill -s "${2:-TERM}" "$1"
    wait "$1"
}

# until_ready COMMAND...: wait until it succeeds.
until_ready() {
    local tries
    for ((tries = 0; tries < 200; tries++)); do
        if "$@"; then return; fi
        kill -0 "${servers[@]}" 2>/dev/null || die "a server ended before it was ready"
        sleep 0.1
    done
    die "not ready after 20 s: $*"
}

# accepts PORT: somebody listens on this port of 127.0.0.1.
accepts() {
    (exec 4<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# free_port: set $port to one of 127.0.0.1 on which nobody listens, below those of outgoing connections.
free_port() {
    for ((port = 20000 + RANDOM % 10000; ; port++)); do
        accepts "$port" || break
    done
}

# fetch N PATH [OPTION...]: N requests to $port by ab, all of which have to succeed.
fetch() {
    local report
    report=$(ab -q -n "$1" "${@:3}" "http://127.0.0.1:$port/$2")
    if [[ ! $report =~ 'Complete requests:'\ +$1$'\n' || ! $report =~ 'Failed requests:'\ +0$'\n' ||
        $report == *Non-2xx* ]]; then
        die "not all of $1 requests for $2 succeeded: $report"
    fi
}

# user USER: from now on "${as[@]}" before a command runs it as this user, without a process more.
user() {
    as=(setpriv --reuid "$1" --regid "$1" --clear-groups --)
}

# own PATH...: make directories for that user, who has to be able to reach them.
own() {
    install -d "$@"
    chown "${as[2]}:${as[2]}" "$@"
    "${as[@]}" test -w "$1" || die "a directory above $PWD is closed to ${as[2]}"
}

finish_() {
    local status=$?
    trap - EXIT ERR TERM INT HUP
    if ((${#servers[@]})); then
        kill -TERM "${servers[@]}" 2>/dev/null || :
        wait || :
    fi
    if ((status)); then
        echo "$name: ${failed:-exit $status}" >&3
        tail -n 20 log | sed "s/^/  /" >&3
    fi
    exit "$status"
}

# What takes too long is ended with all that is in its process group.
within_() {
    if [[ -z ${WORKLOAD_LIMIT:-} ]]; then
        WORKLOAD_LIMIT=$1 exec timeout --kill-after=10 "$1" "$self" "${@:2}"
    fi
    unset WORKLOAD_LIMIT
    limit_s=$1
    trap 'die "stopped by a signal, or not done within $limit_s s"' TERM INT HUP
    step_ "${@:2}"
}

step_() {
    cd "$2"
    chmod go+x .
    export HOME=$PWD TMPDIR=$PWD
    unset XDG_RUNTIME_DIR XDG_CONFIG_HOME XDG_CACHE_HOME DISPLAY DBUS_SESSION_BUS_ADDRESS
    exec 3>&2 >>log 2>&1 </dev/null
    trap finish_ EXIT
    trap 'failed="line $LINENO: $BASH_COMMAND"' ERR
    "$1"
}

# A step is in a process group of its own, so a signal to this script has to be passed on to it.
alone_() {
    local dir child=
    dir=$(mktemp -d -t "rmapreplay-$name.XXXXXX")
    # shellcheck disable=SC2064
    trap "rm -rf '$dir'" EXIT
    trap '[[ -z $child ]] || kill -TERM "$child"; wait; exit 143' TERM INT HUP
    local step
    for step in prepare run; do
        "$self" "$step" "$dir" &
        child=$!
        wait "$child" || exit
    done
}

# workload "$@": the three forms of the command line.
workload() {
    case "$#:${1:-}" in
        0:) alone_ ;;
        2:prepare) within_ 300 "$@" ;;
        2:run) within_ 60 "$@" ;;
        *)
            echo "usage: $0 [prepare DIR | run DIR]" >&2
            exit 2
            ;;
    esac
}
