// CUDA's words for a host compiler. Each device thread is a fiber: it runs until it ends or waits at a barrier, and a
// barrier opens when all threads of the block are there. What a thread may not count on is made to go wrong here:
// threads run in an order drawn anew for every phase, and shared memory is NaN when a block begins.
#pragma once
#include <math.h>
#include <stddef.h>
#include <string.h>
#include <ucontext.h>
#include <tuple>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __launch_bounds__(...)
#define __forceinline__ inline
#define __shared__ static __attribute__((section("block_shared")))
#define __syncthreads() shim::barrier(__LINE__)

struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) int4 { int x, y, z, w; };
struct dim3 { unsigned x = 1, y = 1, z = 1; };
static dim3 threadIdx, blockIdx, blockDim, gridDim;

extern char __start_block_shared[] __attribute__((weak)), __stop_block_shared[] __attribute__((weak));

namespace shim {

struct Fiber {
    ucontext_t context;
    std::vector<char> stack;
    int line = 0;  // of the barrier it waits at
    bool ended = false;
};
static std::vector<Fiber> fibers;
static ucontext_t scheduler;
static unsigned running;
static void (*body)(void **);
static void **arguments;

static void barrier(int line) {
    fibers[running].line = line;
    swapcontext(&fibers[running].context, &scheduler);
}

static void begin() {
    body(arguments);
    fibers[running].ended = true;
}

// Runs one block. Returns 1 if threads waited at different barriers, or some at one while others had ended; else 0.
static long block(unsigned threads, unsigned &random, bool shuffled) {
    memset(__start_block_shared, 0xff, __stop_block_shared - __start_block_shared);
    std::vector<unsigned> order(threads);
    for (unsigned i = 0; i < threads; ++i) {
        Fiber &f = fibers[i];
        f.ended = false;
        f.line = 0;
        f.stack.resize(1 << 16);
        order[i] = i;
        getcontext(&f.context);
        f.context.uc_stack.ss_sp = f.stack.data();
        f.context.uc_stack.ss_size = f.stack.size();
        f.context.uc_link = &scheduler;
        makecontext(&f.context, begin, 0);
    }
    long divergent = 0;
    for (unsigned alive = threads; alive;) {
        for (unsigned i = threads - 1; shuffled && i > 0; --i) {
            random = random * 1664525u + 1013904223u;
            std::swap(order[i], order[(random >> 8) % (i + 1)]);
        }
        unsigned ended = 0, ran = 0;
        int line = 0;
        for (unsigned i : order) {
            Fiber &f = fibers[i];
            if (f.ended) continue;
            ++ran;
            running = i;
            threadIdx.x = i;
            swapcontext(&scheduler, &f.context);
            if (f.ended) ++ended;
            else if (!line) line = f.line;
            else if (line != f.line) divergent = 1;
        }
        if (ended && ended != ran) divergent = 1;
        alive -= ended;
    }
    return divergent;
}

template <class... A, size_t... I>
void apply(void (*kernel)(A...), void **values, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_reference_t<A> *>(values[I])...);
}

template <class... A>
void call(void (*kernel)(A...), void **values) {
    apply(kernel, values, std::index_sequence_for<A...>());
}

// As cuLaunchKernel: `values` points at each argument in turn. Seed 0: threads in the order of their numbers.
// Returns how many blocks had a barrier that not all of their threads reached together.
static long launch(void (*kernel)(void **), unsigned blocks, unsigned threads, unsigned seed, void **values) {
    fibers.resize(threads);
    body = kernel;
    arguments = values;
    gridDim.x = blocks;
    blockDim.x = threads;
    unsigned random = seed * 2654435761u + 1;
    long divergent = 0;
    for (unsigned b = 0; b < blocks; ++b) {
        blockIdx.x = b;
        divergent += block(threads, random, seed != 0);
    }
    return divergent;
}

}  // namespace shim
