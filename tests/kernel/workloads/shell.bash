#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# A shell at work: pipelines, subshells within subshells, background jobs, command substitution.

walk() {
    { echo "migrate $1" >&100; read -r -n 1 -u 101 _; } 2>/dev/null
}

declare -A table
for i in {1..300}; do table[k$i]="value $i"; done
walk "warm"

seq 1 40 | while read -r n; do echo $((n * n)); done | sort -rn | head -3

(
    for i in {1..50}; do table[s$i]=$i; done
    (
        for i in {1..50}; do table[t$i]=$i; done
        walk "subshell in a subshell"
    )
    walk "subshell"
)

# Two jobs that stay until they have read a byte each.
exec 20<> <(:)
for job in 1 2; do
    ( for i in {1..30}; do table[j$job$i]=$i; done; read -r -n 1 -u 20 _ ) &
done
sleep 0.3
walk "background jobs"
printf xx >&20
wait

text=$( (echo a; echo b) | tr ab xy | cat )
echo "$text"

nest() {
    if (($1 > 0)); then ( table[f$1]=1; nest $(($1 - 1)) ); else walk "four subshells deep"; fi
}
nest 4
walk "end"
