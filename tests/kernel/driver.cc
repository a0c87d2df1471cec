// Runs steps on threads of its own, for the sanitizers: all sizes, dtypes and roundings,
// whole and in pieces, which must give the same bits. Ends with 1 if they do not.

#include <cmath>
#include <cstdio>
#include <functional>
#include <random>
#include <thread>

#include "coded.h"
#include "sums.h"

namespace {

using adamx::Array;
using adamx::Kind;
using adamx::Rounding;

const int64_t kSizes[] = {1, 7, 31, 32, 33, 511, 512, 513, 1023, 300000};
constexpr size_t kLeaves = sizeof kSizes / sizeof *kSizes;

// Buffers of just the size of their leaves, so that a byte too far is noticed.
struct Memory {
  std::vector<std::unique_ptr<char[]>> buffers;

  Array Make(int64_t size, Kind kind, bool positive, std::mt19937& random) {
    const size_t width = kind == Kind::kFloat32 ? 4 : 2;
    buffers.emplace_back(new char[size * width]);
    char* data = buffers.back().get();
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < size; ++i) {
      const float x = positive ? std::abs(normal(random)) : normal(random);
      // The upper half of a float32 is a bfloat16.
      std::memcpy(data + i * width, reinterpret_cast<const char*>(&x) + 4 - width, width);
    }
    return {data, kind};
  }
};

// What all elements share.
adamx::Step MakeShared(Rounding rounding, bool nesterov) {
  adamx::Step step{};
  step.scalars = {0.1f,  1, 0.001f, 1,     0.9f, 1e-8f, 0.1f,  1e-9f,
                  1e-9f, 0.03f, 0.5f, 1e-9f, 1e-8f, 0.1f, 1e-3f, 1e-11f, 0.5f};
  step.scalars.mu_from_far = step.scalars.nu_from_far = 0;
  step.nesterov = nesterov;
  step.mu_rounding = step.nu_rounding = rounding;
  return step;
}

adamx::Step MakeStep(Memory& memory, Kind kind, Rounding rounding, bool nesterov) {
  std::mt19937 random(1);
  adamx::Step step = MakeShared(rounding, nesterov);
  int64_t end = 0;
  for (int64_t size : kSizes) {
    adamx::Leaf leaf{};
    leaf.size = size;
    leaf.g = memory.Make(size, kind, false, random);
    leaf.p = memory.Make(size, kind, false, random);
    leaf.mu = memory.Make(size, kind, false, random);
    leaf.nu = memory.Make(size, kind, true, random);
    leaf.decays = size % 2;
    leaf.mu_key = 17;
    leaf.nu_key = 19;
    step.leaves.push_back(leaf);
    step.ends.push_back(end += size);
  }
  return step;
}

bool Same(const adamx::Step& a, const adamx::Step& b) {
  for (size_t i = 0; i < kLeaves; ++i) {
    const adamx::Leaf &x = a.leaves[i], &y = b.leaves[i];
    const size_t bytes = x.size * (x.p.kind == Kind::kFloat32 ? 4 : 2);
    if (std::memcmp(x.p.data, y.p.data, bytes) != 0 ||
        std::memcmp(x.mu.data, y.mu.data, bytes) != 0 ||
        std::memcmp(x.nu.data, y.nu.data, bytes) != 0) {
      return false;
    }
  }
  return true;
}

// Ids of which a quarter stands for nothing, everywhere among the others.
std::vector<int32_t> MakeIds(int64_t n, int32_t rows, std::mt19937& random) {
  const int32_t wrong[] = {-1, rows, std::numeric_limits<int32_t>::max(),
                           std::numeric_limits<int32_t>::min()};
  std::vector<int32_t> ids(n);
  for (int32_t& id : ids) {
    const uint32_t x = random();
    id = x % 4 ? static_cast<int32_t>(random() % rows) : wrong[x / 4 % 4];
  }
  return ids;
}

adamx::Rows MakeRows(Memory& memory, const std::vector<int32_t>& ids, int64_t num_rows,
                     int64_t width, Kind kind) {
  std::mt19937 random(2);
  adamx::Rows rows{};
  rows.step = MakeShared(Rounding::kStochastic, true);
  rows.ids = ids.data();
  rows.count = ids.size();
  rows.num_rows = num_rows;
  rows.width = width;
  rows.g = memory.Make(rows.count * width, kind, false, random);
  rows.p = memory.Make(num_rows * width, kind, false, random);
  rows.mu = memory.Make(num_rows * width, kind, false, random);
  rows.nu = memory.Make(num_rows * width, kind, true, random);
  rows.mu_key = 17;
  rows.nu_key = 19;
  return rows;
}

