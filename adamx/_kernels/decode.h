// Buffers of XLA as arrays of the kernels.

#ifndef ADAMX_KERNELS_DECODE_H_
#define ADAMX_KERNELS_DECODE_H_

#include "adamw.h"
#include "xla/ffi/api/ffi.h"

namespace adamx {

// Whether the buffer has a known dtype and this size.
inline bool Decode(const xla::ffi::AnyBuffer& buffer, int64_t size, Array& array) {
  const auto type = buffer.element_type();
  array.data = buffer.untyped_data();
  array.kind = type == xla::ffi::DataType::BF16 ? Kind::kBFloat16 : Kind::kFloat32;
  const bool known =
      type == xla::ffi::DataType::BF16 || type == xla::ffi::DataType::F32;
  return known && static_cast<int64_t>(buffer.element_count()) == size;
}

}  // namespace adamx

#endif  // ADAMX_KERNELS_DECODE_H_
