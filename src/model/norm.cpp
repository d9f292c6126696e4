// SPDX-License-Identifier: Apache-2.0
#include "model/norm.hpp"

#include "parallel/backward.hpp"
#include "parallel/tensor_kernels.hpp"

namespace caravan::model {

parallel::Activation rms_norm(const parallel::Activation& x, const at::Tensor& weight, double eps,
                              parallel::Recall recall) {
  const at::Tensor scale = weight.to(at::kFloat);
  auto [value, rstd] = parallel::rms_norm(x.value.detach(), scale, eps);
  parallel::Activation y = parallel::activation(
      value, recall, [x = x.recalled, scale, eps] { return parallel::rms_norm(x.get(), scale, eps).first; });
  parallel::connect("rms norm", {x.value}, {y.value},
                    [x = x.recalled, scale, rstd = rstd](const std::vector<at::Tensor>& gradients) {
                      return std::vector<at::Tensor>{parallel::rms_norm_backward(gradients[0], x.get(), scale, rstd)};
                    });
  return y;
}

}  // namespace caravan::model
