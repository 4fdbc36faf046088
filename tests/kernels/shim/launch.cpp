// The unmodified source (or a mutation of it), callable by ctypes.
#include "host.h"
#include SOURCE

extern "C" long launch_score(unsigned blocks, unsigned threads, unsigned seed, void **values) {
    return shim::launch([](void **v) { shim::call(score, v); }, blocks, threads, seed, values);
}
