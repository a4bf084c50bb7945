#!/bin/bash
# voco info tells every kind of file apart and says what is in it.
. "$(dirname "$0")/harness.sh"

succeeds "phantoms" "$voco" phantom data --count 3 --size 40x36x44 --spacing 9
image=data/imagesTr/phantom_0000.nii.gz
succeeds "info of a volume" "$voco" info "$image"
says "info of a volume" out '^kind +volume$' '^type +int16$' '^size +40 36 44$' '^spacing mm +9 9 9$' '^orientation +RAS$' \
    '^range +-[0-9.]+ [0-9.]+$'
cp "$image" volume-without-ending
succeeds "a volume is known by its content" "$voco" info volume-without-ending --json
says "a volume as JSON" out '"kind": "volume"' '"orientation": "RAS"'

succeeds "info of a data list" "$voco" info data/dataset.json
says "info of a data list" out '^kind +data list$' '^training +2$' '^validation +1$'
succeeds "info of a folder of volumes" "$voco" info data/imagesTr
says "info of a folder of volumes" out '^training +3$'

# Where there is a GPU it is listed, elsewhere the reason is.
succeeds "info of the machine" "$voco" info --devices
says "info of the machine" out '^gpus' '(^  .* [0-9]+\.[0-9]  |^because +[a-z])'
refuses "info of nothing" 2 'name a file' "$voco" info
succeeds "info of a recipe by name" "$voco" info large
says "info of a recipe by name" out '^kind +recipe$' 'feature size +96$' 'patch merging +fixed$'
smallest_recipe >smallest.yaml
succeeds "info of a recipe's file" "$voco" info smallest.yaml --json
says "info of a recipe's file" out '"feature_size": 3,' '"steps": 2000000'

# A safetensors file by hand: an 8-byte length, the header, 4 bytes of data.
header='{"__metadata__":{"who":"me"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
{
    printf "\\x$(printf %x ${#header})\\0\\0\\0\\0\\0\\0\\0"
    printf %s "$header"
    printf '\0\0\0\0'
} >hand.bin
succeeds "info of safetensors" "$voco" info hand.bin
says "info of safetensors" out '^kind +tensors$' '^format +safetensors$' 'who +me$' \
    '^no encoder +none of its 1 tensors has a name' '^elements +1$' '^  a  F32  1$'
head -c 90 hand.bin >cut.safetensors
refuses "safetensors cut short" 1 'cut.safetensors: cut short: the header promises 94 bytes, the file has 90' \
    "$voco" info cut.safetensors

succeeds "a run of one step" "$voco" pretrain data --out run --recipe smallest.yaml --steps 1 --batch 1
succeeds "info of a run" "$voco" info run
says "info of a run" out '^newest checkpoint +run/checkpoint-00000001.safetensors$' '^kind +checkpoint$' '^steps done +1$' \
    'feature size +3$' '^  backbone +[0-9]+$' 'steps +1$'
succeeds "the tensors of a checkpoint" "$voco" info run/checkpoint-00000001.safetensors --tensors
says "the tensors of a checkpoint" out '^  backbone.swinViT.patch_embed.proj.weight +F32  3 1 2 2 2$' \
    '^  backbone.swinViT.layers1.0.blocks.0.attn.relative_position_index +I64  343 343$' \
    '^  optimizer.max_exp_avg_sq.student.layer3.0.bias +F32  16$'

succeeds "the encoder as .pt" "$voco" convert run encoder.pt --names monai
succeeds "info of .pt" "$voco" info encoder.pt
says "info of .pt" out '^kind +encoder$' '^format +PyTorch .pt$' '^names +monai' 'feature size +3$' '^  backbone +[0-9]+$' \
    'patch merging +fixed$'
mv encoder.pt encoder.bin
succeeds ".pt is known by its content" "$voco" info encoder.bin --tensors
says ".pt is known by its content" out '^kind +encoder$' '^  state_dict.swinViT.patch_embed.proj.weight +F32  3 1 2 2 2$'
succeeds "a crop" "$voco" phantom crop --count 1 --size 48x48x48 --spacing 9
succeeds "a feature map" "$voco" encode encoder.bin crop/imagesTr/phantom_0000.nii.gz --dense --level 4 --out map.nii.gz --raw
succeeds "info of a feature map" "$voco" info map.nii.gz
says "info of a feature map" out '^kind +volume$' '^volumes +48$' '^type +float32$'
refuses "one value where two are asked for" 1 'map.nii.gz: has 48 volumes, where one' "$voco" prepare map.nii.gz out.nii.gz

echo "only words" >words
: >empty
refuses "text that is no list" 1 'words: neither a volume' "$voco" info words
refuses "an empty file" 1 'empty: neither a volume' "$voco" info empty
refuses "a file that is not there" 1 'nothing: cannot open: No such file' "$voco" info nothing
head -c 5000 "$image" >cut.nii.gz
refuses "a volume cut short" 1 'cut.nii.gz: gzip stream ends' "$voco" info cut.nii.gz
refuses "no file" 2 'info' "$voco" info
finish
