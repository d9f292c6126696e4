// SPDX-License-Identifier: Apache-2.0
#include "convert/byte_progress.hpp"

#include "core/log.hpp"
#include "core/stop_request.hpp"
#include "core/text.hpp"

namespace caravan::convert {

void ByteProgress::add(std::uint64_t bytes) {
  core::StopRequest::check();
  done_ += bytes;
  const double now = seconds();
  if (now < next_) return;
  next_ = now + 10;
  const double rate = static_cast<double>(done_) / now;
  core::log(command_, ": ", core::format_bytes(done_), " of rank 0's ", core::format_bytes(total_), ", ",
            core::format_bytes(static_cast<std::uint64_t>(rate)), "/s, ",
            core::format_duration(static_cast<double>(total_ - done_) / rate), " left");
}

}  // namespace caravan::convert
