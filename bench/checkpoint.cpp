// SPDX-License-Identifier: Apache-2.0
// mpirun -n N checkpoint_cost FOLDER MEGABYTES ROUNDS: what a checkpoint costs, with so many MB on every rank. In every
// round all ranks together, one thing after another: a copy of the bytes in memory; the stall of a background save; its
// writing; as many bytes by dd and by plain write and fsync into as many files, before the save in every other round;
// reading both back, after the kernel was asked to forget them; checksums. Times are the slowest rank's, ratios medians
// of those within a round.
#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "checkpoint/background_save.hpp"
#include "checkpoint/reader.hpp"
#include "comm/agreement.hpp"
#include "comm/mpi_runtime.hpp"
#include "core/checksum.hpp"
#include "io/atomic_file.hpp"
#include "io/file_descriptor.hpp"

namespace {

namespace fs = std::filesystem;
using namespace caravan;
using Clock = std::chrono::steady_clock;

constexpr std::int64_t columns = 4096;
constexpr std::int64_t tensor_rows = 2048;  // 32 MiB of a tensor on each rank
constexpr std::size_t block = std::size_t{16} << 20;

/// The slowest rank's seconds for work that all begin together.
template <typename Work>
double seconds_of(comm::Communicator& world, const Work& work) {
  world.barrier("begin together");
  const auto start = Clock::now();
  work();
  return world.all_reduce("slowest", std::chrono::duration<double>(Clock::now() - start).count(), comm::Reduce::max);
}

/// Equal tensors, of which every rank has its rows in one array.
std::vector<checkpoint::Piece> pieces_of(const comm::Communicator& world, const std::vector<float>& values) {
  std::vector<checkpoint::Piece> pieces;
  constexpr auto elements = static_cast<std::size_t>(tensor_rows * columns);
  for (std::size_t at = 0; at + elements <= values.size(); at += elements) {
    pieces.push_back(checkpoint::make_piece(core::concat("tensor.", at / elements),
                                            {tensor_rows * world.size(), columns}, core::DType::f32,
                                            {{tensor_rows * world.rank(), 0}, {tensor_rows, columns}}, &values[at]));
  }
  return pieces;
}

void forget(const fs::path& path) {
  const io::FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  ::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED);
}

void write_plainly(const fs::path& path, const char* data, std::size_t bytes) {
  const io::FileDescriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  for (std::size_t at = 0; at < bytes; at += block) {
    io::write_all(file.get(), data + at, std::min(block, bytes - at), path);
  }
  if (::fsync(file.get()) != 0) core::bad_input(path.string(), ": fsync failed");
}

// dd, so that the comparison is with a program that everybody has.
void write_with_dd(const fs::path& path, std::size_t bytes) {
  constexpr std::size_t unit = std::size_t{4} << 20;
  const std::string command =
      core::concat("dd if=/dev/zero of='", path.string(), "' bs=4M conv=fsync status=none count=", bytes / unit);
  if (std::system(command.c_str()) != 0) core::bad_input(command, ": failed");
}

void read_plainly(const fs::path& path, char* data, std::size_t bytes) {
  const io::FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  for (std::size_t at = 0; at < bytes;) {
    const ssize_t count = ::read(file.get(), data + at, std::min(block, bytes - at));
    if (count <= 0) core::bad_input(path.string(), ": cannot be read");
    at += static_cast<std::size_t>(count);
  }
}

enum Measure { copy, stall, save, plain_write, dd, load, plain_read, hash, measures };
using Times = std::array<double, measures>;

