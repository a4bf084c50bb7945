#!/bin/bash
# --memory is kept to, changes no bit of the result, and says what the least is where it is too little.
. "$(dirname "$0")/harness.sh"

if grep -qa __asan_init "$voco"; then
    echo "under AddressSanitizer freed memory stays"
    exit 77
fi
smallest_recipe >small.yaml
succeeds "phantoms" "$voco" phantom data --count 4 --size 40x36x40 --spacing 9
succeeds "a cache" "$voco" cache data --out cache
train="cache --recipe small.yaml --steps 2 --batch 4 --threads 2 --seed 3"

# What the program says that it took: the kernel's VmHWM, in MiB (rounded to one digit).
peak() { sed -n 's/.*peak memory \([0-9.]*\) MiB.*/\1/p' "$1"; }

# within WHAT SIZE RUN: a run that ends well, below SIZE MiB.
within() {
    local what=$1 size=$2 run=$3 took
    shift 3
    # shellcheck disable=SC2086
    succeeds "$what" "$voco" pretrain $train --memory "${size}M" --out "$run" "$@"
    cp err "$run.err"
    took=$(peak "$run.err")
    checked=$((checked + 1))
    echo "$what: $(grep '^memory:' "$run.err"); took $took MiB"
    [ -n "$took" ] && awk -v t="$took" -v s="$size" 'BEGIN { exit !(t <= s) }' ||
        complain "$what: took $took MiB of $size"
}

# shellcheck disable=SC2086
succeeds "a run without bounds" "$voco" pretrain $train --out unbounded
grep -q 'all 12 kept' err || complain "a run without bounds computes something twice"

# shellcheck disable=SC2086
refuses "too little memory" 1 'the least for this run is [0-9]+M' "$voco" pretrain $train --memory 48M --out refused
least=$(sed -n 's/.*the least for this run is \([0-9]*\)M.*/\1/p' err)
# shellcheck disable=SC2086
refuses "no memory for parameters" 1 'parameters, moments and gradient .* the least is about [0-9]+M' \
    "$voco" pretrain $train --memory 20M --out refused
# shellcheck disable=SC2086
refuses "memory that is no size" 2 '512M' "$voco" pretrain $train --memory much --out refused

within "the least" "$least" least
grep -q 'only 1 of 2 crops fit' least.err || complain "fewer crops at once are not said"
grep -q '"crops_at_once": 1,' least/run.json || complain "a run does not remember its crops at once"
within "some kept" $((least + 40)) some
grep -q ' of 12 kept, the rest computed twice' some.err || complain "nothing is computed twice: $(cat some.err)"
grep -q '2 crops at a time' some.err || complain "other crops at a time than without bounds"
last=checkpoint-00000002.safetensors
same_tensors "memory" "unbounded/$last" "some/$last"

# Volumes are prepared within the same bounds.
train="data --recipe small.yaml --steps 2 --batch 4 --threads 2 --seed 3"
within "from files" $((least + 60)) files
train="cache --recipe small.yaml --steps 2 --batch 4 --threads 2 --seed 3"

# With one crop at a time from the beginning: the bits of the run that was forced to it.
sed '$a machine:\n  crops_at_once: 1' small.yaml >one.yaml
# shellcheck disable=SC2086
succeeds "one crop at a time" "$voco" pretrain $train --recipe one.yaml --out one
same_tensors "one crop at a time" "one/$last" "least/$last"

# A run goes on with the memory that it was begun with, unless another is named.
succeeds "going on" "$voco" pretrain --out some --resume --steps 3 --threads 2
grep -q "^memory: $((least + 40))" err || complain "the memory is forgotten: $(grep '^memory' err)"

# Replay: the same bits, whatever is kept.
succeeds "a batch" "$voco" pretrain --out some --resume --dump-batch 3
for size in 100000 $((least + 20)); do
    succeeds "replay with $size M" "$voco" replay some/batch-00000003.safetensors --checkpoint \
        some/checkpoint-00000003.safetensors --out "replay-$size.safetensors" --threads 2 --memory "${size}M"
    cp err "replay-$size.err"
done
checked=$((checked + 3))
grep -q 'all 12 kept' replay-100000.err || complain "a replay without bounds computes something twice"
grep -q 'computed twice' "replay-$((least + 20)).err" || complain "a replay keeps more than it may"
cmp -s replay-100000.safetensors "replay-$((least + 20)).safetensors" || complain "replay: other bits"

# Evaluation: the same result, and what does not fit is refused.
succeeds "evaluation" "$voco" eval some cache --all --threads 2
cp out eval.out
refuses "an evaluation without memory" 1 'the least for this evaluation is [0-9]+M' \
    "$voco" eval some cache --all --threads 2 --memory 30M
least=$(sed -n 's/.*the least for this evaluation is \([0-9]*\)M.*/\1/p' err)
succeeds "evaluation with the least" "$voco" eval some cache --all --threads 2 --memory "$((least + 20))M"
checked=$((checked + 1))
cmp -s out eval.out || complain "evaluation: another result"
finish
