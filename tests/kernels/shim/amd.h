// What the ROCm headers would bring, as far as kernels/scoring/score.cu uses it: enough to compile for AMD devices without them.
#pragma once
#define __global__ __attribute__((global))
#define __device__ __attribute__((device))
#define __shared__ __attribute__((shared))
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(n, waves) __attribute__((amdgpu_flat_work_group_size(1, n), amdgpu_waves_per_eu(waves)))

struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) int4 { int x, y, z, w; };

static __device__ inline float fmaf(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
static __device__ inline float sqrtf(float a) { return __builtin_sqrtf(a); }
static __device__ inline float fminf(float a, float b) { return __builtin_fminf(a, b); }
static __device__ inline float fmaxf(float a, float b) { return __builtin_fmaxf(a, b); }
static __device__ inline float fabsf(float a) { return __builtin_fabsf(a); }

struct ThreadX { __device__ operator unsigned() const { return __builtin_amdgcn_workitem_id_x(); } };
struct BlockX { __device__ operator unsigned() const { return __builtin_amdgcn_workgroup_id_x(); } };
struct Thread { ThreadX x; };
struct Block { BlockX x; };
static __device__ const Thread threadIdx{};
static __device__ const Block blockIdx{};

static __device__ inline void __syncthreads() {
    __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
    __builtin_amdgcn_s_barrier();
    __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
}

#include SOURCE
