// SPDX-License-Identifier: Apache-2.0
// The part of token_permute.hpp that moves rows.
#include "core/random.hpp"
#include "kernels/bfloat16.hpp"
#include "kernels/detail/math.hpp"
#include "kernels/detail/parallel.hpp"
#include "kernels/token_permute.hpp"

namespace caravan::kernels {
namespace {

// A token's sum is built in fp32 over pieces of columns that stay in the first cache, one expert row after the other.
constexpr int piece = detail::on_host ? 512 : 1;

/// Rows pass as they are.
struct Whole {
  CARAVAN_FUNCTION std::uint64_t key(std::int64_t, std::int64_t) const { return 0; }

  template <typename T>
  CARAVAN_FUNCTION void copy(const T* in, T* out, int size, std::uint64_t, std::uint32_t) const {
    CARAVAN_IVDEP
    for (int c = 0; c < size; ++c) out[c] = in[c];
  }

  template <typename T>
  CARAVAN_FUNCTION void add(const T* in, float* sum, int size, std::uint64_t, std::uint32_t) const {
    for (int c = 0; c < size; ++c) sum[c] += to_float(in[c]);
  }
};

/// Units of a row are dropped by its token and its expert.
struct Dropped {
  const std::int32_t* indices;       // [tokens · topk]
  const std::uint64_t* tokens;       // [tokens], core::token_identity
  const std::uint64_t* expert_keys;  // [E]
  std::uint32_t threshold;
  float scale;

  Dropped(const std::int32_t* chosen, const std::uint64_t* identities, const std::uint64_t* keys, double probability)
      : indices(chosen),
        tokens(identities),
        expert_keys(keys),
        threshold(core::dropout_threshold(probability)),
        scale(static_cast<float>(1 / (1 - probability))) {}

  /// flat: token · topk + choice.
  CARAVAN_FUNCTION std::uint64_t key(std::int64_t flat, std::int64_t token) const {
    return core::dropout_row_key(expert_keys[indices[flat]], tokens[token]);
  }

  template <typename T>
  CARAVAN_FUNCTION void copy(const T* in, T* out, int size, std::uint64_t row_key, std::uint32_t first_unit) const {
    const Dropped mask = *this;  // in registers: out could be where this is
    CARAVAN_IVDEP
    for (int c = 0; c < size; ++c) out[c] = from_float<T>(mask.unit(in[c], row_key, first_unit, c));
  }

  template <typename T>
  CARAVAN_FUNCTION void add(const T* in, float* sum, int size, std::uint64_t row_key, std::uint32_t first_unit) const {
    const Dropped mask = *this;
    for (int c = 0; c < size; ++c) sum[c] += mask.unit(in[c], row_key, first_unit, c);
  }

 private:
  template <typename T>
  CARAVAN_FUNCTION float unit(T value, std::uint64_t row_key, std::uint32_t first_unit, int c) const {
    const std::uint32_t bits = core::dropout_bits(row_key, first_unit + static_cast<std::uint32_t>(c));
    const float scaled = to_float(value) * scale;
    return bits >= threshold ? scaled : 0.0F;
  }
};

template <typename T>
CARAVAN_FUNCTION void load_span(const T* in, float* sum, int size) {
  for (int c = 0; c < size; ++c) sum[c] = to_float(in[c]);
}

template <typename T>
CARAVAN_FUNCTION void store_span(const float* sum, T* out, int size) {
  for (int c = 0; c < size; ++c) out[c] = from_float<T>(sum[c]);
}

/// out[s] = mask of the row of slot s's token.
template <typename T, typename Mask>
void gather(Execution execution, const char* name, const T* in, T* out, std::int64_t slots, std::int64_t hidden,
            const std::int32_t* slot_token, std::int64_t topk, Mask mask) {
  detail::for_rows(
      execution, name, slots, hidden, KOKKOS_LAMBDA(const detail::Member& team) {
        const std::int64_t slot = team.league_rank();
        const std::int64_t flat = slot_token[slot];
        const std::int64_t token = flat / topk;
        const std::uint64_t key = mask.key(flat, token);
        const T* from = in + token * hidden;
        T* to = out + slot * hidden;
        detail::for_columns(team, hidden, [&](std::int64_t begin, int size) {
          mask.copy(from + begin, to + begin, size, key, static_cast<std::uint32_t>(begin));
        });
      });
}

/// out[t] = y[t] + the sum of the token's rows through the mask.
template <typename T, typename Mask>
void add_rows(Execution execution, const char* name, const T* y, const T* rows, T* out, std::int64_t tokens,
              std::int64_t hidden, std::int64_t topk, const std::int32_t* token_slot, Mask mask) {
  detail::for_rows(
      execution, name, tokens, hidden, KOKKOS_LAMBDA(const detail::Member& team) {
        const std::int64_t token = team.league_rank();
        detail::for_columns(team, hidden, [&](std::int64_t begin, int size) {
          float sum[piece];
          for (int done = 0; done < size; done += piece) {
            const int n = size - done < piece ? size - done : piece;
            const std::int64_t first = begin + done;
            load_span(y + token * hidden + first, sum, n);
            for (std::int64_t j = 0; j < topk; ++j) {
              const std::int64_t flat = token * topk + j;
              const std::int64_t slot = token_slot[flat];
              if (slot < 0) continue;
              mask.add(rows + slot * hidden + first, sum, n, mask.key(flat, token), static_cast<std::uint32_t>(first));
            }
            store_span(sum, out + token * hidden + first, n);
          }
        });
      });
}

}  // namespace

template <typename T>
void gather_rows(Execution execution, const T* in, T* out, std::int64_t slots, std::int64_t hidden,
                 const std::int32_t* slot_token, std::int64_t topk) {
  gather(execution, "gather_rows", in, out, slots, hidden, slot_token, topk, Whole());
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
  gather(execution, "gather_dropout", y, out, slots, hidden, slot_token, topk,
         Dropped(indices, tokens, expert_keys, probability));
}

template <typename T>
void combine(Execution execution, const T* y, const T* rows, T* out, std::int64_t tokens, std::int64_t hidden,
             std::int64_t topk, const std::int32_t* token_slot) {
  add_rows(execution, "combine", y, rows, out, tokens, hidden, topk, token_slot, Whole());
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
  add_rows(execution, "combine_dropout_backward", dout, drows, dy, tokens, hidden, topk, token_slot,
           Dropped(indices, tokens_id, expert_keys, probability));
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
