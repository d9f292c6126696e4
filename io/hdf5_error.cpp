// SPDX-License-Identifier: Apache-2.0
#include "io/hdf5_error.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "core/system_error.hpp"

namespace caravan::io {
namespace {

std::recursive_mutex& library_mutex() {
  static std::recursive_mutex mutex;
  return mutex;
}

struct Innermost {
  std::string text;
  int system_error = 0;
};

// The file driver writes the system's error into its text: "… errno = 28, error message = 'No space left on device' …".
extern "C" herr_t note_innermost(unsigned depth, const H5E_error2_t* error, void* data) {
  auto& innermost = *static_cast<Innermost*>(data);
  const std::string text = error->desc != nullptr ? error->desc : "";
  if (depth == 0) innermost.text = std::string(error->func_name != nullptr ? error->func_name : "") + ": " + text;
  const std::size_t at = text.find("errno = ");
  if (innermost.system_error == 0 && at != std::string::npos) {
    innermost.system_error = std::atoi(text.c_str() + at + 8);
  }
  return 0;
}

}  // namespace

Hdf5Lock::Hdf5Lock() : guard_(library_mutex()) {
  // A file whose closing failed (full disk) stays in the library's tables with its memory freed, and the library's own
  // cleaning up at exit would crash over it. Everything is closed without that.
  [[maybe_unused]] static const herr_t first = H5dont_atexit();
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

void throw_hdf5_error(const Hdf5Action& action) {
  Innermost innermost;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, note_innermost, &innermost);
  H5Eclear2(H5E_DEFAULT);
  // The driver's own text is three lines of addresses and sizes.
  if (innermost.system_error != 0) innermost.text = std::strerror(innermost.system_error);
  std::replace(innermost.text.begin(), innermost.text.end(), '\n', ' ');
  const std::string message =
      core::concat("cannot ", action.verb, " ", action.path.string(),
                   action.dataset.empty() ? "" : ", dataset " + action.dataset, " (HDF5: ", innermost.text, ")");
  if (innermost.system_error == 0) core::bad_input(message);
  throw core::SystemError(innermost.system_error, message + core::advice_on(innermost.system_error));
}

}  // namespace caravan::io
