// One step of AdamW over leaves whose moments are kept in codes.

#ifndef ADAMX_KERNELS_CODED_H_
#define ADAMX_KERNELS_CODED_H_

#include "companded.h"

namespace adamx {

template <bool positive>
struct Coded {
  typename Code<positive>::Type* codes;
  float* scales;
  uint32_t key;
};

// Along its last axis, of `row` elements, a leaf has groups of `group`, the last of them
// shorter if that does not divide it; all follow each other in memory.
struct CodedLeaf {
  int64_t size, row, group;
  Array g, p;
  Coded<false> mu;
  Coded<true> nu;
  float decays;
};

struct CodedStep {
  Scalars scalars;
  bool nesterov;
  Rounding mu_rounding, nu_rounding;
  std::vector<CodedLeaf> leaves;
  std::vector<int64_t> ends;  // of each leaf among all elements
};

inline int64_t GroupsOfRow(const CodedLeaf& leaf) {
  return (leaf.row + leaf.group - 1) / leaf.group;
}

// Groups one after the other, from the one that starts at an element.
struct Groups {
  int64_t row, group, place, index, column;

  ADAMX_INLINE Groups(const CodedLeaf& leaf, int64_t start)
      : row(leaf.row), group(leaf.group), place(start) {
    column = start % row;
    index = start / row * GroupsOfRow(leaf) + column / group;
  }

  ADAMX_INLINE int64_t Length() const { return std::min(group, row - column); }

  ADAMX_INLINE void Next() {
    place += Length();
    column += Length();
    if (column == row) column = 0;
    ++index;
  }
};

ADAMX_INLINE void DecodeGroup(const CodedLeaf& leaf, const Groups& at,
                              const float* __restrict__ mu_codes,
                              const float* __restrict__ nu_codes,
                              float* __restrict__ mu, float* __restrict__ nu) {
  const int64_t n = WholeVectors(at.Length());
  const float mu_scale = leaf.mu.scales[at.index], nu_scale = leaf.nu.scales[at.index];
  for (int64_t i = 0; i < n; ++i) {
    mu[i] = Decode<false>(mu_codes[i], mu_scale);
    nu[i] = Decode<true>(nu_codes[i], nu_scale);
  }
}

// Both moments in one loop: roots take longest, and other work is done meanwhile.
template <bool mu_by_chance, bool nu_by_chance>
ADAMX_INLINE void EncodeGroup(const CodedLeaf& leaf, const Groups& at,
                              const float* __restrict__ mu, const float* __restrict__ nu,
                              float* __restrict__ mu_codes,
                              float* __restrict__ nu_codes) {
  const int64_t n = WholeVectors(at.Length());
  const float mu_inverse = Inverse(leaf.mu.scales[at.index]);
  const float nu_inverse = Inverse(leaf.nu.scales[at.index]);
  const uint32_t start = static_cast<uint32_t>(at.place) * kSpread;
  uint32_t mu_place = start + leaf.mu.key, nu_place = start + leaf.nu.key;
  for (int64_t i = 0; i < n; ++i) {
    mu_codes[i] = Encode<false, mu_by_chance>(mu[i], mu_inverse, mu_place);
    nu_codes[i] = Encode<true, nu_by_chance>(nu[i], nu_inverse, nu_place);
    mu_place += kSpread;
    nu_place += kSpread;
  }
}

ADAMX_INLINE int64_t Cut(const CodedLeaf& leaf, int64_t i) {
  return i - i % leaf.row % leaf.group;
}

// Elements [start, end) of a leaf, whole groups.
ADAMX_INLINE void UpdateLeaf(const CodedStep& step, const CodedLeaf& leaf, int64_t start,
                             int64_t end) {
  const Scalars& c = step.scalars;
  View g, p;
  Block blocks[4];
  float* const mu = blocks[0].data;
  float* const nu = blocks[1].data;
  float* const mu_codes = blocks[2].data;
  float* const nu_codes = blocks[3].data;
  const bool mu_by_chance = step.mu_rounding == Rounding::kStochastic;
  const bool nu_by_chance = step.nu_rounding == Rounding::kStochastic;
  while (start < end) {
    const int64_t most = start + kBlock;
    const int64_t n = (most < end ? Cut(leaf, most) : end) - start;
    g.Open(leaf.g, start, n);
    g.Scale(n, c.clip);
    p.Open(leaf.p, start, n);
    Load(n, leaf.mu.codes + start, mu_codes);
    Load(n, leaf.nu.codes + start, nu_codes);
    for (Groups at(leaf, start); at.place < start + n; at.Next()) {
      const int64_t i = at.place - start;
      DecodeGroup(leaf, at, mu_codes + i, nu_codes + i, mu + i, nu + i);
    }
    Moments(c, n, g.data, mu, nu);
    if (step.nesterov) {
      Parameters<true>(c, leaf.decays, n, g.data, mu, nu, p.data);
    } else {
      Parameters<false>(c, leaf.decays, n, g.data, mu, nu, p.data);
    }
    p.Keep(leaf.p, start, n, Rounding::kNearest);
    for (Groups at(leaf, start); at.place < start + n; at.Next()) {
      const int64_t i = at.place - start;
      leaf.mu.scales[at.index] = Scale(at.Length(), mu + i);
      leaf.nu.scales[at.index] = Scale(at.Length(), nu + i);
      if (mu_by_chance) {
        EncodeGroup<true, true>(leaf, at, mu + i, nu + i, mu_codes + i, nu_codes + i);
      } else if (nu_by_chance) {
        EncodeGroup<false, true>(leaf, at, mu + i, nu + i, mu_codes + i, nu_codes + i);
      } else {
        EncodeGroup<false, false>(leaf, at, mu + i, nu + i, mu_codes + i, nu_codes + i);
      }
    }
    Store(n, mu_codes, leaf.mu.codes + start);
    Store(n, nu_codes, leaf.nu.codes + start);
    start += n;
  }
}

}  // namespace adamx

#endif  // ADAMX_KERNELS_CODED_H_
