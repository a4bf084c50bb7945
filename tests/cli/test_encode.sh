#!/bin/bash
# voco encode: the three formats say the same, places are right, a bad volume is left out, slips are told.
. "$(dirname "$0")/harness.sh"

# equal WHAT EXPECTED FOUND
equal() {
    checked=$((checked + 1))
    [ "$2" = "$3" ] || complain "$1: $3, not $2"
}

# The floats of a file from byte OFFSET on, one a line: floats FILE OFFSET [BYTES]
floats() {
    tail -c "+$(($2 + 1))" "$1" | head -c "${3:-1000000000}" | od -An -v -tf4 -w4 | tr -d ' '
}

# near WHAT FILE FILE: lists of numbers, the same but for the digits that their printing leaves out.
near() {
    checked=$((checked + 1))
    paste "$2" "$3" | awk 'NF != 2 { bad = 1 } { d = $1 - $2; if (d < 0) d = -d; s = $1 < 0 ? -$1 : $1; if (d > 1e-5 * s + 1e-9) bad = 1 }
        END { exit bad || NR == 0 }' || complain "$1: the numbers differ"
}

# The bytes of a tensor: tensor FILE NAME
tensor() {
    local header begin end
    header=$(od -An -tu8 -N8 "$1" | tr -d ' ')
    read -r begin end < <(tail -c +9 "$1" | head -c "$header" |
        sed -E "s/.*\"$2\":\{[^}]*\"data_offsets\":\[([0-9]+),([0-9]+)\].*/\1 \2/")
    tail -c "+$((header + 9 + begin))" "$1" | head -c $((end - begin))
}

smallest_recipe >smallest.yaml
succeeds "phantoms" "$voco" phantom data --count 2 --size 20x18x28 --spacing 4
succeeds "a checkpoint" "$voco" pretrain data --out run --recipe smallest.yaml --steps 2 --batch 1
image=data/imagesTr/phantom_0000.nii.gz

# Sizes as voco prepare has them; starts 0, 20, ..., the last one ending with the volume.
succeeds "prepare" "$voco" prepare "$image" seen.nii --roi 48
read -r nx ny nz < <("$voco" info seen.nii | sed -n 's/^size *//p')
starts() { # starts VOXELS STRIDE
    awk -v n="$1" -v s="$2" 'BEGIN { for (i = 0; i < n - 48; i += s) printf "%d ", i; print (n > 48 ? n - 48 : 0) }'
}
expected=$(for x in $(starts "$nx" 20); do for y in $(starts "$ny" 20); do for z in $(starts "$nz" 20); do echo "$x,$y,$z"; done; done; done)
succeeds "a table" "$voco" encode run "$image" --out one.csv --stride 20
equal "where crops begin" "$expected" "$(tail -n +2 one.csv | cut -d, -f2-4)"
equal "the names of the columns" "volume,x,y,z,x_mm,y_mm,z_mm,e0,e1" "$(head -n 1 one.csv | cut -d, -f1-9)"
equal "the number of columns" 79 "$(head -n 1 one.csv | tr ',' '\n' | wc -l)"

# An encoder by itself, with MONAI's names, as .pt: the same rows. It does not say what training had.
succeeds "the encoder alone" "$voco" convert run alone.pt --names monai
succeeds "a table of it" "$voco" encode alone.pt "$image" --out alone.csv --stride 20
equal "a table of it" "$(cat one.csv)" "$(cat alone.csv)"
equal "it says what it took" 1 "$(grep -c 'alone.pt does not say how its volumes were prepared' err)"
refuses "it has no projectors" 1 'alone.pt: holds an encoder without projectors' "$voco" eval alone.pt data --all

# A whole checkpoint as .pt is evaluated as the run's own is.
succeeds "the checkpoint as .pt" "$voco" convert run whole.pt
succeeds "eval of the run" "$voco" eval run data --all --json
grep -v checkpoint out >expected
succeeds "eval of the .pt" "$voco" eval whole.pt data --all --json --cache run/cache
equal "eval of the .pt" "$(cat expected)" "$(grep -v checkpoint out)"

# The place in mm: the affine of the prepared volume, at the crop's centre.
"$voco" info seen.nii | sed -n '/^affine mm/,/^slope/p' | sed '1d;$d' >affine
tail -n +2 one.csv | cut -d, -f2-4 | tr ',' ' ' | while read -r x y z; do
    awk -v x="$x" -v y="$y" -v z="$z" '{ printf "%.3f\n", $1 * (x + 23.5) + $2 * (y + 23.5) + $3 * (z + 23.5) + $4 }' affine
done >mm.expected
tail -n +2 one.csv | cut -d, -f5-7 | tr ',' '\n' | awk '{ printf "%.3f\n", $1 }' >mm
near "places in mm" mm.expected mm

