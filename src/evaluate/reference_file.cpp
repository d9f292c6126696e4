// SPDX-License-Identifier: Apache-2.0
#include "evaluate/reference_file.hpp"

#include <algorithm>
#include <cstring>

#include "core/error.hpp"
#include "parallel/collectives.hpp"

namespace caravan::evaluate {
namespace {

using core::DType;

template <typename... Parts>
[[noreturn]] void refuse(const io::SafetensorsFile& file, const char* tensor, const Parts&... parts) {
  core::bad_input(file.path().string(), ": tensor ", tensor, ": ", parts...);
}

template <typename Integer>
void widen(const std::byte* data, std::vector<std::int64_t>& values) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    Integer value;
    std::memcpy(&value, data + i * sizeof(Integer), sizeof(Integer));
    values[i] = static_cast<std::int64_t>(value);
  }
}

// A tensor of whole numbers.
std::vector<std::int64_t> integers(const io::SafetensorsFile& file, const char* name) {
  const layout::TensorSource::Info info = file.info(name);
  std::vector<std::int64_t> values(static_cast<std::size_t>(layout::element_count(info.shape)));
  switch (info.dtype) {
    case DType::i64: widen<std::int64_t>(file.data(name), values); break;
    case DType::i32: widen<std::int32_t>(file.data(name), values); break;
    case DType::u8: widen<std::uint8_t>(file.data(name), values); break;
    default: refuse(file, name, "its elements are ", core::name_of(info.dtype), "; save it as int64");
  }
  return values;
}

struct Run {
  std::int64_t begin = 0, end = 0;
};

// Where the ones of a row are.
Run run_of(const io::SafetensorsFile& file, const std::vector<std::int64_t>& mask, std::int64_t row,
           std::int64_t length) {
  const auto first = mask.begin() + row * length, last = first + length;
  const auto other = std::find_if(first, last, [](std::int64_t value) { return value != 0 && value != 1; });
  if (other != last) refuse(file, "attention_mask", "row ", row, " has ", *other, "; only 0 and 1 mean something");
  const auto begin = std::find(first, last, 1);
  const auto end = std::find(begin, last, 0);
  if (begin == last) refuse(file, "attention_mask", "row ", row, " is all 0; leave the row out");
  if (std::find(end, last, 1) != last) {
    refuse(file, "attention_mask", "row ", row, " has zeros between ones; padding can only be at a side");
  }
  return {begin - first, end - first};
}

}  // namespace

ReferenceFile::ReferenceFile(const std::string& path, std::int64_t vocabulary) : file_(path) {
  const layout::Shape ids_shape = file_.info("input_ids").shape;
  if (ids_shape.size() != 2 || layout::element_count(ids_shape) == 0) {
    refuse(file_, "input_ids", "its shape is ", layout::to_string(ids_shape), "; it must be [B, S], not empty");
  }
  length_ = ids_shape[1];
  const layout::TensorSource::Info logits = file_.info("logits");
  dtype_ = logits.dtype;
  if (dtype_ != DType::f32 && dtype_ != DType::bf16 && dtype_ != DType::f16 && dtype_ != DType::f64) {
    refuse(file_, "logits", "its elements are ", core::name_of(dtype_), ", which is no floating type");
  }
  if (logits.shape.size() != 3 || logits.shape[0] != ids_shape[0] || logits.shape[1] != length_) {
    refuse(file_, "logits", "its shape is ", layout::to_string(logits.shape), "; with input_ids ",
           layout::to_string(ids_shape), " it must be [", ids_shape[0], ", ", length_, ", V]");
  }
  vocabulary_ = logits.shape[2];
  if (vocabulary_ != vocabulary) {
    refuse(file_, "logits", "it is over ", vocabulary_, " tokens, but the model's vocabulary is ", vocabulary);
  }
  const std::vector<std::int64_t> ids = integers(file_, "input_ids");
  std::vector<std::int64_t> mask;
  if (file_.contains("attention_mask")) {
    const layout::Shape shape = file_.info("attention_mask").shape;
    if (shape != ids_shape) {
      refuse(file_, "attention_mask", "its shape is ", layout::to_string(shape), ", that of input_ids ",
             layout::to_string(ids_shape));
    }
    mask = integers(file_, "attention_mask");
  }
  for (std::int64_t row = 0; row < ids_shape[0]; ++row) {
    const Run run = mask.empty() ? Run{0, length_} : run_of(file_, mask, row, length_);
    begin_.push_back(run.begin);
    std::vector<std::int32_t>& text = texts_.emplace_back();
    for (std::int64_t position = run.begin; position < run.end; ++position) {
      const std::int64_t id = ids[static_cast<std::size_t>(row * length_ + position)];
      if (id < 0 || id >= vocabulary_) {
        refuse(file_, "input_ids", "row ", row, ", position ", position, ": ", id, " is no token of a vocabulary of ",
               vocabulary_);
      }
      text.push_back(static_cast<std::int32_t>(id));
    }
  }
}

at::Tensor ReferenceFile::logits(std::size_t text, std::int64_t first, std::int64_t rows) const {
  at::Tensor values = at::empty({rows, vocabulary_}, parallel::scalar_type_of(dtype_));
  const std::int64_t row = static_cast<std::int64_t>(text) * length_ + begin_[text] + first;
  const std::size_t row_bytes = static_cast<std::size_t>(vocabulary_) * core::size_of(dtype_);
  std::memcpy(values.data_ptr(), file_.data("logits") + static_cast<std::size_t>(row) * row_bytes,
              static_cast<std::size_t>(rows) * row_bytes);
  return values;
}

}  // namespace caravan::evaluate
