#include "device_on_host.h"

#include "queue_on_host.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <tuple>
#include <vector>

/* ---- memory: nobody's, but while a queue is at work ---- */

static std::mutex memory_lock;
static std::map<void *, size_t> arrays;
static int at_work;

static void set_access(int access)
{
    for (const auto &a : arrays) {
        (void)mprotect(a.first, a.second, access);
    }
}

static void begin_work()
{
    std::lock_guard<std::mutex> guard(memory_lock);
    if (at_work++ == 0) {
        set_access(PROT_READ | PROT_WRITE);
    }
}

static void end_work()
{
    std::lock_guard<std::mutex> guard(memory_lock);
    if (--at_work == 0) {
        set_access(PROT_NONE);
    }
}

/* Full of NaNs where that takes no time: arenas are large. */
static void *new_array(size_t bytes)
{
    enum { page = 4096, most_poison = 1 << 24 };
    const size_t size = (bytes / page + 1) * page;
    void *memory =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        return NULL;
    }
    if (size <= most_poison) {
        memset(memory, 0xff, size);
    }
    std::lock_guard<std::mutex> guard(memory_lock);
    arrays[memory] = size;
    if (at_work == 0) {
        (void)mprotect(memory, size, PROT_NONE);
    }
    return memory;
}

static void free_array(void *memory)
{
    std::lock_guard<std::mutex> guard(memory_lock);
    const auto found = arrays.find(memory);
    if (found != arrays.end()) {
        (void)munmap(found->first, found->second);
        arrays.erase(found);
    }
}

/* ---- a queue ---- */

class queue : public queue_on_host
{
  public:
    queue() : worker([this] { work(); })
    {
        add = add_to;
    }

    ~queue()
    {
        put([this] { ending = true; });
        worker.join();
    }

    void put(std::function<void()> job)
    {
        std::lock_guard<std::mutex> guard(lock);
        jobs.push_back(std::move(job));
        asked++;
        changed.notify_all();
    }

    void wait_until(size_t count)
    {
        std::unique_lock<std::mutex> guard(lock);
        changed.wait(guard, [&] { return done >= count; });
    }

    size_t asked_so_far()
    {
        std::lock_guard<std::mutex> guard(lock);
        return asked;
    }

    bool is_done()
    {
        std::lock_guard<std::mutex> guard(lock);
        return done == asked;
    }

  private:
    static void add_to(queue_on_host *self, void (*job)(void *), void *argument)
    {
        static_cast<queue *>(self)->put([=] { job(argument); });
    }

    std::function<void()> next()
    {
        std::unique_lock<std::mutex> guard(lock);
        changed.wait(guard, [&] { return !jobs.empty(); });
        std::function<void()> job = std::move(jobs.front());
        jobs.pop_front();
        return job;
    }

    /* At work as long as there is any. Some of it is late, so that what ought to have waited for it shows. */
    void work()
    {
        bool working = false;
        while (!ending) {
            const std::function<void()> job = next();
            if (!working) {
                begin_work();
            }
            if (done % 7 == 3) {
                (void)usleep(300);
            }
            job();
            std::lock_guard<std::mutex> guard(lock);
            working = !jobs.empty() && !ending;
            if (!working) {
                end_work();
            }
            done++;
            changed.notify_all();
        }
    }

    std::mutex lock;
    std::condition_variable changed;
    std::deque<std::function<void()>> jobs;
    size_t asked = 0, done = 0;
    bool ending = false;
    std::thread worker; /* the last, since it uses the others */
};

/* ---- the device ---- */

/* Operations with their arguments. */
struct recording {
    std::vector<std::function<void()>> jobs;
    int moved; /* how often memory had when it was made */
};

struct device {
    struct compute inner; /* whose operations they are */
    queue line;
    recording *open; /* that is made now; NULL: none */
    recordings_on_host recordings;
};

static device *device_of(const struct compute *c)
{
    return static_cast<device *>(c->state);
}

/* The inner compute of c or of c->full. */
static struct compute *inner_of(const struct compute *c)
{
    device *d = device_of(c);
    return c->precision == d->inner.precision ? &d->inner : d->inner.full;
}

static void put(struct compute *c, const std::function<void()> &job)
{
    device *d = device_of(c);
    if (d->open != NULL) {
        d->open->jobs.push_back(job);
    } else {
        d->line.put(job);
    }
}

static void not_while_recording(const struct compute *c, const char *what)
{
    if (device_of(c)->open != NULL) {
        (void)fprintf(stderr, "device on host: %s has no place in a recording\n", what);
        abort();
    }
}

/* An argument until its operation's turn: structs are the caller's and copied, arrays are not. */
template <typename T> struct kept {
    T value;
    T get()
    {
        return value;
    }
};

