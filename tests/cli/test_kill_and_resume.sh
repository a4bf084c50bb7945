#!/bin/bash
# Killed with SIGKILL at ten random moments and resumed each time, a run ends in the same bytes as an unbroken one.
. "$(dirname "$0")/harness.sh"

steps=24
smallest_recipe >smallest.yaml
succeeds "phantoms" "$voco" phantom data --count 5 --size 20x18x20 --spacing 9
settings="--recipe smallest.yaml --batch 2 --checkpoint-every 2 --keep 2 --threads 2 --seed 5"
train="--steps $steps $settings"

# shellcheck disable=SC2086
unbroken() { "$voco" pretrain data --out unbroken $train; }
began=$(date +%s%N)
succeeds "the unbroken run" unbroken
took=$((($(date +%s%N) - began) / 1000000))

# What is measured (not how long it took) is the same line by line.
compare_with_unbroken() {
    local file
    for file in unbroken/checkpoint-*.safetensors; do
        cmp "$file" "broken/${file#unbroken/}" || complain "$file differs"
    done
    checked=$((checked + 3))
    [ "$(strip unbroken/metrics.jsonl)" = "$(strip broken/metrics.jsonl)" ] || complain "metrics.jsonl differs"
    [ "$(wc -l <unbroken/metrics.jsonl)" -eq "$steps" ] || complain "metrics.jsonl does not have a line per step"
}

# Each life lasts between nothing and a quarter of the unbroken run. One that ends before its signal (the machine has
# become faster meanwhile) has finished the run: that is compared, and the next life begins a new one.
kills=0
lives=0
RANDOM=${VOCO_KILL_SEED:-4711}
while [ "$kills" -lt 10 ] && [ "$lives" -lt 60 ]; do
    lives=$((lives + 1))
    # shellcheck disable=SC2086
    "$voco" pretrain data --out broken $train --resume >life.out 2>life.err &
    life=$!
    sleep "$(awk -v r=$RANDOM -v t="$took" 'BEGIN { printf "%.3f", r / 32768 * t / 4000 + 0.01 }')"
    kill -KILL $life 2>/dev/null
    wait $life 2>/dev/null
    status=$?
    checked=$((checked + 1))
    if grep -q '^voco: ' life.err; then
        complain "a life ended with an error: $(tail -n 1 life.err)"
    fi
    if [ "$status" -eq 137 ]; then
        kills=$((kills + 1))
    else
        compare_with_unbroken
        rm -rf broken
    fi
done
# shellcheck disable=SC2086
succeeds "the last life" "$voco" pretrain data --out broken $train --resume
echo "$kills kills in $lives lives, an unbroken run takes $took ms"
checked=$((checked + 1))
[ "$kills" -eq 10 ] || complain "only $kills of $lives lives were long enough to be killed"
compare_with_unbroken

# A signal: the step is finished, a checkpoint written, exit status 0; going on gives the same bytes again.
# shellcheck disable=SC2086
succeeds "an unbroken run of few steps" "$voco" pretrain data --out short --steps 8 $settings
for signal in TERM INT USR1; do
    rm -rf signalled
    # shellcheck disable=SC2086
    "$voco" pretrain data --out signalled --steps 8 $settings >life.out 2>life.err &
    life=$!
    while [ ! -s signalled/metrics.jsonl ]; do sleep 0.02; done
    named=$(cat /proc/$life/comm)
    kill -$signal $life
    wait $life
    status=$?
    checked=$((checked + 4))
    [ "$named" = "$(basename "$voco")" ] || complain "ps and top call it $named"
    [ "$status" -eq 0 ] || complain "SIG$signal: exit status $status"
    ls signalled/checkpoint-*.safetensors >/dev/null 2>&1 || complain "SIG$signal: no checkpoint"
    [ ! -e signalled/checkpoint-00000008.safetensors ] || complain "SIG$signal: the run went on to its end"
    succeeds "going on after SIG$signal" "$voco" pretrain --out signalled --resume
    checked=$((checked + 1))
    cmp -s short/checkpoint-00000008.safetensors signalled/checkpoint-00000008.safetensors ||
        complain "SIG$signal: another result"
done
finish
