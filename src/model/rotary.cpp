// SPDX-License-Identifier: Apache-2.0
#include "model/rotary.hpp"

#include <algorithm>

#include "parallel/backward.hpp"
#include "parallel/tensor_kernels.hpp"

namespace caravan::model {

Rotary::Rotary(const family::ModelSpec& spec, at::Device device)
    : rotary_(spec.rotary),
      head_dim_(spec.head_dim),
      max_positions_(spec.max_positions),
      device_(device),
      plain_(frequencies(spec.max_positions)) {}

at::Tensor Rotary::frequencies(std::int64_t length) const {
  const std::vector<float> values = family::inverse_frequencies(rotary_, head_dim_, max_positions_, length);
  at::Tensor tensor = at::empty({static_cast<std::int64_t>(values.size())}, at::kFloat);
  std::copy(values.begin(), values.end(), tensor.data_ptr<float>());
  return tensor.to(device_);
}

std::vector<Rotary::Stretch> Rotary::stretches(const parallel::TokenAxis& axis) const {
  if (!rotary_.depends_on_length()) return {{0, axis.tokens, plain_}};
  std::vector<Stretch> all;
  for (std::size_t d = 0; d + 1 < axis.document_starts.size(); ++d) {
    const std::int64_t begin = axis.document_starts[d], length = axis.document_starts[d + 1] - begin;
    all.push_back({begin, length, length > max_positions_ ? frequencies(length) : plain_});
  }
  return all;
}

parallel::Activation Rotary::rotate(const parallel::Activation& x, const parallel::TokenAxis& axis,
                                    parallel::Recall recall) const {
  const auto turn = [head_dim = head_dim_, positions = axis.positions, all = stretches(axis)](const at::Tensor& rows,
                                                                                              bool inverse) {
    for (const Stretch& stretch : all) {
      at::Tensor part = rows.narrow(0, stretch.begin, stretch.rows);
      parallel::rotary(part, head_dim, positions.narrow(0, stretch.begin, stretch.rows), stretch.inverse_frequency,
                       inverse);
    }
  };
  const auto rotated = [turn](const at::Tensor& rows) {
    turn(rows, /*inverse=*/false);
    return rows;
  };
  parallel::Activation y = parallel::compute(recall, rotated, x);
  parallel::connect("rotary", {x.value}, {y.value}, [turn](const std::vector<at::Tensor>& gradients) {
    const at::Tensor dx = gradients[0].contiguous();
    turn(dx, /*inverse=*/true);
    return std::vector<at::Tensor>{dx};
  });
  return y;
}

}  // namespace caravan::model
