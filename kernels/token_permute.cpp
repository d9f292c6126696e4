// SPDX-License-Identifier: Apache-2.0
#include "kernels/token_permute.hpp"

#include "kernels/bfloat16.hpp"
#include "kernels/detail/parallel.hpp"

namespace caravan::kernels {

void permute_by_expert(Execution execution, const std::int32_t* indices, RouterShape shape, std::int64_t* counts,
                       std::int32_t* slot_token, std::int32_t* token_slot) {
  // Counting sort in chunks of flat indices: per chunk and expert a count, then their running sum with the experts
  // outermost, then each chunk places its own entries in order. The same result for every chunk size.
  constexpr std::int64_t chunk = detail::on_host ? 4096 : 64;
  const std::int64_t experts = shape.experts;
  const std::int64_t flat = shape.tokens * shape.topk;
  const std::int64_t chunks = (flat + chunk - 1) / chunk;
  CARAVAN_CHECK(flat <= std::numeric_limits<std::int32_t>::max(), "permute_by_expert: ", flat, " assignments");
  Kokkos::View<std::int64_t*, detail::Space> next("permute_by_expert", static_cast<std::size_t>(experts * chunks));
  detail::for_each(
      execution, "count_assignments", chunks, KOKKOS_LAMBDA(std::int64_t i) {
        const std::int64_t end = (i + 1) * chunk < flat ? (i + 1) * chunk : flat;
        for (std::int64_t at = i * chunk; at < end; ++at) {
          if (indices[at] >= 0) ++next(indices[at] * chunks + i);
        }
      });
  detail::for_each(
      execution, "expert_counts", experts, KOKKOS_LAMBDA(std::int64_t e) {
        std::int64_t sum = 0;
        for (std::int64_t i = 0; i < chunks; ++i) sum += next(e * chunks + i);
        counts[e] = sum;
      });
  if (flat == 0) return;
  using Policy = Kokkos::RangePolicy<detail::Space, Kokkos::IndexType<std::int64_t>>;
  Kokkos::parallel_scan(
      "expert_offsets", Policy(detail::instance(execution), 0, experts * chunks),
      KOKKOS_LAMBDA(const std::int64_t i, std::int64_t& before, const bool last) {
        const std::int64_t own = next(i);
        if (last) next(i) = before;
        before += own;
      });
  detail::for_each(
      execution, "place_assignments", chunks, KOKKOS_LAMBDA(std::int64_t i) {
        const std::int64_t end = (i + 1) * chunk < flat ? (i + 1) * chunk : flat;
        for (std::int64_t at = i * chunk; at < end; ++at) {
          if (indices[at] < 0) {
            token_slot[at] = -1;
            continue;
          }
          const auto slot = static_cast<std::int32_t>(next(indices[at] * chunks + i)++);
          slot_token[slot] = static_cast<std::int32_t>(at);
          token_slot[at] = slot;
        }
      });
  detail::instance(execution).fence();  // the scratch above ends here
}

}  // namespace caravan::kernels
