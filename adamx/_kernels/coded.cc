// The foreign call `adamx_coded_adamw` of XLA: AdamW with moments in codes.

#include "coded.h"

#include "buffers.h"

namespace {

namespace ffi = xla::ffi;

constexpr char kName[] = "adamx_coded_adamw";

// Arguments: all g, all codes of mu, all scales of mu, those of nu, all p; results: the
// same but g, each in the place of its argument.
ffi::Error CodedAdamW(ffi::ThreadPool pool, ffi::Buffer<ffi::DataType::F32> scalars,
                      ffi::Buffer<ffi::DataType::U32> mu_keys,
                      ffi::Buffer<ffi::DataType::U32> nu_keys, ffi::RemainingArgs args,
                      ffi::RemainingRets rets, ffi::Span<const uint8_t> decays,
                      ffi::Span<const int64_t> groups, bool nesterov, uint8_t mu_rounding,
                      uint8_t nu_rounding) {
  const size_t count = decays.size();
  adamx::CodedStep step;
  const auto wrong = [](const char* what) { return adamx::Wrong(kName, what); };
  if (groups.size() != count || args.size() != 6 * count || rets.size() != 5 * count ||
      mu_keys.element_count() != count || nu_keys.element_count() != count ||
      !adamx::Fill(step, scalars, nesterov, mu_rounding, nu_rounding)) {
    return wrong("arguments that do not belong together.");
  }
  step.leaves.resize(count);
  step.ends.resize(count);
  int64_t end = 0;
  for (size_t i = 0; i < count; ++i) {
    adamx::CodedLeaf& leaf = step.leaves[i];
    const auto g = args.get<ffi::AnyBuffer>(i);
    if (g.has_error()) return g.error();
    leaf.size = static_cast<int64_t>(g->element_count());
    leaf.row = g->dimensions().size() > 0 ? g->dimensions().back() : 0;
    leaf.group = groups[i];
    if (leaf.row < 1 || leaf.group < 1 || leaf.group > adamx::kBlock) {
      return wrong("groups of another length.");
    }
    step.ends[i] = end += leaf.size;
    leaf.decays = decays[i];
    leaf.mu.key = mu_keys.typed_data()[i];
    leaf.nu.key = nu_keys.typed_data()[i];
    ffi::AnyBuffer kept[5] = {*g, *g, *g, *g, *g};
    for (size_t j = 0; j < 5; ++j) {
      const auto out = adamx::InPlace(kName, args, (j + 1) * count + i, rets, j * count + i);
      if (out.has_error()) return out.error();
      kept[j] = *out;
    }
    const int64_t scales = leaf.size / leaf.row * adamx::GroupsOfRow(leaf);
    using adamx::Decode;
    if (!Decode(*g, leaf.size, leaf.g) || !Decode(kept[4], leaf.size, leaf.p) ||
        !Decode(kept[0], ffi::DataType::S8, leaf.size, leaf.mu.codes) ||
        !Decode(kept[1], ffi::DataType::F32, scales, leaf.mu.scales) ||
        !Decode(kept[2], ffi::DataType::U8, leaf.size, leaf.nu.codes) ||
        !Decode(kept[3], ffi::DataType::F32, scales, leaf.nu.scales)) {
      return wrong("an array of another type or size.");
    }
  }
  return adamx::RunOn(pool, step);
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    adamx_coded_adamw, CodedAdamW,
    ffi::Ffi::Bind()
        .Ctx<ffi::ThreadPool>()
        .Arg<ffi::Buffer<ffi::DataType::F32>>()
        .Arg<ffi::Buffer<ffi::DataType::U32>>()
        .Arg<ffi::Buffer<ffi::DataType::U32>>()
        .RemainingArgs()
        .RemainingRets()
        .Attr<ffi::Span<const uint8_t>>("decays")
        .Attr<ffi::Span<const int64_t>>("groups")
        .Attr<bool>("nesterov")
        .Attr<uint8_t>("mu_rounding")
        .Attr<uint8_t>("nu_rounding"));
