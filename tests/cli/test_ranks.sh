#!/bin/bash
# Several processes share a run: the same curve whatever their number, one voice, one outcome, and a dead one ends all.
. "$(dirname "$0")/harness.sh"

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1 ASAN_OPTIONS=detect_leaks=0
if ! command -v mpirun >/dev/null; then
    echo "no mpirun here"
    exit 77
fi
if mpirun --oversubscribe -n 2 "$voco" pretrain nothing --out nowhere 2>&1 | grep -q 'built without MPI'; then
    echo "built without MPI"
    exit 77
fi

steps=${VOCO_RANK_STEPS:-6}
kills=${VOCO_RANK_KILLS:-2}
{
    smallest_recipe
    printf 'optimiser:\n  warm_up: 20\nmachine:\n  crops_at_once: 1\n'
} >smallest.yaml
train="--recipe smallest.yaml --steps $steps --seed 5 --cache cache --checkpoint-every 2 --keep 3"
succeeds "phantoms" "$voco" phantom data --count 6 --size 40x36x40 --spacing 9

# ranks N RUN OPTIONS...: trains with N processes.
ranks() {
    local n=$1 out=$2
    shift 2
    # shellcheck disable=SC2086
    mpirun --oversubscribe -n "$n" "$voco" pretrain data --out "$out" $train "$@"
}

# rank_of JOB NUMBER: the process of one rank of a job that runs in the background.
rank_of() { pgrep -P "$(pgrep -P "$1" mpirun || echo "$1")" voco | sed -n "$2p"; }

# refuse_together WHAT STATUS WORDS COMMAND...: as refuses, but mpirun has its own to say behind our one line.
refuse_together() {
    local what=$1 status=$2 words=$3 got
    shift 3
    checked=$((checked + 1))
    "$@" >out 2>err
    got=$?
    [ "$got" -eq "$status" ] || complain "$what: exit status $got, not $status"
    [ "$(grep -c '^voco: ' err)" -eq 1 ] || complain "$what: $(grep -c '^voco: ' err) error lines, not 1"
    grep '^voco: ' err | grep -Eq -- "$words" || complain "$what: the line does not say /$words/: $(grep '^voco: ' err)"
}

# close_curves WHAT RUN RUN: the losses of both runs' first steps within 1e-6, of all within 1e-2.
close_curves() {
    checked=$((checked + 1))
    paste <(grep -o '"loss": [^,]*' "$2/metrics.jsonl") <(grep -o '"loss": [^,]*' "$3/metrics.jsonl") |
        awk -v steps="$steps" '{ d = $2 - $4; d = d < 0 ? -d : d; if (d > (NR == 1 ? 1e-6 : 1e-2)) bad = NR " by " d }
            END { if (NR != steps) bad = "the number of lines, " NR; if (bad != "") { print "differs in step", bad; exit 1 } }' ||
        complain "$1: the losses of $2 and $3 differ"
}

one_process() {
    # shellcheck disable=SC2086
    "$voco" pretrain data --out one $train --batch 4 --sync-bn
}
succeeds "one process" one_process
succeeds "2 processes" ranks 2 two --batch 4 --sync-bn
[ "$(grep -c 'steps done' out)" -eq 1 ] || complain "not one process alone told the result"
close_curves "2 processes" one two
checked=$((checked + 1))
grep -q '2 processes: waiting for each other took .* %' err || complain "the share of time in communication is not told"
export VOCO_NODES=0,1,0,1
succeeds "4 processes, moments in parts, as on two machines" ranks 4 four --batch 4 --sync-bn --shard-optimizer
close_curves "4 processes" one four
checked=$((checked + 2))
grep -q '4 processes on 2 machines' err || complain "the number of machines is not told"
ranks 2 other --batch 4 >out 2>err && complain "machines for 4 ranks were taken for 2"
grep -q 'VOCO_NODES=0,1,0,1: it takes a number for each of the 2' err || complain "VOCO_NODES is not named: $(cat err)"
unset VOCO_NODES

# Parts of unequal size, and another number of processes after a signal to one of them.
stop_one() {
    local out=$1 signal=$2 number=$3 job victim
    shift 3
    ranks "$@" >job.out 2>job.err &
    job=$!
    for _ in $(seq 600); do
        [ "$(wc -l <"$out/metrics.jsonl" 2>/dev/null || echo 0)" -ge 3 ] && break
        sleep 0.1
    done
    victim=$(rank_of $job "$number")
    kill -"$signal" "$victim"
    wait $job
}
succeeds "a signal to one of 3" stop_one moved USR1 2 3 moved --batch 4 --sync-bn
checked=$((checked + 1))
grep -q 'to go on: voco pretrain --out moved --resume' job.err || complain "3 processes did not stop in order"
ls moved/checkpoint-*.safetensors >/dev/null || complain "no checkpoint after the signal"
succeeds "going on with 2 of them" ranks 2 moved --batch 4 --resume
close_curves "3 processes, then 2" one moved

# One that is killed ends the job, and the run goes on exactly.
succeeds "2 processes, each its own statistics" ranks 2 unbroken --batch 2 --shard-optimizer
RANDOM=${VOCO_KILL_SEED:-815}
for kill in $(seq "$kills"); do
    checked=$((checked + 3))
    ranks 2 broken --batch 2 --shard-optimizer --resume >job.out 2>job.err &
    job=$!
    sleep "$(awk -v r=$RANDOM 'BEGIN { printf "%.2f", 0.6 + r / 32768 * 2.5 }')"
    number=$((RANDOM % 2))
    victim=$(rank_of $job $((number + 1)))
    began=$(date +%s)
    [ -n "$victim" ] && kill -KILL "$victim"
    wait $job
    status=$?
    [ $(($(date +%s) - began)) -lt 30 ] || complain "kill $kill: the job went on for 30 s or more"
    [ -z "$victim" ] || [ $status -ne 0 ] || [ -s job.out ] || complain "kill $kill: exit status 0 of an unfinished run"
    [ $status -eq 0 ] || grep -q 'rank [01]' job.err || complain "kill $kill: no line names the rank"
done
succeeds "the last life" ranks 2 broken --batch 2 --shard-optimizer --resume
checked=$((checked + 1))
cmp -s "unbroken/$(printf 'checkpoint-%08d.safetensors' "$steps")" "broken/$(printf 'checkpoint-%08d.safetensors' "$steps")" ||
    complain "killed and resumed, the run ends in other bytes"

# What goes wrong on one, or on all, is said once.
refuse_together "a batch that cannot be shared" 1 'shared by 3 processes.*--batch' ranks 3 other --batch 2
refuse_together "unequal parts" 1 'shared equally by 2 processes.*--sync-bn' ranks 2 other --batch 3
refuse_together "a bad option" 2 'bathc.*did you mean' ranks 2 other --bathc 3
for file in $(find cache -path '*/0/c/*' -type f); do
    head -c 100 "$file" >cut && cat cut >"$file"
done
of_cache() { mpirun --oversubscribe -n 2 "$voco" pretrain cache --out damaged --recipe smallest.yaml --batch 2; }
refuse_together "damaged volumes" 1 'rank 0: .*ome.zarr.*; rank 1: .*ome.zarr' of_cache

finish