template <typename S> struct kept_struct {
    S copy;
    bool given;
    kept_struct(const S *s) : copy(s != NULL ? *s : S()), given(s != NULL)
    {
    }
    const S *get()
    {
        return given ? &copy : NULL;
    }
};

#define KEPT_AS_COPY(S)                                                                                      \
    template <> struct kept<const S *> : kept_struct<S> {                                                    \
        kept(const S *s) : kept_struct<S>(s)                                                                 \
        {                                                                                                    \
        }                                                                                                    \
    };
KEPT_AS_COPY(conv3d_shape)
KEPT_AS_COPY(attention_shape)
KEPT_AS_COPY(norm_activation)
KEPT_AS_COPY(pooled_residual)
KEPT_AS_COPY(normed_linear)
KEPT_AS_COPY(normed_linear_gradients)
KEPT_AS_COPY(mlp)
KEPT_AS_COPY(mlp_gradients)
KEPT_AS_COPY(adamw_settings)
KEPT_AS_COPY(contrast_shape)

template <auto member> struct later;

template <typename... A, void (*compute::*member)(struct compute *, A...)> struct later<member> {
    static void call(struct compute *c, A... arguments)
    {
        struct compute *inner = inner_of(c);
        std::tuple<kept<A>...> all{kept<A>{arguments}...};
        put(c,
            [=]() mutable { std::apply([&](auto &...one) { (inner->*member)(inner, one.get()...); }, all); });
    }
};

static void *allocate(struct compute *c, size_t bytes)
{
    not_while_recording(c, "allocating");
    void *memory = c->status == VOCO_OK ? new_array(bytes) : NULL;
    if (c->status == VOCO_OK && memory == NULL) {
        compute_failed(c, VOCO_NO_MEMORY, "no memory for its arrays");
    }
    return memory;
}

static void wait_for_all(struct compute *c)
{
    not_while_recording(c, "waiting");
    queue *line = &device_of(c)->line;
    line->wait_until(line->asked_so_far());
    struct compute *inner = inner_of(c);
    if (inner->status != VOCO_OK) {
        compute_failed(c, inner->status, inner->message);
        inner->status = VOCO_OK;
    }
}

static void release(struct compute *c, void *memory)
{
    wait_for_all(c);
    free_array(memory);
}

static void *allocate_staging(struct compute *, size_t bytes)
{
    return malloc(bytes > 0 ? bytes : 1);
}

static void release_staging(struct compute *, void *memory)
{
    free(memory);
}

static size_t free_memory(struct compute *)
{
    return (size_t)256 << 20;
}

static void copy(struct compute *c, void *to, const void *from, size_t bytes)
{
    if (bytes > 0) {
        put(c, [=] { memcpy(to, from, bytes); });
    }
}

static void copy_with_host(struct compute *c, void *to, const void *from, size_t bytes)
{
    not_while_recording(c, "a copy from or to the host");
    copy(c, to, from, bytes);
}

static void parameters_changed(struct compute *c)
{
    not_while_recording(c, "a change of parameters");
    later<&compute::parameters_changed>::call(c);
}

static void follow(struct compute *c, struct compute *other)
{
    not_while_recording(c, "following");
    not_while_recording(other, "being followed");
    queue *leader = &device_of(other)->line;
    const size_t asked = leader->asked_so_far();
    device_of(c)->line.put([=] { leader->wait_until(asked); });
}

static int done(struct compute *c)
{
    not_while_recording(c, "asking whether all is done");
    const bool is_done = device_of(c)->line.is_done();
    if (is_done) {
        wait_for_all(c);
    }
    return is_done;
}

static void *queue_of(struct compute *c)
{
    return static_cast<queue_on_host *>(&device_of(c)->line);
}

static size_t normed_conv3d_work(struct compute *c, const struct conv3d_shape *shape)
{
    return inner_of(c)->normed_conv3d_work(inner_of(c), shape);
}

static int mlp_fits(struct compute *c, int channels, int hidden)
{
    return inner_of(c)->mlp_fits(inner_of(c), channels, hidden);
}

static int normed_linear_fits(struct compute *c, int in_features, int out_features)
{
    return inner_of(c)->normed_linear_fits(inner_of(c), in_features, out_features);
}

static void record_begin(struct compute *c)
{
    device *d = device_of(c);
    not_while_recording(c, "another recording");
    d->open = new recording{{}, d->recordings.moved};
}

static enum voco_status record_end(struct compute *c, struct recording **made)
{
    device *d = device_of(c);
    *made = d->open;
    d->open = NULL;
    if (d->recordings.made == d->recordings.most) {
        delete *made;
        *made = NULL;
        compute_failed(c, VOCO_UNSUPPORTED, "it records no more");
        return compute_status(c);
    }
    d->recordings.made++;
    return VOCO_OK;
}

