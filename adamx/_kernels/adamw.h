// One step of AdamW over all leaves of a tree: the arithmetic, and how it is divided.
//
// The order of operations is that of adamx.adamw; each fused multiply-add is written out,
// so that the result does not depend on the processor.

#ifndef ADAMX_KERNELS_ADAMW_H_
#define ADAMX_KERNELS_ADAMW_H_

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace adamx {

#define ADAMX_INLINE inline __attribute__((always_inline))

// What all elements share, in the order of the buffer that kernel.py makes.
struct Scalars {
  float mu_weight, mu_from_far, nu_weight, nu_from_far;
  float ahead_power, ahead_rest, g_power, g_rest;  // nesterov alone
  float offset, least, factor_power, factor_rest, floor;
  float weight_decay, rate_power, rate_rest, clip;
};

enum class Kind : uint8_t { kFloat32, kBFloat16 };
enum class Rounding : uint8_t { kNearest, kSaturating, kStochastic };

struct Array {
  void* data;
  Kind kind;
};

struct Leaf {
  int64_t size;
  Array g, p, mu, nu;
  float decays;  // 1 or 0: choices by floats alone are vectorized by GCC
  uint32_t mu_key, nu_key;
};

struct Step {
  Scalars scalars;
  bool nesterov;
  Rounding mu_rounding, nu_rounding;
  std::vector<Leaf> leaves;
  std::vector<int64_t> ends;  // of each leaf among all elements
};

ADAMX_INLINE float Lerp(float x, float y, float weight, float from_far) {
  const float near = from_far > 0 ? y : x;
  const float far = from_far > 0 ? x : y;
  const float mean = __builtin_fmaf(far - near, weight, near);
  return weight == 0 ? near : mean;
}

// x times a number, of which it is given the nearest power of two and the rest.
ADAMX_INLINE float Times(float x, float power, float rest) {
  return __builtin_fmaf(x, rest, x * power);
}

ADAMX_INLINE void Moments(const Scalars& shared, int64_t n, const float* __restrict__ g,
                          float* __restrict__ mu, float* __restrict__ nu) {
  const Scalars c = shared;
  for (int64_t i = 0; i < n; ++i) {
    const float most = std::numeric_limits<float>::max();
    const float square = g[i] * g[i];
    const float capped = square > most ? most : square;
    mu[i] = Lerp(mu[i], g[i], c.mu_weight, c.mu_from_far);
    nu[i] = Lerp(nu[i], capped, c.nu_weight, c.nu_from_far);
  }
}

// From the moments as they are kept.
template <bool nesterov>
ADAMX_INLINE void Parameters(const Scalars& shared, float decays, int64_t n,
                             const float* __restrict__ g, const float* __restrict__ mu,
                             const float* __restrict__ nu, float* __restrict__ p) {
  const Scalars c = shared;
  for (int64_t i = 0; i < n; ++i) {
    const float bound = __builtin_fabsf(mu[i]) * c.least;
    float root = __builtin_sqrtf(nu[i] + c.offset);
    root = bound > root ? bound : root;
    const float y = Times(root, c.factor_power, c.factor_rest) + c.floor;
    float m = mu[i];
    if (nesterov) {
      m = Times(m, c.ahead_power, c.ahead_rest) + Times(g[i], c.g_power, c.g_rest);
    }
    float u = y == 0 ? 0 : m / y;
    u = decays > 0 ? __builtin_fmaf(p[i], c.weight_decay, u) : u;
    p[i] -= Times(u, c.rate_power, c.rate_rest);
  }
}

ADAMX_INLINE uint32_t Bits(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

ADAMX_INLINE float FromBits(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

ADAMX_INLINE void Widen(int64_t n, const uint16_t* __restrict__ from,
                        float* __restrict__ to) {
  for (int64_t i = 0; i < n; ++i) to[i] = FromBits(uint32_t{from[i]} << 16);
}

constexpr uint32_t kSign = 0x80000000, kInfinity = 0x7F800000, kMost = 0x7F7F0000;

// To the nearest bfloat16, of two as near to the even one.
ADAMX_INLINE void Nearest(int64_t n, const float* __restrict__ from,
                          uint16_t* __restrict__ to, bool saturate) {
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t own = Bits(from[i]), sign = own & kSign, size = own ^ sign;
    const uint32_t up = size + 0x7FFF + ((size >> 16) & 1);
    const uint32_t kept = saturate ? std::min(up, kMost) : up;
    const uint32_t chosen = size > kInfinity ? size | 0x400000 : kept;
    to[i] = static_cast<uint16_t>((chosen | sign) >> 16);
  }
}

constexpr uint32_t kSpread = 0x9E3779B9;  // of neighbors, as in `random_bits`

// As `mix` in _rounding.py.
ADAMX_INLINE uint32_t Mix(uint32_t x) {
  x = (x ^ (x >> 16)) * 0x7FEB352Du;
  x = (x ^ (x >> 15)) * 0x846CA68Bu;
  return x ^ (x >> 16);
}

// As `stochastically` in _rounding.py, by the bits of the element's place.
ADAMX_INLINE void Stochastic(int64_t n, const float* __restrict__ from,
                             uint16_t* __restrict__ to, uint32_t start, uint32_t key,
                             uint32_t shift) {
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t place = start + static_cast<uint32_t>(i);
    const uint32_t chance = (Mix(place * kSpread + key) >> shift) & 0xFFFF;
    const uint32_t own = Bits(from[i]), sign = own & kSign, size = own ^ sign;
    const uint32_t kept = std::min(size + chance, kMost);
    const uint32_t chosen = size > kInfinity ? size | 0x400000 : kept;
    to[i] = static_cast<uint16_t>((chosen | sign) >> 16);
  }
}

// Elements that are computed at a time: all of them stay in the nearest cache.
constexpr int64_t kBlock = 512;

// Elements of an array as float32: in place, or in a copy.
struct View {
  float copy[kBlock];
  float* data;

  ADAMX_INLINE void Open(const Array& array, int64_t start, int64_t n) {
    data = copy;
    if (array.kind == Kind::kFloat32) {
      data = static_cast<float*>(array.data) + start;
    } else {
      Widen(n, static_cast<const uint16_t*>(array.data) + start, copy);
    }
  }

  ADAMX_INLINE void Scale(int64_t n, float factor) {
    if (factor == 1) return;
    for (int64_t i = 0; i < n; ++i) copy[i] = data[i] * factor;
    data = copy;
  }

  // Rounds to the dtype of the array, both there and here.
  ADAMX_INLINE void Keep(const Array& array, int64_t start, int64_t n, Rounding rounding,
                         uint32_t key = 0, uint32_t shift = 0) {
    if (array.kind == Kind::kFloat32) return;
    uint16_t* to = static_cast<uint16_t*>(array.data) + start;
    if (rounding == Rounding::kStochastic) {
      Stochastic(n, copy, to, static_cast<uint32_t>(start), key, shift);
    } else {
      Nearest(n, copy, to, rounding == Rounding::kSaturating);
    }
    Widen(n, to, copy);
  }
};

// Elements [start, end) of a leaf.
ADAMX_INLINE void UpdateLeaf(const Step& step, const Leaf& leaf, int64_t start,
                             int64_t end) {
  const Scalars& c = step.scalars;
  View g, p, mu, nu;
  for (; start < end; start += kBlock) {
    const int64_t n = std::min(kBlock, end - start);
    g.Open(leaf.g, start, n);
    g.Scale(n, c.clip);
    p.Open(leaf.p, start, n);
    mu.Open(leaf.mu, start, n);
    nu.Open(leaf.nu, start, n);
    Moments(c, n, g.data, mu.data, nu.data);
    mu.Keep(leaf.mu, start, n, step.mu_rounding, leaf.mu_key, 0);
    nu.Keep(leaf.nu, start, n, step.nu_rounding, leaf.nu_key, 16);
    if (step.nesterov) {
      Parameters<true>(c, leaf.decays, n, g.data, mu.data, nu.data, p.data);
    } else {
      Parameters<false>(c, leaf.decays, n, g.data, mu.data, nu.data, p.data);
    }
    p.Keep(leaf.p, start, n, Rounding::kNearest);
  }
}

// Elements [start, end) of all that the leaves have together. Leaves are cut where a
// line of the cache ends.
ADAMX_INLINE void UpdateRange(const Step& step, int64_t start, int64_t end) {
  constexpr int64_t kLine = 32;
  size_t i = std::upper_bound(step.ends.begin(), step.ends.end(), start) -
             step.ends.begin();
  for (; i < step.leaves.size(); ++i) {
    const Leaf& leaf = step.leaves[i];
    const int64_t first = step.ends[i] - leaf.size;
    if (first >= end) break;
    const int64_t from = first >= start ? 0 : (start - first) / kLine * kLine;
    const int64_t to = step.ends[i] <= end ? leaf.size : (end - first) / kLine * kLine;
    UpdateLeaf(step, leaf, from, to);
  }
}

using RangeFunction = void (*)(const Step&, int64_t, int64_t);

// The fastest form for this processor; none where it has no fused multiply-add, without
// which results would be others.
struct Form {
  RangeFunction run = nullptr;
  const char* vectors = nullptr;
};

#if defined(__x86_64__)
__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))) inline void
RangeV4(const Step& step, int64_t start, int64_t end) {
  UpdateRange(step, start, end);
}