Times measure(comm::Communicator& world, const fs::path& folder, checkpoint::BackgroundSave& background,
              const std::vector<float>& values, std::vector<float>& other, bool save_first) {
  const std::size_t bytes = values.size() * sizeof(float);
  const auto* data = reinterpret_cast<const char*>(values.data());
  const fs::path saved = folder / "step-00000001";
  const fs::path plain = folder / core::concat("plain-", world.rank());
  Times times{};
  times[copy] = seconds_of(world, [&] { std::memcpy(other.data(), data, bytes); });
  const std::vector<checkpoint::Piece> pieces = pieces_of(world, values);
  const auto save_it = [&] {
    times[stall] = seconds_of(world, [&] { background.begin({.folder = saved, .step = 1}, pieces); });
    while (!background.written(std::chrono::seconds(1))) {
    }
    times[save] = world.all_reduce("slowest", background.seconds(), comm::Reduce::max);
    times[stall] += seconds_of(world, [&] { background.advance(); });
    while (!background.written(std::chrono::seconds(1))) {
    }
    times[save] += world.all_reduce("slowest", background.seconds(), comm::Reduce::max);
    times[stall] += seconds_of(world, [&] { background.advance(); });
  };
  if (save_first) save_it();
  times[dd] = seconds_of(world, [&] { write_with_dd(plain, bytes); });
  fs::remove(plain);
  times[plain_write] = seconds_of(world, [&] { write_plainly(plain, data, bytes); });
  fs::remove(plain);  // so that all find as much memory free for the system's cache
  if (!save_first) save_it();
  write_plainly(plain, data, bytes);

  for (const auto& entry : fs::directory_iterator(saved)) forget(entry.path());
  forget(plain);
  const checkpoint::CheckpointReader reader(saved);
  times[load] = seconds_of(world, [&] {
    float* target = other.data();
    for (const checkpoint::Piece& piece : pieces) {
      reader.read(piece.name, piece.part, piece.dtype, target);
      target += piece.part.count();
    }
  });
  if (std::memcmp(other.data(), data, bytes) != 0) core::internal_error("what was read is not what was saved");
  times[plain_read] = seconds_of(world, [&] { read_plainly(plain, reinterpret_cast<char*>(other.data()), bytes); });
  std::uint64_t sums = 0;
  times[hash] = seconds_of(world, [&] {
    for (std::size_t at = 0; at < bytes; at += block) sums += core::xxh3(data + at, std::min(block, bytes - at));
  });
  if (sums == 0) std::printf("a sum of zero\n");
  fs::remove(plain);
  world.barrier("all have read");
  if (world.rank() == 0) fs::remove_all(saved);
  world.barrier("removed");
  return times;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void report(const std::vector<Times>& rounds, double bytes, int ranks) {
  const auto of = [&](const auto& value) {
    std::vector<double> values;
    values.reserve(rounds.size());
    for (const Times& times : rounds) values.push_back(value(times));
    return median(values);
  };
  const auto rate = [&](Measure what) { return of([&](const Times& times) { return bytes / times[what] / 1e6; }); };
  const auto ratio = [&](Measure what, Measure by) { return of([&](const Times& t) { return t[what] / t[by]; }); };
  std::printf("%d ranks with %.0f MB each, %zu rounds; medians, MB/s of a rank\n", ranks, bytes / 1e6, rounds.size());
  std::printf("copy in memory     %8.0f\n", rate(copy));
  std::printf("stall of a save    %8.3f s, %.2f times that copy\n", of([](const Times& t) { return t[stall]; }),
              ratio(stall, copy));
  std::printf("save               %8.0f\n", rate(save));
  std::printf("write and fsync    %8.0f, the save's time by this %.2f\n", rate(plain_write), ratio(save, plain_write));
  std::printf("dd conv=fsync      %8.0f, the save's bandwidth by this %.2f\n", rate(dd), ratio(dd, save));
  std::printf("load               %8.0f\n", rate(load));
  std::printf("read               %8.0f, the load's time by this %.2f\n", rate(plain_read), ratio(load, plain_read));
  std::printf("checksums          %8.0f\n", rate(hash));
}

void run(const fs::path& folder, std::size_t megabytes, int count) {
  const auto world = comm::make_world(600);
  constexpr std::size_t tensor = tensor_rows * columns;
  const std::size_t tensors = std::max<std::size_t>(1, megabytes * 1'000'000 / (tensor * sizeof(float)));
  std::vector<float> values(tensors * tensor), other(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>((i * 2654435761U) >> 8 & 0xffffffU);
  if (world->rank() == 0) fs::create_directories(folder);
  world->barrier("folder");
  checkpoint::BackgroundSave background(*world, true);
  background.reserve(pieces_of(*world, values));
  std::vector<Times> rounds;
  for (int round = 0; round <= count; ++round) {
    const Times times = measure(*world, folder, background, values, other, round % 2 == 0);
    if (round > 0) rounds.push_back(times);  // the first warms up
  }
  if (world->rank() == 0) report(rounds, static_cast<double>(values.size() * sizeof(float)), world->size());
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 4) {
    std::fprintf(stderr, "usage: checkpoint_cost FOLDER MEGABYTES ROUNDS\n");
    return 2;
  }
  const comm::MpiRuntime mpi(&count, &arguments);
  const comm::Failure failure = comm::attempt([&] {
    run(arguments[1], static_cast<std::size_t>(std::atoll(arguments[2])), std::max(1, std::atoi(arguments[3])));
  });
  if (failure.code == core::ExitCode::done) return 0;
  std::fprintf(stderr, "%s\n", failure.message.c_str());
  mpi.abort(static_cast<int>(failure.code));
}