// Each row once, as in what sum_rows makes, but not in order.
bool RowsAreRight(const adamx::Form<adamx::Step>& form, int64_t width, Kind kind) {
  constexpr int32_t kRows = 3000;
  std::mt19937 random(3);
  std::vector<int32_t> ids = MakeIds(2 * kRows, kRows, random);
  std::vector<bool> met(kRows);
  for (int32_t& id : ids) {
    if (id < 0 || id >= kRows) continue;
    if (met[id]) id = -1;
    else met[id] = true;
  }
  Memory memory;
  const adamx::Rows whole = MakeRows(memory, ids, kRows, width, kind);
  const adamx::Rows pieces = MakeRows(memory, ids, kRows, width, kind);
  const adamx::Rows before = MakeRows(memory, ids, kRows, width, kind);
  adamx::UpdateRows(whole, form.run, 0, whole.count);
  std::vector<std::thread> threads;
  adamx::RunRows(pieces, form.run, 4,
                 [&](auto task) { threads.emplace_back(std::move(task)); });
  for (std::thread& thread : threads) thread.join();
  const size_t bytes = width * adamx::WidthOf(kind);
  const auto row = [&](const Array& array, int64_t i) {
    return static_cast<const char*>(array.data) + i * bytes;
  };
  for (int64_t i = 0; i < kRows; ++i) {
    if (std::memcmp(row(whole.p, i), row(pieces.p, i), bytes) != 0 ||
        std::memcmp(row(whole.nu, i), row(pieces.nu, i), bytes) != 0) {
      return false;
    }
    const bool moved = std::memcmp(row(whole.mu, i), row(before.mu, i), bytes) != 0;
    // In bfloat16 some stay by chance.
    if (moved ? !met[i] : met[i] && kind == Kind::kFloat32) return false;
  }
  return true;
}

bool SumsAreRight(int64_t width) {
  std::mt19937 random(4);
  for (int32_t rows : {1, 7, 5000, 1 << 30}) {
    for (int64_t n : {1, 100, 20000}) {
      const std::vector<int32_t> ids = MakeIds(n, rows, random);
      const std::vector<float> values(n * width, 1.0f);
      std::vector<int32_t> new_ids(n, -1);
      std::vector<float> sums(n * width, -1.0f);
      std::vector<std::thread> threads;
      adamx::RunSums({n, width, rows, ids.data(), values.data(), new_ids.data(),
                      sums.data()},
                     4, [&](auto task) { threads.emplace_back(std::move(task)); });
      for (std::thread& thread : threads) thread.join();
      std::vector<int32_t> known;
      for (int32_t id : ids) {
        if (id >= 0 && id < rows) known.push_back(id);
      }
      std::sort(known.begin(), known.end());
      size_t k = 0;
      for (int64_t i = 0; i < n; ++i) {
        const auto end = std::upper_bound(known.begin() + k, known.end(), new_ids[i]);
        const int64_t times = end - (known.begin() + k);
        const bool right = times > 0 ? known[k] == new_ids[i] : new_ids[i] == rows + i;
        k += times;
        for (int64_t x = 0; x < width; ++x) {
          if (!right || sums[i * width + x] != static_cast<float>(times)) return false;
        }
      }
      if (k != known.size()) return false;
    }
  }
  return true;
}

// A step with moments in codes, in rows whose groups do not all have one length.
struct CodedMemory {
  std::vector<std::vector<int8_t>> mu;
  std::vector<std::vector<uint8_t>> nu;
  std::vector<std::vector<float>> scales;
  Memory others;

