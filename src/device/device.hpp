// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>

namespace caravan::device {

enum class Kind { host, device };

/// Where memory lies and where work on it runs. Work at a device's place is queued on `stream` and done in the order of
/// the calls, perhaps after they return; a null stream is the device's default stream. Work at the host's place is done
/// when the call returns, and `index` and `stream` mean nothing there.
struct Place {
  Kind kind = Kind::host;
  int index = 0;           // of the device on this node
  void* stream = nullptr;  // of the device's library, cudaStream_t say
};

/// "the host", "device 0": for messages.
std::string name_of(const Place& place);

/// Whether this build computes on a device. One that does not refuses every place but the host's (exit 70).
bool present();

/// Copies `bytes` between addresses of the host and of the place's device, in any direction. The ranges do not overlap.
/// At a device's place the copy is queued: both ranges must stay until an Event that was recorded behind it is done.
void copy(void* to, const void* from, std::size_t bytes, const Place& place);

}  // namespace caravan::device
