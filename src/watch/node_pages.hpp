// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "watch/activity.hpp"

namespace caravan::watch {

/// This process's page and, where it could be had, those of the other ranks of its node: memory without a name, reached
/// through /proc, so that nothing is left however the processes end.
class NodePages {
 public:
  /// Whom other processes of the node ask for the page. Plain words, to be sent around.
  struct Address {
    std::int64_t process = 0;
    std::int64_t descriptor = -1;  // -1: this process could not share its page
    std::int64_t key = 0;          // of the page: under the same number another process may stand, in a container
  };

  /// Shares a page, or makes one of its own where the system refuses.
  NodePages(int rank, int ranks);
  ~NodePages();
  NodePages(NodePages&& other) noexcept;
  NodePages(const NodePages&) = delete;
  NodePages& operator=(const NodePages&) = delete;
  NodePages& operator=(NodePages&&) = delete;

  int rank() const { return rank_; }
  int ranks() const { return static_cast<int>(mapped_.size()); }
  Address address() const { return address_; }
  /// Maps another rank's page, if this process may.
  void open(int rank, const Address& address);
  /// Nobody will open this process's page any more.
  void close();

  Page& own();
  /// Null: not to be had.
  const Page* of(int rank) const;

 private:
  struct Mapping;  // the key and the page
  int rank_;
  Address address_;
  std::vector<Mapping*> mapped_;
};

}  // namespace caravan::watch
