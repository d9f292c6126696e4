// SPDX-License-Identifier: Apache-2.0
// Every verb against a naive result, for the world of this run, for the same with MPI messages so short that most
// pieces are several (and end inside an element), and for a group of one. All comparisons are bit for bit: a reduction
// promises the order of its additions (rank order, fp32), so the naive result has the same bits.
#include <algorithm>
#include <cstring>

#include "comm/mpi_group.hpp"
#include "comm/mpi_runtime.hpp"
#include "core/random.hpp"
#include "tests/support/catch.hpp"

namespace caravan::comm {
namespace {

using core::DType;
using Counts = Communicator::Counts;

// Around the size where a reduction changes its algorithm (16384 over all ranks), and sizes that the ranks do not
// divide.
const std::vector<std::int64_t> sizes{0, 1, 3, 1000, 4096, 4097, 8192, 8193, 20001};

template <typename Work>
void with_each_group(const Work& work) {
  const auto world = make_world(60);
  work(*world);
  work(*make_mpi_group("parts", 0, world->size(), world->rank(), 60, /*longest_message=*/1001));
  const auto alone = make_serial_communicator("alone");
  work(*alone);
}

/// Values of very different size, so that another order of additions gives other bits.
template <typename T>
std::vector<T> values_of(int rank, std::int64_t count, std::uint64_t key = 0) {
  std::vector<T> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::uint64_t bits = core::mix64(core::mix64(key * 1000 + static_cast<std::uint64_t>(rank)) + i);
    values[i] = static_cast<T>(static_cast<double>(bits % 20001) - 10000.0);
    if constexpr (std::is_floating_point_v<T>) values[i] /= static_cast<T>(1ULL << (bits >> 60)) * T{3};
  }
  return values;
}

struct Bf16 {
  std::uint16_t bits;
};

template <>
std::vector<Bf16> values_of<Bf16>(int rank, std::int64_t count, std::uint64_t key) {
  std::vector<Bf16> values;
  for (const float value : values_of<float>(rank, count, key)) values.push_back({core::float_to_bf16(value)});
  return values;
}

template <typename T>
T naive_reduction(const std::vector<T>& parts, Reduce reduce) {
  if constexpr (std::is_same_v<T, Bf16>) {
    std::vector<float> wide;
    for (const Bf16 part : parts) wide.push_back(core::bf16_to_float(part.bits));
    return {core::float_to_bf16(naive_reduction(wide, reduce))};
  } else {
    T result = parts[0];
    for (std::size_t r = 1; r < parts.size(); ++r) {
      result = reduce == Reduce::sum ? result + parts[r] : std::max(result, parts[r]);
    }
    return result;
  }
}

/// Element i is the reduction of all ranks' element first + i.
template <typename T>
std::vector<T> naive_reduction(int ranks, std::int64_t total, std::int64_t first, std::int64_t count, Reduce reduce,
                               std::uint64_t key = 0) {
  std::vector<std::vector<T>> all;
  for (int r = 0; r < ranks; ++r) all.push_back(values_of<T>(r, total, key));
  std::vector<T> result;
  for (std::int64_t i = first; i < first + count; ++i) {
    std::vector<T> parts;
    for (const auto& values : all) parts.push_back(values[static_cast<std::size_t>(i)]);
    result.push_back(naive_reduction(parts, reduce));
  }
  return result;
}

template <typename T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

template <typename T>
bool same_on_all_ranks(Communicator& group, const std::vector<T>& values) {
  const std::string bytes(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
  const auto all = group.all_gather_text("compare results", bytes);
  return std::all_of(all.begin(), all.end(), [&](const std::string& other) { return other == bytes; });
}

template <typename T>
void check_all_reduce(Communicator& group, DType dtype) {
  for (const Reduce reduce : {Reduce::sum, Reduce::max}) {
    for (const std::int64_t count : sizes) {
      CAPTURE(group.name(), group.size(), core::name_of(dtype), count, reduce == Reduce::sum);
      const auto expected = naive_reduction<T>(group.size(), count, 0, count, reduce);
      for (int repeat = 0; repeat < 2; ++repeat) {
        std::vector<T> values = values_of<T>(group.rank(), count);
        group.all_reduce("reduce", values.data(), count, dtype, reduce).wait();
        CHECK(same_bits(values, expected));
        CHECK(same_on_all_ranks(group, values));
      }
    }
  }
}

template <typename T>
void check_reduce_scatter(Communicator& group, DType dtype) {
  const auto ranks = static_cast<std::size_t>(group.size());
  // Even, uneven with a rank that gets nothing, and all for the last rank.
  std::vector<Counts> shares{Counts(ranks, 10), Counts(ranks, 0), Counts(ranks, 0)};
  for (std::size_t r = 0; r < ranks; ++r) shares[1][r] = r == 1 ? 0 : static_cast<std::int64_t>(3 * r + 2);
  shares[2][ranks - 1] = 9001;
  for (const Counts& counts : shares) {
    CAPTURE(group.name(), group.size(), core::name_of(dtype), counts);
    std::int64_t total = 0, first = 0;
    for (std::size_t r = 0; r < ranks; ++r) {
      if (static_cast<int>(r) < group.rank()) first += counts[r];
      total += counts[r];
    }
    const std::int64_t mine = counts[static_cast<std::size_t>(group.rank())];
    const std::vector<T> send = values_of<T>(group.rank(), total);
    std::vector<T> receive(static_cast<std::size_t>(mine));
    group.reduce_scatter("scatter sums", send.data(), receive.data(), counts, dtype).wait();
    CHECK(same_bits(receive, naive_reduction<T>(group.size(), total, first, mine, Reduce::sum)));
  }
}

template <typename T>
void check_all_gather(Communicator& group, DType dtype) {
  const auto ranks = static_cast<std::size_t>(group.size());
  const auto me = static_cast<std::size_t>(group.rank());
  std::vector<Counts> shares{Counts(ranks, 4), Counts(ranks, 0), Counts(ranks, 0)};
  for (std::size_t r = 0; r < ranks; ++r) shares[1][r] = r == 1 ? 0 : static_cast<std::int64_t>(5 * r + 1);
  shares[2][0] = 7;
  for (const Counts& counts : shares) {
    CAPTURE(group.name(), group.size(), core::name_of(dtype), counts);
    std::vector<T> expected;
    std::size_t first = 0;
    for (std::size_t r = 0; r < ranks; ++r) {
      if (r == me) first = expected.size();
      const auto part = values_of<T>(static_cast<int>(r), counts[r]);
      expected.insert(expected.end(), part.begin(), part.end());
    }
    const auto mine = values_of<T>(group.rank(), counts[me]);
    std::vector<T> apart(expected.size());
    group.all_gather("gather", mine.data(), apart.data(), counts, dtype).wait();
    CHECK(same_bits(apart, expected));
    std::vector<T> in_place(expected.size());
    std::copy(mine.begin(), mine.end(), in_place.begin() + static_cast<std::ptrdiff_t>(first));
    group.all_gather("gather in place", in_place.data() + first, in_place.data(), counts, dtype).wait();
    CHECK(same_bits(in_place, expected));
  }
}

}  // namespace

TEST_CASE("all_reduce adds in rank order and rounds once, for every type and size") {
  with_each_group([](Communicator& group) {
    check_all_reduce<float>(group, DType::f32);
    check_all_reduce<double>(group, DType::f64);
    check_all_reduce<Bf16>(group, DType::bf16);
    check_all_reduce<std::int64_t>(group, DType::i64);
    check_all_reduce<std::int32_t>(group, DType::i32);
  });
}

TEST_CASE("a sum of bf16 is rounded once, at its end") {
  with_each_group([](Communicator& group) {
    // Beside 256 a one is half a unit of bf16 and would be lost again in each addition that rounds.
    std::uint16_t value = core::float_to_bf16(group.rank() == 0 ? 256.0F : 1.0F);
    group.all_reduce("add ones", &value, 1, DType::bf16, Reduce::sum).wait();
    CHECK(value == core::float_to_bf16(255.0F + static_cast<float>(group.size())));
  });
}

TEST_CASE("reduce_scatter gives each rank its part, uneven or empty") {
  with_each_group([](Communicator& group) {
    check_reduce_scatter<float>(group, DType::f32);
    check_reduce_scatter<double>(group, DType::f64);
    check_reduce_scatter<Bf16>(group, DType::bf16);
  });
}

TEST_CASE("all_gather joins uneven and empty parts, also in place") {
  with_each_group([](Communicator& group) {
    check_all_gather<float>(group, DType::f32);
    check_all_gather<Bf16>(group, DType::bf16);
    check_all_gather<std::int64_t>(group, DType::i64);
    check_all_gather<std::uint8_t>(group, DType::u8);
  });
}

TEST_CASE("all_to_all brings every rank what the others have for it") {
  with_each_group([](Communicator& group) {
    const int ranks = group.size();
    // Between some pairs nothing travels; `factor` 0: between none.
    for (const int factor : {1, 2000, 0}) {
      const auto amount = [&](int from, int to) { return std::int64_t{(3 * from + 2 * to + 1) % 5} * factor; };
      const auto message = [&](int from, int to) {
        return values_of<float>(from, amount(from, to), static_cast<std::uint64_t>(to) + 1);
      };
      Counts send_counts, receive_counts;
      std::vector<float> send, expected;
      for (int r = 0; r < ranks; ++r) {
        send_counts.push_back(amount(group.rank(), r));
        receive_counts.push_back(amount(r, group.rank()));
        const auto out = message(group.rank(), r), in = message(r, group.rank());
        send.insert(send.end(), out.begin(), out.end());
        expected.insert(expected.end(), in.begin(), in.end());
      }
      std::vector<float> receive(expected.size());
      group.all_to_all("exchange", send.data(), send_counts, receive.data(), receive_counts, DType::f32).wait();
      CAPTURE(group.name(), ranks, factor);
      CHECK(same_bits(receive, expected));
    }
  });
}

TEST_CASE("broadcast gives the root's values to all") {
  with_each_group([](Communicator& group) {
    for (int root = 0; root < group.size(); ++root) {
      for (const std::int64_t count : sizes) {
        auto values = values_of<double>(group.rank(), count);
        group.broadcast("spread", values.data(), count, DType::f64, root).wait();
        CHECK(same_bits(values, values_of<double>(root, count)));
      }
    }
  });
}

TEST_CASE("single numbers and texts") {
  with_each_group([](Communicator& group) {
    const int n = group.size();
    CHECK(group.all_reduce("add", 0.5 + group.rank(), Reduce::sum) == 0.5 * n + 0.5 * n * (n - 1));
    CHECK(group.all_reduce("most", -1.0 - group.rank(), Reduce::max) == -1.0);
    // Past 2^53: a detour over doubles would lose the last bit.
    const std::int64_t large = (std::int64_t{1} << 60) + 1;
    CHECK(group.all_reduce("most", large - group.rank(), Reduce::max) == large);
    CHECK(group.all_reduce("add", std::int64_t{group.rank()}, Reduce::sum) == n * (n - 1) / 2);

    const auto text_of = [](int rank) {
      return rank == 1 ? std::string() : std::string("rank\0", 5) + std::to_string(rank) + std::string(1000, 'x');
    };
    const auto texts = group.all_gather_text("gather texts", text_of(group.rank()));
    REQUIRE(texts.size() == static_cast<std::size_t>(n));
    for (int r = 0; r < n; ++r) CHECK(texts[static_cast<std::size_t>(r)] == text_of(r));
    for (int root = 0; root < n; ++root) {
      CHECK(group.broadcast_text("spread a text", text_of(group.rank()), root) == text_of(root));
      const auto gathered = group.gather_text("gather texts at one rank", text_of(group.rank()), root);
      CHECK(gathered == (group.rank() == root ? texts : std::vector<std::string>{}));
    }
  });
}

TEST_CASE("several collectives may be under way at once") {
  with_each_group([](Communicator& group) {
    const int n = group.size();
    const auto ranks = static_cast<std::size_t>(n);
    auto small = values_of<float>(group.rank(), 100, 1);
    auto large = values_of<float>(group.rank(), 30000, 2);
    auto larger = values_of<double>(group.rank(), 40001, 3);
    const auto mine = values_of<std::int64_t>(group.rank(), 5, 4);
    std::vector<std::int64_t> all(5 * ranks);
    std::vector<Pending> pending;
    pending.push_back(group.all_reduce("small", small.data(), 100, DType::f32, Reduce::sum));
    pending.push_back(group.all_reduce("large", large.data(), 30000, DType::f32, Reduce::sum));
    pending.push_back(group.all_gather("gather", mine.data(), all.data(), Counts(ranks, 5), DType::i64));
    pending.push_back(group.all_reduce("larger", larger.data(), 40001, DType::f64, Reduce::max));
    for (Pending& one : pending) one.wait();
    CHECK(same_bits(small, naive_reduction<float>(n, 100, 0, 100, Reduce::sum, 1)));
    CHECK(same_bits(large, naive_reduction<float>(n, 30000, 0, 30000, Reduce::sum, 2)));
    CHECK(same_bits(larger, naive_reduction<double>(n, 40001, 0, 40001, Reduce::max, 3)));
    for (int r = 0; r < n; ++r) {
      const auto part = values_of<std::int64_t>(r, 5, 4);
      CHECK(std::equal(part.begin(), part.end(), all.begin() + std::ptrdiff_t{5} * r));
    }
  });
}

TEST_CASE("a Pending that goes out of scope or is assigned to waits") {
  with_each_group([](Communicator& group) {
    const auto expected = naive_reduction<float>(group.size(), 9000, 0, 9000, Reduce::sum);
    auto first = values_of<float>(group.rank(), 9000), second = first;
    {
      Pending pending = group.all_reduce("assigned over", first.data(), 9000, DType::f32, Reduce::sum);
      pending = Pending();
      CHECK(same_bits(first, expected));
      Pending dropped = group.all_reduce("dropped", second.data(), 9000, DType::f32, Reduce::sum);
    }
    CHECK(same_bits(second, expected));
  });
}

TEST_CASE("groups have the members of their grid, in its order") {
  const int world = make_world(60)->size();
  for (int tp = 1; tp <= world; tp *= 2) {
    for (int ep = 1; ep <= world; ep *= 2) {
      layout::Options options;
      options.tp = tp;
      options.ep = ep;
      const layout::Grid grid(world, make_world(60)->rank(), options);
      const Groups groups = make_groups(grid, 60);
      const auto check = [&](Communicator& group, const std::string& name, const std::vector<int>& members) {
        CAPTURE(grid.describe(), name);
        CHECK(group.name() == name);
        REQUIRE(group.size() == static_cast<int>(members.size()));
        std::vector<std::int32_t> ranks(members.size());
        const std::int32_t mine = grid.rank();
        group.all_gather("gather ranks", &mine, ranks.data(), Counts(members.size(), 1), DType::i32).wait();
        CHECK(std::equal(ranks.begin(), ranks.end(), members.begin()));
        CHECK(members[static_cast<std::size_t>(group.rank())] == grid.rank());
      };
      check(*groups.tp, "tp", grid.tp_group());
      check(*groups.dp, "dp", grid.dp_group());
      check(*groups.ep, "ep", grid.ep_group());
      check(*groups.edp, "edp", grid.edp_group());
      CHECK(groups.world->size() == world);
      CHECK(groups.world->rank() == grid.rank());
    }
  }
}

}  // namespace caravan::comm
