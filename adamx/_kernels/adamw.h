// One step of AdamW over all leaves of a tree: the arithmetic.
//
// The order of operations is that of adamx.adamw; each fused multiply-add is written out,
// so that the result does not depend on the processor.

#ifndef ADAMX_KERNELS_ADAMW_H_
#define ADAMX_KERNELS_ADAMW_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "run.h"

namespace adamx {

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

// Leaves are cut where a line of the cache ends.
constexpr int64_t kLine = 32;

ADAMX_INLINE int64_t Cut(const Leaf&, int64_t i) { return i / kLine * kLine; }

}  // namespace adamx

#endif  // ADAMX_KERNELS_ADAMW_H_
