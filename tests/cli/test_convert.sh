#!/bin/bash
# voco convert and voco pretrain --init as a user meets them: there and back, what is said, what is refused.
. "$(dirname "$0")/harness.sh"

same_file() { # same_file WHAT FILE FILE
    checked=$((checked + 1))
    cmp "$2" "$3" || complain "$1: other bytes"
}

smallest_recipe >smallest.yaml
succeeds "phantoms" "$voco" phantom data --count 3 --size 40x36x44 --spacing 9
succeeds "a run of two steps" "$voco" pretrain data --out run --recipe smallest.yaml --steps 2 --batch 1 --seed 3
checkpoint=run/checkpoint-00000002.safetensors

# ---- there and back ----
succeeds "a checkpoint as .pt" "$voco" convert $checkpoint whole.pt
says "a checkpoint as .pt" out '^whole.pt: training checkpoint of feature size 3, .pt, names as voco has them' 'loaded +578'
succeeds "and back" "$voco" convert whole.pt back.safetensors
same_file "and back" $checkpoint back.safetensors
succeeds "a run's folder" "$voco" convert run encoder.pt --names monai
says "a run's folder" out 'encoder of feature size 3' 'for MONAI from 1.5 on, downsample="merging"' 'left out +441'
succeeds "the encoder as safetensors" "$voco" convert encoder.pt encoder.safetensors --json
says "the encoder as safetensors" out '"names": "monai"' '"loaded": 137' '"patch_merging": "fixed"' '"missing": \[\]'
succeeds "--format against the name" "$voco" convert encoder.pt encoder.bin --format=safetensors
same_file "--format against the name" encoder.safetensors encoder.bin
succeeds "the other order" "$voco" convert encoder.pt v2.safetensors --patch-merging v2
says "the other order" out 'patch merging v2 \(rewritten, the same function\)' 'downsample="mergingv2"'
succeeds "and back from it" "$voco" convert v2.safetensors fixed.safetensors --patch-merging fixed
same_file "and back from it" encoder.safetensors fixed.safetensors
succeeds "four channels" "$voco" convert encoder.pt four.pt --in-channels 4
says "four channels" out 'reshaped +3' 'swinViT.patch_embed.proj.weight'

# A run whose checkpoint went through .pt goes on in the same bytes.
cp -r run again
succeeds "the run goes on" "$voco" pretrain --out run --resume --steps 3
mv back.safetensors again/checkpoint-00000002.safetensors
succeeds "the converted run goes on" "$voco" pretrain --out again --resume --steps 3
same_tensors "the converted run goes on" run/checkpoint-00000003.safetensors again/checkpoint-00000003.safetensors

# ---- refusals ----
printf x >taken.pt
refuses "an existing file" 1 'taken.pt: is there already; --force replaces it' "$voco" convert encoder.pt taken.pt
succeeds "--force" "$voco" convert encoder.pt taken.pt --force
refuses "a name without format" 2 'must end with .safetensors, .pt or .pth' "$voco" convert encoder.pt out.bin
refuses "a format that is none" 2 'no format is called "onnx"' "$voco" convert encoder.pt out.pt --format onnx
refuses "a slip in an option" 2 'unknown option --pach-merging, did you mean --patch-merging' \
    "$voco" convert encoder.pt out.pt --pach-merging v2
refuses "names that are none" 1 'there are: voco, monai' "$voco" convert encoder.pt out.pt --names swin
refuses "no channels" 2 'in-channels must lie between 1 and 64' "$voco" convert encoder.pt out.pt --in-channels 0
refuses "one file" 2 'convert' "$voco" convert encoder.pt
refuses "the legacy order" 1 'is fixed, and no weights make the same function of legacy' \
    "$voco" convert encoder.pt out.pt --patch-merging legacy
refuses "another order than it says" 1 'says that it was trained with patch merging fixed, not legacy' \
    "$voco" convert encoder.pt out.pt --trained-with legacy
refuses "a prefix that is not there" 1 'holds no encoder behind the prefix "ema."' \
    "$voco" convert encoder.pt out.pt --prefix ema.
head -c 20000 encoder.pt >cut.pt
refuses "a file cut short" 1 'cut.pt: ' "$voco" convert cut.pt out.pt
refuses "a volume" 1 'neither a safetensors file nor a .pt' \
    "$voco" convert data/imagesTr/phantom_0000.nii.gz out.pt
refuses "a file that is not there" 1 'nothing.pt: cannot open: No such file' "$voco" convert nothing.pt out.pt
mkdir empty
refuses "a folder without checkpoints" 1 'empty: holds no checkpoint' "$voco" convert empty out.pt
refuses "a folder to write into that is not there" 1 'nowhere/out.pt' "$voco" convert encoder.pt nowhere/out.pt
absent "refused conversions" out.pt out.bin

# ---- weights to begin with ----
succeeds "a run that begins with an encoder" "$voco" pretrain data --out begun --recipe smallest.yaml --init encoder.pt \
    --steps 1 --batch 1 --seed 9
says "a run that begins with an encoder" err 'begins with 137 of 149 tensors from encoder.pt' \
    'drawn anew: student.layer1.0.weight'
succeeds "its beginning" "$voco" convert begun/checkpoint-00000000.safetensors begun.safetensors --names monai
same_tensors "its beginning" encoder.safetensors begun.safetensors
succeeds "going on with the same command" "$voco" pretrain data --out begun --recipe smallest.yaml --init encoder.pt \
    --steps 2 --batch 1 --resume
says "going on with the same command" err 'going on from begun/checkpoint-00000001.safetensors; --init is for the begin'
refuses "an encoder of another size" 1 'its feature size is 3, the run.s 12; a recipe with feature_size: 3 would fit' \
    "$voco" pretrain data --out other --recipe tiny --init encoder.pt
refuses "an encoder of four channels" 1 'images of 4 channels' \
    "$voco" pretrain data --out other --recipe smallest.yaml --init four.pt
refuses "an encoder of the legacy order" 1 '--patch-merging fixed begins a run in its order' \
    "$voco" pretrain data --out other --recipe smallest.yaml --init encoder.pt --patch-merging legacy
refuses "no encoder at all" 1 'neither a safetensors file nor a .pt' \
    "$voco" pretrain data --out other --recipe smallest.yaml --init smallest.yaml
absent "refused runs" other/run.json other/cache/volumes
finish
