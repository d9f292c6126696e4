// SPDX-License-Identifier: Apache-2.0
#include "parallel/backward.hpp"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/variable.h>

namespace caravan::parallel {
namespace {

class ClosureNode final : public torch::autograd::Node {
 public:
  ClosureNode(std::string name, Backward backward) : name_(std::move(name)), backward_(std::move(backward)) {}

  std::string name() const override { return name_; }
  void release_variables() override { backward_ = nullptr; }

 protected:
  torch::autograd::variable_list apply(torch::autograd::variable_list&& gradients) override {
    const at::NoGradGuard no_grad;
    // The engine leaves out the gradients of outputs that nothing was made of.
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      if (!gradients[i].defined()) gradients[i] = input_metadata(i).zeros_like();
    }
    return backward_(gradients);
  }

 private:
  std::string name_;
  Backward backward_;
};

}  // namespace

bool wants_gradient(const std::vector<at::Tensor>& inputs) {
  if (!at::GradMode::is_enabled()) return false;
  for (const at::Tensor& input : inputs) {
    if (input.requires_grad()) return true;
  }
  return false;
}

void connect(const char* name, const std::vector<at::Tensor>& inputs, const std::vector<at::Tensor>& outputs,
             Backward backward) {
  if (!wants_gradient(inputs)) return;
  const std::shared_ptr<ClosureNode> node(new ClosureNode(name, std::move(backward)), torch::autograd::deleteNode);
  node->set_next_edges(torch::autograd::collect_next_edges(inputs));
  for (const at::Tensor& output : outputs) {
    const std::uint32_t number = node->add_input_metadata(output);
    torch::autograd::impl::set_gradient_edge(output, {node, number});
  }
}

}  // namespace caravan::parallel
