// SPDX-License-Identifier: Apache-2.0
// The little of HDF5 that a checkpoint needs: contiguous datasets, text attributes, virtual datasets over other files.
// One lock around the library makes it usable from several threads; its own file locking, which fails on many shared
// file systems, is off. bf16 is stored as unsigned 16-bit with the attribute dtype = "bfloat16", f16 as a 2-byte float.
// Every failure throws with path, dataset and the library's message: core::SystemError where it was the system's (see
// core::exit_code_of), else exit 2.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/dtype.hpp"
#include "layout/rectangle.hpp"

namespace caravan::io {

/// A dataset of at least one dimension in an open Hdf5File; closed before the file is.
class Hdf5Dataset {
 public:
  Hdf5Dataset(Hdf5Dataset&& other) noexcept;
  Hdf5Dataset& operator=(Hdf5Dataset&&) = delete;
  ~Hdf5Dataset();

  const std::string& name() const { return name_; }
  const layout::Shape& shape() const { return shape_; }
  core::DType dtype() const { return dtype_; }

  /// Rows [begin, end) along dimension 0, row-major, in the dataset's element type.
  void write_rows(std::int64_t begin, std::int64_t end, const void* data);
  void read_rows(std::int64_t begin, std::int64_t end, void* target) const;
  /// A box of the dataset, row-major, in the dataset's element type.
  void read(const layout::Rectangle& part, void* target) const;

 private:
  friend class Hdf5File;
  Hdf5Dataset(std::filesystem::path path, std::string name, std::int64_t id, layout::Shape shape, core::DType dtype);

  std::filesystem::path path_;
  std::string name_;
  std::int64_t id_;
  layout::Shape shape_;
  core::DType dtype_;
};

/// Maps a whole dataset of another file onto a box of a virtual dataset.
struct VirtualPart {
  layout::Rectangle part;  // in the virtual dataset; its extent is the source dataset's shape
  std::string file;        // relative to the virtual dataset's file, so that the folder can be moved
  std::string dataset;
};

class Hdf5File {
 public:
  /// Replaces a file of that name.
  static Hdf5File create(const std::filesystem::path& path);
  /// For reading.
  static Hdf5File open(const std::filesystem::path& path);

  Hdf5File(Hdf5File&& other) noexcept;
  Hdf5File& operator=(Hdf5File&&) = delete;
  ~Hdf5File();

  /// A contiguous dataset, its space allocated at once and not filled. A "/" in the name makes groups.
  Hdf5Dataset create_dataset(const std::string& name, const layout::Shape& shape, core::DType dtype);

  /// A virtual dataset; where no part lies, or a part's file is missing, floating elements read as NaN and others as 0.
  void create_virtual(const std::string& name, const layout::Shape& shape, core::DType dtype,
                      const std::vector<VirtualPart>& parts);

  bool contains(const std::string& name) const;
  Hdf5Dataset dataset(const std::string& name) const;

  /// Text attributes of the file's root group.
  void set_attribute(const std::string& key, const std::string& text);
  std::string attribute(const std::string& key) const;

  /// Writes everything out; failures are thrown here, while the destructor ignores them. Datasets are closed before.
  void close();

 private:
  Hdf5File(std::filesystem::path path, std::int64_t id) : path_(std::move(path)), id_(id) {}

  std::filesystem::path path_;
  std::int64_t id_;
};

}  // namespace caravan::io
