#!/bin/bash
# Killed with SIGKILL at twenty random moments and started again each time, a cache ends in the same bytes as one that was
# filled in one go; at no moment is there a half-written volume under a volume's name. So does one that two fill at once.
. "$(dirname "$0")/harness.sh"

RANDOM=${VOCO_KILL_SEED:-$$}
echo "seed: ${VOCO_KILL_SEED:-$$} (VOCO_KILL_SEED repeats it)"
succeeds "phantoms" "$voco" phantom data --count 12 --size 40x36x40 --spacing 9
settings="--preset abdomen --roi 48 --jobs 2 --bits 12"
# shellcheck disable=SC2086
fill() { "$voco" cache data --out "$1" $settings "${@:2}"; }

# same WHAT FOLDER: each of its volumes is that of the cache `whole`, byte for byte.
same() {
    checked=$((checked + 1))
    for volume in "$2"/*.ome.zarr; do
        if [ -e "$volume" ] && ! diff -r "$volume" "whole/${volume##*/}" >difference 2>&1; then
            complain "$1: $volume: $(head -n 1 difference)"
        fi
    done
}

began=$(date +%s%N)
succeeds "filled in one go" fill whole
took=$((($(date +%s%N) - began) / 1000000))

kills=0
made=0
for _ in $(seq 200); do
    # Each life lasts between nothing and a third of the whole. When all is done before a kill, some of it is taken away.
    "$voco" cache data --out broken $settings >life.out 2>life.err &
    life=$!
    sleep "$(awk -v r=$RANDOM -v t="$took" 'BEGIN { printf "%.3f", r / 32768 * t / 3000 + 0.005 }')"
    kill -KILL $life 2>/dev/null
    wait $life 2>/dev/null
    status=$?
    same "after a kill" broken
    checked=$((checked + 1))
    if grep -q '^voco: ' life.err; then
        complain "a life ended with an error: $(tail -n 1 life.err)"
    fi
    if [ $status -eq 137 ]; then
        kills=$((kills + 1))
        [ $kills -lt 20 ] || break
    else
        made=$((made + 12))
        rm -rf broken/phantom_000[0-5]*.ome.zarr
    fi
done
made=$((made + $(ls -d broken/*.ome.zarr | wc -l)))
find broken -name '*.tmp.*' -exec touch -d '5 minutes ago' {} + 2>/dev/null
succeeds "the last life" fill broken --verify --json
echo "$kills kills; filling in one go takes $took ms; the last life made $(sed -n 's/^    "made": \(.*\),/\1/p' out)"
checked=$((checked + 4))
[ "$kills" -eq 20 ] || complain "only $kills lives were long enough to be killed"
[ "$made" -gt 0 ] || complain "no life was long enough to make a volume"
[ "$(ls -d broken/*.ome.zarr | wc -l)" -eq 12 ] || complain "not all volumes are there"
same "after the last life" broken
left=$(find broken -name '*.tmp' -o -name '*.tmp.*' -o -name '*.claim*')
[ -z "$left" ] || complain "left behind: $left"

# Two at once, and a third that is killed in the middle.
fill both --json >one.json 2>one.err &
one=$!
fill both --json >two.json 2>two.err &
two=$!
"$voco" cache data --out both $settings >three.out 2>&1 &
three=$!
sleep "$(awk -v t="$took" 'BEGIN { printf "%.3f", t / 4000 }')"
kill -KILL $three 2>/dev/null
wait $three 2>/dev/null
for process in $one $two; do
    checked=$((checked + 1))
    wait $process || complain "two at once: exit status $?: $(tail -n 1 one.err) $(tail -n 1 two.err)"
done
checked=$((checked + 2))
made=0
for report in one.json two.json; do
    [ "$(sed -n 's/^    "ready": \([0-9]*\),/\1/p' $report)" = 12 ] || complain "$report does not say that 12 are ready"
    made=$((made + $(sed -n 's/^    "made": \([0-9]*\),/\1/p' $report)))
done
echo "two at once made $made of 12 (the rest by the third before it was killed)"
[ "$made" -le 12 ] || complain "two at once made $made volumes, so some of them twice"
same "two at once" both
left=$(find both -name '*.claim*')
[ -z "$left" ] || complain "two at once: left behind: $left"
finish
