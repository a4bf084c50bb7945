/* DICOM instead of NIfTI: noticed, converted by dcm2niix once and whole, or refused with a line that says
 * what to do. What needs dcm2niix itself is skipped where it is not installed; the rest has scripts in its
 * place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/log.h"
#include "data/data_folder.h"
#include "data/dataset.h"
#include "data/dicom.h"
#include "data/dicom_series.h"
#include "volume/nifti.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char said[8192];
static char path_before[8192];

static void keep_line(enum log_level level, const char *line, void *context)
{
    (void)level;
    (void)context;
    const size_t used = strlen(said);
    snprintf(said + used, sizeof said - used, "%s\n", line);
}

static int begin_listening(void **state)
{
    snprintf(path_before, sizeof path_before, "%s", getenv("PATH"));
    said[0] = '\0';
    log_set_sink(keep_line, NULL);
    return make_data_folder(state);
}

static int stop_listening(void **state)
{
    log_set_sink(NULL, NULL);
    setenv("PATH", path_before, 1);
    return remove_data_folder(state);
}

static int is_there(const char *name)
{
    return access(in_folder(name), F_OK) == 0;
}

/* A series in files named without an ending, as many archives have them. */
static void put_series(const char *below, int series, int slices, int columns, int rows, double spacing)
{
    for (int i = 1; i <= slices; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s/IM%04d", below, 100 * series + i);
        make_above(name);
        const struct dicom_slice slice = {series, i, columns, rows, spacing};
        put_dicom_slice(in_folder(name), &slice);
    }
}

/* Puts a script in the place of dcm2niix; $out is where it shall write to. NULL: there is none. */
static void put_program(const char *script)
{
    put("bin/nothing", "");
    setenv("PATH", in_folder("bin"), 1);
    if (script != NULL) {
        char text[16384];
        snprintf(text, sizeof text, "#!/bin/sh\nPATH='%s'\nout=${12}\necho run >>'%s/runs'\n%s\n",
                 path_before, data_folder, script);
        put("bin/dcm2niix", text);
        assert_int_equal(chmod(in_folder("bin/dcm2niix"), 0700), 0);
    }
}

static int runs(void)
{
    struct stat info;
    return stat(in_folder("runs"), &info) == 0 ? (int)info.st_size / 4 : 0;
}

static int has_dcm2niix(void)
{
    return system("dcm2niix --version >/dev/null 2>&1") != 127 * 256;
}

/* ---- noticing ---- */

static void dicom_is_noticed_by_name_or_content(void **state)
{
    (void)state;
    put("empty/notes.txt", "");
    put("named/deep/x.DCM", "");
    put("siemens/x.ima", "");
    put("hidden/.x.dcm", "");
    put("mixed/x.dcm", "");
    put("mixed/z.nii.gz", "");
    put_series("plain/sub", 1, 1, 8, 8, 1.0);
    assert_int_equal(directory_holds_dicom(in_folder("empty")), 0);
    assert_int_equal(directory_holds_dicom(in_folder("named")), 1);
    assert_int_equal(directory_holds_dicom(in_folder("siemens")), 1);
    assert_int_equal(directory_holds_dicom(in_folder("hidden")), 0);
    assert_int_equal(directory_holds_dicom(in_folder("mixed")), 0);
    assert_int_equal(directory_holds_dicom(in_folder("plain")), 1);
    assert_int_equal(directory_holds_dicom(in_folder("absent")), 0);
}

static void opening_a_dicom_folder_says_what_to_do(void **state)
{
    (void)state;
    struct dataset dataset;
    char expected[512];
    put("scans/x.dcm", "");
    assert_int_equal(dataset_open(&dataset, in_folder("scans")), VOCO_BAD_INPUT);
    snprintf(expected, sizeof expected,
             "%s: holds DICOM, which must be converted first: voco cache %s --out CACHE", in_folder("scans"),
             in_folder("scans"));
    assert_string_equal(voco_error_message(), expected);
    dataset_free(&dataset);
}

/* ---- converting, with scripts for dcm2niix ---- */

static void without_dcm2niix_the_user_is_told_to_install_it(void **state)
{
    (void)state;
    struct dataset dataset;
    char expected[512];
    put("scans/x.dcm", "");
    put_program(NULL);
    assert_int_equal(dataset_open_converting(&dataset, in_folder("scans"), in_folder("out"), NULL),
                     VOCO_UNSUPPORTED);
    snprintf(expected, sizeof expected,
             "%s: holds DICOM files and dcm2niix is not installed: apt-get install dcm2niix",
             in_folder("scans"));
    assert_string_equal(voco_error_message(), expected);
    assert_false(is_there("out"));
    dataset_free(&dataset);
}

