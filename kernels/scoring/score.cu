// The exact kernel of prepare.py for CUDA and ROCm: the k best nodes of each lane, without the matrix. Not run on a GPU yet.
//
// A block of threads works lanes of one filter group, a lane to a thread; nodes pass through shared memory, TILE at a time,
// from the nearest tile on. Its answer is prepare.py's whatever the order: only nodes that cannot be among the best are passed
// over. Arithmetic is prepare.py's to the bit where contraction is off (--fmad=false, -ffp-contract=off); flushing subnormals
// changes nothing. No includes, no warp operations, no atomics: one text for every compiler, and for the host
// (tests/kernels/shim). TOP_K: the most nodes asked for. BLOCK_THREADS: a power of 2. BLOCKS_RESIDENT: how many an NVIDIA
// multiprocessor is to hold, without which ptxas spills to hold more; 1 for ROCm, which counts waves there. Built by gpu.py.
#ifndef TOP_K
#define TOP_K 8
#endif
#ifndef BLOCK_THREADS
#define BLOCK_THREADS 128
#endif
#ifndef BLOCKS_RESIDENT
#define BLOCKS_RESIDENT 4
#endif

enum { K = TOP_K, THREADS = BLOCK_THREADS, BLOCK = 64, TILE = 256, STEP = 4 };
enum { OWN = 0, WARM = 1, OTHER = 2, NO_ROW = 0x7fffffff };

// Rows of the stacked tables; their columns are places.
enum { L_SLOPE = 3, L_BASE, L_LAST, L_TRAFFIC };  // lane: float[7, lanes], the vector first
enum { H_OWN = 0, H_STAYS, H_WARM, H_LIST };  // held: int[4, lanes]
enum { N_COST = 3, N_KEY = 6 };  // node: float[9, nodes], the vector first, then node_ms and key_ms; `nodes` is P
enum { N_ROW = 0, N_SITE };  // node_is: int[2, nodes]

#define NEVER 1e17f
#define FEASIBLE 1e15f
#define PI 3.14159274f
#define INFINITY_ (1.0f / 0.0f)

struct Vector { float x, y, z; };
struct Lane { Vector at; float slope, base, last, traffic; };

// Of unit vectors, in radians: by their difference or, beyond a quarter of the circle, by their sum.
static __device__ __forceinline__ float arc(Vector a, Vector b) {
    float x = a.x - b.x, y = a.y - b.y, z = a.z - b.z;
    float q = fmaf(x, x, fmaf(y, y, z * z));
    bool far = q > 2.0f;
    if (far) {
        x = a.x + b.x;
        y = a.y + b.y;
        z = a.z + b.z;
        q = fmaf(x, x, fmaf(y, y, z * z));
    }
    float p = 6.833550742157968e-06f;
    p = fmaf(p, q, -2.2960515707382e-05f);
    p = fmaf(p, q, 7.639543036930263e-05f);
    p = fmaf(p, q, 6.182775541674346e-05f);
    p = fmaf(p, q, 0.0007286908803507686f);
    p = fmaf(p, q, 0.004679279401898384f);
    p = fmaf(p, q, 0.04166748374700546f);
    p = fmaf(p, q, 1.0f);
    float r = sqrtf(q) * p;
    return far ? PI - r : r;
}

static __device__ __forceinline__ Vector vector(const float *__restrict__ xyz, int count, int i) {
    Vector v = {xyz[i], xyz[count + i], xyz[2 * count + i]};
    return v;
}

static __device__ __forceinline__ Lane read(const float *__restrict__ lane, int lanes, int l) {
    Lane v = {vector(lane, lanes, l), lane[L_SLOPE * lanes + l], lane[L_BASE * lanes + l], lane[L_LAST * lanes + l],
              lane[L_TRAFFIC * lanes + l]};
    return v;
}

// At a node: `rtt` is the table's, negative where nothing was measured; `ms` is its row of node_ms or key_ms.
static __device__ __forceinline__ float total(const Lane &lane, Vector node, float rtt, float ms) {
    return rtt >= 0.0f ? lane.last + (lane.traffic * rtt + ms) : fmaf(lane.slope, arc(lane.at, node), lane.base + ms);
}

// Whether (a, row) comes before (b, other): ties go to the lower row.
static __device__ __forceinline__ bool before(float a, int row, float b, int other) {
    return a < b || (a == b && row < other);
}

// The best so far, in order. Its loops are unrolled, so that all indices are constants and all of it is in registers.
struct Best { float key[K]; int row[K]; };

