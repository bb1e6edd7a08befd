# shellcheck shell=bash disable=SC2154 # work: a folder of whoever sources this
# Sourced by tests/container, tests/manifests and tests/release: a Docker engine of their own, in $work, which stop_engine ends.
# Needs root.

engine=

start_engine() {
    export DOCKER_HOST=unix://$work/engine.sock
    /usr/sbin/dockerd --data-root "$work/data" --exec-root "$work/exec" --pidfile "$work/engine.pid" \
        -H "$DOCKER_HOST" --bridge=none --iptables=false --ip6tables=false >"$work/engine.log" 2>&1 &
    engine=$!
    for _ in $(seq 150); do docker info >/dev/null 2>&1 && return; sleep 0.2; done
    tail -20 "$work/engine.log"
    return 1
}

stop_engine() {
    [ -n "$engine" ] || return 0
    kill "$engine" 2>/dev/null || true
    wait "$engine" 2>/dev/null || true
    umount -l "$work"/exec/netns/* "$work"/data/*/* 2>/dev/null || true
}
