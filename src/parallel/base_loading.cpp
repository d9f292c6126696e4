// SPDX-License-Identifier: Apache-2.0
#include "parallel/base_loading.hpp"

#include <algorithm>
#include <cstddef>

#include "comm/agreement.hpp"
#include "core/error.hpp"

namespace caravan::parallel {
namespace {

using layout::Rectangle;
using layout::Rows;

/// Consecutive whole rows of one tensor.
struct Piece {
  std::size_t tensor;
  Rectangle box;
  std::byte* data = nullptr;  // where the rank that reads it put it
};

/// What a rank reads in one round.
using Block = std::vector<Piece>;

/// The part of a piece that some rank holds.
struct Part {
  const Piece* piece;
  Rectangle box;
};

/// Grows only, since shrinking and growing again would write zeros each time; what was in it is lost.
std::byte* room(std::vector<std::byte>& buffer, std::size_t bytes) {
  if (buffer.size() < bytes) {
    std::vector<std::byte>().swap(buffer);  // the old one is gone before the new one comes
    buffer.resize(bytes);
  }
  return buffer.data();
}

class BaseLoading {
 public:
  BaseLoading(comm::Communicator& world, const layout::Grid& grid, const layout::TensorSource& source,
              core::DType dtype, const std::vector<BaseTensor>& tensors, std::int64_t buffer_bytes)
      : world_(world),
        grid_(grid),
        source_(source),
        dtype_(dtype),
        tensors_(tensors),
        // To each rank goes at most the whole block, and from each comes at most one.
        block_elements_(buffer_bytes / world.size() / static_cast<std::int64_t>(core::size_of(dtype))) {
    CARAVAN_CHECK(world.size() == grid.world() && world.rank() == grid.rank());
    std::vector<std::int64_t> rows;
    for (const BaseTensor& tensor : tensors) {
      rows.push_back(tensor.spec.shape.at(0));
      row_elements_.push_back(layout::element_count({tensor.spec.shape.begin() + 1, tensor.spec.shape.end()}));
    }
    // Elements weigh the same whatever the file's type: converting and sending them costs as much as reading.
    left_ = layout::share_rows(rows, row_elements_, world.size());
    at_.resize(left_.size());
  }

  void run() {
    const auto me = static_cast<std::size_t>(world_.rank());
    std::vector<Block> blocks(left_.size());
    while (next_round(blocks)) {
      comm::Communicator::Counts to(left_.size()), from(left_.size());
      std::vector<std::vector<Part>> incoming(left_.size());
      comm::on_all_ranks(world_, [&] {
        read(blocks[me]);
        pack(blocks[me], to);
        std::int64_t total = 0;
        for (std::size_t rank = 0; rank < blocks.size(); ++rank) {
          if (rank == me) continue;
          incoming[rank] = held_by(world_.rank(), blocks[rank]);
          for (const Part& part : incoming[rank]) from[rank] += part.box.count();
          total += from[rank];
        }
        room(received_, bytes_of(total));
      });
      if (world_.size() == 1) continue;
      world_.all_to_all("exchange rows of the base", sent_.data(), to, received_.data(), from, dtype_).wait();
      const std::byte* data = received_.data();
      for (const auto& parts : incoming) {
        for (const Part& part : parts) {
          place(part, part.box, data);
          data += bytes_of(part.box.count());
        }
      }
    }
  }

 private:
  std::size_t bytes_of(std::int64_t elements) const {
    return static_cast<std::size_t>(elements) * core::size_of(dtype_);
  }

  /// What every rank reads next; false: nobody has rows left. All ranks compute the same, so nothing is sent for it.
  bool next_round(std::vector<Block>& blocks) {
    bool any = false;
    for (std::size_t rank = 0; rank < blocks.size(); ++rank) {
      blocks[rank] = next_block(left_[rank], at_[rank]);
      any = any || !blocks[rank].empty();
    }
    return any;
  }

