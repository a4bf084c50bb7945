#!/bin/bash
# A program that meets a GPU, which the host plays (machine_with_device.c): a run there, whose steps are settled one
# step later than they are asked for, says and leaves what the same run does on the processor.
. "$(dirname "$0")/../cli/harness.sh"

smallest_recipe >smallest.yaml
cat >>smallest.yaml <<'YAML'
machine:
  crops_at_once: 2
YAML
succeeds "phantoms" "$voco" phantom data --count 5 --size 20x18x20 --spacing 9
settings="--recipe smallest.yaml --batch 2 --threads 1 --seed 5 --checkpoint-every 4 --keep 3 --cache cache"

# train WHERE RUN OPTIONS...
train() {
    local where=$1 run=$2
    shift 2
    # shellcheck disable=SC2086
    "$voco" pretrain data --out "$run" --device "$where" $settings "$@"
}

# same_metrics WHAT RUN OTHER LINES: all of the first run's, as many of the other's, one at least.
same_metrics() {
    checked=$((checked + 1))
    local own
    own=$(strip "$2/metrics.jsonl")
    [ -n "$own" ] && [ "$own" = "$(strip "$3/metrics.jsonl" | head -n "$4")" ] || complain "$1: other metrics"
}

succeeds "a run on the processor" train cpu cpu --steps 11
succeeds "a run on the device" train cuda device --steps 11
for step in 4 8 11; do
    checkpoint=$(printf 'checkpoint-%08d.safetensors' $step)
    same_tensors "step $step" "cpu/$checkpoint" "device/$checkpoint"
done
same_metrics "a run on the device" device cpu 11

# A signal: what was asked for is settled and kept, and going on ends in the same bytes.
# shellcheck disable=SC2086
"$voco" pretrain data --out signalled --device cuda $settings --steps 11 >out 2>err &
life=$!
while [ ! -s signalled/metrics.jsonl ]; do sleep 0.02; done
kill -TERM $life
wait $life || complain "SIGTERM: exit status $?"
last=$(find signalled -name 'checkpoint-*' | sort | tail -n 1 | tr -dc 0-9 | sed 's/^0*//')
same_metrics "after SIGTERM" signalled cpu "$last"
succeeds "going on after SIGTERM" "$voco" pretrain --out signalled --resume
same_tensors "going on after SIGTERM" cpu/checkpoint-00000011.safetensors signalled/checkpoint-00000011.safetensors
same_metrics "going on after SIGTERM" signalled cpu 11

# Steps that make no update: their loss is not finite, of a layer whose weights are as large as floats can be.
checkpoint=cpu/checkpoint-00000004.safetensors
header=$(od -An -tu8 -N8 "$checkpoint" | tr -d ' ')
offsets=$(head -c "$((header + 8))" "$checkpoint" |
    grep -ao '"student.layer3.0.weight":{[^}]*}' | sed 's/.*"data_offsets":\[\([0-9]*,[0-9]*\)\].*/\1/')
begin=${offsets%,*}
end=${offsets#*,}
{
    head -c "$((header + 8 + begin))" "$checkpoint"
    head -c "$((end - begin))" /dev/zero | tr '\0' '\177'
    tail -c "+$((header + 9 + end))" "$checkpoint"
} >huge.safetensors
printf 'run:\n  max_skipped: 3\n' >>smallest.yaml
for where in cpu cuda; do
    refuses "huge weights ($where)" 1 'stopped at step 3: 3 steps in a row' train $where "huge-$where" --steps 11 \
        --init huge.safetensors
done
same_metrics "huge weights" huge-cuda huge-cpu 3
says "huge weights" huge-cuda/metrics.jsonl '"skipped": ?1'
finish
