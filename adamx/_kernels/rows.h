// One step of AdamW on some rows of a table: brought together, block by block, for the
// arithmetic of adamw.h, and written back.

#ifndef ADAMX_KERNELS_ROWS_H_
#define ADAMX_KERNELS_ROWS_H_

#include "adamw.h"

namespace adamx {

// Memory that is read and written soon, into the second cache: the first one has too few
// misses at a time for it.
inline void Prefetch(const char* data, int64_t bytes) {
  // GCC 12 takes what only prefetches for a function without effects, and leaves it out.
  asm volatile("");
  constexpr int64_t kLine = 64;
  for (int64_t i = 0; i < bytes; i += kLine) __builtin_prefetch(data + i, 1, 2);
}

// Faster than memcpy, of which the call costs more than a short row.
inline void Copy(const char* from, char* to, int64_t bytes) {
  int64_t i = 0;
  for (; i + 16 <= bytes; i += 16) std::memcpy(to + i, from + i, 16);
  for (; i < bytes; i += 2) std::memcpy(to + i, from + i, 2);
}

// A table and the rows of it that have a gradient. `step` has what all elements share,
// and no leaves.
struct Rows {
  Step step;
  int64_t count, width, num_rows;
  const int32_t* ids;    // [count]; others than [0, num_rows) stand for nothing
  Array g, p, mu, nu;    // [count, width], then three times [num_rows, width]
  float decays;
  uint32_t mu_key, nu_key;

  bool Has(int64_t i) const { return ids[i] >= 0 && ids[i] < num_rows; }
};

inline int64_t WidthOf(Kind kind) { return kind == Kind::kFloat32 ? 4 : 2; }

inline Array From(const Array& array, int64_t start) {
  return {static_cast<char*>(array.data) + start * WidthOf(array.kind), array.kind};
}

// Rows of so many elements are updated where they lie; shorter ones in a copy of many.
constexpr int64_t kInPlace = 32;

// Rows that are fetched ahead: enough that the waiting for them overlaps.
constexpr int64_t kLeastAhead = 8, kMostAhead = 64;

inline int64_t RowsAtATime(int64_t width) {
  return width >= kInPlace ? 1 : std::min(kBlock / width, kMostAhead);
}

// The rows i in [start, end).
inline void UpdateRows(const Rows& rows, RangeFunction<Step> range, int64_t start,
                       int64_t end) {
  const Array* const tables[] = {&rows.mu, &rows.nu, &rows.p};
  const int64_t width = rows.width, most = RowsAtATime(width);
  const auto row = [&](size_t j, int64_t i) {
    return From(*tables[j], rows.ids[i] * width);
  };
  const auto bytes = [&](size_t j) { return width * WidthOf(tables[j]->kind); };
  const auto data = [&](size_t j, int64_t i) {
    return static_cast<char*>(row(j, i).data);
  };
  const auto fetch = [&](int64_t i) {
    if (i >= end || !rows.Has(i)) return;
    for (size_t j = 0; j < 3; ++j) Prefetch(data(j, i), std::min(bytes(j), kBlock * 4));
  };
  Step step = rows.step;
  step.leaves.resize(1);
  step.ends.resize(1);
  Leaf& leaf = step.leaves[0];
  leaf.decays = rows.decays;
  Array* const parts[] = {&leaf.mu, &leaf.nu, &leaf.p};
  // The n rows from i on, which lie in `parts`.
  const auto update = [&](int64_t i, int64_t n) {
    leaf.size = step.ends[0] = n * width;
    leaf.g = From(rows.g, i * width);
    // The random bits of an element are those of its place among the values.
    const uint32_t before = static_cast<uint32_t>(i * width) * kSpread;
    leaf.mu_key = rows.mu_key + before;
    leaf.nu_key = rows.nu_key + before;
    range(step, 0, leaf.size);
  };
  const int64_t ahead = std::max(most, kLeastAhead);
  for (int64_t i = start; i < start + ahead; ++i) fetch(i);
  if (most == 1) {
    for (int64_t i = start; i < end; ++i) {
      fetch(i + ahead);
      if (!rows.Has(i)) continue;
      for (size_t j = 0; j < 3; ++j) *parts[j] = row(j, i);
      update(i, 1);
    }
    return;
  }
  alignas(64) char copies[3][kBlock * 4] = {};
  for (size_t j = 0; j < 3; ++j) *parts[j] = {copies[j], tables[j]->kind};
  for (; start < end; start += most) {
    const int64_t n = std::min(most, end - start);
    bool any = false;
    for (int64_t i = 0; i < n; ++i) {
      fetch(start + i + ahead);
      if (!rows.Has(start + i)) continue;
      any = true;
      for (size_t j = 0; j < 3; ++j) {
        Copy(data(j, start + i), copies[j] + i * bytes(j), bytes(j));
      }
    }
    if (!any) continue;
    update(start, n);
    for (int64_t i = 0; i < n; ++i) {
      if (!rows.Has(start + i)) continue;
      for (size_t j = 0; j < 3; ++j) {
        Copy(copies[j] + i * bytes(j), data(j, start + i), bytes(j));
      }
    }
  }
}

// In pieces of so many rows that a thread has kLeastChunk elements, for whose rows it
// waits.
template <typename Schedule>
void RunRows(const Rows& rows, RangeFunction<Step> range, int64_t threads,
             const Schedule& schedule) {
  threads = std::max<int64_t>(threads, 1);
  const int64_t most = RowsAtATime(rows.width);
  const int64_t least = std::max<int64_t>(kLeastChunk / rows.width, 1);
  int64_t chunk = std::max(rows.count / (4 * threads), least);
  chunk = (chunk + most - 1) / most * most;
  ForEach(
      (rows.count + chunk - 1) / chunk, threads - 1,
      [&](int64_t i) {
        UpdateRows(rows, range, i * chunk, std::min(rows.count, (i + 1) * chunk));
      },
      schedule);
}

}  // namespace adamx

#endif  // ADAMX_KERNELS_ROWS_H_
