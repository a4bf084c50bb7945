/* Claims: one holder at a time, given back, taken over from the dead and the silent, and from nobody else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/folder.h"
#include "store/claim.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const uint64_t key = 0x0123456789abcdefU;

struct place {
    char folder[64];
    char claim[96];
    struct claims *claims;
};

static int make_place(void **state)
{
    struct place *place = calloc(1, sizeof *place);
    assert_non_null(place);
    snprintf(place->folder, sizeof place->folder, "/tmp/voco_claim_XXXXXX");
    assert_non_null(mkdtemp(place->folder));
    snprintf(place->claim, sizeof place->claim, "%s/.0123456789abcdef.claim", place->folder);
    assert_int_equal(claims_open(&place->claims, place->folder), VOCO_OK);
    *state = place;
    return 0;
}

static int remove_place(void **state)
{
    struct place *place = *state;
    claims_close(place->claims);
    assert_int_equal(rmdir(place->folder), 0); /* nothing was left */
    free(place);
    return 0;
}

static int take(struct claims *claims, struct claim_holder *holder)
{
    int taken = -1;
    assert_int_equal(claim_take(claims, key, &taken, holder), VOCO_OK);
    return taken;
}

/* Somebody's claim, last touched so many seconds ago. */
static void put_claim(const struct place *place, const struct claim_holder *holder, int seconds_ago)
{
    char text[claim_text_size];
    claim_holder_format(text, holder);
    FILE *stream = fopen(place->claim, "w");
    assert_non_null(stream);
    assert_true(fputs(text, stream) >= 0);
    assert_int_equal(fclose(stream), 0);
    const struct timespec then = {time(NULL) - seconds_ago, 0};
    const struct timespec times[2] = {then, then};
    assert_int_equal(utimensat(AT_FDCWD, place->claim, times, 0), 0);
}

/* A process of this machine that has ended. */
static struct claim_holder dead_process(void)
{
    int ends[2];
    struct claim_holder holder;
    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    if (child == 0) {
        claim_holder_self(&holder);
        _exit(write(ends[1], &holder, sizeof holder) == (ssize_t)sizeof holder ? 0 : 1);
    }
    assert_int_equal(read(ends[0], &holder, sizeof holder), sizeof holder);
    close(ends[0]);
    close(ends[1]);
    assert_int_equal(waitpid(child, NULL, 0), child);
    return holder;
}

static void a_claim_has_one_holder_and_can_be_given_back(void **state)
{
    struct place *place = *state;
    struct claims *other = NULL;
    struct claim_holder holder;
    assert_int_equal(claims_open(&other, place->folder), VOCO_OK);
    assert_int_equal(take(place->claims, NULL), 1);
    assert_int_equal(take(other, &holder), 0);
    assert_int_equal(holder.pid, getpid());
    assert_int_equal(take(place->claims, NULL), 0); /* another thread of this process */
    claim_drop(place->claims, key);
    assert_int_equal(take(other, NULL), 1);
    claims_close(other); /* gives back what it holds */
    assert_int_equal(take(place->claims, NULL), 1);
}

static void text_of_a_holder_reads_back(void **state)
{
    (void)state;
    struct claim_holder self;
    struct claim_holder back;
    char text[claim_text_size];
    claim_holder_self(&self);
    claim_holder_format(text, &self);
    assert_true(claim_holder_parse(&back, text));
    assert_memory_equal(&back, &self, sizeof back);
    assert_false(claim_holder_is_gone(&back, &self));
    assert_false(claim_holder_parse(&back, ""));
    assert_false(claim_holder_parse(&back, "voco claim\nhost x\n"));
    assert_false(claim_holder_parse(&back, "voco claim\nhost h\nboot b\nprocesses p\npid -1\nstarted 5\n"));
}

static void a_dead_process_loses_its_claim(void **state)
{
    struct place *place = *state;
    const struct claim_holder dead = dead_process();
    put_claim(place, &dead, 0);
    assert_int_equal(take(place->claims, NULL), 1);
}

static void a_number_that_another_process_has_now_is_not_the_holder(void **state)
{
    struct place *place = *state;
    struct claim_holder holder;
    claim_holder_self(&holder);
    holder.started--;
    put_claim(place, &holder, 0);
    assert_int_equal(take(place->claims, NULL), 1);
}

static void what_cannot_be_seen_from_here_counts_as_alive_until_it_is_silent(void **state)
{
    struct place *place = *state;
    for (int what = 0; what < 3; what++) {
        struct claim_holder holder = dead_process();
        char *field = what == 0 ? holder.host : what == 1 ? holder.boot : holder.processes;
        memcpy(field, "elsewhere", 10);
        put_claim(place, &holder, claim_stale_seconds - 30);
        assert_int_equal(take(place->claims, NULL), 0);
        put_claim(place, &holder, claim_stale_seconds + 30);
        assert_int_equal(take(place->claims, NULL), 1);
        claim_drop(place->claims, key);
    }
}

static void a_claim_without_words_counts_by_its_age(void **state)
{
    struct place *place = *state;
    const struct claim_holder nobody = {.host = "-"};
    put_claim(place, &nobody, 10);
    assert_int_equal(take(place->claims, NULL), 0);
    put_claim(place, &nobody, claim_stale_seconds + 30);
    assert_int_equal(take(place->claims, NULL), 1);
}

