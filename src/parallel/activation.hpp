// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <memory>
#include <utility>

namespace caravan::parallel {

/// How backward comes by a value of the forward pass: kept since then, or made again.
enum class Recall { kept, remade };

/// A value that backward reads. One that is made again is made by the first closure that asks, shared by all that hold
/// it, and freed with the last of them, so a chain of them comes to life from its end, as far back as something was
/// kept, and goes as backward walks through it. Copies are the same value.
template <typename Value>
class Recalled {
 public:
  Recalled() = default;
  explicit Recalled(Value kept) : state_(std::make_shared<State>(State{std::move(kept), nullptr})) {}
  /// `make` runs at most once, without autograd, and gives the bits of the forward pass. It may be a collective, since
  /// every rank runs its closures in the same order.
  explicit Recalled(std::function<Value()> make) : state_(std::make_shared<State>(State{Value(), std::move(make)})) {}

  const Value& get() const {
    if (state_->make) {
      const std::function<Value()> make = std::exchange(state_->make, nullptr);
      state_->value = make();
    }
    return state_->value;
  }

 private:
  struct State {
    Value value;
    std::function<Value()> make;  // null once made; what it holds goes with it
  };
  std::shared_ptr<State> state_;
};

/// A tensor of the graph and how backward comes by it; a plain tensor is one that is kept. Closures hold `recalled`,
/// never `value`.
struct Activation {
  // NOLINTNEXTLINE(google-explicit-constructor): most activations are just tensors.
  Activation(const at::Tensor& kept) : value(kept), recalled(kept.detach()) {}
  Activation(at::Tensor tensor, Recalled<at::Tensor> again) : value(std::move(tensor)), recalled(std::move(again)) {}
  // NOLINTNEXTLINE(google-explicit-constructor)
  operator const at::Tensor&() const { return value; }

  at::Tensor value;
  Recalled<at::Tensor> recalled;
};

/// A value just computed and, for the case that it is to be remade, how.
inline Activation activation(at::Tensor value, Recall recall, std::function<at::Tensor()> make) {
  if (recall == Recall::kept) return value;
  return {std::move(value), Recalled<at::Tensor>(std::move(make))};
}

/// work(inputs…) without autograd, now and perhaps once more in backward. The caller connects it.
template <typename Work, typename... Inputs>
Activation compute(Recall recall, const Work& work, const Inputs&... inputs) {
  return activation(work(inputs.value.detach()...), recall,
                    [work, ... again = inputs.recalled] { return work(again.get()...); });
}

/// a + b, in torch's autograd.
inline Activation sum(const Activation& a, const Activation& b, Recall recall) {
  return activation(a.value + b.value, recall, [a = a.recalled, b = b.recalled] { return a.get() + b.get(); });
}

}  // namespace caravan::parallel
