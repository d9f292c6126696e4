// SPDX-License-Identifier: Apache-2.0
#include "train/boundary.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <thread>
#include <vector>

#include "comm/agreement.hpp"
#include "core/host_name.hpp"
#include "core/leave.hpp"
#include "core/stop_request.hpp"
#include "core/text.hpp"

namespace caravan::train {
namespace {

using namespace std::chrono_literals;

// What a rank tells, each a number of which the largest counts.
enum Told { signal, late, too_late, save_due, unwritten, write_microseconds, hung, all };

}  // namespace

Agreement Boundary::agree(double ahead, bool saves) {
  const bool under_way = saver_.under_way();
  const bool written = under_way && saver_.written(0ms);
  std::array<std::int64_t, all> told{};
  told[signal] = core::StopRequest::signal();
  if (world_.rank() == 0) {
    if (under_way && !written) deadline_.saving(stroke_begun_.seconds());
    const double now = unix_seconds();
    told[save_due] = save_seconds_ > 0 && save_begun_.seconds() >= save_seconds_;
    told[late] = !deadline_.fits(ahead, under_way || saves || told[save_due] != 0, now);
    told[too_late] = !deadline_.fits_save(now);
  }
  told[unwritten] = under_way && !written;
  if (written) told[write_microseconds] = static_cast<std::int64_t>(saver_.seconds() * 1e6);
  told[hung] = patience_ > 0 && told[unwritten] != 0 && saver_.silent() > patience_;
  const bool own_hung = told[hung] != 0, own_unwritten = told[unwritten] != 0;
  world_.all_reduce("agree on stopping", told.data(), all, core::DType::i64, comm::Reduce::max).wait();
  if (told[hung] != 0) end_over_hung_writers(own_hung, own_unwritten);
  // Of another rank that is slow, rank 0 knows only now: from the next time on.
  if (told[unwritten] != 0) deadline_.saving(stroke_begun_.seconds());
  signal_ = std::max(signal_, told[signal]);
  late_ = late_ || told[late] != 0;
  return {.signal = signal_,
          .late = late_,
          .too_late = told[too_late] != 0,
          .save_due = told[save_due] != 0,
          .written = told[unwritten] == 0,
          .write_seconds = static_cast<double>(told[write_microseconds]) * 1e-6};
}

void Boundary::end_over_hung_writers(bool hung, bool unwritten) {
  const std::string mine =
      hung ? core::concat("rank ", world_.rank(), " on ", core::host_name(), " (", saver_.writing(), ")")
           : std::string();
  std::vector<std::string> names = world_.all_gather_text("name who does not write", mine);
  std::erase(names, "");
  const std::string message =
      core::concat("a save has not gone on for ", patience_, " s (watchdog.seconds): the storage gives no answer to ",
                   core::join(names), "; the checkpoints before it count");
  // Rank 0 says it for all, be its own writer hung or not. One that has only not been silent for as long may hang, too.
  if (unwritten && world_.rank() == 0) core::leave_at_once(core::ExitCode::peer_lost, message);
  if (unwritten) std::this_thread::sleep_for(2s);
  if (unwritten) core::leave_at_once(core::ExitCode::peer_lost, {});
  throw comm::AgreedError(core::ExitCode::peer_lost, message);
}

}  // namespace caravan::train
