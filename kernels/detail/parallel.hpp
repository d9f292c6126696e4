// SPDX-License-Identifier: Apache-2.0
// How the kernels walk over rows and columns. On a host one thread takes a whole row or block in one plain loop, which
// the compiler vectorises; on a device a team takes a row and its threads take neighbouring columns. Only .cpp files of
// this room include it: it shows Kokkos.
#pragma once

#include <Kokkos_Core.hpp>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "core/error.hpp"
#include "kernels/execution.hpp"

namespace caravan::kernels::detail {

using Space = Kokkos::DefaultExecutionSpace;
using Member = Kokkos::TeamPolicy<Space>::member_type;
constexpr bool on_host = std::is_same_v<Space, Kokkos::DefaultHostExecutionSpace>;

inline Space instance(Execution execution) {
  const device::Place& place = execution.place;
  CARAVAN_CHECK((place.kind == device::Kind::host) == on_host, "kernels of this build do not run on ",
                device::name_of(place));
#if defined(KOKKOS_ENABLE_CUDA)
  return Space(static_cast<cudaStream_t>(place.stream));
#elif defined(KOKKOS_ENABLE_HIP)
  return Space(static_cast<hipStream_t>(place.stream));
#else
  return Space();
#endif
}

/// body(i) for i in [0, count).
template <typename Body>
void for_each(Execution execution, const char* name, std::int64_t count, const Body& body) {
  if (count == 0) return;
  using Policy = Kokkos::RangePolicy<Space, Kokkos::IndexType<std::int64_t>>;
  Kokkos::parallel_for(name, Policy(instance(execution), 0, count), body);
}

/// body(begin, size) for blocks that cover [0, count).
template <typename Body>
void for_blocks(Execution execution, const char* name, std::int64_t count, const Body& body) {
  constexpr std::int64_t block = on_host ? 4096 : 1;
  for_each(
      execution, name, (count + block - 1) / block, KOKKOS_LAMBDA(std::int64_t i) {
        const std::int64_t begin = i * block;
        body(begin, static_cast<int>(begin + block < count ? block : count - begin));
      });
}

/// body(team) once for each row, which is team.league_rank(). Fewer than 2^31 rows and columns.
template <typename Body>
void for_rows(Execution execution, const char* name, std::int64_t rows, std::int64_t columns, const Body& body) {
  constexpr std::int64_t limit = std::numeric_limits<int>::max();
  CARAVAN_CHECK(rows >= 0 && rows < limit && columns >= 0 && columns < limit, name, ": ", rows, " x ", columns);
  if (rows == 0) return;
  using Policy = Kokkos::TeamPolicy<Space>;
  if constexpr (on_host) {
    Kokkos::parallel_for(name, Policy(instance(execution), static_cast<int>(rows), 1), body);
  } else {
    Kokkos::parallel_for(name, Policy(instance(execution), static_cast<int>(rows), Kokkos::AUTO), body);
  }
}

/// body(begin, size) for pieces that cover the columns [0, columns) of the team's row.
template <typename Body>
KOKKOS_INLINE_FUNCTION void for_columns(const Member& team, std::int64_t columns, const Body& body) {
  if constexpr (on_host) {
    body(std::int64_t{0}, static_cast<int>(columns));
  } else {
    Kokkos::parallel_for(Kokkos::TeamThreadRange(team, static_cast<int>(columns)),
                         [&](int column) { body(static_cast<std::int64_t>(column), 1); });
  }
}

/// Sum of piece(begin, size) over pieces that cover the columns of the team's row; every thread of the team gets it.
template <typename Piece>
KOKKOS_INLINE_FUNCTION float sum_columns(const Member& team, std::int64_t columns, const Piece& piece) {
  if constexpr (on_host) {
    return piece(std::int64_t{0}, static_cast<int>(columns));
  } else {
    float sum = 0;
    Kokkos::parallel_reduce(
        Kokkos::TeamThreadRange(team, static_cast<int>(columns)),
        [&](int column, float& partial) { partial += piece(static_cast<std::int64_t>(column), 1); }, sum);
    return sum;
  }
}

}  // namespace caravan::kernels::detail
