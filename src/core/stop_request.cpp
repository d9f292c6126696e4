// SPDX-License-Identifier: Apache-2.0
#include "core/stop_request.hpp"

#include <array>
#include <csignal>

#include "core/error.hpp"

namespace caravan::core {
namespace {

volatile std::sig_atomic_t asked = 0;
const char* consequence_of_stop = "";
constexpr std::array<int, 2> handled{SIGUSR1, SIGTERM};
std::array<struct sigaction, handled.size()> former;

extern "C" void remember_signal(int number) { asked = number; }

}  // namespace

StopRequest::StopRequest(const char* consequence) {
  consequence_of_stop = consequence;
  struct sigaction action {};
  action.sa_handler = remember_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (std::size_t i = 0; i < handled.size(); ++i) sigaction(handled[i], &action, &former[i]);
}

StopRequest::~StopRequest() {
  // mpirun ends the last ranks with SIGTERM when the first one has left; theirs must stay an orderly end, too.
  if (asked != 0) return;
  for (std::size_t i = 0; i < handled.size(); ++i) sigaction(handled[i], &former[i], nullptr);
}

int StopRequest::signal() { return asked; }

std::string StopRequest::message(int signal) { return concat("stopped by signal ", signal, ": ", consequence_of_stop); }

void StopRequest::check() {
  if (const int signal = asked; signal != 0) throw Error(ExitCode::internal, message(signal));
}

}  // namespace caravan::core