static int can_replay(struct compute *c, const struct recording *recording)
{
    return recording->moved == device_of(c)->recordings.moved;
}

static void replay(struct compute *c, struct recording *recording)
{
    not_while_recording(c, "a replay");
    if (!can_replay(c, recording)) {
        (void)fprintf(stderr, "device on host: memory has moved since this was recorded\n");
        abort();
    }
    for (const auto &job : recording->jobs) {
        put(c, job);
    }
}

static void recording_free(struct compute *, struct recording *recording)
{
    delete recording;
}

struct recordings_on_host *device_recordings(struct compute *c)
{
    return &device_of(c)->recordings;
}

static void close_device(struct compute *c)
{
    device *d = device_of(c);
    wait_for_all(c);
    if (c->full != c) {
        delete c->full;
    }
    compute_close(&d->inner);
    delete d;
}

static enum voco_status open_beside(struct compute *c, struct compute *beside);

static void fill(struct compute *c, device *d, enum compute_precision precision)
{
    *c = compute{};
    c->name = "device on host";
    c->state = d;
    c->full = c;
    c->precision = precision;
    c->activation_size = precision == PRECISION_BF16 ? 2 : sizeof(real);
    c->multiplies_bf16 = 1;
    c->separate_memory = 1;
    c->allocate = allocate;
    c->release = release;
    c->allocate_staging = allocate_staging;
    c->release_staging = release_staging;
    c->free_memory = free_memory;
    c->to_device = c->to_host = copy_with_host;
    c->copy = copy;
    c->wait = wait_for_all;
    c->open_beside = open_beside;
    c->follow = follow;
    c->done = done;
    c->queue = queue_of;
    c->record_begin = record_begin;
    c->record_end = record_end;
    c->can_replay = can_replay;
    c->replay = replay;
    c->recording_free = recording_free;
#define LATER(operation) c->operation = later<&compute::operation>::call
    LATER(activations_from_reals);
    LATER(reals_from_activations);
    LATER(transform_crops);
    LATER(conv3d_forward);
    LATER(conv3d_backward);
    LATER(normed_conv3d_forward);
    LATER(normed_conv3d_backward);
    LATER(normed_conv3d_pair_backward);
    LATER(linear_forward);
    LATER(linear_backward);
    LATER(linear_gelu_forward);
    LATER(linear_gelu_backward);
    LATER(linear_add_forward);
    LATER(layer_norm_forward);
    LATER(layer_norm_backward);
    LATER(instance_norm_forward);
    LATER(instance_norm_backward);
    LATER(instance_norm_moments);
    LATER(instance_norm_apply);
    LATER(pooled_norm_forward);
    LATER(pooled_norm_backward);
    LATER(channel_scale_forward);
    LATER(channel_scale_backward);
    LATER(window_attention_forward);
    LATER(window_attention_backward);
    LATER(gelu_forward);
    LATER(gelu_backward);
    LATER(patch_merge_forward);
    LATER(patch_merge_backward);
    LATER(add);
    LATER(adamw_step);
    LATER(undo_if_skipped);
    LATER(moving_average);
    LATER(apply_mask);
    LATER(contrast_loss);
    LATER(zero);
    LATER(sum_in_order);
    LATER(sum_of_squares);
    c->normed_conv3d_work = normed_conv3d_work;
    c->parameters_changed = parameters_changed;
}

void device_fuses_operations(struct compute *c)
{
    if (inner_of(c)->mlp_forward != NULL) {
        LATER(mlp_forward);
        LATER(mlp_backward);
        c->mlp_fits = mlp_fits;
    }
    if (inner_of(c)->normed_linear_forward != NULL) {
        LATER(normed_linear_forward);
        LATER(normed_linear_backward);
        c->normed_linear_fits = normed_linear_fits;
    }
}
#undef LATER

static enum voco_status open_in(struct compute *c, const char *implementation,
                                enum compute_precision precision)
{
    device *d = new device{};
    d->recordings.most = INT_MAX;
    const enum voco_status status = compute_open(&d->inner, implementation, 1, precision);
    if (status != VOCO_OK) {
        delete d;
        return status;
    }
    fill(c, d, precision);
    c->close = close_device;
    if (precision != PRECISION_FLOAT32) {
        c->full = new compute;
        fill(c->full, d, PRECISION_FLOAT32);
    }
    return VOCO_OK;
}

/* The reference has no bf16. */
static enum voco_status open_beside(struct compute *, struct compute *beside)
{
    return open_in(beside, "cpu", PRECISION_BF16);
}

enum voco_status open_device_on_host(struct compute *c, const char *implementation)
{
    return open_in(c, implementation, PRECISION_FLOAT32);
}
