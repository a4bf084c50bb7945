# What the command-line tests share. Sourced; $1 is the program.
# A test script ends with `finish`, whose status is that of the script.
set -u
voco=$(readlink -f "$1")
work=$(mktemp -d "${TMPDIR:-/tmp}/voco-cli-XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
checked=0
failed=0

complain() {
    failed=$((failed + 1))
    echo "FAILED: $*"
}

# succeeds WHAT COMMAND...: exit status 0. Output is left in out and err.
succeeds() {
    what=$1
    shift
    checked=$((checked + 1))
    "$@" >out 2>err || {
        complain "$what: exit status $?"
        tail -n 5 err
    }
}

# refuses WHAT STATUS WORDS COMMAND...: that exit status, and one line on stderr that begins "voco: " and has WORDS (a
# grep -E pattern). Progress lines before it are not counted.
refuses() {
    what=$1
    status=$2
    words=$3
    shift 3
    checked=$((checked + 1))
    "$@" >out 2>err
    got=$?
    [ "$got" -eq "$status" ] || complain "$what: exit status $got, not $status"
    lines=$(grep -c '^voco: ' err)
    [ "$lines" -eq 1 ] || complain "$what: $lines error lines, not 1"
    tail -n 1 err | grep -Eq -- "$words" || {
        complain "$what: the line does not say /$words/:"
        tail -n 3 err
    }
}

# says WHAT FILE PATTERN...: the file, such as out, has each pattern (grep -E).
says() {
    local what=$1 file=$2
    shift 2
    for pattern in "$@"; do
        checked=$((checked + 1))
        grep -Eq -- "$pattern" "$file" || {
            complain "$what: $file lacks /$pattern/"
            head -n 20 "$file"
        }
    done
}

# absent WHAT FILE...: nothing was left behind.
absent() {
    what=$1
    shift
    checked=$((checked + 1))
    for file in "$@"; do
        if [ -e "$file" ]; then
            complain "$what: left $file behind"
        fi
    done
}

finish() {
    echo "$checked checks, $failed failed"
    [ "$failed" -eq 0 ]
    exit
}

# The tensors of a checkpoint: what lies behind its header (formats/safetensors.h).
tensors() {
    local header
    header=$(od -An -tu8 -N8 "$1" | tr -d ' ')
    tail -c "+$((header + 9))" "$1"
}

# same_tensors WHAT FILE FILE: the same parameters and moments to the bit, whatever their recipes say.
same_tensors() {
    checked=$((checked + 1))
    if [ ! -s "$2" ] || [ ! -s "$3" ]; then
        complain "$1: there is no $2 or $3"
    elif ! cmp -s <(tensors "$2") <(tensors "$3"); then
        complain "$1: other bits"
    fi
}

# What was measured in each step, without how long it took.
strip() { sed -E 's/"(seconds|crops_per_second|[a-z_]*_seconds)": ?[-+0-9.e]+,? ?//g' "$1"; }

# A recipe of the smallest network, for tests that are about files and not about learning.
smallest_recipe() {
    cat <<'YAML'
model:
  feature_size: 3
  roi: 48
  projector: 16
  patch_merging: fixed
sampling:
  crops: 1
  base_grid: [1, 2]
YAML
}
