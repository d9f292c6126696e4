// SPDX-License-Identifier: Apache-2.0
// The part of io/hdf5.hpp that sees the HDF5 library: handles, checked calls, the lock. For io's own sources.
#pragma once

#include <hdf5.h>

#include <filesystem>
#include <mutex>
#include <string>
#include <utility>

namespace caravan::io {

/// Held around every use of the library, which is not thread-safe. Also turns off its printing of error stacks.
class Hdf5Lock {
 public:
  Hdf5Lock();

 private:
  std::lock_guard<std::recursive_mutex> guard_;
};

/// What a call works on, for messages: "write", PATH, dataset or "".
struct Hdf5Action {
  const char* verb;
  const std::filesystem::path& path;
  const std::string& dataset;
};

/// Throws with path and dataset: core::SystemError where the library tells what the system said, else core::Error (exit
/// 2) with the library's innermost message. Hdf5Lock is held.
[[noreturn]] void throw_hdf5_error(const Hdf5Action& action);

/// The result of a call that fails with a negative number.
template <typename Result>
Result checked(Result result, const Hdf5Action& action) {
  if (result < 0) throw_hdf5_error(action);
  return result;
}

/// Owns one identifier of the library. Locals of a function that holds Hdf5Lock.
class Hdf5Handle {
 public:
  using Closer = herr_t (*)(hid_t);
  Hdf5Handle(hid_t id, Closer closer) : id_(id), closer_(closer) {}
  Hdf5Handle(Hdf5Handle&& other) noexcept : id_(std::exchange(other.id_, -1)), closer_(other.closer_) {}
  Hdf5Handle& operator=(Hdf5Handle&&) = delete;
  ~Hdf5Handle() {
    if (id_ >= 0) closer_(id_);
  }
  operator hid_t() const { return id_; }
  hid_t release() { return std::exchange(id_, -1); }

 private:
  hid_t id_;
  Closer closer_;
};

}  // namespace caravan::io
