/* Writes small valid safetensors files into a folder, seeds for fuzz_safetensors.   seeds_safetensors FOLDER
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* The header's length, the header, and `data` bytes that mean nothing. Returns 0 where it worked. */
static int write_seed(const char *folder, const char *name, const char *header, size_t data)
{
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    uint8_t length[8] = {0};
    length[0] = (uint8_t)strlen(header);
    length[1] = (uint8_t)(strlen(header) >> 8);
    FILE *file = fopen(path, "wb");
    if (file == NULL) {
        perror(path);
        return 1;
    }
    int bad = fwrite(length, 1, sizeof length, file) != sizeof length || fputs(header, file) == EOF;
    for (size_t i = 0; i < data; i++) {
        bad = bad || fputc('Z', file) == EOF;
    }
    return fclose(file) != 0 || bad;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        (void)fprintf(stderr, "usage: seeds_safetensors FOLDER\n");
        return 2;
    }
    return write_seed(argv[1], "types.safetensors",
                      "{\"__metadata__\":{\"format\":\"voco-checkpoint-1\"},"
                      "\"i\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[0,8]},"
                      "\"a\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[8,16]},"
                      "\"e\":{\"dtype\":\"F16\",\"shape\":[0],\"data_offsets\":[16,16]},"
                      "\"u\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[16,19]}}",
                      19) ||
           write_seed(argv[1], "scalar.safetensors",
                      "{\"s\":{\"dtype\":\"BF16\",\"shape\":[],\"data_offsets\":[0,2]}}   ", 2) ||
           write_seed(argv[1], "empty.safetensors", "{}", 0);
}
