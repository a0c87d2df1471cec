// The foreign call `adamx_adamw` of XLA: decodes its buffers and runs the step.

#include "buffers.h"

namespace {

namespace ffi = xla::ffi;
using adamx::Array;
using adamx::Decode;

constexpr char kName[] = "adamx_adamw";

// Arguments: all g, all mu, all nu, all p; results: all mu, all nu, all p, each in the
// place of its argument.
ffi::Error AdamW(ffi::ThreadPool pool, ffi::Buffer<ffi::DataType::F32> scalars,
                 ffi::Buffer<ffi::DataType::U32> mu_keys,
                 ffi::Buffer<ffi::DataType::U32> nu_keys, ffi::RemainingArgs args,
                 ffi::RemainingRets rets, ffi::Span<const uint8_t> decays, bool nesterov,
                 uint8_t mu_rounding, uint8_t nu_rounding) {
  const size_t count = decays.size();
  adamx::Step step;
  const auto wrong = [](const char* what) { return adamx::Wrong(kName, what); };
  if (args.size() != 4 * count || rets.size() != 3 * count ||
      mu_keys.element_count() != count || nu_keys.element_count() != count ||
      !adamx::Fill(step, scalars, nesterov, mu_rounding, nu_rounding)) {
    return wrong("arguments that do not belong together.");
  }
  step.leaves.resize(count);
  step.ends.resize(count);
  int64_t end = 0;
  for (size_t i = 0; i < count; ++i) {
    adamx::Leaf& leaf = step.leaves[i];
    const auto g = args.get<ffi::AnyBuffer>(i);
    if (g.has_error()) return g.error();
    leaf.size = static_cast<int64_t>(g->element_count());
    step.ends[i] = end += leaf.size;
    leaf.decays = decays[i];
    leaf.mu_key = mu_keys.typed_data()[i];
    leaf.nu_key = nu_keys.typed_data()[i];
    if (!Decode(*g, leaf.size, leaf.g)) return wrong("a gradient of another type.");
    Array* const arrays[] = {&leaf.mu, &leaf.nu, &leaf.p};
    for (size_t j = 0; j < 3; ++j) {
      const auto out = adamx::InPlace(kName, args, (j + 1) * count + i, rets, j * count + i);
      if (out.has_error()) return out.error();
      if (!Decode(*out, leaf.size, *arrays[j])) return wrong("a leaf of another type.");
    }
  }
  return adamx::RunOn(pool, step);
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    adamx_adamw, AdamW,
    ffi::Ffi::Bind()
        .Ctx<ffi::ThreadPool>()
        .Arg<ffi::Buffer<ffi::DataType::F32>>()
        .Arg<ffi::Buffer<ffi::DataType::U32>>()
        .Arg<ffi::Buffer<ffi::DataType::U32>>()
        .RemainingArgs()
        .RemainingRets()
        .Attr<ffi::Span<const uint8_t>>("decays")
        .Attr<bool>("nesterov")
        .Attr<uint8_t>("mu_rounding")
        .Attr<uint8_t>("nu_rounding"));

// The vectors that the kernel uses here; nullptr where it cannot be used.
extern "C" const char* adamx_vectors() { return adamx::BestForm<adamx::Step>().vectors; }
