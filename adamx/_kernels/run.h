// How a step is divided among threads, and the form of it for each processor.
//
// A step has `leaves`, each with a `size`, and `ends`, the end of each among all elements.
// Its header has `UpdateLeaf(step, leaf, start, end)` and `Cut(leaf, i)`, the place at i
// or before where a leaf may be cut.

#ifndef ADAMX_KERNELS_RUN_H_
#define ADAMX_KERNELS_RUN_H_

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>

namespace adamx {

#define ADAMX_INLINE inline __attribute__((always_inline))

// Elements [start, end) of all that the leaves have together.
template <typename Step>
ADAMX_INLINE void UpdateRange(const Step& step, int64_t start, int64_t end) {
  size_t i = std::upper_bound(step.ends.begin(), step.ends.end(), start) -
             step.ends.begin();
  for (; i < step.leaves.size(); ++i) {
    const auto& leaf = step.leaves[i];
    const int64_t first = step.ends[i] - leaf.size;
    if (first >= end) break;
    const int64_t from = first >= start ? 0 : Cut(leaf, start - first);
    const int64_t to = step.ends[i] <= end ? leaf.size : Cut(leaf, end - first);
    UpdateLeaf(step, leaf, from, to);
  }
}

template <typename Step>
using RangeFunction = void (*)(const Step&, int64_t, int64_t);

// The fastest form for this processor; none where it has no fused multiply-add, without
// which results would be others.
template <typename Step>
struct Form {
  RangeFunction<Step> run = nullptr;
  const char* vectors = nullptr;
};

#if defined(__x86_64__)
template <typename Step>
__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))) void RangeV4(
    const Step& step, int64_t start, int64_t end) {
  UpdateRange(step, start, end);
}

template <typename Step>
__attribute__((target("avx2,fma"))) void RangeV3(const Step& step, int64_t start,
                                                 int64_t end) {
  UpdateRange(step, start, end);
}

template <typename Step>
Form<Step> BestForm() {
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    return {RangeV4<Step>, "AVX-512"};
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return {RangeV3<Step>, "AVX2"};
  }
  return {};
}
#elif defined(__FP_FAST_FMAF)
template <typename Step>
Form<Step> BestForm() {
  return {UpdateRange<Step>, "NEON"};
}
#else
template <typename Step>
Form<Step> BestForm() {
  return {};
}
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

template <typename Step, typename Schedule>
void Run(const Step& step, RangeFunction<Step> range, int64_t threads,
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

#endif  // ADAMX_KERNELS_RUN_H_
