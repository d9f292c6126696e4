// SPDX-License-Identifier: Apache-2.0
#include "kernels/dropout.hpp"

#include "core/random.hpp"
#include "kernels/bfloat16.hpp"
#include "kernels/detail/math.hpp"
#include "kernels/detail/parallel.hpp"

namespace caravan::kernels {
namespace {

/// What a row's mask needs, by value: loops over captured structs do not vectorise.
struct RowMask {
  std::uint64_t key;
  std::uint32_t threshold;
  float scale;
};

template <bool add, typename T>
CARAVAN_FUNCTION void drop_span(const T* in, T* out, int size, RowMask mask, std::uint32_t first_unit) {
  const std::uint64_t key = mask.key;
  const std::uint32_t threshold = mask.threshold;
  const float scale = mask.scale;
  CARAVAN_IVDEP
  for (int c = 0; c < size; ++c) {
    const std::uint32_t bits = core::dropout_bits(key, first_unit + static_cast<std::uint32_t>(c));
    const float scaled = to_float(in[c]) * scale;
    const float kept = bits >= threshold ? scaled : 0.0F;
    out[c] = from_float<T>(add ? to_float(out[c]) + kept : kept);
  }
}

template <bool add, typename T>
CARAVAN_FUNCTION void copy_span(const T* in, T* out, int size) {
  CARAVAN_IVDEP
  for (int c = 0; c < size; ++c) out[c] = add ? from_float<T>(to_float(out[c]) + to_float(in[c])) : in[c];
}

template <bool add, typename T>
void run(Execution execution, const T* in, T* out, std::int64_t rows, std::int64_t columns, const std::uint64_t* tokens,
         Dropout use) {
  CARAVAN_CHECK(use.probability >= 0 && use.probability < 1, "dropout probability ", use.probability);
  if (use.probability == 0) {
    if (!add && in == out) return;
    detail::for_blocks(
        execution, "copy", rows * columns,
        KOKKOS_LAMBDA(std::int64_t begin, int size) { copy_span<add>(in + begin, out + begin, size); });
    return;
  }
  const std::uint64_t key = use.key;
  const std::uint32_t first_unit = use.first_unit;
  const std::uint32_t threshold = core::dropout_threshold(use.probability);
  const auto scale = static_cast<float>(1 / (1 - use.probability));
  detail::for_rows(
      execution, "dropout", rows, columns, KOKKOS_LAMBDA(const detail::Member& team) {
        const std::int64_t row = team.league_rank();
        const RowMask mask{core::dropout_row_key(key, tokens[row]), threshold, scale};
        detail::for_columns(team, columns, [&](std::int64_t begin, int size) {
          const std::int64_t at = row * columns + begin;
          drop_span<add>(in + at, out + at, size, mask, first_unit + static_cast<std::uint32_t>(begin));
        });
      });
}

}  // namespace

template <typename T>
void dropout(Execution execution, const T* in, T* out, std::int64_t rows, std::int64_t columns,
             const std::uint64_t* tokens, Dropout use) {
  run<false>(execution, in, out, rows, columns, tokens, use);
}

template <typename T>
void dropout_add(Execution execution, const T* in, T* out, std::int64_t rows, std::int64_t columns,
                 const std::uint64_t* tokens, Dropout use) {
  run<true>(execution, in, out, rows, columns, tokens, use);
}

template void dropout(Execution, const float*, float*, std::int64_t, std::int64_t, const std::uint64_t*, Dropout);
template void dropout(Execution, const Bf16*, Bf16*, std::int64_t, std::int64_t, const std::uint64_t*, Dropout);
template void dropout_add(Execution, const float*, float*, std::int64_t, std::int64_t, const std::uint64_t*, Dropout);
template void dropout_add(Execution, const Bf16*, Bf16*, std::int64_t, std::int64_t, const std::uint64_t*, Dropout);

}  // namespace caravan::kernels
