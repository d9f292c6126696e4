// SPDX-License-Identifier: Apache-2.0
#include "kernels/rotary.hpp"

#include "kernels/bfloat16.hpp"
#include "kernels/detail/math.hpp"
#include "kernels/detail/parallel.hpp"

namespace caravan::kernels {
namespace {

// Pairs whose rotations are held at a time: computed once for all heads of a token.
constexpr int chunk = detail::on_host ? 64 : 1;

CARAVAN_FUNCTION void make_rotations(const float* inverse_frequency, float position, float direction, float* cosine,
                                     float* sine, int size) {
  CARAVAN_IVDEP
  for (int i = 0; i < size; ++i) {
    const detail::Rotation turn = detail::rotation(position * inverse_frequency[i]);
    cosine[i] = turn.cosine;
    sine[i] = turn.sine * direction;
  }
}

template <typename T>
CARAVAN_FUNCTION void rotate(T* low, T* high, const float* cosine, const float* sine, int size) {
  CARAVAN_IVDEP
  for (int i = 0; i < size; ++i) {
    const float a = to_float(low[i]);
    const float b = to_float(high[i]);
    low[i] = from_float<T>(a * cosine[i] - b * sine[i]);
    high[i] = from_float<T>(b * cosine[i] + a * sine[i]);
  }
}

}  // namespace

template <typename T>
void rotary(Execution execution, T* x, std::int64_t tokens, std::int64_t heads, std::int64_t head_dim,
            std::int64_t row_stride, const std::int32_t* positions, const float* inverse_frequency, bool inverse) {
  CARAVAN_CHECK(head_dim % 2 == 0, "rotary: head_dim ", head_dim, " is odd");
  const std::int64_t half = head_dim / 2;
  const float direction = inverse ? -1.0F : 1.0F;
  detail::for_rows(
      execution, "rotary", tokens, half, KOKKOS_LAMBDA(const detail::Member& team) {
        const std::int64_t token = team.league_rank();
        T* row = x + token * row_stride;
        const auto position = static_cast<float>(positions[token]);
        detail::for_columns(team, half, [&](std::int64_t begin, int size) {
          float cosine[chunk];
          float sine[chunk];
          for (int done = 0; done < size; done += chunk) {
            const int n = size - done < chunk ? size - done : chunk;
            const std::int64_t first = begin + done;
            make_rotations(inverse_frequency + first, position, direction, cosine, sine, n);
            for (std::int64_t head = 0; head < heads; ++head) {
              T* low = row + head * head_dim + first;
              rotate(low, low + half, cosine, sine, n);
            }
          }
        });
      });
}

template void rotary(Execution, float*, std::int64_t, std::int64_t, std::int64_t, std::int64_t, const std::int32_t*,
                     const float*, bool);
template void rotary(Execution, Bf16*, std::int64_t, std::int64_t, std::int64_t, std::int64_t, const std::int32_t*,
                     const float*, bool);

}  // namespace caravan::kernels
