// SPDX-License-Identifier: Apache-2.0
#include "watch/node_pages.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <new>
#include <random>
#include <utility>

#include "core/error.hpp"

namespace caravan::watch {

struct NodePages::Mapping {
  std::int64_t key;
  Page page;
};

NodePages::NodePages(int rank, int ranks) : rank_(rank), mapped_(static_cast<std::size_t>(ranks), nullptr) {
  int file = memfd_create("caravan watchdog", MFD_CLOEXEC);
  if (file >= 0 && ftruncate(file, sizeof(Mapping)) != 0) file = (::close(file), -1);
  void* memory = MAP_FAILED;
  if (file >= 0) memory = mmap(nullptr, sizeof(Mapping), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (memory == MAP_FAILED) {
    if (file >= 0) ::close(std::exchange(file, -1));
    memory = mmap(nullptr, sizeof(Mapping), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  }
  if (memory == MAP_FAILED) core::internal_error("no memory for the watchdog's page");
  auto* mapping = new (memory) Mapping;
  std::random_device random;
  mapping->key = static_cast<std::int64_t>((std::uint64_t{random()} << 32) ^ random());
  mapped_[static_cast<std::size_t>(rank)] = mapping;
  address_ = {getpid(), file, mapping->key};
}

NodePages::NodePages(NodePages&& other) noexcept
    : rank_(other.rank_), address_(std::exchange(other.address_, {})), mapped_(std::move(other.mapped_)) {
  other.mapped_.clear();
}

NodePages::~NodePages() {
  close();
  for (Mapping* mapping : mapped_) {
    if (mapping != nullptr) munmap(mapping, sizeof(Mapping));
  }
}

void NodePages::open(int rank, const Address& address) {
  Mapping*& mapping = mapped_[static_cast<std::size_t>(rank)];
  if (mapping != nullptr || address.descriptor < 0) return;
  const std::string path = core::concat("/proc/", address.process, "/fd/", address.descriptor);
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return;
  if (lseek(file, 0, SEEK_END) == static_cast<off_t>(sizeof(Mapping))) {
    void* memory = mmap(nullptr, sizeof(Mapping), PROT_READ, MAP_SHARED, file, 0);
    if (memory != MAP_FAILED) mapping = static_cast<Mapping*>(memory);
  }
  ::close(file);
  if (mapping != nullptr && mapping->key != address.key) munmap(std::exchange(mapping, nullptr), sizeof(Mapping));
}

void NodePages::close() {
  if (address_.descriptor >= 0) ::close(static_cast<int>(std::exchange(address_.descriptor, -1)));
}

Page& NodePages::own() { return mapped_[static_cast<std::size_t>(rank_)]->page; }

const Page* NodePages::of(int rank) const {
  const Mapping* mapping = mapped_[static_cast<std::size_t>(rank)];
  return mapping != nullptr ? &mapping->page : nullptr;
}

}  // namespace caravan::watch