__attribute__((target("avx2,fma"))) inline void RangeV3(const Step& step, int64_t start,
                                                        int64_t end) {
  UpdateRange(step, start, end);
}

inline Form BestForm() {
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    return {RangeV4, "AVX-512"};
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return {RangeV3, "AVX2"};
  }
  return {};
}
#elif defined(__FP_FAST_FMAF)
inline void RangeNative(const Step& step, int64_t start, int64_t end) {
  UpdateRange(step, start, end);
}

inline Form BestForm() { return {RangeNative, "NEON"}; }
#else
inline Form BestForm() { return {}; }
#endif

// Calls run(i) for each i below `count`, here and in tasks given to `schedule`. Whoever
// is free takes the next i, so nothing waits for a task that was never started.
template <typename Run, typename Schedule>
void ForEach(int64_t count, int64_t helpers, const Run& run, const Schedule& schedule) {
  struct Shared {
    std::atomic<int64_t> next{0}, left;
    std::mutex mutex;
    std::condition_variable done;
  };
  // A task may start after all is done, and this function has returned.
  auto shared = std::make_shared<Shared>();
  shared->left = count;
  auto work = [shared, count, &run] {
    for (int64_t i; (i = shared->next.fetch_add(1)) < count;) {
      run(i);
      if (shared->left.fetch_sub(1) == 1) {
        std::lock_guard<std::mutex> lock(shared->mutex);
        shared->done.notify_one();
      }
    }
  };
  for (int64_t i = 0; i < std::min(helpers, count - 1); ++i) schedule(work);
  work();
  std::unique_lock<std::mutex> lock(shared->mutex);
  shared->done.wait(lock, [&] { return shared->left == 0; });
}

// Large enough to be worth a task, small enough that all threads end together.
constexpr int64_t kLeastChunk = 1 << 13, kMostChunk = 1 << 17;

template <typename Schedule>
void Run(const Step& step, RangeFunction range, int64_t threads,
         const Schedule& schedule) {
  const int64_t size = step.ends.empty() ? 0 : step.ends.back();
  threads = std::max<int64_t>(threads, 1);
  const int64_t chunk = std::clamp(size / (8 * threads), kLeastChunk, kMostChunk);
  const int64_t count = (size + chunk - 1) / chunk;
  ForEach(
      count, threads - 1,
      [&](int64_t i) { range(step, i * chunk, std::min(size, (i + 1) * chunk)); },
      schedule);
}

}  // namespace adamx

#endif  // ADAMX_KERNELS_ADAMW_H_
