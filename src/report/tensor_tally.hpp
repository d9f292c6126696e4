// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <set>
#include <string>

#include "layout/rectangle.hpp"
#include "report/page.hpp"

namespace caravan::report {

enum class TensorKind { base, router, adapters, lora, moments };
inline constexpr std::size_t tensor_kinds = 5;

/// What a tensor is for, from its name (family/parameters.hpp, optimizer moments of a checkpoint, and the experts'
/// own names in Hugging Face folders).
TensorKind kind_of(const std::string& name);

/// Numbers of tensors, elements and bytes by kind.
class TensorTally {
 public:
  /// dtype: the element type's name, as the file calls it.
  void add(const std::string& name, const layout::Shape& shape, const std::string& dtype, std::int64_t bytes);
  /// All of one kind in another place, which `where` names.
  void place(TensorKind kind, const std::string& where);

  /// "8,030,261,248; 24,117,248 of them trained (0.300 %)".
  std::string parameters() const;
  /// One row per kind that there is, and their sum.
  void write(Page& page) const;

 private:
  struct Row {
    std::int64_t tensors = 0;
    std::int64_t elements = 0;
    std::int64_t bytes = 0;
    std::set<std::string> dtypes;
    std::string where;
  };
  std::array<Row, tensor_kinds> rows_;
};

}  // namespace caravan::report
