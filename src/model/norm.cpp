// SPDX-License-Identifier: Apache-2.0
#include "model/norm.hpp"

#include "parallel/backward.hpp"
#include "parallel/tensor_kernels.hpp"

namespace caravan::model {

at::Tensor rms_norm(const at::Tensor& x, const parallel::FrozenWeight& weight, double eps) {
  parallel::Workspace workspace;
  const at::Tensor scale = weight.materialise(workspace).to(at::kFloat);
  const at::Tensor input = x.detach();
  auto [y, rstd] = parallel::rms_norm(input, scale, eps);
  parallel::connect("rms norm", {x}, {y}, [input, scale, rstd = rstd](const std::vector<at::Tensor>& gradients) {
    return std::vector<at::Tensor>{parallel::rms_norm_backward(gradients[0], input, scale, rstd)};
  });
  return y;
}

}  // namespace caravan::model
