#include "base/team.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

struct member {
    struct team *team;
    int number;
    pthread_t thread;
};

struct team {
    pthread_mutex_t lock;
    pthread_cond_t begun, finished;
    unsigned round; /* how many have begun */
    int busy;       /* members that have not yet come to the end of this round */
    int dismissed;
    team_work *work; /* of this round, as the next two */
    void *context;
    int items;
    atomic_int next_item;
    int others; /* members besides the caller */
    struct member *members;
};

static void work_through(struct team *team, int number)
{
    for (;;) {
        const int item = atomic_fetch_add(&team->next_item, 1);
        if (item >= team->items) {
            return;
        }
        team->work(team->context, item, number);
    }
}

static void *member_main(void *argument)
{
    const struct member *member = argument;
    struct team *team = member->team;
    unsigned seen = 0;
    (void)pthread_mutex_lock(&team->lock);
    for (;;) {
        while (team->round == seen && !team->dismissed) {
            (void)pthread_cond_wait(&team->begun, &team->lock);
        }
        if (team->dismissed) {
            break;
        }
        seen = team->round;
        (void)pthread_mutex_unlock(&team->lock);
        work_through(team, member->number);
        (void)pthread_mutex_lock(&team->lock);
        if (--team->busy == 0) {
            (void)pthread_cond_signal(&team->finished);
        }
    }
    (void)pthread_mutex_unlock(&team->lock);
    return NULL;
}

struct team *team_gather(int threads)
{
    struct team *team = calloc(1, sizeof *team);
    struct member *members = calloc((size_t)threads, sizeof *members);
    if (team == NULL || members == NULL) {
        free(members);
        free(team);
        return NULL;
    }
    team->members = members;
    (void)pthread_mutex_init(&team->lock, NULL);
    (void)pthread_cond_init(&team->begun, NULL);
    (void)pthread_cond_init(&team->finished, NULL);
    for (int i = 0; i < threads - 1; i++) {
        members[i].team = team;
        members[i].number = i + 1;
        if (pthread_create(&members[i].thread, NULL, member_main, &members[i]) != 0) {
            break;
        }
        team->others++;
    }
    return team;
}

void team_begin(struct team *team, int items, team_work *work, void *context)
{
    (void)pthread_mutex_lock(&team->lock);
    team->work = work;
    team->context = context;
    team->items = items;
    atomic_store(&team->next_item, 0);
    team->busy = team->others;
    team->round++;
    (void)pthread_cond_broadcast(&team->begun);
    (void)pthread_mutex_unlock(&team->lock);
}

void team_finish(struct team *team)
{
    work_through(team, 0);
    (void)pthread_mutex_lock(&team->lock);
    while (team->busy > 0) {
        (void)pthread_cond_wait(&team->finished, &team->lock);
    }
    (void)pthread_mutex_unlock(&team->lock);
}

void team_dismiss(struct team *team)
{
    if (team == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&team->lock);
    team->dismissed = 1;
    (void)pthread_cond_broadcast(&team->begun);
    (void)pthread_mutex_unlock(&team->lock);
    for (int i = 0; i < team->others; i++) {
        (void)pthread_join(team->members[i].thread, NULL);
    }
    (void)pthread_cond_destroy(&team->finished);
    (void)pthread_cond_destroy(&team->begun);
    (void)pthread_mutex_destroy(&team->lock);
    free(team->members);
    free(team);
}
