// SPDX-License-Identifier: Apache-2.0
// The safetensors file format: 8 bytes little-endian header length N, N bytes of JSON
// {name: {dtype, shape, data_offsets: [begin, end]}, "__metadata__": {text: text}}, then the tensors' bytes, to which
// the offsets are relative. Source: https://huggingface.co/docs/safetensors, "Format".
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/dtype.hpp"
#include "io/mapped_file.hpp"
#include "layout/tensor_source.hpp"

namespace caravan::io {

/// One mapped file. Its header is checked to the byte when it is opened: every byte after it belongs to exactly one
/// tensor. Every refusal is core::Error, exit 2, and names file, tensor and byte offset (from the file's first byte).
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);

  /// Ascending.
  std::vector<std::string> names() const;
  bool contains(const std::string& name) const { return tensors_.contains(name); }

  /// Throws (exit 2) when the tensor is missing or its element type (BOOL, I8, U16, F8_E4M3, …) is none of core's.
  layout::TensorSource::Info info(const std::string& name) const;

  /// The tensor's first byte, row-major; not necessarily aligned to its element type. Throws (exit 2) when missing.
  const std::byte* data(const std::string& name) const;

  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::filesystem::path& path() const { return file_.path(); }

  /// What the header says of one tensor.
  struct Entry {
    std::string dtype;  // as in the file: "BF16"
    layout::Shape shape;
    std::size_t begin = 0;  // offset from the file's first byte
    std::size_t end = 0;
  };

 private:
  const Entry& entry(const std::string& name) const;

  MappedFile file_;
  std::map<std::string, Entry> tensors_;
  std::map<std::string, std::string> metadata_;
};

/// A Hugging Face model folder: model.safetensors, or else model.safetensors.index.json with its shards. Refuses
/// (exit 2) missing shards, index entries whose tensor is not in the named shard, a tensor in two shards, and a folder
/// that has only pytorch_model.bin.
class SafetensorsDirectory : public layout::TensorSource {
 public:
  explicit SafetensorsDirectory(const std::filesystem::path& folder);

  /// Every tensor of every shard, ascending.
  std::vector<std::string> names() const;
  /// The file that holds the tensor.
  const SafetensorsFile& file_of(const std::string& name) const;

  bool contains(const std::string& name) const override { return file_index_.contains(name); }
  Info info(const std::string& name) const override { return file_of(name).info(name); }
  void read(const std::string& name, const layout::Rectangle& part, core::DType dtype, void* target) const override;
  std::string where() const override { return folder_.string(); }

 private:
  void open_shards();
  void add_file(const std::filesystem::path& path);

  std::filesystem::path folder_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, std::size_t> file_index_;
};

/// A tensor to write: row-major elements in memory.
struct SafetensorsEntry {
  std::string name;
  layout::Shape shape;
  core::DType dtype = core::DType::f32;
  const void* data = nullptr;
};

/// Writes a file atomically. Tensors are laid out by falling element size, then in the given order, and the header is
/// padded to 8 bytes, so every tensor is aligned. Throws as AtomicFile does; a name given twice is exit 70.
void write_safetensors(const std::filesystem::path& path, const std::vector<SafetensorsEntry>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace caravan::io