# All volumes, in each format.
succeeds "csv" "$voco" encode run data --out all.csv
succeeds "npy" "$voco" encode run data --out all.npy
succeeds "safetensors" "$voco" encode run data --out all.safetensors --threads 1 --memory 2G
rows=$(($(wc -l <all.csv) - 1))
equal "the shape in the header" 1 "$(head -c 128 all.npy | grep -c "'shape': ($rows, 72), ")"
equal "the length of the npy" $((128 + rows * 72 * 4)) "$(stat -c %s all.npy)"
tail -n +2 all.csv | cut -d, -f8- | tr ',' '\n' >csv.values
floats all.npy 128 >npy.values
near "csv and npy" csv.values npy.values
tensor all.safetensors embedding >embedding
cmp -s embedding <(tail -c +129 all.npy) || complain "safetensors and npy differ"
tail -n +2 all.csv | cut -d, -f2-4 | tr ',' '\n' >csv.positions
tensor all.safetensors position | od -An -v -td4 -w4 | tr -d ' ' >positions
near "positions" csv.positions positions
equal "volumes" "$(tail -n +2 all.csv | cut -d, -f1 | uniq -c | awk '{ print $1 }')" \
    "$(tensor all.safetensors volume | od -An -v -td4 -w4 | uniq -c | awk '{ print $1 }')"

# Means.
succeeds "means" "$voco" encode run data --out mean.npy --mean
cmp -s <(tensor all.safetensors mean) <(tail -c +129 mean.npy) || complain "the two means differ"
succeeds "means as safetensors" "$voco" encode run data --out mean.safetensors --mean
cmp -s <(tensor mean.safetensors embedding) <(tail -c +129 mean.npy) || complain "the means of safetensors differ"
awk -F, 'NR > 1 { n[$1]++; for (i = 8; i <= NF; i++) s[$1, i] += $i; last = NF; if (!($1 in seen)) { seen[$1] = 1; order[++k] = $1 } }
    END { for (v = 1; v <= k; v++) for (i = 8; i <= last; i++) printf "%.9g\n", s[order[v], i] / n[order[v]] }' all.csv >mean.expected
floats mean.npy 128 >mean.values
near "the mean of the crops" mean.expected mean.values

# One level: its columns of the whole. Levels have C, C, 2C, 4C, 16C.
first=8
for level in 0 1 2 3 4; do
    width=$((level < 2 ? 3 : 3 * (1 << (level == 4 ? 4 : level - 1))))
    succeeds "level $level" "$voco" encode run "$image" --out level.csv --level $level --stride 20
    cmp -s <(tail -n +2 one.csv | cut -d, -f$first-$((first + width - 1))) <(tail -n +2 level.csv | cut -d, -f8-) ||
        complain "level $level is not its part of the embedding"
    first=$((first + width))
done

# Raw: a prepared volume cut to 48 x 48 x 64 voxels by its header is one box.
head -c 352 seen.nii >box.nii
printf '\60\0\60\0\100\0' | dd of=box.nii bs=1 seek=42 conv=notrunc status=none
tail -c +353 seen.nii | head -c $((48 * 48 * 64 * 4)) >>box.nii
succeeds "raw" "$voco" encode run box.nii --raw --out raw.csv
equal "rows of a raw file" 2 "$(wc -l <raw.csv)"
equal "its position" "0,0,0" "$(tail -n 1 raw.csv | cut -d, -f2-4)"
refuses "a raw file of another size" 1 "seen.nii.*multiples of 16" "$voco" encode run seen.nii --raw --out bad.csv

# Feature maps: the mean over a raw map is the level's part of the embedding.
for level in 0 3 4; do
    succeeds "the map of level $level" "$voco" encode run box.nii --raw --dense --level $level --out map.nii
    side=$((level == 0 ? 48 : level == 3 ? 6 : 2))
    depth=$((level == 0 ? 64 : level == 3 ? 8 : 2))
    channels=$((level == 0 ? 3 : level == 3 ? 12 : 48))
    equal "dimensions of level $level" "4 $side $side $depth $channels" "$(od -An -td2 -j40 -N10 map.nii | xargs)"
    floats map.nii 352 | awk -v n=$((side * side * depth)) '{ s += $1 } NR % n == 0 { printf "%.6g\n", s / n; s = 0 }' >map.mean
    from=$((8 + (level == 0 ? 0 : level == 3 ? 12 : 24)))
    tail -n 1 raw.csv | cut -d, -f$from-$((from + channels - 1)) | tr ',' '\n' | awk '{ printf "%.6g\n", $1 }' >level.values
    paste map.mean level.values | awk 'NF != 2 || ($1 - $2) ^ 2 > 1e-8 { bad = 1 } END { exit bad }' ||
        complain "the map of level $level does not average to its embedding"
    checked=$((checked + 1))
