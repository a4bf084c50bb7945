#!/bin/bash
# What scripts/compare-precisions makes of accuracies, with a program in place of voco whose ends are known: accuracies lie
# around 0.7, apart by what chance makes (NOISE, a standard deviation) and by what bf16 loses (LOSS).
compare=$(readlink -f "$(dirname "$0")/../../scripts/compare-precisions")
. "$(dirname "$0")/harness.sh"

cat >program <<'END'
#!/bin/sh
command=$1 data=$2
shift 2
case $command in
phantom)
    mkdir -p "$data"
    touch "$data/dataset.json"
    ;;
pretrain)
    while [ $# -gt 1 ]; do
        case $1 in
        --out) run=$2 ;;
        --seed) seed=$2 ;;
        --precision) precision=$2 ;;
        esac
        shift
    done
    mkdir "$run"
    echo "$precision $seed" >"$run/made"
    echo >>trainings
    ;;
eval)
    awk -v loss="$LOSS" -v noise="$NOISE" '{
        srand(2 * $2 + ($1 == "bf16"))
        rand()
        for (i = 0; i < 12; i++) normal += rand()
        printf "{\n  \"trained\": {\n    \"position_accuracy\": %.6g,\n", 0.7 + noise * (normal - 6) - ($1 == "bf16") * loss
        printf "    \"chance\": 0.111111\n  }\n}\n"
    }' "$data/made"
    ;;
esac
END
chmod +x program
touch -d yesterday program

# ends WHAT STATUS TRAININGS FOLDER OPTION...: the exit status, and how many trainings it took.
ends() {
    what=$1
    status=$2
    trainings=$3
    checked=$((checked + 1))
    shift 3
    : >trainings
    sh "$compare" ./program "$@" >out 2>err
    got=$?
    [ "$got" -eq "$status" ] || complain "$what: exit status $got, not $status"
    [ "$(wc -l <trainings)" -eq "$trainings" ] || complain "$what: $(wc -l <trainings) trainings, not $trainings"
}

export LOSS=0 NOISE=0.003
ends "equal ends" 0 16 equal
says "equal ends" out "8 seeds: float32 0."
ends "again" 0 0 equal
LOSS=0.02 ends "ends near each other" 0 16 near
LOSS=0.04 ends "bf16 worse" 1 16 worse
LOSS=-0.04 ends "bf16 better" 1 16 better
LOSS=0.04 NOISE=0.3 ends "too few seeds" 1 6 few --seeds 3
says "too few seeds" out "too few seeds to tell"
LOSS=0.04 NOISE=0.3 ends "one more" 1 2 few --seeds 4
LOSS=0.04 NOISE=0.3 ends "other steps" 1 2 few --seeds 1 --steps 5
says "one seed" out "seed 1: float32"
LOSS=0.5 NOISE=0.1 ends "bf16 far worse" 1 16 far
ends "an unknown option" 2 0 equal --seed 3
touch program
ends "a newer program" 0 16 equal

# What two numbers say, by hand: differences -0.02 and 0.04 have the mean 0.01 and the standard error 0.03.
mkdir given
for result in "float32 1 0.72" "bf16 1 0.70" "float32 2 0.60" "bf16 2 0.64"; do
    set -- $result
    echo "{\"trained\": {\"position_accuracy\": $3}}" >"given/$1-seed-$2-steps-200-draws-32.json"
    touch -d tomorrow "given/$1-seed-$2-steps-200-draws-32.json"
done
ends "two seeds" 1 0 given --seeds 2
says "two seeds" out 'float32 0.6600 [+]- 0.0600, bf16 0.6700 [+]- 0.0300, bf16 - float32 0.0100 [+]- 0.0300'
finish
