// The codes of `companded_codec`, one group at a time: 8 bits, spaced as a fourth root is.
//
// The order of operations is that of companded.py and codec.py as XLA compiles them for
// CPUs: a group is multiplied by the reciprocal of its scale, and the step between two
// codes is a fused multiply-add.

#ifndef ADAMX_KERNELS_COMPANDED_H_
#define ADAMX_KERNELS_COMPANDED_H_

#include "adamw.h"

namespace adamx {

// Of positive arrays codes are 0 … 255, of others -127 … 127.
template <bool positive>
struct Code {
  using Type = uint8_t;
  static constexpr float kTop = 255;
};

template <>
struct Code<false> {
  using Type = int8_t;
  static constexpr float kTop = 127;
};

// A number near 1.5·2^23 has no fraction, and its low bits count up.
constexpr float kCounter = 12582912;
constexpr uint32_t kLargest = 0x7E800000;  // 2^126, of which the reciprocal is normal

// (code / top)^2, of which the square is the value.
template <bool positive>
ADAMX_INLINE float Square(float code) {
  const float part = code * (1 / Code<positive>::kTop);
  return part * part;
}

// A loop over a group goes on to a whole number of vectors, and what it makes of the
// group behind it is overwritten when that has its turn: so there is no remainder.
constexpr int64_t kVector = 16;

ADAMX_INLINE int64_t WholeVectors(int64_t n) { return (n + kVector - 1) & -kVector; }

// Numbers of a block, and room for those after it.
struct alignas(64) Block {
  float data[kBlock + kVector] = {};
};

template <typename T>
ADAMX_INLINE void Load(int64_t n, const T* __restrict__ codes, float* __restrict__ to) {
  for (int64_t i = 0; i < n; ++i) to[i] = codes[i];
}

template <bool positive>
ADAMX_INLINE float Decode(float code, float scale) {
  const float square = Square<positive>(code), size = square * square;
  return (positive ? size : __builtin_copysignf(size, code)) * scale;
}

ADAMX_INLINE uint32_t Most(int64_t n, const float* x, uint32_t most) {
  for (int64_t i = 0; i < n; ++i) most = std::max(most, Bits(x[i]) & ~kSign);
  return most;
}

// The largest |x|, NaN if there is one: positive floats have the order of their bits.
// Numbers that are too large to divide by are cut off. What is not finite becomes 0, of
// which such a scale makes NaN again.
ADAMX_INLINE float Scale(int64_t n, float* x) {
  uint32_t most = Most(n & -kVector, x, 0);
  if (n < kVector) most = Most(n, x, most);
  if (n > kVector && n % kVector != 0) most = Most(kVector, x + n - kVector, most);
  if (most <= kLargest) return FromBits(most);
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t own = Bits(x[i]), sign = own & kSign;
    x[i] = most < kInfinity ? FromBits(sign | std::min(own ^ sign, kLargest)) : 0;
  }
  return FromBits(most < kInfinity ? kLargest : most);
}

// By what a group is multiplied; also where XLA takes a number that is not normal for 0.
ADAMX_INLINE float Inverse(float scale) {
  return scale >= std::numeric_limits<float>::min() ? 1 / scale : 1;
}

// The code of x, to the nearest; or by chance one of two, by the bits of its place. As a
// float of which `Store` takes the low bits: what writes bytes as well has more vectors
// than there are registers.
template <bool positive, bool by_chance>
ADAMX_INLINE float Encode(float x, float inverse, uint32_t place) {
  constexpr float top = Code<positive>::kTop;
  // Choices among numbers without a sign, as whole numbers: those of floats alone GCC
  // makes one by one, in branches.
  const uint32_t one = Bits(1.0f), last = Bits(top - 1);
  const float r = x * inverse, size = __builtin_fabsf(r);
  float code = top * __builtin_sqrtf(__builtin_sqrtf(size));
  if (by_chance) {
    const int32_t bits = Mix(place) & 0xFFFF;
    const float chance = static_cast<float>(bits) * 0x1p-16f;
    const float low = FromBits(std::min(Bits(__builtin_floorf(code)), last));
    const float root = Square<positive>(low), next = Square<positive>(low + 1);
    const float below = root * root, step = __builtin_fmaf(next, next, -below);
    code = low + (chance * step < size - below ? 1.0f : 0.0f);
  }
  if (positive) {
    code = FromBits(std::max(Bits(code), size > 0 ? one : 0));
  } else {
    code = __builtin_copysignf(code, r);
  }
  return code + kCounter;
}

template <typename T>
ADAMX_INLINE void Store(int64_t n, const float* __restrict__ counted,
                        T* __restrict__ codes) {
  for (int64_t i = 0; i < n; ++i) codes[i] = static_cast<T>(Bits(counted[i]));
}

}  // namespace adamx

#endif  // ADAMX_KERNELS_COMPANDED_H_
