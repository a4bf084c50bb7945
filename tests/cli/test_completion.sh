#!/bin/bash
# Completion of words, as bash and zsh ask for it.
. "$(dirname "$0")/harness.sh"

succeeds "for bash" "$voco" --help=bash
cp out voco.bash
succeeds "for zsh" "$voco" --help=zsh
cp out _voco
"$voco" --help=verbs >verbs

mkdir -p folder/scans folder/runs
: >folder/scans/a.nii.gz
: >"folder/scans/b c.nii.gz"
: >folder/mine.yaml
printf '#!/bin/sh\nexec "%s" "$@"\n' "$voco" >folder/voco
chmod +x folder/voco

# ---- bash ----

. ./voco.bash || complain "bash cannot read it"
complete_words() { # complete_words WORD...: what is offered for the last word, one a line, sorted
    COMP_WORDS=("$@")
    COMP_CWORD=$(($# - 1))
    cd folder || exit 1
    _voco
    cd ..
    printf '%s\n' "${COMPREPLY[@]}" | LC_ALL=C sort
}
offers() { # offers EXPECTED WORD...: EXPECTED is sorted, one a line
    local expected=$1 got
    shift
    checked=$((checked + 1))
    got=$(complete_words "$@")
    [ "$got" = "$expected" ] || complain "bash, ${*@Q}: $(tr '\n' ' ' <<<"$got")and not $(tr '\n' ' ' <<<"$expected")"
}
list() { printf '%s\n' "$@" | LC_ALL=C sort; }

# shellcheck disable=SC2046
offers "$(list $(cat verbs) help --help --version)" voco ''
offers "$(list phantom prepare pretrain | grep '^pre')" voco pre
offers "" voco zzz
offers "$(list --precision --preset)" voco pretrain scans --pre
offers "$(list bf16 float32 tf32)" voco pretrain --precision ''
offers bf16 voco pretrain --precision b
offers "$(list fixed legacy v2)" voco convert a b --patch-merging ''
offers "$(list chest)" voco prepare --preset = ch
offers "$(list abdomen chest headneck mr)" voco cache --preset =
offers "$(list base huge large mine.yaml runs scans tiny voco)" voco pretrain --recipe ''
offers mine.yaml voco pretrain --recipe mi
offers "$(list scans/a.nii.gz 'scans/b c.nii.gz')" voco info scans/
offers "$(list scans/a.nii.gz)" voco encode runs --mean scans/a
offers "runs" voco eval --untrained ru
offers "" voco pretrain --steps ''
offers "$(cat verbs | grep '^e' | LC_ALL=C sort)" voco help e
offers "" voco nonsense ''

# Every option of every table is offered.
while read -r verb; do
    "$voco" "$verb" --help | sed -n '/^Options/,/^Examples/s/^  \(--[a-z-]*\).*/\1/p' | LC_ALL=C sort >table
    offers "$(cat table)" voco "$verb" --
done <verbs

# The recipes that are offered are those that there are.
for recipe in $(complete_words voco pretrain --recipe '' | grep -vE 'yaml|runs|scans|voco'); do
    succeeds "recipe $recipe" "$voco" info "$recipe"
done

# ---- zsh ----

if ! command -v zsh >/dev/null 2>&1; then
    echo "zsh is not here: its completion is not tried"
    finish
fi
succeeds "zsh reads it" zsh -n _voco
# A shell on a terminal of its own: type words and a tab, and take what it lists.
cat >type.zsh <<'ZSH'
zmodload zsh/zpty || exit 77
cd folder
zpty shell zsh -f -i
expect() { # expect PATTERN: reads until it has been seen
    local piece
    seen=
    repeat 200; do
        while zpty -r -t shell piece; do seen+=$piece; done
        [[ $seen == *$~1* ]] && return 0
        sleep 0.05
    done
    return 1
}
zpty -w shell "PS1=; PROMPT=; unset zle_bracketed_paste; fpath=($PWD/.. \$fpath); autoload -Uz compinit; compinit -u -D; LISTMAX=10000; setopt NO_ALWAYS_LAST_PROMPT NO_BEEP; stty cols 200; print rea''dy"
expect ready || exit 3
for line in "$@"; do
    # Two tabs list what there is; what the line has become follows when it is printed.
    zpty -w -n shell $line$'\t\t'
    sleep 1
    zpty -w -n shell $'\C-a\C-k: en\'\'d\n'
    zpty -w shell "print en''d"
    expect end
    print -r -- "=== $line"
    print -r -- $seen
done
zpty -d shell
ZSH
zsh -f type.zsh 'voco pretr' 'voco pretrain --prec' 'voco pretrain --precision ' 'voco pretrain --recipe ' \
    'voco info scans/' 'voco convert a b --names=' >typed 2>zsh.err
status=$?
if [ "$status" -eq 77 ]; then
    echo "zsh has no terminals here: its completion is not tried"
    finish
fi
lists() { # lists LINE WORD...: after LINE and tabs, zsh shows each WORD
    local line=$1 word part
    shift
    part=$(awk -v line="=== $line" '$0 == line {on = 1; next} /^=== / {on = 0} on' typed)
    for word in "$@"; do
        checked=$((checked + 1))
        grep -qF -- "$word" <<<"$part" || complain "zsh, \"$line\": no $word"
    done
}
lists 'voco pretr' 'voco pretrain'
lists 'voco pretrain --prec' '--precision'
lists 'voco pretrain --precision ' float32 bf16 tf32
lists 'voco pretrain --recipe ' tiny huge mine.yaml
lists 'voco info scans/' a.nii.gz 'c.nii.gz'
lists 'voco convert a b --names=' voco monai

finish
