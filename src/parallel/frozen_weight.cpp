// SPDX-License-Identifier: Apache-2.0
#include "parallel/frozen_weight.hpp"

#include <utility>

#include "core/error.hpp"

namespace caravan::parallel {
namespace {

class PlainWeight final : public FrozenWeight {
 public:
  explicit PlainWeight(at::Tensor value) : value_(std::move(value)) {
    CARAVAN_CHECK(value_.dim() == 2, "a weight of ", value_.dim(), " dimensions");
  }

  std::int64_t out_features() const override { return value_.size(0); }

  using FrozenWeight::multiply;
  using FrozenWeight::multiply_transposed;
  at::Tensor multiply(const at::Tensor& x, const at::Tensor& bias) const override {
    return bias.defined() ? at::addmm(bias, x, value_.t()) : at::mm(x, value_.t());
  }
  at::Tensor multiply_transposed(const at::Tensor& dy, at::Tensor sum) const override {
    return sum.defined() ? sum.addmm_(dy, value_) : at::mm(dy, value_);
  }

  at::Tensor rows(const at::Tensor& index) const override { return value_.index_select(0, index); }

 private:
  at::Tensor value_;
};

}  // namespace

at::Tensor FrozenWeight::multiply(const at::Tensor& x, const at::Tensor& bias, const at::Tensor& u,
                                  const LowRank& update) const {
  return multiply(x, bias).addmm_(u, update.b.t(), 1.0, update.scale);
}

InputGradients FrozenWeight::multiply_transposed(const at::Tensor& dy, at::Tensor sum, const LowRank& update) const {
  return {multiply_transposed(dy, std::move(sum)), at::mm(dy, update.b).mul_(update.scale)};
}

std::unique_ptr<FrozenWeight> make_plain_weight(at::Tensor value) {
  return std::make_unique<PlainWeight>(std::move(value));
}

}  // namespace caravan::parallel
