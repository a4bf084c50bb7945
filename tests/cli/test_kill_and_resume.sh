#!/bin/bash
# Killed with SIGKILL at ten random moments and resumed each time, a run ends in the same bytes as an unbroken one.
. "$(dirname "$0")/harness.sh"

steps=${VOCO_KILL_STEPS:-40}
smallest_recipe >smallest.yaml
succeeds "phantoms" "$voco" phantom data --count 5 --size 40x36x40 --spacing 9
train="--recipe smallest.yaml --steps $steps --batch 2 --checkpoint-every 2 --keep 2 --threads 2 --seed 5"

# shellcheck disable=SC2086
unbroken() { "$voco" pretrain data --out unbroken $train; }
began=$(date +%s%N)
succeeds "the unbroken run" unbroken
took=$((($(date +%s%N) - began) / 1000000))

kills=0
RANDOM=${VOCO_KILL_SEED:-4711}
for _ in 1 2 3 4 5 6 7 8 9 10; do
    # Each life lasts between nothing and a quarter of the unbroken run.
    # shellcheck disable=SC2086
    "$voco" pretrain data --out broken $train --resume >life.out 2>life.err &
    life=$!
    sleep "$(awk -v r=$RANDOM -v t="$took" 'BEGIN { printf "%.3f", r / 32768 * t / 4000 + 0.01 }')"
    if kill -KILL $life 2>/dev/null; then
        kills=$((kills + 1))
    fi
    wait $life 2>/dev/null
    checked=$((checked + 1))
    if grep -q '^voco: ' life.err; then
        complain "a life ended with an error: $(tail -n 1 life.err)"
    fi
done
# shellcheck disable=SC2086
succeeds "the last life" "$voco" pretrain data --out broken $train --resume
echo "$kills kills, an unbroken run takes $took ms"
checked=$((checked + 2))
[ "$kills" -ge 8 ] || complain "only $kills of 10 lives were long enough to be killed"
for file in unbroken/checkpoint-*.safetensors; do
    cmp "$file" "broken/${file#unbroken/}" || complain "$file differs"
done
checked=$((checked + 1))
# What is measured (not how long it took) is the same line by line.
strip() { sed -E 's/"(seconds|crops_per_second|[a-z_]*_seconds)": ?[-+0-9.e]+,? ?//g' "$1"; }
[ "$(strip unbroken/metrics.jsonl)" = "$(strip broken/metrics.jsonl)" ] || complain "metrics.jsonl differs"
checked=$((checked + 1))
[ "$(wc -l <unbroken/metrics.jsonl)" -eq "$steps" ] || complain "metrics.jsonl does not have a line per step"

# A signal: the step is finished, a checkpoint written, exit status 0; going on gives the same bytes again.
for signal in TERM INT USR1; do
    rm -rf signalled
    # shellcheck disable=SC2086
    "$voco" pretrain data --out signalled $train >life.out 2>life.err &
    life=$!
    while [ ! -s signalled/metrics.jsonl ]; do sleep 0.02; done
    kill -$signal $life
    wait $life
    status=$?
    checked=$((checked + 2))
    [ "$status" -eq 0 ] || complain "SIG$signal: exit status $status"
    ls signalled/checkpoint-*.safetensors >/dev/null 2>&1 || complain "SIG$signal: no checkpoint"
    succeeds "going on after SIG$signal" "$voco" pretrain --out signalled --resume
    checked=$((checked + 1))
    cmp -s "unbroken/checkpoint-$(printf %08d "$steps").safetensors" \
        "signalled/checkpoint-$(printf %08d "$steps").safetensors" || complain "SIG$signal: another result"
done
finish
