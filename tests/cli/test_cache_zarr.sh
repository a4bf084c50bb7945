#!/bin/bash
# What voco cache writes is read by zarr-python: the same voxels as voco prepare's, at every precision, and no damage goes
# unnoticed. Skipped where python3 (or VOCO_PYTHON) has no zarr.
python=${VOCO_PYTHON:-python3}
"$python" -c 'import sys, zarr; sys.exit(int(zarr.__version__.split(".")[0]) < 3)' 2>/dev/null || {
    echo "skipped: $python has no zarr 3"
    exit 77
}
tool=$(readlink -f "$(dirname "$0")/../../tools/check_zarr_cache.py")
. "$(dirname "$0")/harness.sh"

# The first is smaller than a window of 3R x 3R x R on every axis, the second larger.
succeeds "a small phantom" "$voco" phantom small --count 1 --size 66x50x58 --spacing 6
succeeds "a large phantom" "$voco" phantom large --count 1 --size 128x104x90 --spacing 3.5 --seed 5
small=small/imagesTr/phantom_0000.nii.gz
large=large/imagesTr/phantom_0000.nii.gz
printf '%s\n' "$small" "$large" >list.txt

agrees() { # agrees WHAT FOLDER [OPTION]: zarr finds nothing wrong
    succeeds "$1" "$python" "$tool" "$2" --expect "$small" small.nii.gz --expect "$large" large.nii.gz "${@:3}"
    [ ! -s out ] || [ "$(tail -n 1 out | grep -c ' 0 faults$')" -eq 1 ] || head -n 20 out
}

for preset in abdomen chest; do
    succeeds "prepared floats" "$voco" prepare "$small" small.nii.gz --preset $preset --roi 48
    succeeds "prepared floats" "$voco" prepare "$large" large.nii.gz --preset $preset --roi 48
    for take in crop resize; do
        for bits in 8 12 16; do
            name=$preset-$take-$bits
            succeeds "cache $name" "$voco" cache list.txt --out "$name" --preset $preset --take $take --roi 48 --bits $bits
            agrees "zarr reads $name" "$name"
        done
    done
done
agrees "zarr refuses changed bytes, crop at 8 bits" chest-crop-8 --flip
agrees "zarr refuses changed bytes, resize at 12 bits" chest-resize-12 --flip
finish
