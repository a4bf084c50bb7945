#!/bin/bash
# Every verb has a manual page that holds what its help shows, and roff takes it without a complaint.
. "$(dirname "$0")/harness.sh"

# The page as a reader sees it, in plain characters and long lines.
read_page() {
    if command -v mandoc >/dev/null 2>&1; then
        mandoc -T ascii -O width=400 "$1"
    elif command -v groff >/dev/null 2>&1; then
        groff -man -T ascii -rLL=400n -P-c "$1"
    else
        sed -E 's/\\f[BIR]//g; s/\\&//g; s/\\-/-/g; s/\\\(aq/'"'"'/g; s/\\\(ti/~/g; s/\\\(ha/^/g; s/\\e/\\/g' "$1"
    fi | sed 's/.\x08//g' | tr -s ' \n' '  '
}

# has WHAT TEXT: it stands in page.txt; spaces and ends of lines are alike, and backticks are type in a page.
has() {
    checked=$((checked + 1))
    grep -qF -- "$(tr -s ' \n' '  ' <<<"$2" | tr -d '`' | sed 's/ $//')" page.txt || complain "$1: \"$2\" is missing"
}

check_roff() { # check_roff PAGE
    checked=$((checked + 2))
    if command -v groff >/dev/null 2>&1; then
        groff -man -ww -z "$1" >complaints 2>&1
        [ -s complaints ] && complain "groff on $1: $(head -n 1 complaints)"
    fi
    if command -v mandoc >/dev/null 2>&1; then # a date would make every build another page
        mandoc -T lint -W warning "$1" | grep -v 'missing date' >complaints
        [ -s complaints ] && complain "mandoc on $1: $(head -n 1 complaints)"
    fi
    return 0
}

succeeds "the list of verbs" "$voco" --help=verbs
cp out verbs
succeeds "the list of verbs in words" "$voco" --help
sed -n '/^Verbs:/,/^$/p' out | awk '/^  / {print $1}' >shown
checked=$((checked + 1))
[ -s verbs ] && cmp -s verbs shown || complain "--help and --help=verbs differ"

succeeds "the page of the program" "$voco" --help=man
cp out voco.1
check_roff voco.1
read_page voco.1 >page.txt
while read -r verb; do
    has "voco.1" "voco-$verb(1)"
done <verbs

while read -r verb; do
    succeeds "help of $verb" "$voco" "$verb" --help
    cp out help.txt
    succeeds "page of $verb" "$voco" "$verb" --help=man
    cp out "voco-$verb.1"
    check_roff "voco-$verb.1"
    read_page "voco-$verb.1" >page.txt
    # An option and its text, in one line of help or in two.
    sed -n '/^Options/,/^Examples/p' help.txt | grep -v '^[A-Z]' | sed '/^$/d' >options.txt
    awk '/^  --/ {if (text != "") print text; text = $0; next} {text = text $0} END {print text}' options.txt |
        grep -v -- '--help' >table.txt
    checked=$((checked + 1))
    [ "$(wc -l <table.txt)" -ge 2 ] || complain "help of $verb shows no options"
    while read -r line; do
        has "voco-$verb.1" "$line"
    done <table.txt
    sed -n '/^Examples/,$p' help.txt | tail -n +2 >examples.txt
    has "voco-$verb.1" "$(cat examples.txt)"
    has "voco-$verb.1" "$(sed -n "1s/^voco $verb: //p" help.txt)"
    succeeds "help $verb" "$voco" help "$verb"
    checked=$((checked + 1))
    cmp -s out help.txt || complain "voco help $verb and voco $verb --help differ"
done <verbs

refuses "help of an unknown verb" 2 'no verb "pretrian", did you mean "pretrain"' "$voco" help pretrian
refuses "a slip in an option before the verb" 2 '--versoin is none of --help and --version' "$voco" --versoin
refuses "an unknown form of help" 2 'man, bash' "$voco" --help=pdf
refuses "an unknown form of a verb's help" 2 'man, bash' "$voco" eval --help=pdf

# What the build made, where the program lies in a build folder.
pages=$(dirname "$voco")/man/man1
if [ -d "$pages" ]; then
    for page in voco*.1; do
        checked=$((checked + 1))
        cmp -s "$page" "$pages/$page" || complain "the build's $page is not what the program prints"
    done
fi

finish
