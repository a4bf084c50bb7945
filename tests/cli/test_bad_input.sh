#!/bin/bash
# Bad files: exit status 1, one line that names the file and the cause, nothing half-written.
. "$(dirname "$0")/harness.sh"

succeeds "phantoms" "$voco" phantom good --count 3 --size 20x18x20 --spacing 9
image=good/imagesTr/phantom_0000.nii.gz
mkdir bad
head -c 5000 "$image" >bad/cut.nii.gz
gzip -dc "$image" >plain.nii
patched() { # patched NAME OFFSET BYTES(printf format): a copy of the header's file with bytes changed
    cp plain.nii "bad/$1"
    printf "$3" | dd of="bad/$1" bs=1 seek="$2" conv=notrunc status=none
}
patched negative.nii 42 '\377\377'        # dim[1] = -1
patched huge.nii 42 '\377\177\377\177\377\177' # 32767^3 voxels
echo "not a volume" >bad/text.nii.gz
: >bad/empty.nii
succeeds "float volume" "$voco" prepare "$image" float.nii --preset abdomen --roi 48
for kind in nan:'\000\000\300\177' infinite:'\000\000\200\177'; do
    cp float.nii "bad/${kind%%:*}.nii"
    printf "${kind#*:}" | dd of="bad/${kind%%:*}.nii" bs=1 seek=1352 conv=notrunc status=none
done
{
    head -c 352 plain.nii
    head -c 14400 /dev/zero
} >bad/constant.nii

refuse_volume() { # refuse_volume FILE WORDS
    refuses "prepare $1" 1 "$1.*($2)" "$voco" prepare "bad/$1" out.nii.gz --preset abdomen
    absent "prepare $1" out.nii.gz out.nii.gz.tmp*
}
refuse_volume cut.nii.gz 'gzip|ends|truncated|cut'
refuse_volume negative.nii 'dim'
refuse_volume huge.nii 'voxels|large|long|short|dim'
refuse_volume text.nii.gz 'gzip|NIfTI'
refuse_volume empty.nii 'empty|short|NIfTI'
refuse_volume nan.nii 'NaN'
refuse_volume infinite.nii 'infinit|NaN'
refuse_volume constant.nii 'constant|same|foreground'
refuses "a file that is not there" 1 'nowhere.nii.*No such file' "$voco" prepare nowhere.nii out.nii --preset abdomen

mkdir nothing
smallest_recipe >smallest.yaml
train="--recipe smallest.yaml --steps 2 --batch 1"
# Before volumes are prepared.
if "$voco" info --devices | grep -q '^because'; then
    refuses "a GPU where there is none" 1 'there is no GPU to compute on: .+' "$voco" pretrain nothing --out run --device cuda $train
    refuses "a measurement of no GPU" 1 'there is no GPU to compute on: .+' "$voco" bench --recipe tiny --device cuda
fi
refuses "tf32 on a processor" 1 'float32 or bf16, not in tf32, which is for GPUs' \
    "$voco" pretrain nothing --out run $train --precision tf32
printf 'machine:\n  precision: tf32\n' | cat smallest.yaml - >tf32.yaml
refuses "tf32 by a recipe" 1 'float32 or bf16, not in tf32' "$voco" bench --recipe tf32.yaml --steps 1
refuses "tf32 by the reference" 1 'in float32 only, not in tf32' \
    "$voco" pretrain nothing --out run --recipe tf32.yaml --compute reference
refuses "an empty directory" 1 'nothing.*(no|empty)' "$voco" pretrain nothing --out run $train
printf 'good/imagesTr/phantom_0000.nii.gz\nmissing.nii.gz\n' >list.txt
refuses "a list that names a missing file" 1 'list.txt.*missing.nii.gz' "$voco" pretrain list.txt --out run $train
refuses "only bad volumes" 1 'bad/' "$voco" pretrain bad --out run $train
echo '{"training": [' >broken.json
refuses "a broken list" 1 'broken.json.*line' "$voco" pretrain broken.json --out run $train
absent "a run that could not begin" run/checkpoint-*

# One bad volume among good ones: skipped, and said at the end.
cp good/imagesTr/*.nii.gz bad/cut.nii.gz nothing/
succeeds "a bad volume among good ones" "$voco" pretrain nothing --out mixed $train
checked=$((checked + 1))
grep -q 'cut.nii.gz' err || complain "the skipped volume is not reported"

# Checkpoints.
checkpoint=$(ls mixed/checkpoint-*.safetensors | tail -n 1)
head -c 20000 "$checkpoint" >cut.safetensors
refuses "eval of a checkpoint cut short" 1 'cut.safetensors.*(short|promises|bytes)' "$voco" eval cut.safetensors good
refuses "eval in tf32 on a processor" 1 'not in tf32' "$voco" eval mixed good --precision tf32
refuses "encoding in tf32 on a processor" 1 'not in tf32' "$voco" encode mixed good --out x.csv --precision tf32
refuses "info of a checkpoint cut short" 1 'cut.safetensors.*(short|promises|bytes)' "$voco" info cut.safetensors
sed 's/projector: 16/projector: 32/' smallest.yaml >wider.yaml
refuses "resuming another model size" 1 '(projector|size|shape)' \
    "$voco" pretrain good --out mixed --resume --recipe wider.yaml --steps 4
refuses "starting over a run" 1 'mixed.*--resume' "$voco" pretrain good --out mixed $train

# A newest checkpoint that was cut: the one before it is used.
succeeds "two checkpoints" "$voco" pretrain good --out two --recipe smallest.yaml --steps 4 --batch 1 \
    --checkpoint-every 2 --keep 2
cp two/checkpoint-00000004.safetensors whole
head -c 30000 whole >two/checkpoint-00000004.safetensors
succeeds "resume past a cut checkpoint" "$voco" pretrain --out two --resume
checked=$((checked + 1))
cmp -s whole two/checkpoint-00000004.safetensors || complain "the resumed run differs from the unbroken one"

# A full disk while a checkpoint is written: the one before stays, and the run can go on later.
succeeds "a first checkpoint" "$voco" pretrain good --out full --recipe smallest.yaml --steps 2 --batch 1
cp full/checkpoint-00000002.safetensors before
(
    ulimit -f 1000
    exec "$voco" pretrain --out full --resume --steps 4
) >out 2>err
status=$?
checked=$((checked + 1))
[ "$status" -eq 1 ] || complain "a full disk: exit status $status, not 1"
grep -Eq '^voco: .*checkpoint-00000004.safetensors.*(large|space)' err || complain "the full disk is not named: $(tail -n 1 err)"
cmp -s before full/checkpoint-00000002.safetensors || complain "the checkpoint before the full disk is gone"
absent "a full disk" full/checkpoint-00000004.safetensors full/*.tmp.*
succeeds "going on with room on the disk" "$voco" pretrain --out full --resume --steps 4

# Slips of the hand: exit status 2 and a hint.
refuses "an unknown verb" 2 'did you mean "pretrain"' "$voco" pretrian good
refuses "an unknown option" 2 'did you mean --steps' "$voco" pretrain good --out x --step 3
refuses "an unknown recipe" 1 'tiny' "$voco" pretrain good --out x --recipe tinny
refuses "no number" 2 'whole number' "$voco" pretrain good --out x --steps many
refuses "an unknown preset" 2 'abdomen' "$voco" prepare "$image" out.nii --preset abdomn
finish
