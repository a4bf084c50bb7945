/* Writes pickles and archives into a folder, sound and hostile ones, seeds for fuzz_pt.   seeds_pt FOLDER */
#include "formats/pt_bytes.h"

#include <stdio.h>
#include <stdlib.h>

#define PICKLE(name, text)                                                                                   \
    {                                                                                                        \
        name, text, sizeof(text) - 1                                                                         \
    }

#define REPEATED(level) "](h" level "h" level "h" level "h" level "h" level "h" level "h" level "h" level "e"

#define KEY(letter) PT_TEXT("\001", letter)

/* A line for each value of a pickle. */
/* clang-format off */
static const struct {
    const char *name;
    const char *bytes;
    size_t count;
} pickles[] = {
    PICKLE("tensor.pkl", PT_DICT_OF(PT_SOUND_TENSOR)),
    PICKLE("strides.pkl",
        PT_DICT_OF(PT_TENSOR(PT_STORAGE("ByteStorage", "0", "K\100"), "K\005",
                             "(K\002K\003K\001K\004t", "(K\001K\014K\007K\002t"))),
    PICKLE("untyped.pkl",
        PT_DICT_OF("ctorch._utils\n_rebuild_tensor_v3\n("
                   "(" PT_TEXT("\007", "storage") "ctorch.storage\nUntypedStorage\n" KEY("0") PT_TEXT("\003", "cpu") "K\100tQ"
                   "K\000K\004\205K\001\205\211ccollections\nOrderedDict\n)Rctorch\nuint16\ntR")),
    PICKLE("parameter.pkl",
        PT_DICT_OF("ctorch._utils\n_rebuild_parameter\n(" PT_SOUND_TENSOR "\210ccollections\nOrderedDict\n)RtR")),
    PICKLE("scalars.pkl",
        PT_BEGIN "}("
        KEY("a") "N"
        KEY("b") "\210"
        KEY("c") "J\377\377\377\377"
        KEY("d") "G\077\340\000\000\000\000\000\000"
        KEY("e") "](M\377\377\212\011\001\002\003\004\005\006\007\010\011e"
        KEY("f") PT_TEXT("\002", "xy")
        KEY("g") "ctorch\nSize\nK\001K\002K\003\207\205R"
        KEY("h") "ctorch\nfloat32\n"
        "u."),
    PICKLE("memo.pkl", PT_BEGIN "}(" KEY("a") "q\001]r\002\000\000\000" KEY("b") "j\002\000\000\000" KEY("c") "h\001u."),
    PICKLE("attributes.pkl", PT_BEGIN "ccollections\nOrderedDict\n)R}" KEY("a") "}sb."),
    PICKLE("system.pkl", PT_BEGIN "cos\nsystem\n" PT_TEXT("\004", "true") "\205R."),
    PICKLE("cycle.pkl", PT_BEGIN "]q\000h\000a."),
    PICKLE("repeated.pkl",
        PT_BEGIN "("
        "](NNNNNNNNeq\000"
        REPEATED("\000") "q\001"
        REPEATED("\001") "q\002"
        REPEATED("\002") "q\003"
        REPEATED("\003") "q\004"
        REPEATED("\004") "q\005"
        REPEATED("\005") "q\006"
        REPEATED("\006")
        "t."),
    PICKLE("overflow.pkl",
        PT_DICT_OF(PT_TENSOR(PT_STORAGE("FloatStorage", "0", "K\020"),
                             "\212\010\377\377\377\377\377\377\377\177",
                             "\212\010\000\000\000\000\000\000\000\100K\002\206",
                             "\212\010\000\000\000\000\000\000\000\100K\000\206"))),
    PICKLE("memo_far.pkl", PT_BEGIN "Nr\377\377\377\177."),
    PICKLE("expanded.pkl",
        PT_DICT_OF(PT_TENSOR(PT_STORAGE("FloatStorage", "0", "K\020"), "K\000", "J\000\000\000\020\205", "K\000\205"))),
};
/* clang-format on */

static int write_seed(const char *folder, const char *name, const void *bytes, size_t count)
{
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    if (file == NULL) {
        perror(path);
        return 1;
    }
    const int bad = fwrite(bytes, 1, count, file) != count;
    return fclose(file) != 0 || bad;
}

static int write_archive(const char *folder)
{
    static const char pickle[] = PT_DICT_OF(PT_SOUND_TENSOR);
    size_t size = 0;
    unsigned char *bytes = pt_bytes(&size, pickle, sizeof pickle - 1);
    const int bad = write_seed(folder, "archive.pt", bytes, size);
    free(bytes);
    return bad;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        (void)fprintf(stderr, "usage: seeds_pt FOLDER\n");
        return 2;
    }
    int bad = write_archive(argv[1]);
    for (size_t i = 0; i < sizeof pickles / sizeof pickles[0]; i++) {
        bad = write_seed(argv[1], pickles[i].name, pickles[i].bytes, pickles[i].count) || bad;
    }
    return bad;
}
