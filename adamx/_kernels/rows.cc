// The foreign calls `adamx_adamw_rows` and `adamx_sum_rows` of XLA: they decode their
// buffers and run the kernels of rows.h and sums.h.

#include "buffers.h"
#include "sums.h"

namespace {

namespace ffi = xla::ffi;
using adamx::Array;
using adamx::Decode;
using F32 = ffi::Buffer<ffi::DataType::F32>;
using S32 = ffi::Buffer<ffi::DataType::S32>;
using U32 = ffi::Buffer<ffi::DataType::U32>;

// Results: mu, nu, p, each in the place of its argument.
ffi::Error AdamWRows(ffi::ThreadPool pool, F32 scalars, U32 mu_key, U32 nu_key, S32 ids,
                     ffi::AnyBuffer g, ffi::AnyBuffer mu, ffi::AnyBuffer nu,
                     ffi::AnyBuffer p, ffi::Result<ffi::AnyBuffer> new_mu,
                     ffi::Result<ffi::AnyBuffer> new_nu,
                     ffi::Result<ffi::AnyBuffer> new_p, bool decays, bool nesterov,
                     uint8_t mu_rounding, uint8_t nu_rounding) {
  const auto wrong = [](const char* what) {
    return adamx::Wrong("adamx_adamw_rows", what);
  };
  adamx::Rows rows{};
  if (!adamx::Fill(rows.step, scalars, nesterov, mu_rounding, nu_rounding) ||
      mu_key.element_count() != 1 || nu_key.element_count() != 1 ||
      p.dimensions().size() == 0) {
    return wrong("arguments that do not belong together.");
  }
  rows.decays = decays;
  rows.mu_key = *mu_key.typed_data();
  rows.nu_key = *nu_key.typed_data();
  rows.ids = ids.typed_data();
  rows.count = static_cast<int64_t>(ids.element_count());
  rows.num_rows = p.dimensions()[0];
  const int64_t size = static_cast<int64_t>(p.element_count());
  if (size == 0 || rows.count == 0) return ffi::Error::Success();
  rows.width = size / rows.num_rows;
  if (!Decode(g, rows.count * rows.width, rows.g) || !Decode(mu, size, rows.mu) ||
      !Decode(nu, size, rows.nu) || !Decode(p, size, rows.p)) {
    return wrong("an array of another type.");
  }
  if (mu.untyped_data() != new_mu->untyped_data() ||
      nu.untyped_data() != new_nu->untyped_data() ||
      p.untyped_data() != new_p->untyped_data()) {
    return wrong("a result that is not in the place of its argument.");
  }
  static const auto form = adamx::BestForm<adamx::Step>();
  adamx::RunRows(rows, form.run, pool.num_threads(),
                 [&](auto task) { pool.Schedule(std::move(task)); });
  return ffi::Error::Success();
}

ffi::Error SumRows(ffi::ThreadPool pool, S32 ids, F32 values, ffi::Result<S32> new_ids,
                   ffi::Result<F32> sums, int32_t num_rows) {
  const auto wrong = [](const char* what) { return adamx::Wrong("adamx_sum_rows", what); };
  adamx::Sums s{};
  s.count = static_cast<int64_t>(ids.element_count());
  if (static_cast<int64_t>(new_ids->element_count()) != s.count ||
      sums->element_count() != values.element_count() ||
      (s.count ? values.element_count() % s.count : 0) != 0) {
    return wrong("arguments that do not belong together.");
  }
  if (values.element_count() == 0) return wrong("nothing to sum.");
  s.width = static_cast<int64_t>(values.element_count()) / s.count;
  s.num_rows = num_rows;
  s.ids = ids.typed_data();
  s.values = values.typed_data();
  s.new_ids = new_ids->typed_data();
  s.sums = sums->typed_data();
  adamx::RunSums(s, pool.num_threads(),
                 [&](auto task) { pool.Schedule(std::move(task)); });
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(adamx_adamw_rows, AdamWRows,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<F32>()
                                  .Arg<U32>()
                                  .Arg<U32>()
                                  .Arg<S32>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<bool>("decays")
                                  .Attr<bool>("nesterov")
                                  .Attr<uint8_t>("mu_rounding")
                                  .Attr<uint8_t>("nu_rounding"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(adamx_sum_rows, SumRows,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<S32>()
                                  .Arg<F32>()
                                  .Ret<S32>()
                                  .Ret<F32>()
                                  .Attr<int32_t>("num_rows"));