static void a_conversion_is_kept_until_the_source_changes(void **state)
{
    (void)state;
    put("scans/x.dcm", "");
    put_program("echo hello; echo a >\"$out/s1.nii.gz\"; echo b >\"$out/s2.nii.gz\"");
    assert_int_equal(convert_dicom(in_folder("scans"), in_folder("out/"), NULL), VOCO_OK);
    assert_int_equal(runs(), 1);
    assert_true(is_there("out/s1.nii.gz") && is_there("out/converted") && is_there("out/dcm2niix.log"));
    char expected[512];
    snprintf(expected, sizeof expected, "%s holds DICOM: converting with dcm2niix to %s", in_folder("scans"),
             in_folder("out"));
    assert_non_null(strstr(said, expected));
    assert_non_null(strstr(said, "2 volumes converted"));
    said[0] = '\0';
    assert_int_equal(convert_dicom(in_folder("scans"), in_folder("out"), NULL), VOCO_OK);
    assert_int_equal(runs(), 1);
    assert_string_equal(said, "");
    put("scans/sub/y.dcm", "");
    put_program("echo c >\"$out/s3.nii.gz\"");
    assert_int_equal(convert_dicom(in_folder("scans"), in_folder("out"), NULL), VOCO_OK);
    assert_int_equal(runs(), 2);
    assert_true(is_there("out/s3.nii.gz"));
    assert_false(is_there("out/s1.nii.gz"));
}

static void a_conversion_inside_its_source_is_not_part_of_it(void **state)
{
    (void)state;
    put("scans/x.dcm", "");
    put_program("echo a >\"$out/s1.nii.gz\"");
    assert_int_equal(convert_dicom(in_folder("scans"), in_folder("scans/out"), NULL), VOCO_OK);
    assert_int_equal(convert_dicom(in_folder("scans"), in_folder("scans/out"), NULL), VOCO_OK);
    assert_int_equal(runs(), 1);
}

static void assert_conversion_fails(const char *script, const char *cause)
{
    put_program(script);
    assert_int_equal(convert_dicom(in_folder("scans"), in_folder("out"), NULL), VOCO_BAD_INPUT);
    if (strstr(voco_error_message(), cause) == NULL) {
        fail_msg("\"%s\" without \"%s\"", voco_error_message(), cause);
    }
    assert_int_equal(strncmp(voco_error_message(), in_folder("scans"), strlen(in_folder("scans"))), 0);
    assert_false(is_there("out"));
    char temporary[64];
    snprintf(temporary, sizeof temporary, "out.tmp.%ld", (long)getpid());
    assert_false(is_there(temporary));
    assert_true(is_there("out.log"));
}

static void a_failure_names_its_status_and_last_line_and_leaves_nothing(void **state)
{
    (void)state;
    put("scans/x.dcm", "");
    assert_conversion_fails("echo one; echo 'Error: two' >&2; echo; exit 3",
                            "dcm2niix failed with exit status 3: Error: two (all it said: ");
    assert_conversion_fails("echo a >\"$out/s1.nii.gz\"; exit 1", "exit status 1: it printed nothing");
    assert_conversion_fails("echo none; exit 0", "made no volume of it: none");
    assert_conversion_fails("exit 8", "failed with exit status 8");
    assert_conversion_fails("kill -9 $$", "was ended by signal 9");
}

static void what_could_be_converted_counts_with_a_warning(void **state)
{
    (void)state;
    put("scans/x.dcm", "");
    put_program("echo a >\"$out/s1.nii.gz\"; echo 'Warning: half'; exit 8");
    assert_int_equal(convert_dicom(in_folder("scans"), in_folder("out"), NULL), VOCO_OK);
    assert_non_null(strstr(said, "dcm2niix could not convert all of it (exit status 8): Warning: half"));
    assert_true(is_there("out/s1.nii.gz"));
}

static void a_folder_of_something_else_is_left_alone(void **state)
{
    (void)state;
    put("scans/x.dcm", "");
    put("out/thesis.tex", "");
    put_program("echo a >\"$out/s1.nii.gz\"");
    assert_int_equal(convert_dicom(in_folder("scans"), in_folder("out"), NULL), VOCO_BAD_INPUT);
    assert_non_null(strstr(voco_error_message(), "holds something else"));
    assert_true(is_there("out/thesis.tex"));
    assert_int_equal(runs(), 0);
}

static void a_wish_to_stop_ends_it(void **state)
{
    (void)state;
    const volatile sig_atomic_t stop = 1;
    put("scans/x.dcm", "");
    put_program("exec sleep 60");
    assert_int_equal(convert_dicom(in_folder("scans"), in_folder("out"), &stop), VOCO_STOPPED);
    assert_false(is_there("out"));
}