/* The holder was silent for too long and somebody has taken its claim: it must not give back theirs. */
static void a_lost_claim_is_not_given_back(void **state)
{
    struct place *place = *state;
    struct stat info;
    struct claim_holder other;
    assert_int_equal(take(place->claims, NULL), 1);
    claim_holder_self(&other);
    memcpy(other.host, "elsewhere", 10);
    char kept[128];
    snprintf(kept, sizeof kept, "%s/kept", place->folder);
    assert_int_equal(rename(place->claim, kept), 0); /* keeps its number in use */
    put_claim(place, &other, 0);
    claim_drop(place->claims, key);
    assert_int_equal(stat(place->claim, &info), 0);
    assert_int_equal(unlink(place->claim), 0);
    assert_int_equal(unlink(kept), 0);
}

static void *put_back_soon(void *context)
{
    const struct place *place = context;
    char aside[128];
    snprintf(aside, sizeof aside, "%s/aside", place->folder);
    (void)nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    return link(aside, place->claim) == 0 && unlink(aside) == 0 ? NULL : context;
}

/* What a process does that takes away a claim whose holder is gone, and finds that it has another's. */
static void a_claim_that_is_aside_for_a_moment_is_given_back(void **state)
{
    struct place *place = *state;
    pthread_t other;
    void *failed = NULL;
    char aside[128];
    assert_int_equal(take(place->claims, NULL), 1);
    snprintf(aside, sizeof aside, "%s/aside", place->folder);
    assert_int_equal(rename(place->claim, aside), 0);
    assert_int_equal(pthread_create(&other, NULL, put_back_soon, place), 0);
    claim_drop(place->claims, key);
    assert_int_equal(pthread_join(other, &failed), 0);
    assert_null(failed);
    assert_int_equal(access(place->claim, F_OK), -1);
}

enum { racing = 8, rounds = 200 };

struct race {
    struct place *place;
    atomic_int inside;
    atomic_int won;
    atomic_int broken;
};

static void *race_for_it(void *context)
{
    struct race *race = context;
    for (int i = 0; i < rounds; i++) {
        int taken = 0;
        if (claim_take(race->place->claims, key, &taken, NULL) == VOCO_OK && taken) {
            race->broken += atomic_fetch_add(&race->inside, 1) != 0;
            race->won++;
            race->inside--;
            claim_drop(race->place->claims, key);
        }
    }
    return NULL;
}

static void of_many_that_race_one_wins(void **state)
{
    struct race race = {.place = *state};
    pthread_t threads[racing];
    for (int i = 0; i < racing; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, race_for_it, &race), 0);
    }
    for (int i = 0; i < racing; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(race.broken, 0);
    assert_true(race.won > 0);
}

static void only_what_is_abandoned_is_removed(void **state)
{
    struct place *place = *state;
    struct stat info;
    const struct claim_holder dead = dead_process();
    put_claim(place, &dead, 0);
    claims_remove_abandoned(place->folder);
    assert_int_not_equal(stat(place->claim, &info), 0);
    struct claim_holder elsewhere = dead;
    memcpy(elsewhere.host, "elsewhere", 10);
    put_claim(place, &elsewhere, 600);
    claims_remove_abandoned(place->folder);
    assert_int_equal(stat(place->claim, &info), 0);
    put_claim(place, &elsewhere, 4000);
    claims_remove_abandoned(place->folder);
    assert_int_not_equal(stat(place->claim, &info), 0);
    assert_int_equal(take(place->claims, NULL), 1);
    claims_remove_abandoned(place->folder);
    assert_int_equal(stat(place->claim, &info), 0);
}

static void a_folder_that_is_not_there_is_named(void **state)
{
    (void)state;
    struct claims *claims = NULL;
    int taken = 1;
    assert_int_equal(claims_open(&claims, "/tmp/voco_claim_nowhere"), VOCO_OK);
    assert_int_equal(claim_take(claims, key, &taken, NULL), VOCO_IO);
    assert_int_equal(taken, 0);
    assert_non_null(strstr(voco_error_message(), "/tmp/voco_claim_nowhere"));
    claims_close(claims);
}

#define WITH_PLACE(test) cmocka_unit_test_setup_teardown(test, make_place, remove_place)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_PLACE(a_claim_has_one_holder_and_can_be_given_back),
        cmocka_unit_test(text_of_a_holder_reads_back),
        WITH_PLACE(a_dead_process_loses_its_claim),
        WITH_PLACE(a_number_that_another_process_has_now_is_not_the_holder),
        WITH_PLACE(what_cannot_be_seen_from_here_counts_as_alive_until_it_is_silent),
        WITH_PLACE(a_claim_without_words_counts_by_its_age),
        WITH_PLACE(a_lost_claim_is_not_given_back),
        WITH_PLACE(a_claim_that_is_aside_for_a_moment_is_given_back),
        WITH_PLACE(of_many_that_race_one_wins),
        WITH_PLACE(only_what_is_abandoned_is_removed),
        cmocka_unit_test(a_folder_that_is_not_there_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
