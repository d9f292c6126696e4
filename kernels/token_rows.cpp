// SPDX-License-Identifier: Apache-2.0
// The part of token_permute.hpp that moves rows.
#include "core/random.hpp"
#include "kernels/bfloat16.hpp"
#include "kernels/detail/math.hpp"
#include "kernels/detail/parallel.hpp"
#include "kernels/token_permute.hpp"

namespace caravan::kernels {
namespace {

template <typename T>
CARAVAN_FUNCTION void copy_span(const T* in, T* out, int size) {
  CARAVAN_IVDEP
  for (int c = 0; c < size; ++c) out[c] = in[c];
}

template <typename T>
CARAVAN_FUNCTION void drop_span(const T* in, T* out, int size, std::uint64_t key, std::uint32_t first_unit,
                                std::uint32_t threshold, float scale) {
  CARAVAN_IVDEP
  for (int c = 0; c < size; ++c) {
    const std::uint32_t bits = core::dropout_bits(key, first_unit + static_cast<std::uint32_t>(c));
    const float scaled = to_float(in[c]) * scale;
    out[c] = from_float<T>(bits >= threshold ? scaled : 0.0F);
  }
}

// A token's sum is built in fp32 over pieces of columns that stay in the first cache, one expert row after the other.
constexpr int piece = detail::on_host ? 512 : 1;

template <typename T>
CARAVAN_FUNCTION void load_span(const T* in, float* sum, int size) {
  for (int c = 0; c < size; ++c) sum[c] = to_float(in[c]);
}

template <typename T>
CARAVAN_FUNCTION void add_span(const T* in, float* sum, int size) {
  for (int c = 0; c < size; ++c) sum[c] += to_float(in[c]);
}

template <typename T>
CARAVAN_FUNCTION void add_dropped_span(const T* in, float* sum, int size, std::uint64_t key, std::uint32_t first_unit,
                                       std::uint32_t threshold, float scale) {
  for (int c = 0; c < size; ++c) {
    const std::uint32_t bits = core::dropout_bits(key, first_unit + static_cast<std::uint32_t>(c));
    const float scaled = to_float(in[c]) * scale;
    sum[c] += bits >= threshold ? scaled : 0.0F;
  }
}

template <typename T>
CARAVAN_FUNCTION void store_span(const float* sum, T* out, int size) {
  for (int c = 0; c < size; ++c) out[c] = from_float<T>(sum[c]);
}

}  // namespace

template <typename T>
void gather_rows(Execution execution, const T* in, T* out, std::int64_t slots, std::int64_t hidden,
                 const std::int32_t* slot_token, std::int64_t topk) {
  detail::for_rows(
      execution, "gather_rows", slots, hidden, KOKKOS_LAMBDA(const detail::Member& team) {
        const std::int64_t slot = team.league_rank();
        const T* from = in + slot_token[slot] / topk * hidden;
        T* to = out + slot * hidden;
        detail::for_columns(team, hidden,
                            [&](std::int64_t begin, int size) { copy_span(from + begin, to + begin, size); });
      });
}

template <typename T>
void gather_dropout(Execution execution, const T* y, T* out, std::int64_t slots, std::int64_t hidden,
                    const std::int32_t* slot_token, const std::int32_t* indices, std::int64_t topk,
                    const std::uint64_t* tokens, const std::uint64_t* expert_keys, double probability) {
  CARAVAN_CHECK(probability >= 0 && probability < 1, "dropout probability ", probability);
  if (probability == 0) {
    gather_rows(execution, y, out, slots, hidden, slot_token, topk);
    return;
  }
  const std::uint32_t threshold = core::dropout_threshold(probability);
  const auto scale = static_cast<float>(1 / (1 - probability));
  detail::for_rows(
      execution, "gather_dropout", slots, hidden, KOKKOS_LAMBDA(const detail::Member& team) {
        const std::int64_t slot = team.league_rank();
        const std::int64_t flat = slot_token[slot];
        const std::int64_t token = flat / topk;
        const std::uint64_t key = core::dropout_row_key(expert_keys[indices[flat]], tokens[token]);
        const T* from = y + token * hidden;
        T* to = out + slot * hidden;
        detail::for_columns(team, hidden, [&](std::int64_t begin, int size) {
          drop_span(from + begin, to + begin, size, key, static_cast<std::uint32_t>(begin), threshold, scale);
        });
      });
}

template <typename T>
void combine(Execution execution, const T* y, const T* rows, T* out, std::int64_t tokens, std::int64_t hidden,
             std::int64_t topk, const std::int32_t* token_slot) {
  detail::for_rows(
      execution, "combine", tokens, hidden, KOKKOS_LAMBDA(const detail::Member& team) {
        const std::int64_t token = team.league_rank();
        detail::for_columns(team, hidden, [&](std::int64_t begin, int size) {
          float sum[piece];
          for (int done = 0; done < size; done += piece) {
            const int n = size - done < piece ? size - done : piece;
            const std::int64_t first = begin + done;
            load_span(y + token * hidden + first, sum, n);
            for (std::int64_t j = 0; j < topk; ++j) {
              const std::int64_t slot = token_slot[token * topk + j];
              if (slot >= 0) add_span(rows + slot * hidden + first, sum, n);
            }
            store_span(sum, out + token * hidden + first, n);
          }
        });
      });
}

template <typename T>
void combine_dropout_backward(Execution execution, const T* dout, const T* drows, T* dy, std::int64_t tokens,
                              std::int64_t hidden, std::int64_t topk, const std::int32_t* token_slot,
                              const std::int32_t* indices, const std::uint64_t* tokens_id,
                              const std::uint64_t* expert_keys, double probability) {
  CARAVAN_CHECK(probability >= 0 && probability < 1, "dropout probability ", probability);
  if (probability == 0) {
    combine(execution, dout, drows, dy, tokens, hidden, topk, token_slot);
    return;
  }
  const std::uint32_t threshold = core::dropout_threshold(probability);
  const auto scale = static_cast<float>(1 / (1 - probability));
  detail::for_rows(
      execution, "combine_dropout_backward", tokens, hidden, KOKKOS_LAMBDA(const detail::Member& team) {
        const std::int64_t token = team.league_rank();
        detail::for_columns(team, hidden, [&](std::int64_t begin, int size) {
          float sum[piece];
          for (int done = 0; done < size; done += piece) {
            const int n = size - done < piece ? size - done : piece;
            const std::int64_t first = begin + done;
            load_span(dout + token * hidden + first, sum, n);
            for (std::int64_t j = 0; j < topk; ++j) {
              const std::int64_t flat = token * topk + j;
              const std::int64_t slot = token_slot[flat];
              if (slot < 0) continue;
              const std::uint64_t key = core::dropout_row_key(expert_keys[indices[flat]], tokens_id[token]);
              add_dropped_span(drows + slot * hidden + first, sum, n, key, static_cast<std::uint32_t>(first), threshold,
                               scale);
            }
            store_span(sum, dy + token * hidden + first, n);
          }
        });
      });
}

// NOLINTBEGIN(bugprone-macro-parentheses): T is a type, which takes no parentheses
#define CARAVAN_INSTANTIATE(T)                                                                                         \
  template void gather_rows(Execution, const T*, T*, std::int64_t, std::int64_t, const std::int32_t*, std::int64_t);   \
  template void gather_dropout(Execution, const T*, T*, std::int64_t, std::int64_t, const std::int32_t*,               \
                               const std::int32_t*, std::int64_t, const std::uint64_t*, const std::uint64_t*, double); \
  template void combine(Execution, const T*, const T*, T*, std::int64_t, std::int64_t, std::int64_t,                   \
                        const std::int32_t*);                                                                          \
  template void combine_dropout_backward(Execution, const T*, const T*, T*, std::int64_t, std::int64_t, std::int64_t,  \
                                         const std::int32_t*, const std::int32_t*, const std::uint64_t*,               \
                                         const std::uint64_t*, double)
// NOLINTEND(bugprone-macro-parentheses)
CARAVAN_INSTANTIATE(float);
CARAVAN_INSTANTIATE(Bf16);
#undef CARAVAN_INSTANTIATE

}  // namespace caravan::kernels
