#!/bin/bash
# voco cache as a user meets it: a list that grows, a bad volume, the report, the forecast, slips of the hand.
. "$(dirname "$0")/harness.sh"

counts() { # counts WHAT N PATTERN: so many files
    checked=$((checked + 1))
    set -- "$1" "$2" $(compgen -G "$3" | wc -l)
    [ "$2" -eq "$3" ] || complain "$1: $3 files, not $2"
}

succeeds "phantoms" "$voco" phantom data --count 5 --size 20x18x20 --spacing 9
ls data/imagesTr/*.nii.gz >all.txt
head -n 3 all.txt >some.txt
settings="--preset abdomen --roi 48 --jobs 2"

# The forecast touches nothing.
# shellcheck disable=SC2086
{
    succeeds "a forecast" "$voco" cache all.txt --out cache $settings --dry-run --sample 3
    says "a forecast" out 'cache of 5 volumes will take about .*B .*judging by 3'
    absent "a forecast" cache
    succeeds "a forecast for scripts" "$voco" cache all.txt --out cache $settings --dry-run --json
    says "a forecast for scripts" out '"cache_bytes": [1-9]'
    predicted=$(sed -n 's/^  "cache_bytes": \([0-9]*\),/\1/p' out)

    succeeds "the first volumes" "$voco" cache some.txt --out cache $settings
    says "the first volumes" out '^all +3 +3 +3 +0 +0 '
    succeeds "a list that has grown" "$voco" cache all.txt --out cache $settings
    says "a list that has grown" out '^all +5 +5 +2 +3 +0 '
    counts "a list that has grown" 5 'cache/*.ome.zarr'
    succeeds "once more" "$voco" cache all.txt --out cache $settings --json
    says "once more" out '"reused": 5'
    checked=$((checked + 1))
    took=$(sed -n 's/^    "cache_bytes": \([0-9]*\),/\1/p' out)
    [ $((10 * (predicted > took ? predicted - took : took - predicted))) -le $((2 * took)) ] ||
        complain "the forecast said $predicted bytes, the cache has $took"
    cmp -s out cache/report.json || complain "report.json is not what --json printed"

    # A bad volume: skipped with its cause, not an error, and remembered.
    head -c 3000 data/imagesTr/phantom_0002.nii.gz >bad.nii.gz
    (cat all.txt && echo bad.nii.gz) >mixed.txt
    succeeds "a bad volume among good ones" "$voco" cache mixed.txt --out cache $settings
    says "a bad volume among good ones" err 'skipped 1 of 6 volumes'
    says "a bad volume among good ones" cache/report.txt 'bad.nii.gz: .*gzip'
    says "a bad volume among good ones" cache/report.json '"cause": .*bad.nii.gz: .*gzip'
    succeeds "the bad volume again" "$voco" cache mixed.txt --out cache $settings --json
    says "the bad volume again" out '"remembered": true'
    succeeds "the bad volume tried again" "$voco" cache mixed.txt --out cache $settings --json --retry
    says "the bad volume tried again" out '"remembered": false'
    refuses "nothing but a bad volume" 1 'bad.nii.gz: .*gzip' "$voco" cache bad.nii.gz --out cache $settings

    # The same volume twice, and other bits beside.
    cat some.txt some.txt >twice.txt
    succeeds "volumes that are listed twice" "$voco" cache twice.txt --out twice $settings
    says "volumes that are listed twice" out '^all +6 +6 +3 '
    says "volumes that are listed twice" out '^3 .*listed more than once'
    counts "volumes that are listed twice" 3 'twice/*.ome.zarr'
    succeeds "other bits" "$voco" cache twice.txt --out twice $settings --bits 12
    counts "other bits" 6 'twice/*.ome.zarr'

    # Damage is found where it is looked for.
    shard=$(compgen -G 'cache/phantom_0001*/0/c/0/0/0')
    printf 'x' | dd of="$shard" bs=1 seek=100 conv=notrunc status=none
    succeeds "verified" "$voco" cache all.txt --out cache $settings --verify
    says "verified" out '^all +5 +5 +1 +4 '

    # What a cache is for.
    smallest_recipe >smallest.yaml
    succeeds "a cache for a recipe" "$voco" cache all.txt --out ready --recipe smallest.yaml
    succeeds "training on it" "$voco" pretrain all.txt --out run --cache ready --recipe smallest.yaml --steps 2 --batch 1
    counts "training on it" 5 'ready/*.ome.zarr'

    # A corpus whose data sets have presets of their own, one of which is not there.
    cat >corpus.yaml <<YAML