static __device__ __forceinline__ void insert(Best &best, float key, int row) {
#pragma unroll
    for (int i = 0; i < K; ++i) {  // what comes before takes the place, what was there goes on
        const bool here = before(key, row, best.key[i], best.row[i]);
        const float next_key = here ? best.key[i] : key;
        const int next_row = here ? best.row[i] : row;
        best.key[i] = here ? key : best.key[i];
        best.row[i] = here ? row : best.row[i];
        key = next_key;
        row = next_row;
    }
}

// What a node's bias may be for it to be worth an exact look, were it at the lane's own place: the K-th key less the base, with
// room for every rounding and for the error of the arc.
static __device__ __forceinline__ float reach(const Lane &lane, const Best &best) {
    float most = best.key[K - 1] < FEASIBLE ? best.key[K - 1] : FEASIBLE;
    return fmaf(most, 1e-6f, most) + lane.slope * 1e-5f - lane.base;
}

// The lowest key that a node of a block could have.
static __device__ __forceinline__ float bound(const Lane &lane, Vector cap, float radius, float least) {
    float away = arc(lane.at, cap) - radius;
    return fmaf(lane.slope, away > 0.0f ? away : 0.0f, lane.base + least);
}

extern "C" __global__ void __launch_bounds__(BLOCK_THREADS, BLOCKS_RESIDENT) score(
    const int4 *__restrict__ work,  // of each block of threads: filter group, first of the chosen, how many, row of the table
    const int *__restrict__ chosen, int asked,  // [2, asked]: place of the lane, row of its answer
    const float *__restrict__ lane, const int *__restrict__ held, int lanes,
    const float *__restrict__ node, const int *__restrict__ node_is, int nodes, const int *__restrict__ node_place,
    const float *__restrict__ cap,  // [4, nodes / BLOCK]: x, y, z, radius
    const float *__restrict__ table, int columns,  // S + 1, or one more than there are nodes
    const float *__restrict__ bias, const float *__restrict__ least,
    const int *__restrict__ list_node, const float *__restrict__ list_ms, int depth,
    int priced, int k,  // k is at most K
    int *__restrict__ answer_node, float *__restrict__ answer_ms) {
    __shared__ float4 s_node[TILE];  // x, y, z, bias
    __shared__ float4 s_cap[TILE / BLOCK];  // x, y, z, radius
    __shared__ float s_least[TILE / BLOCK];
    __shared__ float s_bound[THREADS];
    __shared__ int s_near[THREADS];

    const int4 todo = work[blockIdx.x];
    const int me = threadIdx.x, blocks = nodes / BLOCK, tiles = (nodes + TILE - 1) / TILE;
    const bool real = me < todo.z;
    const int l = chosen[todo.y + (real ? me : 0)];
    const Lane mine = read(lane, lanes, l);
    const int own = held[H_OWN * lanes + l], warm = held[H_WARM * lanes + l];
    bias += (long long)todo.x * nodes;
    least += (long long)todo.x * blocks;
    table += (long long)todo.w * columns;

    // Where to begin: the tile with the block that could be best for the first lane.
    {
        const Lane first = read(lane, lanes, chosen[todo.y]);
        float lowest = 2.0f * NEVER;
        int near = 0;
        for (int b = me; b < blocks; b += THREADS) {
            float could = bound(first, vector(cap, blocks, b), cap[3 * blocks + b], least[b]);
            if (could < lowest) {
                lowest = could;
                near = b;
            }
        }
        s_bound[me] = lowest;
        s_near[me] = near;
        for (int half = THREADS / 2; half > 0; half /= 2) {
            __syncthreads();
            if (me < half && s_bound[me + half] < s_bound[me]) {
                s_bound[me] = s_bound[me + half];
                s_near[me] = s_near[me + half];
            }
        }
        __syncthreads();
    }

    // Where only k < K are asked for, the first K - k places are taken: nothing comes before them.
    Best best;
#pragma unroll
    for (int i = 0; i < K; ++i) {
        best.key[i] = !real || i < K - k ? -NEVER : NEVER;
        best.row[i] = !real || i < K - k ? -1 : NO_ROW;
    }
    // The own node (-2) and the warm one (-1), then the measured ones.
    float own_key = NEVER;
    for (int i = -2; i < depth; ++i) {
        int n = i < -1 ? (held[H_STAYS * lanes + l] ? own : -1) : warm;
        float key = NEVER;
        if (i < 0) {
            if (n < 0) continue;
            const float ms = node[(N_KEY + (i < -1 ? OWN : WARM)) * nodes + n];
            key = total(mine, vector(node, nodes, n), table[node_is[N_SITE * nodes + n]], ms);
            if (i < -1) own_key = key;
        } else {
            const long long row = (long long)held[H_LIST * lanes + l] * depth + i;
            n = list_node[row];
            key = mine.last + list_ms[row];
            if (n < 0 || key > best.key[K - 1]) break;
            if (n == own || n == warm) continue;
        }
        insert(best, key, node_is[N_ROW * nodes + n]);
    }

    // An arc is never shorter than its chord: slope^2 * 2 * (1 - cos) <= (reach - bias)^2 holds for all that could be among the
    // best. The 1 is 2e-6 short, for every rounding.
    const float square = 2.0f * (mine.slope * mine.slope), constant = square * (1.0f - 2e-6f);
    const Vector scaled = {-square * mine.at.x, -square * mine.at.y, -square * mine.at.z};
    float within = reach(mine, best);
    const int begin = s_near[0] / (TILE / BLOCK);
    for (int turn = 0; turn < tiles; ++turn) {
        const int tile = begin + turn < tiles ? begin + turn : begin + turn - tiles;
        const int from = tile * TILE, size = nodes - from < TILE ? nodes - from : TILE;
        __syncthreads();
        for (int j = me; j < size; j += THREADS) {
            const int n = from + j;
            float4 all = {node[n], node[nodes + n], node[2 * nodes + n], bias[n]};
            s_node[j] = all;
        }
        for (int b = me; b < size / BLOCK; b += THREADS) {
            const int c = from / BLOCK + b;
            float4 all = {cap[c], cap[blocks + c], cap[2 * blocks + c], cap[3 * blocks + c]};
            s_cap[b] = all;
            s_least[b] = least[c];
        }
        __syncthreads();
        for (int b = 0; b < size / BLOCK; ++b) {
            const Vector middle = {s_cap[b].x, s_cap[b].y, s_cap[b].z};
            if (bound(mine, middle, s_cap[b].w, s_least[b]) > best.key[K - 1]) continue;
            for (int j = b * BLOCK; j < (b + 1) * BLOCK; j += STEP) {
                float lowest = NEVER;
#pragma unroll
                for (int i = 0; i < STEP; ++i) {
                    const float4 n = s_node[j + i];
                    const float d = within - n.w;
                    const float t = fmaf(scaled.x, n.x, fmaf(scaled.y, n.y, fmaf(scaled.z, n.z, constant)));
                    const float over = fmaf(-d, fabsf(d), t);
                    lowest = over < lowest ? over : lowest;
                }
                if (lowest > 0.0f) continue;
#pragma unroll 1
                for (int i = j; i < j + STEP; ++i) {
                    const float4 n = s_node[i];
                    const Vector there = {n.x, n.y, n.z};
                    const float key = fmaf(mine.slope, arc(mine.at, there), mine.base + n.w);
                    if (key > best.key[K - 1] || key >= FEASIBLE) continue;
                    if (from + i == own || from + i == warm) continue;
                    insert(best, key, node_is[N_ROW * nodes + from + i]);
                    within = reach(mine, best);
                }
            }
        }
    }
    if (!real) return;

    if (own_key < FEASIBLE) {  // it may stay, so it is among them
        const int row = node_is[N_ROW * nodes + own];
        bool there = false;
#pragma unroll
        for (int i = 0; i < K; ++i) there = there || best.row[i] == row;
        if (!there) {
            best.key[K - 1] = own_key;
            best.row[K - 1] = row;
        }
    }
    const long long first = (long long)chosen[asked + todo.y + me] * k - (K - k);
    answer_node += first;
    answer_ms += first;
#pragma unroll
    for (int i = 0; i < K; ++i) {
        if (i < K - k) continue;
        answer_node[i] = best.row[i] == NO_ROW ? -1 : best.row[i];
        answer_ms[i] = best.row[i] == NO_ROW ? INFINITY_ : best.key[i];
    }
    for (int i = K - k; priced && i < K && answer_node[i] >= 0; ++i) {  // without the price
        const int n = node_place[answer_node[i]], kind = n == own ? OWN : n == warm ? WARM : OTHER;
        const float ms = node[(N_COST + kind) * nodes + n];
        answer_ms[i] = total(mine, vector(node, nodes, n), table[node_is[N_SITE * nodes + n]], ms);
    }
}