done
succeeds "maps of a folder" "$voco" encode run data/imagesTr --dense --level 3 --out maps --stride 16
equal "the maps" "phantom_0000.nii.gz phantom_0001.nii.gz" "$(ls maps | xargs)"
equal "tokens of a map" "4 $(((nx + 7) / 8)) $(((ny + 7) / 8)) $(((nz + 7) / 8)) 12" \
    "$(gzip -dc maps/phantom_0000.nii.gz | od -An -td2 -j40 -N10 | xargs)"

# A cache is DATA too.
succeeds "a cache" "$voco" encode run run/cache --out cache.csv --mean
equal "volumes of the cache" 3 "$(wc -l <cache.csv)"

# Bad volumes are left out and listed; the others are as before.
mkdir mixed
cp "$image" mixed/b.nii.gz
head -c 3000 "$image" >mixed/a.nii.gz
echo "not a volume" >mixed/c.nii
succeeds "bad volumes" "$voco" encode run mixed --out mixed.csv --stride 20
equal "the good volume" "$(tail -n +2 one.csv | cut -d, -f2-)" "$(tail -n +2 mixed.csv | cut -d, -f2-)"
checked=$((checked + 3))
grep -q '2 of 3 volumes were left out' err || complain "the number of bad volumes is not said"
grep -q 'a.nii.gz' err && grep -q 'c.nii' err || complain "the bad volumes are not listed"
"$voco" encode run mixed --out mixed.csv --json 2>/dev/null | grep -q '"cause": ".*c.nii' || complain "JSON lacks the cause"
refuses "only bad volumes" 1 'none of 1 volumes' "$voco" encode run mixed/c.nii --out none.npy
succeeds "a large volume" "$voco" phantom big --count 1 --size 100x100x100 --spacing 6
refuses "too little memory for a volume" 1 'of memory, .* are allowed' \
    "$voco" encode run big --out none.npy --memory 400M
absent "nothing was encoded" none.npy none.npy.tmp* .voco-*

succeeds "info of embeddings" "$voco" info all.safetensors
equal "info of embeddings" "kind embeddings" "$(grep '^kind' out | tr -s ' ')"

# Slips of the hand.
refuses "no --out" 2 '--out is missing' "$voco" encode run data
refuses "an unknown ending" 2 'safetensors, .npy or .csv, not "x.cvs"' "$voco" encode run data --out x.cvs
refuses "a misspelt option" 2 'did you mean --stride' "$voco" encode run data --out x.csv --strid 8
refuses "a level too many" 2 'between 0 and 4' "$voco" encode run data --out x.csv --level 5
refuses "dense without a level" 2 '--dense needs --level' "$voco" encode run data --out x.nii --dense
refuses "dense to a table" 2 'NIfTI' "$voco" encode run data --out x.csv --dense --level 1
refuses "two maps and one file" 1 'must be a folder' "$voco" encode run data --out x.nii --dense --level 1
refuses "gaps between crops" 1 'gaps' "$voco" encode run data --out maps --dense --level 1 --stride 60
refuses "raw with a preset" 2 'without --preset' "$voco" encode run data --out x.csv --raw --preset chest
refuses "an unknown preset" 2 'abdomen' "$voco" encode run data --out x.csv --preset abdomn
refuses "another patch merging" 1 'fixed, not v2' "$voco" encode run data --out x.csv --patch-merging v2
refuses "no checkpoint" 1 'nowhere' "$voco" encode nowhere data --out x.csv
refuses "no volume" 1 'nowhere' "$voco" encode run nowhere.nii.gz --out x.csv
refuses "no folder to write to" 1 'no/folder' "$voco" encode run data --out no/folder/x.safetensors
refuses "a full disk" 1 "x.csv.*(large|space)" bash -c "ulimit -f 4; exec '$voco' encode run data --out x.csv"
absent "what was refused" x.csv x.npy x.safetensors x.csv.tmp* x.npy.tmp*
succeeds "help" "$voco" encode --help

# Event files for TensorBoard: one a life, none where they are not wanted.
equal "event files of a run" 1 "$(ls run/events.out.tfevents.* | wc -l)"
succeeds "a second life" "$voco" pretrain --out run --resume --steps 3
equal "event files of two lives" 2 "$(ls run/events.out.tfevents.* | wc -l)"
succeeds "a run without event files" "$voco" pretrain data --out quiet --recipe smallest.yaml --steps 1 --batch 1 --tensorboard no
equal "event files of a run without" 0 "$(ls quiet/events.out.tfevents.* 2>/dev/null | wc -l)"
refuses "neither yes nor no" 1 'yes or no' "$voco" pretrain data --out x --recipe smallest.yaml --tensorboard on
finish
