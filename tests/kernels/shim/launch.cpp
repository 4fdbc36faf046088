// The unmodified source (or a mutation of it), callable by ctypes. Subnormals are flushed to zero, as CuPy has it on a device.
#include "host.h"
#include SOURCE

#if defined(__SSE__)
#include <xmmintrin.h>
struct Flushing {
    unsigned before = _mm_getcsr();
    Flushing() { _mm_setcsr(before | 0x8040); }
    ~Flushing() { _mm_setcsr(before); }
};
#else
struct Flushing {
    ~Flushing() {}
};
#endif

extern "C" long launch_score(unsigned blocks, unsigned threads, unsigned seed, void **values) {
    Flushing flushing;
    return shim::launch([](void **v) { shim::call(score, v); }, blocks, threads, seed, values);
}