sets:
  - {name: first, root: ., list: some.txt, preset: abdomen}
  - {name: second, root: data, preset: chest}
  - {name: absent, root: nowhere, preset: chest}
YAML
    if "$voco" cache corpus.yaml --out sets $settings >out 2>err; then
        says "a corpus" out '^first +3 +3 '
        says "a corpus" out '^second +5 +5 '
        says "a corpus" out 'absent: .*nowhere'
    else
        complain "a corpus: $(tail -n 1 err)"
    fi
    checked=$((checked + 1))
    succeeds "a forecast of a corpus" "$voco" cache corpus.yaml --out sets2 $settings --dry-run --sample 1
    says "a forecast of a corpus" out '^first +3 +1 '
    says "a forecast of a corpus" out '^second +5 +1 '

    # A full disk.
    (ulimit -f 8 && exec "$voco" cache all.txt --out full $settings) >out 2>err
    status=$?
    checked=$((checked + 1))
    [ "$status" -eq 1 ] || complain "a full disk: exit status $status, not 1"
    says "a full disk" err '^voco: cache: full/.*(large|space)'
    checked=$((checked + 1))
    [ "$(grep -c '^voco: ' err)" -eq 1 ] || complain "a full disk: more than one line"
    counts "a full disk" 0 'full/*.ome.zarr'
    counts "a full disk" 0 'full/.*.tmp'
}

# Signals: the volumes under way are finished, the rest is left, and the next run does it. (Before one is ready, the exit status
# is that of a failure.)
for signal in INT TERM USR1; do
    rm -rf signalled
    "$voco" cache all.txt --out signalled --roi 48 --jobs 1 >out 2>err &
    life=$!
    until compgen -G 'signalled/*.ome.zarr' >/dev/null || ! kill -0 $life 2>/dev/null; do sleep 0.01; done
    kill -$signal $life 2>/dev/null
    wait $life
    status=$?
    checked=$((checked + 1))
    [ "$status" -eq 0 ] || complain "SIG$signal: exit status $status: $(tail -n 1 err)"
    counts "SIG$signal" 0 'signalled/.*.tmp'
    counts "SIG$signal" 0 'signalled/.*.claim'
done
succeeds "going on after a signal" "$voco" cache all.txt --out signalled --roi 48 --jobs 2
counts "going on after a signal" 5 'signalled/*.ome.zarr'

# What a run holds out, and that an evaluation measures on all, is no matter of the list: the cache keeps what that said.
smallest_recipe >smallest.yaml
succeeds "phantoms with a list of their own" "$voco" phantom listed --count 5 --size 20x18x22 --spacing 9
succeeds "their cache" "$voco" cache listed --out shared --recipe smallest.yaml
succeeds "a run on that cache" "$voco" pretrain listed --out trained --cache shared --recipe smallest.yaml --steps 1 --batch 1
succeeds "an evaluation on all of it" "$voco" eval trained listed --cache shared --all
succeeds "what the cache says afterwards" "$voco" info shared --json
says "what the cache says afterwards" out '"training": 4'
says "what the cache says afterwards" out '"validation": 1'
succeeds "training from it" "$voco" pretrain shared --out trained2 --recipe smallest.yaml --steps 1 --batch 1

# Where nothing can be written, and slips of the hand.
refuses "out is a file" 1 'all.txt/cache' "$voco" cache all.txt --out all.txt/cache
refuses "out cannot be written" 1 '/proc/nowhere' "$voco" cache all.txt --out /proc/nowhere
refuses "a cache of a cache" 1 'is a cache already' "$voco" cache cache --out other
refuses "no data" 1 'nowhere' "$voco" cache nowhere --out other
absent "no data" other
refuses "an unknown option" 2 'did you mean --bits' "$voco" cache all.txt --out other --bit 8
refuses "seven bits" 2 '8, 12 or 16' "$voco" cache all.txt --out other --bits 7
refuses "an unknown preset" 2 'abdomen' "$voco" cache all.txt --out other --preset abdomn
refuses "an unknown way to take windows" 2 'crop or resize' "$voco" cache all.txt --out other --take corp
refuses "HU the wrong way round" 2 'lower first' "$voco" cache all.txt --out other --hu 250,-175
refuses "no number of bytes" 2 '512M or 2G' "$voco" cache all.txt --out other --memory much
refuses "no out" 2 'out DIR' "$voco" cache all.txt
absent "slips of the hand" other
finish