  adamx::CodedStep Make(Kind kind, bool nesterov, bool mu_by_chance, bool nu_by_chance) {
    struct Shape {
      int64_t rows, row, group;
    };
    std::mt19937 random(1);
    adamx::CodedStep step{};
    step.scalars = MakeStep(others, kind, Rounding::kSaturating, nesterov).scalars;
    step.nesterov = nesterov;
    step.mu_rounding = mu_by_chance ? Rounding::kStochastic : Rounding::kNearest;
    step.nu_rounding = nu_by_chance ? Rounding::kStochastic : Rounding::kNearest;
    int64_t end = 0;
    for (Shape shape : {Shape{3, 1301, 128}, Shape{1, 1, 1}, Shape{5, 5, 16}, Shape{64, 512, 512},
                        Shape{100, 768, 128}, Shape{21, 100, 100}, Shape{40, 16, 16}}) {
      adamx::CodedLeaf leaf{};
      leaf.row = shape.row;
      leaf.group = shape.group;
      leaf.size = shape.rows * shape.row;
      const size_t groups = shape.rows * adamx::GroupsOfRow(leaf);
      mu.emplace_back(leaf.size);
      nu.emplace_back(leaf.size);
      for (int8_t& code : mu.back()) code = static_cast<int8_t>(random() % 255 - 127);
      for (uint8_t& code : nu.back()) code = static_cast<uint8_t>(random() % 256);
      scales.emplace_back(groups, 0.5f);
      leaf.mu = {mu.back().data(), scales.back().data(), 17};
      scales.emplace_back(groups, 0.25f);
      // Groups of zeros, of numbers too large to divide by, and of what is not finite.
      for (size_t i = 0; i < groups; i += 4) {
        scales.back()[i] = i % 8 != 0 ? 0 : i % 16 != 0 ? 3e38f : INFINITY;
      }
      leaf.nu = {nu.back().data(), scales.back().data(), 19};
      leaf.g = others.Make(leaf.size, kind, false, random);
      leaf.p = others.Make(leaf.size, kind, false, random);
      leaf.decays = shape.group % 2;
      step.leaves.push_back(leaf);
      step.ends.push_back(end += leaf.size);
    }
    return step;
  }

  bool Same(const CodedMemory& other) const {
    if (mu != other.mu || nu != other.nu) return false;
    for (size_t i = 0; i < scales.size(); ++i) {
      const size_t bytes = scales[i].size() * sizeof(float);
      if (std::memcmp(scales[i].data(), other.scales[i].data(), bytes) != 0) return false;
    }
    return true;
  }
};

bool CodedPiecesAreTheWhole() {
  const auto form = adamx::BestForm<adamx::CodedStep>();
  for (Kind kind : {Kind::kFloat32, Kind::kBFloat16}) {
    for (int by_chance : {0, 1, 2}) {
      CodedMemory one, two;
      const auto whole = one.Make(kind, by_chance == 0, by_chance > 1, by_chance > 0);
      const auto pieces = two.Make(kind, by_chance == 0, by_chance > 1, by_chance > 0);
      form.run(whole, 0, whole.ends.back());
      std::vector<std::thread> threads;
      adamx::Run(pieces, form.run, 4,
                 [&](auto task) { threads.emplace_back(std::move(task)); });
      for (std::thread& thread : threads) thread.join();
      if (!one.Same(two)) return false;
      for (size_t i = 0; i < whole.leaves.size(); ++i) {
        const adamx::CodedLeaf& leaf = whole.leaves[i];
        const size_t bytes = leaf.size * (kind == Kind::kFloat32 ? 4 : 2);
        if (std::memcmp(leaf.p.data, pieces.leaves[i].p.data, bytes) != 0) return false;
      }
    }
  }
  return true;
}

}  // namespace

int main() {
  const auto form = adamx::BestForm<adamx::Step>();
  if (form.run == nullptr) return 0;
  for (Kind kind : {Kind::kFloat32, Kind::kBFloat16}) {
    for (Rounding rounding : {Rounding::kSaturating, Rounding::kStochastic}) {
      for (bool nesterov : {false, true}) {
        Memory memory;
        const adamx::Step whole = MakeStep(memory, kind, rounding, nesterov);
        const adamx::Step pieces = MakeStep(memory, kind, rounding, nesterov);
        form.run(whole, 0, whole.ends.back());
        std::vector<std::thread> threads;
        adamx::Run(pieces, form.run, 4,
                   [&](auto task) { threads.emplace_back(std::move(task)); });
        for (std::thread& thread : threads) thread.join();
        if (!Same(whole, pieces)) {
          std::printf("pieces differ from the whole\n");
          return 1;
        }
      }
    }
  }
  for (int64_t width : {1, 3, 31, 32, 600}) {
    for (Kind kind : {Kind::kFloat32, Kind::kBFloat16}) {
      if (!RowsAreRight(form, width, kind)) {
        std::printf("rows in pieces differ, or others have moved\n");
        return 1;
      }
    }
    if (!SumsAreRight(width)) {
      std::printf("sums are wrong\n");
      return 1;
    }
  }
  if (!CodedPiecesAreTheWhole()) {
    std::printf("pieces in codes differ from the whole\n");
    return 1;
  }
  // Tasks that start when all is done find nothing to do.
  std::vector<std::function<void()>> late;
  std::atomic<int> calls{0};
  adamx::ForEach(3, 2, [&](int64_t) { ++calls; }, [&](auto task) { late.push_back(task); });
  for (auto& task : late) task();
  std::printf("%s: %d calls\n", form.vectors, calls.load());
  return calls == 3 ? 0 : 1;
}
