// Sums of the gradients of equal ids: a sort by the digits of the ids, and one pass over
// the values, of which those of an id are added in their order.

#ifndef ADAMX_KERNELS_SUMS_H_
#define ADAMX_KERNELS_SUMS_H_

#include <utility>

#include "rows.h"

namespace adamx {

// An id and where it stands among all, in one number: id << 32 | place.
using Found = uint64_t;

constexpr int kMostDigits = 11;  // counts of as many values as have 11 bits stay in a cache

// Sorts by the ids, which have `bits` bits; equal ones stay in their order. Returns
// where the result is: in `from` or in `to`, both of n.
inline Found* Sort(Found* from, Found* to, int64_t n, int bits) {
  const int passes = (bits + kMostDigits - 1) / kMostDigits;
  const int digits = passes ? (bits + passes - 1) / passes : 0;
  const Found mask = (Found{1} << digits) - 1;
  std::vector<int64_t> place(mask + 1);
  for (int pass = 0; pass < passes; ++pass) {
    const int shift = 32 + pass * digits;
    std::fill(place.begin(), place.end(), 0);
    for (int64_t i = 0; i < n; ++i) ++place[(from[i] >> shift) & mask];
    int64_t total = 0;
    for (int64_t& x : place) total += std::exchange(x, total);
    for (int64_t i = 0; i < n; ++i) to[place[(from[i] >> shift) & mask]++] = from[i];
    std::swap(from, to);
  }
  return from;
}

inline int BitsOf(uint32_t x) {
  int bits = 0;
  for (; x; x >>= 1) ++bits;
  return bits;
}

struct Sums {
  int64_t count, width, num_rows;
  const int32_t* ids;   // [count]; others than [0, num_rows) stand for nothing
  const float* values;  // [count, width]
  int32_t* new_ids;     // [count], rising: those in [0, num_rows), then others
  float* sums;          // [count, width], zeros for others
};

// Places [start, end) of the result, from `found`, sorted; group i of equal ids begins
// at firsts[i] and ends at firsts[i + 1].
inline void SumGroups(const Sums& s, const Found* found,
                      const std::vector<uint32_t>& firsts, int64_t start, int64_t end) {
  constexpr uint32_t kAhead = 8;
  const int64_t groups = static_cast<int64_t>(firsts.size()) - 1;
  const int64_t width = s.width;
  const auto row = [&](uint32_t k) {
    return s.values + static_cast<int64_t>(static_cast<uint32_t>(found[k])) * width;
  };
  const auto fetch = [&](const float* data) {
    Prefetch(reinterpret_cast<const char*>(data), width * sizeof *data);
  };
  for (int64_t i = start; i < end; ++i) {
    float* __restrict__ sum = s.sums + i * width;
    if (i + kAhead < end) fetch(sum + kAhead * width);
    if (i >= groups) {
      s.new_ids[i] = static_cast<int32_t>(s.num_rows + i);
      std::fill(sum, sum + width, 0.0f);
      continue;
    }
    s.new_ids[i] = static_cast<int32_t>(found[firsts[i]] >> 32);
    for (uint32_t k = firsts[i]; k < firsts[i + 1]; ++k) {
      if (k + kAhead < firsts[groups]) fetch(row(k + kAhead));
      const float* __restrict__ value = row(k);
      if (k == firsts[i]) {
        // As XLA does: from 0 on, which makes a sum of -0 alone 0.
        for (int64_t x = 0; x < width; ++x) sum[x] = 0.0f + value[x];
      } else {
        for (int64_t x = 0; x < width; ++x) sum[x] += value[x];
      }
    }
  }
}

template <typename Schedule>
void RunSums(const Sums& s, int64_t threads, const Schedule& schedule) {
  const std::unique_ptr<Found[]> memory(new Found[2 * s.count]);
  int64_t n = 0;
  for (int64_t i = 0; i < s.count; ++i) {
    const int32_t id = s.ids[i];
    memory[n] = static_cast<Found>(static_cast<uint32_t>(id)) << 32 | i;
    n += id >= 0 && id < s.num_rows;
  }
  const int bits = BitsOf(static_cast<uint32_t>(std::max<int64_t>(s.num_rows - 1, 0)));
  const Found* const found = Sort(memory.get(), memory.get() + s.count, n, bits);
  std::vector<uint32_t> firsts;
  firsts.reserve(n + 1);
  for (int64_t k = 0; k < n; ++k) {
    if (k == 0 || found[k] >> 32 != found[k - 1] >> 32) firsts.push_back(k);
  }
  firsts.push_back(n);
  threads = std::max<int64_t>(threads, 1);
  const int64_t least = std::max<int64_t>(4 * kLeastChunk / s.width, 1);
  const int64_t chunk = std::max(s.count / (4 * threads), least);
  ForEach(
      (s.count + chunk - 1) / chunk, threads - 1,
      [&](int64_t i) {
        SumGroups(s, found, firsts, i * chunk, std::min(s.count, (i + 1) * chunk));
      },
      schedule);
}

}  // namespace adamx

#endif  // ADAMX_KERNELS_SUMS_H_
