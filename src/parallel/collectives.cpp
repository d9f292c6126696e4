// SPDX-License-Identifier: Apache-2.0
#include "parallel/collectives.hpp"

#include "core/error.hpp"
#include "parallel/device_tensors.hpp"

namespace caravan::parallel {

core::DType dtype_of(at::ScalarType type) {
  switch (type) {
    case at::kFloat: return core::DType::f32;
    case at::kBFloat16: return core::DType::bf16;
    case at::kHalf: return core::DType::f16;
    case at::kDouble: return core::DType::f64;
    case at::kLong: return core::DType::i64;
    case at::kInt: return core::DType::i32;
    case at::kByte: return core::DType::u8;
    default: core::internal_error("element type ", at::toString(type), " has no name in files and collectives");
  }
}

at::ScalarType scalar_type_of(core::DType dtype) {
  switch (dtype) {
    case core::DType::f32: return at::kFloat;
    case core::DType::bf16: return at::kBFloat16;
    case core::DType::f16: return at::kHalf;
    case core::DType::f64: return at::kDouble;
    case core::DType::i64: return at::kLong;
    case core::DType::i32: return at::kInt;
    case core::DType::u8: return at::kByte;
  }
  core::internal_error("unknown element type");
}

at::Tensor gather_rows(comm::Communicator& group, const char* operation, const at::Tensor& rows) {
  if (group.size() == 1) return rows;
  const at::Tensor mine = rows.contiguous();
  auto sizes = mine.sizes().vec();
  sizes[0] *= group.size();
  at::Tensor all = at::empty(sizes, mine.options());
  group
      .all_gather(operation, mine.const_data_ptr(), all.data_ptr(),
                  comm::Communicator::Counts(static_cast<std::size_t>(group.size()), mine.numel()),
                  dtype_of(mine.scalar_type()), place_of(mine))
      .wait();
  return all;
}

at::Tensor reduce_scatter_rows(comm::Communicator& group, const char* operation, const at::Tensor& rows) {
  if (group.size() == 1) return rows;
  const at::Tensor partial = rows.contiguous();
  auto sizes = partial.sizes().vec();
  CARAVAN_CHECK(sizes[0] % group.size() == 0, operation);
  sizes[0] /= group.size();
  at::Tensor sum = at::empty(sizes, partial.options());
  group
      .reduce_scatter(operation, partial.const_data_ptr(), sum.data_ptr(),
                      comm::Communicator::Counts(static_cast<std::size_t>(group.size()), sum.numel()),
                      dtype_of(partial.scalar_type()), place_of(partial))
      .wait();
  return sum;
}

void all_reduce(comm::Communicator& group, const char* operation, at::Tensor& values, comm::Reduce reduce) {
  CARAVAN_CHECK(values.is_contiguous(), operation);
  if (group.size() == 1) return;
  group
      .all_reduce(operation, values.data_ptr(), values.numel(), dtype_of(values.scalar_type()), reduce,
                  place_of(values))
      .wait();
}

}  // namespace caravan::parallel
