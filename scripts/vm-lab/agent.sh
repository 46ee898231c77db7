#!/usr/bin/env bash
# Runs in the emulated machine (scripts/vm-lab.sh): does the commands that come
# by the second serial line, one a line, "NUMBER COMMAND". What each prints is
# in /run/lab/NUMBER.out, and "NUMBER EXIT-CODE" goes back.
stty -F /dev/ttyS1 raw -echo
exec <>/dev/ttyS1 >&0
echo "ready"
while read -r number command; do
    bash -c "$command" </dev/null >"/run/lab/$number.out" 2>&1
    echo "$number $?"
done
