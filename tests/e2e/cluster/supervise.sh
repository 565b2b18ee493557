#!/usr/bin/env bash
# For the first process of a machine: LOG is the directory for logs.

supervise() { # NAME COMMAND...: start it again a second after it ended
    local name=$1
    shift
    (
        while :; do
            "$@" >>"$LOG/$name.log" 2>&1
            echo "$name ended with status $?" >>"$LOG/$name.log"
            sleep 1
        done
    ) &
}

reap() { # for ever
    while :; do
        wait
        sleep 1
    done
}