static void sets_of_a_corpus_are_converted_apart(void **state)
{
    (void)state;
    struct dataset dataset;
    put("data/A/x.dcm", "");
    put("data/B/p1/x.dcm", "");
    put("data/B/p2/x.dcm", "");
    put("data/C/x.nii", "");
    put("corpus.yaml", "root: data\nsets: [{name: A}, {name: B, list: \"p*\"}, {name: C}]\n");
    put_program("echo a >\"$out/s1.nii.gz\"");
    assert_int_equal(dataset_open(&dataset, in_folder("corpus.yaml")), VOCO_OK);
    assert_int_equal(dataset.count, 1);
    assert_non_null(strstr(dataset.sets[0].problem, "voco cache"));
    dataset_free(&dataset);
    assert_int_equal(dataset_open_converting(&dataset, in_folder("corpus.yaml"), in_folder("out"), NULL),
                     VOCO_OK);
    assert_int_equal(runs(), 3);
    assert_string_equal(dataset.entries[0].name, "A/s1.nii.gz");
    assert_string_equal(dataset.entries[0].path, in_folder("out/A/s1.nii.gz"));
    assert_int_equal(dataset.sets[1].count, 2);
    assert_string_not_equal(dataset.entries[1].name, dataset.entries[2].name);
    assert_string_not_equal(dataset.entries[1].path, dataset.entries[2].path);
    assert_int_equal(dataset.count, 4);
    dataset_free(&dataset);
}

/* ---- converting, with dcm2niix ---- */

static void check_volume(const char *path, int columns, int rows, int slices, double spacing)
{
    struct nifti_info info;
    if (nifti_read_info(&info, path) != VOCO_OK) {
        fail_msg("%s", voco_error_message());
    }
    assert_int_equal(info.size[0], columns);
    assert_int_equal(info.size[1], rows);
    assert_int_equal(info.size[2], slices);
    for (int axis = 0; axis < 3; axis++) {
        assert_true(fabs(info.spacing[axis] - spacing) < 1e-4);
    }
}

static void each_series_becomes_a_volume(void **state)
{
    (void)state;
    if (!has_dcm2niix()) {
        skip();
    }
    struct dataset dataset;
    put_series("my scans/a/b", 1, 12, 32, 24, 2.0);
    put_series("my scans/c", 2, 9, 20, 30, 1.5);
    put_series("my scans/c", 3, 9, 20, 30, 1.5);
    if (dataset_open_converting(&dataset, in_folder("my scans"), in_folder("made/of it"), NULL) != VOCO_OK) {
        fail_msg("%s", voco_error_message());
    }
    assert_int_equal(dataset.count, 3);
    assert_int_equal(dataset.sets[0].count, 3);
    assert_string_equal(dataset.entries[0].name, "1.2.826.0.1.3680043.2.1143.1.1_1.nii.gz");
    assert_string_equal(dataset.entries[2].name, "1.2.826.0.1.3680043.2.1143.1.3_3.nii.gz");
    check_volume(dataset.entries[0].path, 32, 24, 12, 2.0);
    check_volume(dataset.entries[1].path, 20, 30, 9, 1.5);
    check_volume(dataset.entries[2].path, 20, 30, 9, 1.5);
    struct volume volume;
    assert_int_equal(nifti_read(&volume, dataset.entries[0].path), VOCO_OK);
    assert_true(fabsf(volume.data[0] - (100.0F + 1.0F - 1024.0F)) < 10.0F);
    volume_free(&volume);
    dataset_free(&dataset);
    /* The second time nothing is done, and what was made is opened as it is. */
    said[0] = '\0';
    assert_int_equal(dataset_open_converting(&dataset, in_folder("my scans"), in_folder("made/of it"), NULL),
                     VOCO_OK);
    assert_int_equal(dataset.count, 3);
    assert_string_equal(said, "");
    dataset_free(&dataset);
}

static void what_only_looks_like_dicom_is_refused(void **state)
{
    (void)state;
    if (!has_dcm2niix()) {
        skip();
    }
    put("scans/x.dcm", "not DICOM at all");
    assert_int_equal(convert_dicom(in_folder("scans"), in_folder("out"), NULL), VOCO_BAD_INPUT);
    assert_non_null(strstr(voco_error_message(), "dcm2niix "));
    assert_false(is_there("out"));
}

#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, begin_listening, stop_listening)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(dicom_is_noticed_by_name_or_content),
        WITH_FOLDER(opening_a_dicom_folder_says_what_to_do),
        WITH_FOLDER(without_dcm2niix_the_user_is_told_to_install_it),
        WITH_FOLDER(a_conversion_is_kept_until_the_source_changes),
        WITH_FOLDER(a_conversion_inside_its_source_is_not_part_of_it),
        WITH_FOLDER(a_failure_names_its_status_and_last_line_and_leaves_nothing),
        WITH_FOLDER(what_could_be_converted_counts_with_a_warning),
        WITH_FOLDER(a_folder_of_something_else_is_left_alone),
        WITH_FOLDER(a_wish_to_stop_ends_it),
        WITH_FOLDER(sets_of_a_corpus_are_converted_apart),
        WITH_FOLDER(each_series_becomes_a_volume),
        WITH_FOLDER(what_only_looks_like_dicom_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
