// Runs steps on threads of its own, for the sanitizers: all sizes, dtypes and roundings,
// whole and in pieces, which must give the same bits. Ends with 1 if they do not.

#include <cstdio>
#include <functional>
#include <random>
#include <thread>

#include "adamw.h"

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

adamx::Step MakeStep(Memory& memory, Kind kind, Rounding rounding, bool nesterov) {
  std::mt19937 random(1);
  adamx::Step step{};
  step.scalars = {0.1f,  1, 0.001f, 1,     0.9f, 1e-8f, 0.1f,  1e-9f,
                  1e-9f, 0.03f, 0.5f, 1e-9f, 1e-8f, 0.1f, 1e-3f, 1e-11f, 0.5f};
  step.scalars.mu_from_far = step.scalars.nu_from_far = 0;
  step.nesterov = nesterov;
  step.mu_rounding = step.nu_rounding = rounding;
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

}  // namespace

int main() {
  const adamx::Form form = adamx::BestForm();
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
  // Tasks that start when all is done find nothing to do.
  std::vector<std::function<void()>> late;
  std::atomic<int> calls{0};
  adamx::ForEach(3, 2, [&](int64_t) { ++calls; }, [&](auto task) { late.push_back(task); });
  for (auto& task : late) task();
  std::printf("%s: %d calls\n", form.vectors, calls.load());
  return calls == 3 ? 0 : 1;
}
