/* The machine of cuda_on_host.h: threads of a block are fibers on one thread of the host, the "GPU". */
#include "compute/cuda/kernel.cuh"
#include "copies_on_host.h"
#include "guarded_arrays.h"

#include <link.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <unistd.h>

#include <vector>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace cuda_on_host
{

enum { lanes = 32, warps_max = threads_max / lanes };
static const size_t stack_size = 128 << 10;

struct fiber {
    void *stack_pointer;
    uint3 index;
    unsigned mask; /* of the function of the warp that it waits in */
    warp_function function;
    const void *constants;
};

/* Bits are lanes. A lane is in none of them while it waits in a function of the warp. */
struct warp {
    unsigned exists, ready, at_barrier, ended;
    unsigned at_copies; /* waits for a barrier_wait */
    lane brought[lanes];
};

static struct {
    const char *launch;
    void (*thread)(void *);
    void *argument;
    dim3 grid, block;
    size_t shared;
    unsigned number; /* of launches so far */

    fiber fibers[threads_max];
    warp warps[warps_max];
    int warp_count, current; /* a thread */
    void *scheduler;         /* its stack pointer */
    int backward;            /* lanes and warps take turns from the last */
    int arrived_count, barrier_count;

    unsigned char *stacks;
    unsigned char *shared_end, *shared_start;
    unsigned char *statics; /* static shared arrays */
    size_t statics_size;
    int in_block;
} gpu;

extern "C" void cuda_on_host_switch(void **from, void *to);
asm(R"(
    .text
    .globl cuda_on_host_switch
    .type cuda_on_host_switch, @function
cuda_on_host_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size cuda_on_host_switch, .-cuda_on_host_switch
)");

static void say_where()
{
    if (gpu.launch != NULL) {
        fprintf(stderr, "cuda_on_host: launch(%s): ", gpu.launch);
    } else {
        fprintf(stderr, "cuda_on_host: on the host's side: ");
    }
    if (gpu.launch != NULL && gpu.in_block) {
        fprintf(stderr, "block (%u %u %u) of (%u %u %u), thread (%u %u %u) of (%u %u %u): ", blockIdx.x,
                blockIdx.y, blockIdx.z, gridDim.x, gridDim.y, gridDim.z, threadIdx.x, threadIdx.y,
                threadIdx.z, blockDim.x, blockDim.y, blockDim.z);
    }
}

void stop(const char *format, ...)
{
    va_list arguments;
    fflush(stdout);
    say_where();
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n");
    abort();
}

/* ---- turns ---- */

static uint32_t scrambled(uint32_t a, uint32_t b)
{
    uint32_t x = a * 0x9e3779b9u + b * 0x85ebca6bu + 0x2545f491u;
    x = (x ^ x >> 16) * 0x7feb352du;
    x = (x ^ x >> 15) * 0x846ca68bu;
    return x ^ x >> 16;
}

static int backward_now(uint32_t what)
{
    static const char *const order = getenv("CUDA_ON_HOST_ORDER");
    if (order != NULL) {
        return strcmp(order, "backward") == 0;
    }
    return tossed(what);
}

static void become(int thread)
{
    gpu.current = thread;
    threadIdx = gpu.fibers[thread].index;
}

static int next_ready(const warp *w)
{
    return gpu.backward ? 31 - __builtin_clz(w->ready) : __builtin_ctz(w->ready);
}

/* Lets another lane of the warp go on, or the scheduler where none can. */
static void pass_on()
{
    const int self = gpu.current, first = self / lanes * lanes;
    warp *w = &gpu.warps[self / lanes];
    if (w->ready != 0) {
        const int lane = next_ready(w);
        w->ready &= ~(1u << lane);
        become(first + lane);
        cuda_on_host_switch(&gpu.fibers[self].stack_pointer, gpu.fibers[first + lane].stack_pointer);
    } else {
        cuda_on_host_switch(&gpu.fibers[self].stack_pointer, gpu.scheduler);
    }
}

int current_thread()
{
    return gpu.current;
}

int tossed(uint32_t what)
{
    return (int)(scrambled(gpu.number, what) & 1);
}

void wait_at_copies()
{
    gpu.warps[gpu.current / lanes].at_copies |= 1u << (gpu.current % lanes);
    pass_on();
}

int own_lane()
{
    return gpu.current % lanes;
}

/* Runs the function that `thread` waits in where every lane of its mask has come or ended. */
static int complete(int thread)
{
    const int first = thread / lanes * lanes;
    warp *w = &gpu.warps[thread / lanes];
    const fiber *f = &gpu.fibers[thread];
    const unsigned mask = f->mask & w->exists & ~w->ended;
    for (unsigned rest = mask; rest != 0; rest &= rest - 1) {
        const fiber *other = &gpu.fibers[first + __builtin_ctz(rest)];
        if (other->function == NULL) {
            return 0;
        }
        if (other->function != f->function || other->mask != f->mask || other->constants != f->constants) {
            if (f->mask >> (other - &gpu.fibers[first]) & 1 && other->mask >> (thread % lanes) & 1) {
                stop("lane %d waits in a function of the warp for lane %d (mask %08x), which is in another "
                     "one "
                     "(mask %08x)",
                     thread % lanes, (int)(other - &gpu.fibers[first]), f->mask, other->mask);
            }
            return 0;
        }
    }
    f->function(w->brought, mask, f->constants);
    for (unsigned rest = mask; rest != 0; rest &= rest - 1) {
        gpu.fibers[first + __builtin_ctz(rest)].function = NULL;
    }
    w->ready |= mask;
    return 1;
}

void of_warp(unsigned mask, warp_function function, const void *given, void *taken, const void *constants)
{
    const int self = gpu.current, own = self % lanes;
    warp *w = &gpu.warps[self / lanes];
    fiber *f = &gpu.fibers[self];
    if (!(mask >> own & 1)) {
        stop("lane %d calls a function of the warp with a mask, %08x, that it is not in", own, mask);
    }
    f->mask = mask;
    f->function = function;
    f->constants = constants;
    w->brought[own] = lane{given, taken};
    if (complete(self)) {
        w->ready &= ~(1u << own);
        return;
    }
    pass_on();
}

int of_block(int count)
{
    gpu.arrived_count += count;
    gpu.warps[gpu.current / lanes].at_barrier |= 1u << (gpu.current % lanes);
    pass_on();
    return gpu.barrier_count;
}

#ifdef __SANITIZE_ADDRESS__
__attribute__((no_sanitize_address))
#endif
static void
fiber_entry()
{
    gpu.thread(gpu.argument);
    warp *w = &gpu.warps[gpu.current / lanes];
    const int first = gpu.current / lanes * lanes;
    w->ended |= 1u << (gpu.current % lanes);
    for (int l = 0; l < lanes; l++) {
        if ((w->exists & ~w->ended) >> l & 1 && gpu.fibers[first + l].function != NULL) {
            (void)complete(first + l);
        }
    }
    pass_on();
    __builtin_unreachable();
}

static void begin_fiber(int thread)
{
    fiber *f = &gpu.fibers[thread];
    void **top = (void **)(gpu.stacks + (size_t)(thread + 1) * (stack_size + page) - page);
    memset(top - 8, 0, 8 * sizeof *top);
    top[-2] = (void *)fiber_entry;
    f->stack_pointer = top - 8;
    f->function = NULL;
    forget_copies_of(thread);
    const unsigned x = gpu.block.x, y = gpu.block.y, k = (unsigned)thread;
    f->index = uint3{k % x, k / x % y, k / x / y};
    gpu.warps[thread / lanes].exists |= 1u << (thread % lanes);
}

/* ---- blocks ---- */

static void report_deadlock()
{
    for (int i = 0; i < gpu.warp_count; i++) {
        const warp *w = &gpu.warps[i];
        const unsigned in_warp = w->exists & ~w->ended & ~w->at_barrier & ~w->at_copies;
        fprintf(stderr,
                "cuda_on_host: warp %d: lanes %08x at the block's barrier, %08x at another, %08x "
                "ended, %08x wait in a function of the warp\n",
                i, w->at_barrier, w->at_copies, w->ended, in_warp);
        for (unsigned rest = in_warp; rest != 0; rest &= rest - 1) {
            const int l = __builtin_ctz(rest);
            fprintf(stderr, "cuda_on_host:     lane %d for lanes %08x\n", l, gpu.fibers[i * lanes + l].mask);
        }
    }
    stop("nobody can go on: a barrier or a function of the warp that some threads never reach (see above)");
}

static void poison_shared(unsigned block)
{
    const int often = gpu.statics_size <= 128 << 10;
    memset(gpu.shared_start, poison, gpu.shared);
    if (often || block == 0 || scrambled(gpu.number, block) % 16 == 0) {
        memset(gpu.statics, poison, gpu.statics_size);
    }
}

static void run_block(unsigned block)
{
    const int threads = (int)(gpu.block.x * gpu.block.y * gpu.block.z);
    gpu.warp_count = (threads + lanes - 1) / lanes;
    gpu.backward = backward_now(block);
    poison_shared(block);
    for (int i = 0; i < gpu.warp_count; i++) {
        gpu.warps[i].exists = gpu.warps[i].at_barrier = gpu.warps[i].at_copies = gpu.warps[i].ended = 0;
    }
    for (int k = 0; k < threads; k++) {
        begin_fiber(k);
    }
    for (int i = 0; i < gpu.warp_count; i++) {
        gpu.warps[i].ready = gpu.warps[i].exists;
    }
    gpu.arrived_count = 0;
    forget_barriers();
    gpu.in_block = 1;
    for (;;) {
        int waiting = 0, stuck = 0, for_copies = 0;
        const unsigned long news = news_of_copies();
        for (int k = 0; k < gpu.warp_count; k++) {
            const int i = gpu.backward ? gpu.warp_count - 1 - k : k;
            warp *w = &gpu.warps[i];
            if (w->ready != 0) {
                const int lane = next_ready(w);
                w->ready &= ~(1u << lane);
                become(i * lanes + lane);
                cuda_on_host_switch(&gpu.scheduler, gpu.fibers[gpu.current].stack_pointer);
            }
            waiting |= w->at_barrier != 0;
            for_copies |= w->at_copies != 0;
            stuck |= (w->exists & ~w->ended & ~w->at_barrier & ~w->at_copies) != 0;
        }
        if (for_copies && news_of_copies() != news) { /* they look again */
            for (int i = 0; i < gpu.warp_count; i++) {
                gpu.warps[i].ready = gpu.warps[i].at_copies;
                gpu.warps[i].at_copies = 0;
            }
            continue;
        }
        if (stuck || for_copies) {
            report_deadlock();
        }
        if (!waiting) {
            break;
        }
        gpu.barrier_count = gpu.arrived_count;
        gpu.arrived_count = 0;
        for (int i = 0; i < gpu.warp_count; i++) {
            gpu.warps[i].ready = gpu.warps[i].at_barrier;
            gpu.warps[i].at_barrier = 0;
        }
    }
    gpu.in_block = 0;
    for (unsigned char *p = gpu.shared_start + gpu.shared; p < gpu.shared_end; p++) {
        if (*p != guard) {
            stop("block (%u %u %u) writes beyond its %zu bytes of dynamic shared memory", blockIdx.x,
                 blockIdx.y, blockIdx.z, gpu.shared);
        }
    }
}

static void run_grid()
{
    const size_t blocks = (size_t)gpu.grid.x * gpu.grid.y * gpu.grid.z;
    const int backward = backward_now(0xffffffffu);
    gpu.shared_start = gpu.shared_end - (gpu.shared + 127) / 128 * 128;
    memset(gpu.shared_start, guard, (size_t)(gpu.shared_end - gpu.shared_start));
    gridDim = gpu.grid;
    blockDim = gpu.block;
    for (size_t k = 0; k < blocks; k++) {
        const size_t block = backward ? blocks - 1 - k : k;
        blockIdx.x = (unsigned)(block % gpu.grid.x);
        blockIdx.y = (unsigned)(block / gpu.grid.x % gpu.grid.y);
        blockIdx.z = (unsigned)(block / gpu.grid.x / gpu.grid.y);
        run_block((unsigned)k);
    }
}

unsigned char *block_shared()
{
    return gpu.shared_start;
}

int in_shared_memory(const void *address, size_t bytes)
{
    const unsigned char *p = (const unsigned char *)address;
#ifdef __SANITIZE_ADDRESS__
    (void)p;
    (void)bytes;
    return 1;
#else
    return (p >= gpu.shared_start && p + bytes <= gpu.shared_end) ||
           (p >= gpu.statics && p + bytes <= gpu.statics + gpu.statics_size);
#endif
}

/* ---- the GPU's thread ---- */

static sem_t asked, answered;

static int find_statics(struct dl_phdr_info *info, size_t, void *)
{
    for (int k = 0; k < info->dlpi_phnum; k++) {
        if (info->dlpi_phdr[k].p_type == PT_TLS && info->dlpi_tls_data != NULL) {
            gpu.statics = (unsigned char *)info->dlpi_tls_data + info->dlpi_phdr[k].p_filesz;
            gpu.statics_size = info->dlpi_phdr[k].p_memsz - info->dlpi_phdr[k].p_filesz;
        }
    }
    return 1; /* the program itself comes first */
}

static void use_other_stack_for_signals()
{
    stack_t stack = {};
    stack.ss_size = 64 << 10;
    stack.ss_sp = map(stack.ss_size);
    sigaltstack(&stack, NULL);
}

static void on_signal(int number, siginfo_t *info, void *)
{
    const unsigned char *address = (const unsigned char *)info->si_addr;
    signal(number, SIG_DFL);
    say_where();
    fprintf(stderr, "touches %p, which it may not", info->si_addr);
    if (address >= gpu.shared_end && address < gpu.shared_end + page) {
        fprintf(stderr, ": beyond its %zu bytes of dynamic shared memory", gpu.shared);
    }
    if (address >= gpu.stacks && address < gpu.stacks + threads_max * (stack_size + page)) {
        fprintf(stderr, ": its stack is too small");
    }
    describe_address(stderr, address, gpu.launch == NULL ? " in the GPU's memory" : "");
    fprintf(stderr, info->si_addr == NULL ? " (or 16 bytes that are not aligned to 16)\n" : "\n");
    abort();
}

static void *be_gpu(void *)
{
    use_other_stack_for_signals();
    dl_iterate_phdr(find_statics, NULL);
    for (;;) {
        while (sem_wait(&asked) != 0) {
        }
        run_grid();
        sem_post(&answered);
    }
    return NULL;
}

void start_gpu()
{
    pthread_attr_t attributes;
    pthread_t thread;
    struct sigaction action = {};
    if (gpu.stacks != NULL) {
        return;
    }
    gpu.stacks = (unsigned char *)map(threads_max * (stack_size + page));
    for (int k = 0; k < threads_max; k++) {
        mprotect(gpu.stacks + (size_t)(k + 1) * (stack_size + page) - page, page, PROT_NONE);
    }
    const size_t shared = (size_t)(256 << 10);
    gpu.shared_end = (unsigned char *)map(shared + page) + shared;
    mprotect(gpu.shared_end, page, PROT_NONE);
    gpu.shared_start = gpu.shared_end;
    use_other_stack_for_signals();
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
#ifndef __SANITIZE_ADDRESS__
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
#endif
    sem_init(&asked, 0, 0);
    sem_init(&answered, 0, 0);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, (size_t)64 << 20);
    if (pthread_create(&thread, &attributes, be_gpu, NULL) != 0) {
        stop("no thread");
    }
}

void run(struct compute *c, const char *launch_, dim3 grid, dim3 block, size_t shared, void (*thread)(void *),
         void *argument)
{
    if (c->status != VOCO_OK || grid.x == 0 || grid.y == 0 || grid.z == 0) {
        return;
    }
    gpu.launch = launch_;
    if (grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) {
        stop("a grid of %u x %u x %u", grid.x, grid.y, grid.z);
    }
    if ((size_t)block.x * block.y * block.z - 1 >= threads_max || block.z > 64) {
        stop("blocks of %u x %u x %u", block.x, block.y, block.z);
    }
    if (shared > cuda_state(c)->shared_per_block) {
        stop("%zu bytes of shared memory, there are %zu", shared, cuda_state(c)->shared_per_block);
    }
    gpu.thread = thread;
    gpu.argument = argument;
    gpu.grid = grid;
    gpu.block = block;
    gpu.shared = shared;
    gpu.number++;
    {
        access_to_arrays access;
        sem_post(&asked);
        while (sem_wait(&answered) != 0) {
        }
        check_guards();
    }
    gpu.launch = NULL;
}

} // namespace cuda_on_host
