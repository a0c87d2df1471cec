// What the foreign calls share: XLA's buffers as arrays of the kernels.

#ifndef ADAMX_KERNELS_BUFFERS_H_
#define ADAMX_KERNELS_BUFFERS_H_

#include "adamw.h"
#include "xla/ffi/api/ffi.h"

namespace adamx {

namespace ffi = xla::ffi;

inline ffi::Error Wrong(const char* who, const char* what) {
  return ffi::Error::InvalidArgument(std::string(who) + ": " + what);
}

// What all elements share; false where it is another struct.
template <typename Step>
bool Fill(Step& step, const ffi::Buffer<ffi::DataType::F32>& scalars, bool nesterov,
          uint8_t mu_rounding, uint8_t nu_rounding) {
  if (scalars.size_bytes() != sizeof step.scalars) return false;
  std::memcpy(&step.scalars, scalars.untyped_data(), sizeof step.scalars);
  step.nesterov = nesterov;
  step.mu_rounding = static_cast<Rounding>(mu_rounding);
  step.nu_rounding = static_cast<Rounding>(nu_rounding);
  return true;
}

// The step over all leaves, on XLA's threads.
template <typename Step>
ffi::Error RunOn(ffi::ThreadPool& pool, const Step& step) {
  static const Form<Step> form = BestForm<Step>();
  Run(step, form.run, pool.num_threads(),
      [&](auto task) { pool.Schedule(std::move(task)); });
  return ffi::Error::Success();
}

// An array of float32 or bfloat16.
inline bool Decode(const ffi::AnyBuffer& buffer, int64_t size, Array& array) {
  const auto type = buffer.element_type();
  array.data = buffer.untyped_data();
  array.kind = type == ffi::DataType::BF16 ? Kind::kBFloat16 : Kind::kFloat32;
  const bool known = type == ffi::DataType::BF16 || type == ffi::DataType::F32;
  return known && static_cast<int64_t>(buffer.element_count()) == size;
}

// An array of one dtype.
template <typename T>
bool Decode(const ffi::AnyBuffer& buffer, ffi::DataType type, int64_t size, T*& data) {
  data = static_cast<T*>(buffer.untyped_data());
  return buffer.element_type() == type &&
         static_cast<int64_t>(buffer.element_count()) == size;
}

// Result `to`, which has to be in the place of argument `from`.
inline ffi::ErrorOr<ffi::AnyBuffer> InPlace(const char* who, ffi::RemainingArgs args,
                                            size_t from, ffi::RemainingRets rets,
                                            size_t to) {
  const auto in = args.get<ffi::AnyBuffer>(from);
  auto out = rets.get<ffi::AnyBuffer>(to);
  if (in.has_error()) return ffi::Unexpected(in.error());
  if (out.has_error()) return ffi::Unexpected(out.error());
  if (in->untyped_data() != (*out)->untyped_data()) {
    return ffi::Unexpected(Wrong(who, "a result that is not in the place of its argument."));
  }
  return **out;
}

}  // namespace adamx

#endif  // ADAMX_KERNELS_BUFFERS_H_
