#!/bin/bash
# voco bench measures a step without data, and its parts are the whole.
. "$(dirname "$0")/harness.sh"
export OMP_WAIT_POLICY=passive

# holds WHAT AWK-CONDITION: of the last JSON report. of["KEY"] is the report's number, part["NAME"], gflop["NAME"] are a part's.
holds() {
    checked=$((checked + 1))
    awk -v FS='[":, ]+' '
        /^  "/ { of[$2] = $3 }
        /^      "name"/ { name = $3 }
        /^      "seconds"/ { part[name] = $3; sum += $3; parts++ }
        /^      "gflop"/ { gflop[name] = $3 }
        END { exit !('"$2"') }' out || {
        complain "$1: not so: $2"
        cat out
    }
}

smallest_recipe >smallest.yaml
succeeds "the smallest recipe" "$voco" bench --recipe smallest.yaml --batch 1 --steps 2 --threads 1
says "a table for people" out '^recipe smallest.yaml, float32, 1 thread: 1 volume, 3 crops a step$' \
    '^[0-9.]+ s per step, median of 2 ' '^part +seconds +share +GFLOP/s +of peak +GB/s +of peak$' \
    '^convolution +[0-9.]+ +[0-9.]+ % +[0-9.]+ +[0-9]+ %' '^attention +[0-9.]+' '^norms +[0-9.]+ +[0-9.]+ % +[0-9.]+ +[0-9]+ %' \
    '^waiting for data +[0-9.]+' '^whole step +[0-9.]+ +100.0 %' 'GFLOP/s in float32 \((amx|avx512bf16|avx512|avx2|portable)\)' \
    '^Peak memory: [0-9.]+ [MG]B. A loader thread makes a batch in [0-9.]+ s'
absent "files of a measurement" out.safetensors cache run

succeeds "the same as JSON" "$voco" bench --recipe smallest.yaml --batch 2 --steps 3 --threads 1 --json
says "JSON" out '^  "recipe": "smallest.yaml",$' '^  "precision": "float32",$' '"name": "projectors_and_loss",$'
if command -v python3 >/dev/null; then
    checked=$((checked + 1))
    python3 -m json.tool out >/dev/null || complain "it is no JSON"
fi
holds "the size of a step" 'of["volumes"] == 2 && of["crops"] == 6 && of["threads"] == 1 && of["steps"] == 3'
holds "parts are the whole" 'parts == 9 && (sum / of["seconds_per_step"] - 1) ^ 2 < 1e-12'
holds "no part is counted twice" 'part["rest"] >= 0 && part["rest"] < 0.2 * sum'
holds "the encoder takes most of it" \
    'part["convolution"] > 0 && part["linear"] > 0 && part["attention"] > 0 && part["norms"] > 0 && part["elementwise"] > 0 &&
     part["convolution"] + part["linear"] + part["attention"] + part["norms"] + part["elementwise"] > 0.6 * sum'
holds "the rest of the step is there" \
    'part["projectors_and_loss"] > 0 && part["optimiser"] > 0 && part["data"] >= 0 && of["seconds_per_batch"] > 0'
holds "the median lies between" \
    'of["fastest_step"] <= of["seconds_per_step"] && of["seconds_per_step"] <= of["slowest_step"]'
# 24, 12, 6 and 3 tokens an axis, two blocks with 6 products of 2 operations, 6 crops.
holds "the arithmetic of attention" \
    '(gflop["attention"] / (6 * 2 * 6 * 2 * (24^3 * 343 * 3 + 12^3 * 343 * 6 + 6^3 * 216 * 12 + 27 * 27 * 24) * 1e-9) - 1) ^ 2 < 1e-12'
holds "the arithmetic of a step" \
    '((gflop["convolution"] + gflop["linear"] + gflop["attention"] + gflop["projectors_and_loss"]) / of["gflop_per_step"] - 1) ^ 2 < 1e-12'
holds "the rate" '(of["gflop_per_step"] / of["seconds_per_step"] / of["gflops_useful"] - 1) ^ 2 < 1e-12'
holds "peaks" 'of["peak_gflops"] > 0.2 && of["memory_gbytes_per_second"] > 0.1'
holds "threads compute no longer than there are: one and the loader's two" \
    'of["cpu_seconds_per_step"] > 0 && of["cpu_seconds_per_step"] < 1.05 * 3 * of["slowest_step"]'
holds "memory" 'of["peak_memory_bytes"] > 5e7 && of["peak_memory_bytes"] < 4e9'

succeeds "in bf16" "$voco" bench --recipe smallest.yaml --batch 1 --steps 1 --threads 1 --precision bf16 --json
says "in bf16" out '^  "precision": "bf16",$'
holds "the peak is that of the precision" \
    'of["peak_gflops"] == (of["peak_gflops_bf16"] > 0 ? of["peak_gflops_bf16"] : of["peak_gflops_float32"])'

# Under AddressSanitizer freed memory stays.
if ! grep -qa __asan_init "$voco"; then
    succeeds "with little memory" "$voco" bench --recipe tiny --steps 1 --memory 300M --json
    holds "memory is kept to" 'of["peak_memory_bytes"] > 0 && of["peak_memory_bytes"] <= 300 * 1048576'
fi
refuses "an argument" 2 'one argument too many: data' "$voco" bench data
refuses "no step" 2 '--steps must lie between 1 and' "$voco" bench --steps 0
refuses "a recipe that is not there" 1 'nothing.yaml: cannot open' "$voco" bench --recipe nothing.yaml
refuses "a batch of nothing" 2 '--batch must lie between 1 and' "$voco" bench --recipe tiny --batch 0
refuses "another precision" 2 '--precision: no precision is called "fp8"' "$voco" bench --precision fp8
refuses "a slip of the pen" 2 'did you mean --threads' "$voco" bench --thread 2
refuses "a wrong instruction set" 1 'VOCO_ISA=sse9' env VOCO_ISA=sse9 "$voco" bench --recipe smallest.yaml
succeeds "an estimate of many GPUs" "$voco" bench --recipe huge --scale --network-bandwidth 25
says "an estimate of many GPUs" out 'recipe huge, 2 volumes a GPU' 'network has' '25 GB/s' '  512      64      1024'
succeeds "the same for scripts" "$voco" bench --recipe huge --scale --json
says "the same for scripts" out '"network_bytes_per_second": 50000000000.0' '"gpus": 512'
succeeds "help" "$voco" bench --help
says "help" out 'voco bench --recipe tiny' '--json' 'Winograd'
finish