  /// Takes a block off the rows that a rank has left; `at`: the first tensor that may have some.
  Block next_block(std::vector<Rows>& left, std::size_t& at) const {
    Block block;
    std::int64_t elements = block_elements_;
    for (; at < left.size(); ++at) {
      Rows& rows = left[at];
      if (rows.count() == 0) continue;
      const std::int64_t fit = elements / std::max<std::int64_t>(row_elements_[at], 1);
      // A row that is longer than a block is one.
      const std::int64_t taken = std::min(rows.count(), block.empty() ? std::max<std::int64_t>(fit, 1) : fit);
      if (taken <= 0) break;
      block.push_back({at, layout::rows_of(layout::whole(tensors_[at].spec.shape), {rows.begin, rows.begin + taken})});
      elements -= taken * row_elements_[at];
      rows.begin += taken;
      if (rows.count() > 0) break;
    }
    return block;
  }

  std::vector<Part> held_by(int rank, const Block& block) const {
    const layout::Grid there = grid_.at(rank);
    std::vector<Part> parts;
    for (const Piece& piece : block) {
      const auto both = layout::intersect(piece.box, layout::slice_of(tensors_[piece.tensor].spec, there));
      if (both) parts.push_back({&piece, *both});
    }
    return parts;
  }

  /// The place of whole rows inside this rank's slice; null: it does not hold them, or not whole.
  std::byte* place_of(const Piece& piece) const {
    const BaseTensor& tensor = tensors_[piece.tensor];
    const Rectangle slice = layout::slice_of(tensor.spec, grid_);
    if (layout::intersect(piece.box, slice) != piece.box) return nullptr;
    const std::int64_t before = (piece.box.offset[0] - slice.offset[0]) * row_elements_[piece.tensor];
    return static_cast<std::byte*>(tensor.slice) + bytes_of(before);
  }

  void read(Block& block) {
    std::int64_t elsewhere = 0;
    for (Piece& piece : block) {
      piece.data = place_of(piece);
      if (!piece.data) elsewhere += piece.box.count();
    }
    std::byte* data = room(read_, bytes_of(elsewhere));
    for (Piece& piece : block) {
      const bool in_place = piece.data != nullptr;
      if (!in_place) {
        piece.data = data;
        data += bytes_of(piece.box.count());
      }
      source_.read(tensors_[piece.tensor].spec.name, piece.box, dtype_, piece.data);
      if (in_place) continue;
      const auto mine = layout::intersect(piece.box, layout::slice_of(tensors_[piece.tensor].spec, grid_));
      if (mine) place({&piece, *mine}, piece.box, piece.data);
    }
  }

  /// Puts what the other ranks hold of the block into the send buffer, in rank order.
  void pack(const Block& block, comm::Communicator::Counts& counts) {
    std::vector<Part> parts;
    std::int64_t total = 0;
    for (int rank = 0; rank < world_.size(); ++rank) {
      if (rank == world_.rank()) continue;
      for (const Part& part : held_by(rank, block)) {
        counts[static_cast<std::size_t>(rank)] += part.box.count();
        total += part.box.count();
        parts.push_back(part);
      }
    }
    std::byte* data = room(sent_, bytes_of(total));
    for (const Part& part : parts) {
      layout::copy_part(part.box, part.piece->box, part.piece->data, part.box, data, core::size_of(dtype_));
      data += bytes_of(part.box.count());
    }
  }

  /// Copies a part of this rank's slice there, out of an array that holds `box`.
  void place(const Part& part, const Rectangle& box, const std::byte* data) const {
    const BaseTensor& tensor = tensors_[part.piece->tensor];
    layout::copy_part(part.box, box, data, layout::slice_of(tensor.spec, grid_), tensor.slice, core::size_of(dtype_));
  }

  comm::Communicator& world_;
  const layout::Grid& grid_;
  const layout::TensorSource& source_;
  core::DType dtype_;
  const std::vector<BaseTensor>& tensors_;
  std::int64_t block_elements_;
  std::vector<std::int64_t> row_elements_;  // [tensor]
  std::vector<std::vector<Rows>> left_;     // [rank][tensor]: rows not yet read
  std::vector<std::size_t> at_;             // [rank]: the first tensor with rows left
  std::vector<std::byte> read_, sent_, received_;
};

}  // namespace

void load_base(comm::Communicator& world, const layout::Grid& grid, const layout::TensorSource& source,
               core::DType dtype, const std::vector<BaseTensor>& tensors, std::int64_t buffer_bytes) {
  BaseLoading(world, grid, source, dtype, tensors, buffer_bytes).run();
}

}  // namespace caravan::parallel
