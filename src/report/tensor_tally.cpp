// SPDX-License-Identifier: Apache-2.0
#include "report/tensor_tally.hpp"

#include <cstdio>

#include "core/text.hpp"

namespace caravan::report {
namespace {

constexpr std::array<const char*, tensor_kinds> labels{"base model (frozen)", "router (trained)", "adapters (trained)",
                                                       "LoRA (trained)", "optimizer moments"};

std::string size_text(std::int64_t bytes) { return core::format_bytes(static_cast<std::uint64_t>(bytes)); }

}  // namespace

TensorKind kind_of(const std::string& name) {
  const auto has = [&](const char* part) { return name.find(part) != std::string::npos; };
  if (name.starts_with("optimizer/")) return TensorKind::moments;
  if (has(".lora_A.") || has(".lora_B.")) return TensorKind::lora;
  if (has(".moe_adapter.experts.")) return TensorKind::adapters;
  if (has(".moe_adapter.")) return TensorKind::router;
  return TensorKind::base;
}

void TensorTally::add(const std::string& name, const layout::Shape& shape, const std::string& dtype,
                      std::int64_t bytes) {
  Row& row = rows_[static_cast<std::size_t>(kind_of(name))];
  ++row.tensors;
  row.elements += layout::element_count(shape);
  row.bytes += bytes;
  row.dtypes.insert(dtype);
}

void TensorTally::place(TensorKind kind, const std::string& where) {
  rows_[static_cast<std::size_t>(kind)].where = where;
}

std::string TensorTally::parameters() const {
  std::int64_t all = 0, trained = 0;
  for (std::size_t k = 0; k < tensor_kinds; ++k) {
    const auto kind = static_cast<TensorKind>(k);
    if (kind == TensorKind::moments) continue;
    all += rows_[k].elements;
    if (kind != TensorKind::base) trained += rows_[k].elements;
  }
  std::string text = grouped(all);
  if (trained > 0 && trained < all) {
    std::array<char, 32> percent{};
    std::snprintf(percent.data(), percent.size(), "%.3g",
                  100.0 * static_cast<double>(trained) / static_cast<double>(all));
    text += "; " + grouped(trained) + " of them trained (" + percent.data() + " %)";
  }
  return text;
}

void TensorTally::write(Page& page) const {
  Rows table{{"kind", "tensors", "elements", "size", "stored as"}};
  Row sum;
  for (std::size_t k = 0; k < tensor_kinds; ++k) {
    const Row& row = rows_[k];
    if (row.tensors == 0) continue;
    sum.tensors += row.tensors;
    sum.elements += row.elements;
    sum.bytes += row.bytes;
    table.push_back({labels[k], grouped(row.tensors), grouped(row.elements), size_text(row.bytes),
                     core::join({row.dtypes.begin(), row.dtypes.end()}) + (row.where.empty() ? "" : ", " + row.where)});
  }
  if (table.size() > 2)
    table.push_back({"together", grouped(sum.tensors), grouped(sum.elements), size_text(sum.bytes)});
  page.table("", table, {1, 2, 3});
}

}  // namespace caravan::report
