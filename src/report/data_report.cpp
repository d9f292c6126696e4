// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/error.hpp"
#include "core/text.hpp"
#include "data/packed_file.hpp"
#include "report/reports.hpp"

namespace caravan::report {
namespace {

std::string share(std::int64_t part, std::int64_t whole) {
  return core::concat(whole == 0 ? 0 : (part * 1000 / whole + 5) / 10, " %");
}

}  // namespace

void report_packed_file(const std::filesystem::path& file, const Request&, Page& page) {
  page.title("packed token file", file.string());
  const data::PackedFile packed(file.string());  // reads it all: training may rely on what it opened
  const data::PackedMetadata& metadata = packed.metadata();
  std::int64_t targets = 0, longest = 0;
  for (std::int64_t s = 0; s < packed.sequences(); ++s) {
    targets += packed.targets(s);
    longest = std::max(longest, packed.length(s));
  }
  const auto tokens = static_cast<std::int64_t>(packed.tokens().size());
  const std::int64_t room = packed.sequences() * metadata.sequence;
  page.line("format version", std::to_string(data::packed_file_version));
  page.line("written by", metadata.program);
  page.line("size", core::format_bytes(std::filesystem::file_size(file)));
  page.line("sequences", core::concat(grouped(packed.sequences()), ", of at most ", grouped(metadata.sequence),
                                      " tokens; the longest has ", grouped(longest)));
  page.line("documents", grouped(packed.documents()));
  page.line("tokens", core::concat(grouped(tokens), ", which fill ", share(tokens, room), " of the sequences"));
  page.line("responses", core::concat(grouped(targets), " tokens, ", share(targets, tokens), " of all"));
  page.line("part",
            metadata.part + (metadata.held_out_every > 0 ? core::concat(" (records whose index is divisible by ",
                                                                        metadata.held_out_every, " are held out)")
                                                         : ""));
  page.line("template", metadata.template_name + ", packing " + metadata.packing);
  page.line("source", metadata.source + ", fingerprint " + metadata.source_fingerprint);
  page.line("tokenizer",
            core::concat("fingerprint ", metadata.tokenizer, ", vocabulary ", grouped(metadata.vocabulary)));
  page.line("fingerprint", packed.fingerprint() + ", of its content " + packed.content());
  page.checked("the header and every section, by their checksums; starts and tokens are in range");
}

}  // namespace caravan::report
