/* YAML by its events: what stands before and behind a file's one mapping, and what is refused on the way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "formats/yaml_reader.h"

#include <string.h>

static enum voco_status read_all(const char *text, int *keys)
{
    struct yaml_reader reader;
    *keys = 0;
    enum voco_status status = yaml_reader_open(&reader, text, strlen(text), "f");
    if (status == VOCO_OK) {
        status = yaml_reader_begin(&reader, "no mapping");
    }
    while (status == VOCO_OK && (status = yaml_reader_next(&reader)) == VOCO_OK &&
           reader.event.type != YAML_MAPPING_END_EVENT) {
        assert_int_equal(yaml_reader_line(&reader), 1 + *keys);
        ++*keys;
        status = yaml_reader_next(&reader);
    }
    if (status == VOCO_OK) {
        status = yaml_reader_end(&reader, "more than one document");
    }
    yaml_reader_close(&reader);
    return status;
}

static void a_mapping_is_read_to_the_end(void **state)
{
    (void)state;
    int keys = 0;
    assert_int_equal(read_all("a: 1\nb: 2\nc: x\n", &keys), VOCO_OK);
    assert_int_equal(keys, 3);
    assert_int_equal(read_all("{}", &keys), VOCO_OK);
    assert_int_equal(keys, 0);
}

static void what_is_no_plain_mapping_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "f: is empty"},
        {"# nothing\n", "f: is empty"},
        {"\n- a\n", "f:2: no mapping"},
        {"word", "f:1: no mapping"},
        {"a: 1\n---\nb: 2\n", "f:2: more than one document"},
        {"a: {\n", "f:2: not YAML: did not find expected node content"},
        {"a: &x 1\n", "f:1: anchors, aliases and tags have no use here"},
        {"a: 1\nb: *x\n", "f:2: anchors, aliases and tags have no use here"},
        {"a: !!str 1\n", "f:1: anchors, aliases and tags have no use here"},
        {"!x {a: 1}\n", "f:1: anchors, aliases and tags have no use here"},
        {"a: &x [1]\n", "f:1: anchors, aliases and tags have no use here"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int keys = 0;
        assert_int_equal(read_all(cases[i].text, &keys), VOCO_BAD_INPUT);
        assert_string_equal(voco_error_message(), cases[i].message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mapping_is_read_to_the_end),
        cmocka_unit_test(what_is_no_plain_mapping_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
