#!/bin/bash
# What a run computes does not depend on how its batches come to it, and with equal threads it is the same again.
. "$(dirname "$0")/harness.sh"

smallest_recipe >small.yaml
succeeds "phantoms" "$voco" phantom data --count 4 --size 40x36x40 --spacing 9
succeeds "a cache" "$voco" cache data --out cache
train="cache --steps 3 --batch 2 --seed 3"

# Twice the same, with each number of threads: every byte of the checkpoint, every number of the log.
for threads in 1 3; do
    for run in a b; do
        # shellcheck disable=SC2086
        succeeds "$threads threads" "$voco" pretrain $train --recipe small.yaml --threads $threads \
            --out "$run$threads"
    done
    checked=$((checked + 2))
    cmp "a$threads/checkpoint-00000003.safetensors" "b$threads/checkpoint-00000003.safetensors" ||
        complain "$threads threads: other bytes the second time"
    [ "$(strip a$threads/metrics.jsonl)" = "$(strip b$threads/metrics.jsonl)" ] ||
        complain "$threads threads: other metrics the second time"
done

# Loader threads, batches ahead, chunk cache: only times may change, with 2 threads.
# shellcheck disable=SC2086
succeeds "2 threads" "$voco" pretrain $train --recipe small.yaml --threads 2 --out a2
while read -r loaders ahead chunks; do
    { cat small.yaml; printf 'machine: {loader_threads: %s, loader_ahead: %s, chunk_cache: %s}\n' \
        "$loaders" "$ahead" "$chunks"; } >loader.yaml
    # shellcheck disable=SC2086
    succeeds "$loaders loader threads" "$voco" pretrain $train --recipe loader.yaml --threads 2 \
        --out "loader-$loaders-$ahead-$chunks"
    same_tensors "$loaders loader threads, $ahead ahead, chunk cache $chunks" \
        a2/checkpoint-00000003.safetensors "loader-$loaders-$ahead-$chunks/checkpoint-00000003.safetensors"
    checked=$((checked + 1))
    [ "$(strip a2/metrics.jsonl)" = "$(strip "loader-$loaders-$ahead-$chunks/metrics.jsonl")" ] ||
        complain "$loaders loader threads, $ahead ahead, chunk cache $chunks: other metrics"
done <<'END'
0 1 0
1 1 1M
4 3 0
3 2 64M
END

# How threads wait at barriers: with little spinning, unless the user says how. $1: what is expected in the environment.
waits() {
    local expected=$1
    shift
    rm -rf waiting
    # shellcheck disable=SC2086
    env "$@" "$voco" pretrain $train --recipe small.yaml --threads 2 --steps 200 --out waiting >out 2>err &
    local run=$!
    while [ ! -s waiting/metrics.jsonl ] && kill -0 "$run" 2>/dev/null; do sleep 0.02; done
    checked=$((checked + 1))
    tr '\0' '\n' <"/proc/$run/environ" | grep -E '^(OMP_WAIT_POLICY|GOMP_SPINCOUNT)=' >environment
    [ "$(cat environment)" = "$expected" ] || complain "threads wait with $(cat environment), not $expected"
    kill -TERM "$run" 2>/dev/null
    wait "$run" || complain "a run with $* fails: $(tail -n 1 err)"
}
waits GOMP_SPINCOUNT=1000 -u OMP_WAIT_POLICY -u GOMP_SPINCOUNT
waits OMP_WAIT_POLICY=passive -u GOMP_SPINCOUNT OMP_WAIT_POLICY=passive
waits GOMP_SPINCOUNT=7 -u OMP_WAIT_POLICY GOMP_SPINCOUNT=7
finish
